"""What serves: deploy, canary, roll back, drift, int8, the serving side itself."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from quarterdeck.cli.context import Context
from quarterdeck.cli.short.making import Made, command, do_or_propose

if TYPE_CHECKING:
    from quarterstore.records.canaries import CanaryEnd
    from quarterstore.records.deployments import BatchingRule, Canary, Deployment
    from quarterstore.records.histories import TrafficHistory

Given = TypeVar("Given", bound=Callable[..., Any] | click.Command)


def batches(run: Given) -> Given:
    """The options of dynamic batching."""
    rows = click.option("--max-batch", type=int, help="rows of waiting requests that are run together at most")
    wait = click.option("--max-wait-ms", type=float, help="milliseconds one may wait beside a run; 5 unless given")
    return rows(wait(run))


def deploy() -> click.Command:
    @click.option("--endpoint")
    @click.option("--environment", default="default")
    @click.option("--wait", is_flag=True)
    @batches
    @click.option("--to", "remote", help="on this remote (qd remote add), as a signed bundle; waits for its end")
    @click.option("--for", "target", type=click.Choice(["kserve"]), help="only write what that platform deploys")
    @click.option("-o", "--out", type=click.Path(path_type=Path), help="with --for: the folder, empty or new")
    @click.option("--storage-uri", help="with --for: where the folder will lie, s3://BUCKET/PATH say")
    @click.argument("version")
    @command("deploy", "Give all traffic of an endpoint to a Production version, here or on a remote.")
    def run(
        context: Context,
        version: str,
        endpoint: str | None,
        environment: str,
        wait: bool,
        max_batch: int | None,
        max_wait_ms: float | None,
        remote: str | None,
        target: str | None,
        out: Path | None,
        storage_uri: str | None,
    ) -> None:
        from quarterstore.records.deployments import Deploy, ShowServing
        from quarterstore.records.faults import got

        if (target is None) != (out is None) or (target is not None and remote is not None):
            raise got("out", str(out or "none"), "a folder with --for kserve, none without; and no --to")
        if (remote or target) and (max_batch, max_wait_ms) != (None, None):
            raise got("max-batch", "it with --to or --for", "neither: batches are said where the version answers")
        whole = version if "@" in version else f"{version}@Production"
        if target is not None and out is not None:
            from quarterdeck.cli.kserve import written

            written(context, whole, endpoint, out, storage_uri)
            return
        if remote is not None:
            from quarterdeck.cli.short.remoting import deployed

            deployed(context, whole, remote, endpoint, environment)
            return

        rule = _batching(max_batch, max_wait_ms)
        act = Deploy(version=version, endpoint=endpoint, environment=environment, batching=rule)
        do_or_propose(context, act, "", wait)
        if wait:
            where = context.client.ask(ShowServing()).address
            context.say(f"answers at {where}/v2/models/{endpoint or version.partition('@')[0]}/infer")

    return run


def serve() -> click.Command:
    @click.option("--endpoint", help="the model's name unless given")
    @batches
    @click.argument("version")
    @command("serve", "Deploy a Production version where it is not live yet, wait until it answers, and say where.")
    def run(
        context: Context, version: str, endpoint: str | None, max_batch: int | None, max_wait_ms: float | None
    ) -> None:
        from quarterdeck.cli.serving import served

        context.out(served(context, version, endpoint, _batching(max_batch, max_wait_ms)))

    return run


def _batching(max_batch: int | None, max_wait_ms: float | None) -> BatchingRule | None:
    """What the two options say together; None where neither is given."""
    from quarterstore.records.deployments import BatchingRule
    from quarterstore.records.faults import got

    if max_batch is None and max_wait_ms is None:
        return None
    if max_batch is None:
        raise got("max-wait-ms", f"{max_wait_ms:g} without --max-batch", "both, or --max-batch alone")
    if max_wait_ms is None:
        max_wait_ms = 5.0 if max_batch > 1 else 0.0
    return BatchingRule(max_batch=max_batch, max_wait_ms=max_wait_ms)


def canary() -> click.Command:
    @click.option("--endpoint", help="the model's name unless given")
    @click.option("--ladder", default="5,10,25,50,100", show_default=True, help="percents of its steps")
    @click.option("--effect", type=float, help="rise of the error rate that must be seen")
    @click.option("--baseline", type=float, help="the error rate that it would rise from")
    @click.option("--latency", type=float, help="factor by which P95 may exceed the live one's")
    @click.option("--soak", type=float, help="seconds a step lasts at least")
    @click.option("--gate", "gates", multiple=True, help="accuracy:0.02, psi:0.2, metric:revenue:-5%, fairness:sex:0.1")
    @click.option("--reason", default="", help="kept with the act")
    @click.option("--wait", is_flag=True, help="until it has ended")
    @click.argument("words", nargs=-1, required=True, metavar="VERSION | status ENDPOINT")
    @command("canary", "Try a Staging version on a growing share of live traffic, or say how such a trial stands.")
    def run(
        context: Context,
        words: tuple[str, ...],
        endpoint: str | None,
        ladder: str,
        gates: tuple[str, ...],
        reason: str,
        wait: bool,
        **rule: Any,
    ) -> None:
        from quarterdeck.gates import gate_of
        from quarterstore.records.deployments import CanaryRule, StartCanary
        from quarterstore.records.faults import got

        if words[0] == "status" and len(words) == 2:
            _canary_status(context, words[1])
            return
        if len(words) != 1:
            raise got("version", " ".join(words), "one version, or status ENDPOINT")
        chosen = CanaryRule(
            **{name: value for name, value in rule.items() if value is not None}, gates=tuple(map(gate_of, gates))
        )
        act = StartCanary(version=words[0], endpoint=endpoint, ladder=steps("ladder", ladder), rule=chosen)
        do_or_propose(context, act, reason, wait)

    return run


def steps(field: str, text: str) -> tuple[int, ...]:
    """The percents of a ladder as a person writes them; raises `Invalid` on `field`."""
    from quarterstore.records.faults import got

    try:
        return tuple(int(step) for step in text.replace(">", ",").split(","))
    except ValueError as error:
        raise got(field, text, "shares such as 5,10,25,50,100") from error


def _canary_status(context: Context, endpoint: str) -> None:
    """The canary at an endpoint: its step, the verdict on it and each gate; that it waits for its golden rows; or how
    the last one ended."""
    from quarterstore.records.deployments import ShowDeployment
    from quarterstore.records.faults import NotFound

    found = context.client.ask(ShowDeployment(endpoint=endpoint))
    canary = found.canary or (found.pending_canary if found.pending else None)
    answer = canary or found.last_canary
    if answer is None:
        raise NotFound(f"no canary was tried at {endpoint}", field="endpoint", next="qd canary VERSION")
    if context.json:
        context.out(answer)
    elif found.last_canary is not None and canary is None:
        _canary_ended(found.last_canary)
    elif canary is not None:
        _canary_stands(context, found, canary)


def _canary_ended(end: CanaryEnd) -> None:
    from quarterdeck.cli.printing import lines, shown

    how = "it went live" if end.live else f"called off at {end.share} %" if end.share else "called off before it began"
    lines(
        {
            "canary": end.candidate,
            "ended": f"{shown('at', end.at, 0)}, {how}",
            "why": end.why,
            "by": end.by,
        }
    )


def _canary_stands(context: Context, found: Deployment, canary: Canary) -> None:
    from quarterdeck.cli.printing import lines, plain, table

    if found.canary is None:
        lines({"canary": canary.candidate, "waits": f"it answers its golden rows first, then {canary.share} %"})
        return
    judged = canary.judged
    lines(
        {
            "canary": f"{canary.candidate} at {canary.share} % beside {found.live}",
            "verdict": judged and f"{judged.verdict}  {judged.why}",
        }
    )
    if judged is None:
        context.say("this step was not judged yet")
    elif judged.gates:
        table([plain(gate) for gate in judged.gates], ("gate", "verdict", "value", "limit", "n", "need", "why"))


def deployment_group() -> dict[str, Made]:
    def history() -> click.Command:
        @click.option("--window", default="10m", show_default=True, help="how far back: 10m, 1h, 24h at most")
        @click.argument("endpoint")
        @command("history", "What each version of an endpoint did over time: requests, errors, latency in ms.")
        def run(context: Context, endpoint: str, window: str) -> None:
            from quarterdeck.cli.spans import seconds
            from quarterstore.records.deployments import ShowTraffic

            found = context.client.ask(ShowTraffic(endpoint=endpoint, window=seconds("window", window)))
            if context.json:
                context.out(found)
            else:
                _history(context, found)

        return run

    return {"history": history}


def _figure(value: float) -> str:
    return f"{value:.3g}" if value < 1000 else f"{value:.0f}"


def _history(context: Context, found: TrafficHistory) -> None:
    """A row a reading, by version; what nobody was asked has a dash."""
    from quarterdeck.cli.printing import table
    from quarterstore.records.names import drawn

    names = ("at", "requests", "errors", "p50", "p95", "p99")
    rows = []
    for arm in found.arms:
        columns = zip(arm.at, arm.heard, arm.requests, arm.errors, arm.p50, arm.p95, arm.p99, strict=True)
        for at, heard, requests, errors, *times in columns:
            values = (at, requests, errors, *(_figure(each) if each is not None else None for each in times))
            rows.append(
                {"version": arm.version, **dict(zip(names, values, strict=True)), "/s": _figure(requests / heard)}
            )
    table(rows, ("version", "at", "requests", "/s", *names[2:]))
    heard = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(found.since))
    context.say(drawn(f"readings of {found.step:g} s; the daemon listens since {heard}"))


def rollback() -> click.Command:
    @click.option("--reason", default="")
    @click.argument("endpoint")
    @command("rollback", "Give an endpoint's traffic back to the version before.")
    def run(context: Context, endpoint: str, reason: str) -> None:
        from quarterstore.records.deployments import RollBack, ShowDeployment

        before = context.client.ask(ShowDeployment(endpoint=endpoint))
        after = context.client.ask(RollBack(endpoint=endpoint, reason=reason))
        context.out(after)
        done = "what was tried is called off" if after.live == before.live else f"{before.live} is taken out"
        context.say(f"{done}; {after.live} answers everything at {endpoint}")

    return run


def drift() -> click.Command:
    @click.option("--window", default=86400.0, help="seconds back from now")
    @click.option("--rule", type=click.Choice(["default", "literal"]), default="default")
    @click.argument("endpoint")
    @command("drift", "Compare live traffic with the training rows; exit 1 on drift, and where too few rows came.")
    def run(context: Context, endpoint: str, window: float, rule: str) -> None:
        from quarterdeck.cli.waiting import to_the_end
        from quarterstore.records.monitoring import CheckDrift, DriftRule, ShowDrift

        job = to_the_end(
            context,
            context.client.ask(CheckDrift(endpoint=endpoint, window=window, rule=DriftRule(literal=rule == "literal"))),
        )
        found = context.client.ask(ShowDrift(drift=endpoint))
        short = found.n_current < found.rule.least
        if context.json:
            context.out(found)
        elif short:
            context.say(f"{found.verdict} ({found.n_current} of {found.rule.least} rows)")
        else:
            context.out(
                list(found.features),
                ("feature", "test", "statistic", "p", "q", "effect", "n_reference", "n_current", "verdict", "note"),
            )
            context.say(f"{found.verdict}: {found.words} ({job.id})")
        if short or found.verdict == "DRIFT":
            sys.exit(1)

    return run


def optimise() -> click.Command:
    @click.option("--int8", is_flag=True, help="dynamic int8 (the only recipe so far)")
    @click.argument("version")
    @command("optimise", "Make a smaller child of a version and measure both here.")
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


def batch() -> click.Command:
    @click.option("--keep", multiple=True, help="a column of the rows to stand beside the answers")
    @click.option("--chunk", type=int, default=131_072, show_default=True, help="rows done at once, and never twice")
    @click.option("--overwrite", is_flag=True, help="where the file of answers is there already")
    @click.argument("answers", type=click.Path(path_type=Path))
    @click.argument("rows", type=click.Path(path_type=Path))
    @click.argument("version")
    @command("batch", "Answer every row of a CSV or Parquet file, into a Parquet file; goes on where it was.")
    def run(context: Context, version: str, rows: Path, answers: Path, overwrite: bool, **given: Any) -> None:
        from quarterdeck.cli.batches import answered

        context.out(answered(context, version, rows, answers, overwrite, **given))

    return run


def serving_group() -> dict[str, Made]:
    def state() -> click.Command:
        @command("status", "The launcher and its hosts; works without the daemon.")
        def run(context: Context) -> None:
            from quarterdeck.cli.serving import ask_launcher, show

            show(context, ask_launcher(context.place(), "state", context.timeout))

        return run

    def stop() -> click.Command:
        @command("stop", "Stop the launcher and its hosts; works without the daemon.")
        def run(context: Context) -> None:
            from quarterdeck.cli.serving import show, stop_serving

            show(context, stop_serving(context))

        return run

    def start() -> click.Command:
        @command("start", "Serve again what is deployed, after qd serving stop.")
        def run(context: Context) -> None:
            from quarterdeck.cli.serving import show, start_serving

            show(context, start_serving(context))

        return run

    return {"status": state, "start": start, "stop": stop}
