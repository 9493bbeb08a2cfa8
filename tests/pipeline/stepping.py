"""The steps of a definition done one after the other in this process, as their own processes do them."""

from __future__ import annotations

import time
from pathlib import Path
from typing import NamedTuple

from quarterdeckd.pipeline import kinds, made
from quarterdeckd.pipeline.progress import Report
from quarterdeckd.pipeline.step import At
from quarterstore.records import flows
from quarterstore.records.pipeline_results import PipelineResult
from quarterstore.records.pipelines import Definition, Step
from quarterstore.shelf.files import digest_of


class Ran(NamedTuple):
    """What is registered, what each step said, and its files: `STEP/FILE` -> place."""

    result: PipelineResult
    steps: dict[str, Step]
    files: dict[str, Path]


def ran(folder: Path, definition: Definition, data: Path | None, code: Path | None = None) -> Ran:
    """Do the steps of ours below a folder; what one raises goes on up."""
    files: dict[str, Path] = {}
    steps: dict[str, Step] = {}
    order = flows.flow(definition)
    with Report(folder / "progress.jsonl") as report:

        def at(name: str, out: Path) -> At:
            step = next(step for step in order if step.name == name)
            above = flows.above(order, name)
            inputs = {place: path for place, path in files.items() if place.partition("/")[0] in above}
            laid = flows.effective(definition, step)
            kept = out / "checkpoint"
            return At(name, laid, step.params, inputs, out, kept, code or folder, data, report)

        for step in order:
            if flows.kind_of(step) not in kinds.DOES:
                continue
            out = folder / "steps" / step.name / str(time.monotonic_ns())
            (out / "checkpoint").mkdir(parents=True)
            told = kinds.function_of(flows.kind_of(step))(at(step.name, out))
            files |= {f"{step.name}/{path.name}": path for path in sorted(out.iterdir()) if path.is_file()}
            steps[step.name] = Step(step.name, "DONE", words=told.words, figures=told.figures)
        digests = {place: digest_of(path) for place, path in files.items()}
        found = made.result(at("register", folder), digests, tuple(steps.values()))
    return Ran(found, steps, files)
