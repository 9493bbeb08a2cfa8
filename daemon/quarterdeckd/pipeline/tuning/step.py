"""The step `tune` of a pipeline: the rows to learn from are searched over, those held out are kept for the winner."""

from __future__ import annotations

import msgspec

from quarterdeckd.pipeline import steps
from quarterdeckd.pipeline.step import At, Told
from quarterdeckd.pipeline.tuning import study
from quarterdeckd.pipeline.tuning.objective import Sides
from quarterstore.records.faults import Failed
from quarterstore.records.studies import StudySpec, study_of


def tune(at: At) -> Told:
    """`tuned.json`, the parameters that the step `train` goes by, and `study.json` with all that was found; a fault
    where no trial ended well. A step that was cut off goes on where it was."""
    definition = study_of(at.definition)
    spec = StudySpec(study=at.name, definition=definition, folder=str(at.checkpoint / "study"))
    # read in the workers: a process whose Polars has worked is not to be forked
    found = study.searched(spec, at.report, at.code, lambda: Sides(steps.rows_of(at), *steps.sides_of(at)))
    if not found.best:
        raise Failed(f"got {found.words}", field="tune")
    best = found.best[0]
    (at.out / "tuned.json").write_bytes(msgspec.json.encode(best.params))
    (at.out / "study.json").write_bytes(msgspec.json.encode(found))
    figures = {"params": best.params, "tuned": best.tuned, "honest": best.honest, "importance": found.importance}
    return Told(found.words, figures)
