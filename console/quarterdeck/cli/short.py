"""The short forms: what people do all day, in as few words as it takes."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from quarterdeck.cli.context import Context, global_options, here

Made = Callable[[], click.Command]


def _command(name: str, help_text: str) -> Callable[[Any], click.Command]:
    def wrap(function: Any) -> click.Command:
        made: click.Command = global_options(click.command(name, help=help_text)(here(function)))
        return made

    return wrap


def status() -> click.Command:
    @_command("status", "The daemon in one record.")
    def run(context: Context) -> None:
        context.out(context.client.status())

    return run


def doctor() -> click.Command:
    @_command("doctor", "What is wrong, and what to do about it; exit 1 when something is.")
    def run(context: Context) -> None:
        from quarterstore.records.store import Diagnose

        findings = context.client.ask(Diagnose())
        context.out(findings, ("ok", "name", "words", "next"))
        if not all(finding.ok for finding in findings):
            sys.exit(1)

    return run


def runs() -> click.Command:
    @click.option("--experiment")
    @click.option("--state")
    @click.option("--text", default="", help="in id, name or experiment")
    @click.option("--sort", default="-started", help="a field, metrics.NAME or params.NAME; - for descending")
    @click.option("--limit", default=50)
    @_command("runs", "Runs, newest first.")
    def run(context: Context, **query: Any) -> None:
        from quarterdeck.cli.generated import message_of
        from quarterstore.records.runs import ListRuns

        page = context.client.ask(
            message_of(ListRuns, {name: value for name, value in query.items() if value is not None})
        )
        context.out(page.runs, ("id", "experiment", "name", "state", "started", "metrics"))
        context.say(f"{len(page.runs)} of {page.total}")

    return run


def run_group() -> dict[str, Made]:
    def show() -> click.Command:
        @click.argument("run")
        @_command("show", "One run.")
        def command(context: Context, run: str) -> None:
            from quarterstore.records.runs import ShowRun

            context.out(context.client.ask(ShowRun(run=run)))

        return command

    def rm() -> click.Command:
        @click.argument("run")
        @_command("rm", "Take a run out of sight; qd undo brings it back.")
        def command(context: Context, run: str) -> None:
            from quarterstore.records.runs import RemoveRun

            context.out(context.client.ask(RemoveRun(run=run)))

        return command

    return {"show": show, "rm": rm}


def compare(name: str = "compare") -> click.Command:
    @click.option("--all", "all_", is_flag=True, help="what is equal too")
    @click.argument("runs", nargs=-1, required=True)
    @_command(name, "Runs, or two versions, side by side: what differs.")
    def run(context: Context, runs: tuple[str, ...], all_: bool) -> None:
        from quarterstore.records.registry import ShowVersion
        from quarterstore.records.runs import CompareRuns

        found = [context.client.ask(ShowVersion(version=text)).run or text if "@" in text else text for text in runs]
        comparison = context.client.ask(CompareRuns(runs=tuple(found), all=all_))
        if context.json:
            context.out(comparison)
            return
        if not comparison.rows:
            context.say("no difference")
        from quarterdeck.cli.printing import table

        table(
            [
                {"where": row.where, "name": row.name, **{str(i): v for i, v in enumerate(row.values)}}
                for row in comparison.rows
            ],
            ("where", "name", *(str(index) for index in range(len(found)))),
        )

    return run


def register() -> click.Command:
    @click.option("--name", required=True)
    @click.option("--sample", type=click.Path(path_type=Path), help="golden rows (records.deployments.Golden as JSON)")
    @click.option(
        "--signature", type=click.Path(path_type=Path), help="the signature as JSON; read from the file otherwise"
    )
    @click.option("--run", "run_id")
    @click.option("--bump", default="auto")
    @click.argument("file", type=click.Path(path_type=Path))
    @_command("register", "Register an ONNX file as a new version of a model.")
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
        from quarterstore.records.registry import RegisterVersion, Signature

        if not file.is_file():
            raise got("file", str(file), "an ONNX file")
        with file.open("rb") as opened:
            first = opened.read(2)
        if first[:1] == b"\x80" or first == b"PK":
            raise got("file", "a pickle or an archive", "ONNX: no code is loaded from data; export the model first")
        try:
            shape = (
                msgspec.json.decode(signature.read_bytes(), type=Signature)
                if signature
                else Signature(inputs=(), outputs=())
            )
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
    @_command("promote", "Move a version to a stage; asks for approval where one is needed (exit 6).")
    def run(context: Context, version: str, stage: str, environment: str, skip_stage: bool, reason: str) -> None:
        from quarterstore.records.registry import MoveStage, ShowVersion

        found = context.client.ask(ShowVersion(version=version))
        act = MoveStage(
            version=found.id,
            stage=stage,  # type: ignore[arg-type]
            environment=environment,
            skip_stage=skip_stage,
            reason=reason,
        )
        _do_or_propose(context, act, reason)

    return run


def _do_or_propose(context: Context, act: Any, reason: str, wait: bool = False) -> None:
    import msgspec

    from quarterstore.records.faults import NeedsApproval
    from quarterstore.records.governance import Propose

    try:
        _shown(context, context.client.ask(act), wait)
    except NeedsApproval as needed:
        approval = context.client.ask(Propose(act=msgspec.to_builtins(act), reason=reason))
        context.out(approval)
        raise NeedsApproval(
            f"{approval.id} waits for another person", field="approval", next=f"they run: qd approve {approval.id}"
        ) from needed


def _shown(context: Context, answer: Any, wait: bool) -> None:
    if wait:
        from quarterdeck.cli.waiting import to_the_end

        answer = to_the_end(context, answer)
    context.out(answer)


def approve() -> click.Command:
    @click.option("--note", default="")
    @click.argument("approval")
    @_command("approve", "Approve what somebody else asked for, on the evidence shown.")
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
    @_command("reject", "Say no, with a reason.")
    def run(context: Context, approval: str, reason: str) -> None:
        from quarterstore.records.governance import Reject

        context.out(context.client.ask(Reject(approval=approval, reason=reason)))

    return run


def deploy() -> click.Command:
    @click.option("--endpoint")
    @click.option("--environment", default="default")
    @click.option("--wait", is_flag=True)
    @click.argument("version")
    @_command("deploy", "Give all traffic of an endpoint to a Production version.")
    def run(context: Context, version: str, endpoint: str | None, environment: str, wait: bool) -> None:
        from quarterstore.records.deployments import Deploy

        _do_or_propose(context, Deploy(version=version, endpoint=endpoint, environment=environment), "", wait)

    return run


def canary() -> click.Command:
    @click.option("--endpoint")
    @click.option("--ladder", default="5,10,25,50,100")
    @click.option("--effect", type=float, help="rise of the error rate that must be seen")
    @click.option("--baseline", type=float)
    @click.option("--latency", type=float, help="factor by which P95 may exceed the live one's")
    @click.option("--soak", type=float, help="seconds a step lasts at least")
    @click.option("--reason", default="")
    @click.option("--wait", is_flag=True)
    @click.argument("version")
    @_command("canary", "Try a Staging version on a growing share of live traffic.")
    def run(
        context: Context, version: str, endpoint: str | None, ladder: str, reason: str, wait: bool, **rule: Any
    ) -> None:
        from quarterstore.records.deployments import CanaryRule, StartCanary
        from quarterstore.records.faults import got

        try:
            steps = tuple(int(step) for step in ladder.replace(">", ",").split(","))
        except ValueError as error:
            raise got("ladder", ladder, "shares such as 5,10,25,50,100") from error
        chosen = CanaryRule(**{name: value for name, value in rule.items() if value is not None})
        _do_or_propose(
            context, StartCanary(version=version, endpoint=endpoint, ladder=steps, rule=chosen), reason, wait
        )

    return run


def rollback() -> click.Command:
    @click.option("--reason", default="")
    @click.argument("endpoint")
    @_command("rollback", "Give an endpoint's traffic back to the version before.")
    def run(context: Context, endpoint: str, reason: str) -> None:
        from quarterstore.records.deployments import RollBack

        context.out(context.client.ask(RollBack(endpoint=endpoint, reason=reason)))

    return run


def drift() -> click.Command:
    @click.option("--window", default=86400.0, help="seconds back from now")
    @click.option("--rule", type=click.Choice(["default", "literal"]), default="default")
    @click.argument("endpoint")
    @_command("drift", "Compare live traffic with the training rows; exit 1 on drift.")
    def run(context: Context, endpoint: str, window: float, rule: str) -> None:
        from quarterdeck.cli.waiting import to_the_end
        from quarterstore.records.monitoring import CheckDrift, DriftRule, ShowDrift

        job = to_the_end(
            context,
            context.client.ask(CheckDrift(endpoint=endpoint, window=window, rule=DriftRule(literal=rule == "literal"))),
        )
        found = context.client.ask(ShowDrift(drift=endpoint))
        if context.json:
            context.out(found)
        else:
            context.out(
                list(found.features),
                ("feature", "test", "statistic", "p", "q", "effect", "n_reference", "n_current", "verdict", "note"),
            )
            context.say(f"{found.verdict}: {found.words} ({job.id})")
        if found.verdict == "DRIFT":
            sys.exit(1)

    return run


def optimise() -> click.Command:
    @click.option("--int8", is_flag=True, help="dynamic int8 (the only recipe so far)")
    @click.argument("version")
    @_command("optimise", "Make a smaller child of a version and measure both here.")
    def run(context: Context, version: str, int8: bool) -> None:
        from quarterdeck.cli.waiting import to_the_end
        from quarterstore.records.compression import ListOptimisations, Optimise
        from quarterstore.records.faults import got

        if not int8:
            raise got("recipe", "none", "--int8")
        job = to_the_end(context, context.client.ask(Optimise(version=version)))
        found = next(each for each in context.client.ask(ListOptimisations()) if each.job == job.id)
        context.out(found)
        context.say(found.words)

    return run


def quickstart() -> click.Command:
    @click.option("--target", required=True)
    @click.option("--time")
    @click.option("--group")
    @click.option("--ignore", multiple=True, help="a column to leave out")
    @click.option("--learner", type=click.Choice(["logistic", "forest", "boosting", "ridge", "mlp"]))
    @click.option("--out", type=click.Path(path_type=Path))
    @click.argument("file", type=click.Path(path_type=Path))
    @_command("quickstart", "From a CSV or Parquet file to a registered model, with no YAML.")
    def run(context: Context, **given: Any) -> None:
        from quarterdeck.cli.quickstart import quickstart as start

        context.out(start(context, **given))

    return run


def pipeline_group() -> dict[str, Made]:
    def run_file() -> click.Command:
        @click.option("--wait/--no-wait", default=True)
        @click.argument("file", type=click.Path(path_type=Path))
        @_command("run", "Run a pipeline definition in TOML.")
        def command(context: Context, file: Path, wait: bool) -> None:
            from quarterdeck.cli.definition import run_file as run_it

            _shown(context, run_it(context, file), wait)

        return command

    return {"run": run_file}


def registry_group() -> dict[str, Made]:
    def at() -> click.Command:
        @click.option("--environment", default="default")
        @click.argument("time")
        @click.argument("model")
        @_command("at", "What was in Production at an instant (ISO 8601 with a zone), who asked, who approved.")
        def command(context: Context, model: str, time: str, environment: str) -> None:
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

        return command

    return {"at": at}


def audit_group() -> dict[str, Made]:
    def verify() -> click.Command:
        @click.option("--seq", type=int, help="of a head kept outside")
        @click.option("--hash", "hash_", help="of a head kept outside")
        @_command("verify", "Read the whole journal and check every hash; exit 1 at the first bad entry.")
        def command(context: Context, seq: int | None, hash_: str | None) -> None:
            from quarterstore.records.governance import VerifyAudit

            verdict = context.client.ask(VerifyAudit(seq=seq, hash=hash_), timeout=600.0)
            context.out(verdict)
            if not verdict.ok:
                sys.exit(1)

        return command

    def head() -> click.Command:
        @_command("head", "The newest entry's number and hash: keep it elsewhere.")
        def command(context: Context) -> None:
            from quarterstore.records.governance import ShowHead

            context.out(context.client.ask(ShowHead()))

        return command

    return {"verify": verify, "head": head}


def serving_group() -> dict[str, Made]:
    def state() -> click.Command:
        @_command("status", "The launcher and its hosts; works without the daemon.")
        def command(context: Context) -> None:
            from quarterdeck.cli.serving import ask_launcher

            context.out(ask_launcher(context.place(), "state", context.timeout))

        return command

    def stop() -> click.Command:
        @_command("stop", "Stop the launcher and its hosts; works without the daemon.")
        def command(context: Context) -> None:
            from quarterdeck.cli.serving import stop_serving

            context.out(stop_serving(context))

        return command

    return {"status": state, "stop": stop}


def keys_group() -> dict[str, Made]:
    def add() -> click.Command:
        @click.option("--role", "roles", multiple=True, default=("operator",))
        @click.argument("name")
        @_command("add", "Make a key for a person and let it speak.")
        def command(context: Context, name: str, roles: tuple[str, ...]) -> None:
            from quarterdeck import keys
            from quarterstore.records.faults import Fault
            from quarterstore.records.people import AddKey

            home = context.place()
            client = context.client
            public = keys.make(home, name)
            try:
                context.out(client.ask(AddKey(public=public, person=name, roles=roles)))  # type: ignore[arg-type]
            except Fault:
                home.secret_key(name).unlink()
                raise

        return command

    return {"add": add}


def service_group() -> dict[str, Made]:
    def install() -> click.Command:
        @click.option("--user/--system", default=True)
        @click.option("--yes", is_flag=True, help="write without asking")
        @click.option("--print", "print_only", is_flag=True, help="only print")
        @_command("install", "Print the systemd units for this home, then write them.")
        def command(context: Context, user: bool, yes: bool, print_only: bool) -> None:
            from quarterdeck.cli.service import install as install_units

            sys.exit(install_units(context.place(), user=user, yes=yes, print_only=print_only))

        return command

    return {"install": install}


def backup() -> click.Command:
    @click.argument("file", type=click.Path(path_type=Path))
    @_command("backup", "Write a backup of the store into one file, while it is used.")
    def run(context: Context, file: Path) -> None:
        from quarterdeck.cli.storing import backup as make

        context.out(make(context, file))

    return run


def restore() -> click.Command:
    @click.argument("file", type=click.Path(path_type=Path))
    @_command("restore", "Unpack a backup into an empty home (--home).")
    def run(context: Context, file: Path) -> None:
        from quarterdeck.cli.printing import lines
        from quarterdeck.cli.storing import restore as unpack

        lines(unpack(context.place(), file))

    return run


def undo() -> click.Command:
    @_command("undo", "Take back your own last act, while it still can be.")
    def run(context: Context) -> None:
        from quarterstore.records.store import Undo

        context.out(context.client.ask(Undo()))

    return run


def ask() -> click.Command:
    @click.argument("source", type=click.Choice(["-"]))
    @_command("ask", "Messages as JSON lines on stdin, answers as JSON lines on stdout.")
    def run(context: Context, source: str) -> None:
        from quarterdeck.cli.speaking import speak

        sys.exit(speak(context))

    return run


COMMANDS: dict[str, Made] = {
    "status": status,
    "doctor": doctor,
    "quickstart": quickstart,
    "compare": compare,
    "diff": lambda: compare("diff"),
    "register": register,
    "promote": promote,
    "approve": approve,
    "reject": reject,
    "deploy": deploy,
    "canary": canary,
    "rollback": rollback,
    "drift": drift,
    "optimise": optimise,
    "backup": backup,
    "restore": restore,
    "undo": undo,
    "ask": ask,
}
GROUPS: dict[str, Callable[[], dict[str, Made]]] = {
    "run": run_group,
    "pipeline": pipeline_group,
    "registry": registry_group,
    "audit": audit_group,
    "serving": serving_group,
    "keys": keys_group,
    "service": service_group,
}
HELP = {
    "status": "the daemon in one record",
    "doctor": "what is wrong, and what to do about it",
    "quickstart": "from a CSV file to a registered model",
    "runs": "runs, and every act on them",
    "run": "show or remove one run",
    "compare": "runs side by side",
    "diff": "what differs between two runs or versions",
    "register": "register an ONNX file",
    "promote": "move a version to a stage",
    "approve": "approve what somebody else asked for",
    "reject": "say no, with a reason",
    "deploy": "give an endpoint to a version",
    "canary": "try a version on a share of live traffic",
    "rollback": "give the traffic back",
    "drift": "compare live traffic with the training rows",
    "optimise": "make an int8 child and measure it",
    "pipeline": "run a pipeline file",
    "audit": "verify the journal, show its head",
    "serving": "the serving side, without the daemon too",
    "keys": "make keys for people",
    "service": "systemd units",
    "backup": "the store into one file",
    "restore": "a backup into an empty home",
    "undo": "take back your own last act",
    "ask": "JSON lines in, JSON lines out",
}
