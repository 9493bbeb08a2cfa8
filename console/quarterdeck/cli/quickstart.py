"""`qd quickstart FILE --target COL`: from a file of rows to a registered model, with a definition that can be
edited."""

from __future__ import annotations

from pathlib import Path

from msgspec.structs import replace

from quarterdeck.cli.context import Context
from quarterdeck.cli.waiting import to_the_end
from quarterstore.records import plans, tables
from quarterstore.records.datasets import AddDataset, Column
from quarterstore.records.faults import Conflict, got
from quarterstore.records.names import drawn
from quarterstore.records.pipelines import DataSection, Definition, PipelineRun, RunPipeline, SplitSection, TrainSection
from quarterstore.records.registry import ShowVersion, Version


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
    out: Path | None,
) -> tuple[Version, PipelineRun]:
    """Check the file, write the definition, train, register; answers the version and the run of the pipeline."""
    if not file.is_file():
        raise got("file", str(file), "a file that can be read")
    name = word(file.stem)
    parquet = file.suffix.lower() in (".parquet", ".pq")
    columns, rows, chosen = _looked_at(context, file, parquet, target, time, group, ignore)
    by = "time" if time else "group" if group else "random"
    definition = Definition(
        name=name,
        model=name,
        data=DataSection(target=target, file=str(file), time=time, group=group, ignore=ignore),
        split=SplitSection(by=by),  # type: ignore[arg-type]
        train=TrainSection(learner=learner or chosen),
    )
    path = out or Path(f"{name}.toml")
    text = toml_of(definition)
    if path.exists() and path.read_text() != text:
        raise Conflict(
            f"{path} is there and differs",
            field="out",
            next="give --out, or edit it and run: qd pipeline run " + str(path),
        )
    client = context.client
    digest, size = client.put(file)
    client.ask(
        AddDataset(
            digest=digest,
            name=file.name[:200],
            format="parquet" if parquet else "csv",
            size=size,
            rows=rows,
            columns=columns,
        )
    )
    asked = replace(definition, data=replace(definition.data, dataset=digest, file=None))
    path.write_text(text)
    context.say(f"wrote {path}: edit it and run it again with: qd pipeline run {path}")
    run = to_the_end(context, client.ask(RunPipeline(definition=asked)))
    version = client.ask(ShowVersion(version=run.version))
    for metric in version.metrics:
        span = (
            f"  ({metric.low:.4g} to {metric.high:.4g})" if metric.low is not None and metric.high is not None else ""
        )
        context.say(f"  {metric.name:<18} {metric.value:.4g}{span}")
    if warning := version.tags.get("warning"):
        context.say(f"WARNING: {warning}")
    context.say(
        f"next: qd promote {version.id} Staging, then qd promote {version.id} Production, then qd deploy {version.id}"
    )
    return version, run


def _looked_at(
    context: Context,
    file: Path,
    parquet: bool,
    target: str,
    time: str | None,
    group: str | None,
    ignore: tuple[str, ...],
) -> tuple[tuple[Column, ...], int, str]:
    """Columns, rows and the learner to begin with; raises where nothing can be learnt, before anything is sent. Parquet
    is read by the daemon's child, because reading it takes a library that the console does not have."""
    if parquet:
        tables.check_parquet(file)
        return (), 0, "logistic"
    table = tables.read(file)
    plan = plans.plan(table, target, time=time, group=group, ignore=ignore)
    aim = table.column(target)
    known = f" ({table.rows - aim.missing} with {target})" if aim.missing else ""
    context.say(f"{table.rows} rows{known}, {len(plan.features)} features, predicting {target} ({plan.task})")
    for name, why in plan.left_out.items():
        context.say(f"  left out: {name}, {why}")
    return table.columns, table.rows, "logistic" if plan.task == "classification" else "forest"


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
        f"by = {_quoted(split.by)}  # random, time or group",
        f"test = {split.test}",
        f"seed = {split.seed}",
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
