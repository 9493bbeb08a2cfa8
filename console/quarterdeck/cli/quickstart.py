"""`qd quickstart FILE --target COL`: from a file of rows to a registered model, with a definition that can be
edited."""

from __future__ import annotations

from pathlib import Path

from msgspec.structs import replace

from quarterdeck.cli.context import Context
from quarterdeck.cli.definition import check_rows
from quarterdeck.cli.waiting import to_the_end
from quarterstore.records import plans, tables
from quarterstore.records.datasets import AddDataset, Column
from quarterstore.records.faults import Conflict, got
from quarterstore.records.names import drawn
from quarterstore.records.pipelines import DataSection, Definition, PipelineRun, RunPipeline, SplitSection, TrainSection
from quarterstore.records.registry import ShowVersion, Version

LEARNERS = {"classification": "logistic", "regression": "forest"}
"""Task -> the learner to begin with."""


def word(text: str) -> str:
    """A text as a name: letters, digits and dashes."""
    plain = "".join(char if char.isascii() and char.isalnum() else "-" for char in text.lower()).strip("-")
    return plain or "model"


def quickstart(
    context: Context,
    file: Path,
    target: str,
    time: str | None,
    group: str | None,
    ignore: tuple[str, ...],
    learner: str | None,
    allow_leak: str | None,
    out: Path | None,
) -> tuple[Version, PipelineRun]:
    """Check the file, write the definition, train, register; answers the version and the run of the pipeline."""
    if not file.is_file():
        raise got("file", str(file), "a file that can be read")
    parquet = file.suffix.lower() in (".parquet", ".pq")
    columns: tuple[Column, ...] = ()
    rows, task = 0, "regression"  # of Parquet till the daemon has looked; this learner fits both tasks
    if parquet:
        tables.check_parquet(file)
    else:
        columns, rows, task = _looked_at(context, file, target, time, group, ignore)
    data = DataSection(target=target, file=str(file), time=time, group=group, ignore=ignore)
    definition = _definition(word(file.stem), data, learner or LEARNERS[task], allow_leak or "")
    path = out or Path(f"{definition.name}.toml")
    if not parquet:
        _check_free(path, definition)
    client = context.client
    digest, size = client.put(file)
    data = replace(data, dataset=digest, file=None)
    found = check_rows(context, replace(definition, data=data))
    if parquet:
        rows, task = found["rows"], found["task"]
        definition = replace(definition, train=TrainSection(learner=learner or LEARNERS[task]))
        _check_free(path, definition)
        _tell(context, rows, found["without_target"], found["features"], target, task, found.get("left_out", {}))
    kind = "parquet" if parquet else "csv"
    name = file.name[:200]
    client.ask(AddDataset(digest=digest, name=name, format=kind, size=size, rows=rows, columns=columns, count=False))
    path.write_text(toml_of(definition))
    context.say(f"wrote {path}: edit it and run it again with: qd pipeline run {path}")
    run = to_the_end(context, client.ask(RunPipeline(definition=replace(definition, data=data))))
    version = client.ask(ShowVersion(version=run.version))
    _tell_version(context, version)
    return version, run


def _definition(name: str, data: DataSection, learner: str, allow_leak: str) -> Definition:
    """What is run: the rows split by time or by group where the file has one, else at random."""
    by = "time" if data.time else "group" if data.group else "random"
    split = SplitSection(by=by, allow_leak=allow_leak)  # type: ignore[arg-type]
    return Definition(name=name, model=name, data=data, split=split, train=TrainSection(learner=learner))


def _tell_version(context: Context, version: Version) -> None:
    """What came of it, what is not as it should be, and what comes next."""
    for metric in version.metrics:
        span = (
            f"  ({metric.low:.4g} to {metric.high:.4g})" if metric.low is not None and metric.high is not None else ""
        )
        context.say(f"  {metric.name:<18} {metric.value:.4g}{span}")
    if leak := version.tags.get("leak"):
        context.say(f"LEAK: {leak}")
    if warning := version.tags.get("warning"):
        context.say(f"WARNING: {warning}")
    context.say(
        f"next: qd promote {version.id} Staging, then qd promote {version.id} Production, then qd deploy {version.id}"
    )


def _looked_at(
    context: Context,
    file: Path,
    target: str,
    time: str | None,
    group: str | None,
    ignore: tuple[str, ...],
) -> tuple[tuple[Column, ...], int, str]:
    """Columns, rows and the task of a CSV file; raises where nothing can be learnt, before anything is sent. Parquet
    is read by the daemon's child, because reading it takes a library that the console does not have."""
    table = tables.read(file)
    plan = plans.plan(table, target, time=time, group=group, ignore=ignore)
    aim = table.column(target)
    _tell(context, table.rows - aim.missing, aim.missing, len(plan.features), target, plan.task, plan.left_out)
    return table.columns, table.rows, plan.task


def _tell(
    context: Context, known: int, blank: int, features: int, target: str, task: str, left_out: dict[str, str]
) -> None:
    of_them = f" ({known} with {target})" if blank else ""
    context.say(f"{known + blank} rows{of_them}, {features} features, predicting {target} ({task})")
    for name, why in left_out.items():
        context.say(f"  left out: {name}, {why}")


def _check_free(path: Path, definition: Definition) -> None:
    """Raise `Conflict` where another definition lies already."""
    if path.exists() and path.read_text() != toml_of(definition):
        raise Conflict(
            f"{path} is there and differs",
            field="out",
            next="give --out, or edit it and run: qd pipeline run " + str(path),
        )


def toml_of(definition: Definition) -> str:
    """A definition as TOML that people edit; strings are quoted as TOML's basic strings."""
    data, split, train = definition.data, definition.split, definition.train
    lines = [
        "# A Quarterdeck pipeline: edit it, then run it with  qd pipeline run THIS_FILE",
        f"name = {_quoted(definition.name)}",
        f"model = {_quoted(definition.model)}",
        "",
        "[data]",
        f"file = {_quoted(data.file or '')}",
        f"target = {_quoted(data.target)}",
    ]
    for field, value in (("time", data.time), ("group", data.group)):
        lines.append(f"{field} = {_quoted(value)}" if value else f'# {field} = "column"')
    lines.append(f"ignore = [{', '.join(map(_quoted, data.ignore))}]")
    lines += [
        "",
        "[split]",
        f"by = {_quoted(split.by)}  # random, time, group or hash",
        f"test = {split.test}",
        f"seed = {split.seed}",
        *([f"allow_leak = {_quoted(split.allow_leak)}"] if split.allow_leak else []),
    ]
    lines += ["", "[train]", f"learner = {_quoted(train.learner)}  # logistic, forest, boosting, ridge, mlp"]
    lines += ['# python = "train.py:train"  # your own code instead', f"seed = {train.seed}"]
    lines += [
        "",
        "[gate]",
        "# limits = { accuracy = 0.9 }",
        "set = false",
        "",
        "[deploy]",
        'then = "none"  # none, staging or canary',
        "",
    ]
    return "\n".join(lines)


def _quoted(text: str) -> str:
    escaped = drawn(text).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
