"""What a pipeline would say of its rows before it is run, in a throw-away process that is given a `CheckSpec` as
msgpack on stdin: `python -m quarterdeckd.pipeline.check [FILE]`."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from quarterdeckd.learning import learners
from quarterdeckd.pipeline import checking, files, joined, judging, splitting, validation
from quarterdeckd.pipeline.throw_away import answered
from quarterstore.records import flows
from quarterstore.records.features import JoinSpec
from quarterstore.records.pipelines import CheckSpec, Definition, Step
from quarterstore.records.training import named_code
from quarterstore.records.wire import decode


def check(spec: CheckSpec, path: str | None) -> list[Step]:
    """The steps `validate` and `split` as they will be told, of the rows with their features. Raises the `Fault` that
    the job would end with; whether the checks hold is for the job to find out, which keeps what it found."""
    definition = spec.definition
    kinds = {step.uses: flows.effective(definition, step) for step in flows.flow(definition) if step.uses}
    validate = kinds.get("validate", definition)
    checking.tried(validate.validate.checks)
    rows = files.load(validate, path) if spec.join is None else _joined(validate, spec.join)
    words, figures = validation.validate(rows)
    found = [Step("validate", "DONE", words=words, figures=figures)]
    train = kinds.get("train")
    if train is not None and named_code(train.train) is None:
        _check_learners(train.train.learner, kinds.get("tune", definition), rows.plan.task)
    if (split := kinds.get("split")) is not None:
        sides = splitting.split(rows, split.split, definition.data.time, definition.data.group)
        found.append(Step("split", "DONE", words=sides.words, figures=sides.figures))
    if (evaluate := kinds.get("evaluate")) is not None:
        judging.check_columns(rows, evaluate.evaluate)
    flows.check_gate(definition, rows.plan.task)
    return found


def _check_learners(learner: str, tune: Definition, task: str) -> None:
    """The learners that a search chooses from, where it does: the one of `[train]` then trains nothing."""
    chooser = tune.tune.space.get("learner") if tune.tune is not None else None
    if chooser is None:
        learners.check_task(learner, task)
        return
    for choice in chooser.choices:
        learners.check_task(str(choice), task, "space.learner.choices")


def _joined(definition: Definition, join: JoinSpec) -> files.Rows:
    with tempfile.TemporaryDirectory(prefix="quarterdeck-check-") as folder:
        out = Path(folder)
        joined.made(join, out)
        return files.load(joined.learnt_from(definition, out / joined.ABOUT), str(out / joined.ROWS))


def main(argv: list[str]) -> int:
    """Print the steps as JSON, or the fault."""
    spec = decode(sys.stdin.buffer.read(), CheckSpec)
    return answered(lambda: check(spec, argv[1] if len(argv) > 1 else None))


if __name__ == "__main__":
    sys.exit(main(sys.argv))
