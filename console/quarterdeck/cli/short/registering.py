"""From a file to Production: register, propose, decide, and what was live when."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from quarterdeck.cli.context import Context
from quarterdeck.cli.short.making import Made, command, do_or_propose

if TYPE_CHECKING:
    from quarterstore.records.registry import Model, Version

PATIENCE = 180.0
"""Seconds: a file is looked at in a process of its own before it is registered."""


def register() -> click.Command:
    @click.option("--name", required=True)
    @click.option(
        "--schema", type=click.Path(path_type=Path), help="inputs and outputs as JSON, where the file says none"
    )
    @click.option(
        "--sample", type=click.Path(path_type=Path), help="rows and their answers as JSON: schema and golden rows"
    )
    @click.option("--bump", default="auto", help="auto, patch, minor or major")
    @click.option("--run", "run_id", help="the run it came from; its metrics are those of the version")
    @click.option("--artefact", help="which file of the run")
    @click.option("--parent", help="the version it was made from")
    @click.option("--features", "views", multiple=True, help="VIEW or VIEW:FEATURE, read for callers who give keys")
    @click.option("--on-expired", type=click.Choice(["fail", "null", "last"]), default="null", help="of an old value")
    @click.option("--allow-code", is_flag=True, help="keep a pickle, which is recorded")
    @click.argument("file", metavar="FILE|RUN")
    @command("register", "Register a model file, or that of a run, as a new version of a model.")
    def run(
        context: Context,
        file: str,
        name: str,
        schema: Path | None,
        sample: Path | None,
        run_id: str | None,
        artefact: str | None,
        **asked: Any,
    ) -> None:
        from quarterdeck.cli.brief import brief
        from quarterdeck.cli.registering import Source, schema_in
        from quarterstore.records.registry import RegisterVersion

        signature = schema_in(schema)
        source = Source(context, file, run_id, artefact)
        act = RegisterVersion(
            model=name,
            digest=source.digest,
            size=source.size,
            format="auto",
            signature=signature,
            metrics=source.metrics,
            run=source.run,
            golden=context.client.put(sample)[0] if sample else None,
            **asked,
        )
        version = context.client.ask(act, timeout=PATIENCE)
        _tell(context, version)
        brief(context, version)

    return run


def _tell(context: Context, version: Version) -> None:
    """What is worth knowing of a version that was just registered."""
    context.say(f"{version.id} is {version.semver}: {version.reason}")
    if version.code or version.allow_code:
        context.say(f"it runs code when it is loaded: {', '.join(version.code) or 'a pickle that names nothing'}")
    if version.format == "skops":
        rows = "" if version.golden else "--sample ROWS.json, then "
        context.say(f"what serves it is its ONNX child: {rows}qd registry convert --version {version.id}")


def promote() -> click.Command:
    @click.option("--environment", default="default")
    @click.option("--skip-stage", is_flag=True)
    @click.option("--reason", default="")
    @click.argument("stage")
    @click.argument("version")
    @command("promote", "Move a version to a stage; asks for approval where one is needed (exit 6).")
    def run(context: Context, version: str, stage: str, environment: str, skip_stage: bool, reason: str) -> None:
        from quarterstore.records import traffic
        from quarterstore.records.deployments import ListDeployments
        from quarterstore.records.registry import MoveStage, ShowVersion

        found = context.client.ask(ShowVersion(version=version))
        act = MoveStage(
            version=found.id,
            stage=stage,  # type: ignore[arg-type]
            environment=environment,
            skip_stage=skip_stage,
            reason=reason,
        )
        do_or_propose(context, act, reason)
        if stage == "Production":
            deployments = context.client.ask(ListDeployments())
            for words in traffic.beside(found, environment, deployments):
                context.say(words)

    return run


def approve() -> click.Command:
    @click.option("--note", default="")
    @click.argument("approval")
    @command("approve", "Approve what somebody else asked for, on the evidence shown.")
    def run(context: Context, approval: str, note: str) -> None:
        from quarterstore.records.governance import Approve, ShowApproval

        found = context.client.ask(ShowApproval(approval=approval))
        context.say(f"{found.words}, asked by {found.asked_by}")
        for check in found.outcome.checks if found.outcome else ():
            context.say(f"  {'✓' if check.ok else '✗'} {check.rule.metric} {check.why}")
        context.out(context.client.ask(Approve(approval=found.id, evidence=found.evidence, note=note)))

    return run


def reject() -> click.Command:
    @click.option("--reason", required=True)
    @click.argument("approval")
    @command("reject", "Say no, with a reason.")
    def run(context: Context, approval: str, reason: str) -> None:
        from quarterstore.records.governance import Reject

        context.out(context.client.ask(Reject(approval=approval, reason=reason)))

    return run


def at() -> click.Command:
    @click.option("--environment", default="default")
    @click.argument("time")
    @click.argument("model")
    @command("at", "What was in Production at an instant (ISO 8601 with a zone), who asked, who approved.")
    def run(context: Context, model: str, time: str, environment: str) -> None:
        from datetime import datetime

        from quarterstore.records.faults import got
        from quarterstore.records.registry import ProductionAt

        try:
            moment = datetime.fromisoformat(time)
        except ValueError as error:
            raise got("time", time, "ISO 8601 such as 2026-03-01T12:00Z") from error
        if moment.tzinfo is None:
            raise got("time", time, "a time with a zone, such as 2026-03-01T12:00Z")
        context.out(context.client.ask(ProductionAt(model=model, at=moment.timestamp(), environment=environment)))

    return run


def history() -> click.Command:
    @click.argument("model")
    @command("history", "Every span of Production of a model: who asked, who approved, the deployment.")
    def run(context: Context, model: str) -> None:
        from quarterstore.records.registry import ListTenures

        columns = ("version", "environment", "since", "until", "asked_by", "approved_by", "deployment", "entry")
        context.out(context.client.ask(ListTenures(model=model)), columns)

    return run


def moves() -> click.Command:
    @click.option("--version", help="only of this one")
    @click.argument("model")
    @command("moves", "Every move of a model's versions from stage to stage: who, why, in which entry.")
    def run(context: Context, model: str, version: str | None) -> None:
        from quarterstore.records.registry import ListStageMoves

        columns = ("version", "before", "after", "at", "asked_by", "approved_by", "skipped", "reason", "entry")
        context.out(context.client.ask(ListStageMoves(model=model, version=version)), columns)

    return run


def models() -> click.Command:
    @click.option("--removed/--no-removed", default=False, help="those that were removed, too")
    @command("models", "Every model: what is in Production and in Staging, the newest, when it changed.")
    def run(context: Context, removed: bool) -> None:
        from quarterstore.records.registry import ListModels, ListVersions

        found = context.client.ask(ListModels(removed=removed))
        if context.json:
            context.out(found)
            return
        from quarterdeck.cli.printing import table

        versions = context.client.ask(ListVersions(removed=removed))
        columns = ("model", "production", "staging", "latest", "versions", "changed")
        rows = [_row(model, [each for each in versions if each.model == model.name]) for model in found]
        table(rows, (*columns, "removed") if removed else columns)

    return run


def registry_group() -> dict[str, Made]:
    return {"at": at, "history": history, "models": models, "moves": moves}


def _row(model: Model, versions: Sequence[Version]) -> dict[str, object]:
    """A model on a line: numbers, and the environments of what is in Production of others than the usual one."""
    live = [f"@{at}" + (f" {name}" if name != "default" else "") for name, at in sorted(model.production.items())]
    staging = [f"@{each.number}" for each in versions if each.stage == "Staging"]
    return {
        "model": model.name,
        "production": ", ".join(live) or None,
        "staging": ", ".join(staging) or None,
        "latest": f"@{model.latest}" if model.latest else None,
        "versions": len(versions),
        "changed": model.updated or model.created,
        "removed": model.removed,
    }
