"""From a file to Production: register, propose, decide, and what was live when."""

from __future__ import annotations

from pathlib import Path

import click

from quarterdeck.cli.context import Context
from quarterdeck.cli.short.making import Made, command, do_or_propose


def register() -> click.Command:
    @click.option("--name", required=True)
    @click.option("--sample", type=click.Path(path_type=Path), help="golden rows (records.deployments.Golden as JSON)")
    @click.option(
        "--signature", type=click.Path(path_type=Path), help="the signature as JSON; read from the file otherwise"
    )
    @click.option("--run", "run_id")
    @click.option("--bump", default="auto")
    @click.argument("file", type=click.Path(path_type=Path))
    @command("register", "Register an ONNX file as a new version of a model.")
    def run(
        context: Context,
        file: Path,
        name: str,
        sample: Path | None,
        signature: Path | None,
        run_id: str | None,
        bump: str,
    ) -> None:
        import msgspec

        from quarterstore.records.faults import got
        from quarterstore.records.misfits import refuse_unknown
        from quarterstore.records.registry import RegisterVersion, Signature

        if not file.is_file():
            raise got("file", str(file), "an ONNX file")
        with file.open("rb") as opened:
            first = opened.read(2)
        if first[:1] == b"\x80" or first == b"PK":
            raise got("file", "a pickle or an archive", "ONNX: no code is loaded from data; export the model first")
        try:
            given = msgspec.json.decode(signature.read_bytes()) if signature else {"inputs": [], "outputs": []}
            refuse_unknown(Signature, given, "signature")
            shape = msgspec.convert(given, Signature)
        except msgspec.MsgspecError as error:
            raise got("signature", str(error), "a signature as JSON") from error
        digest, size = context.client.put(file)
        golden = context.client.put(sample)[0] if sample else None
        context.out(
            context.client.ask(
                RegisterVersion(
                    model=name,
                    digest=digest,
                    size=size,
                    format="onnx",
                    signature=shape,
                    run=run_id,
                    golden=golden,
                    bump=bump,
                )
            )
        )

    return run


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
            for words in traffic.beside(found, environment, context.client.ask(ListDeployments())):
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


def registry_group() -> dict[str, Made]:
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

    return {"at": at}
