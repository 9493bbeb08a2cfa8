"""What is tried without any caller: recorded traffic against a candidate, a rollback in a sandbox."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from quarterdeck.cli.context import Context
from quarterdeck.cli.short.making import Made, command
from quarterdeck.cli.spans import seconds

if TYPE_CHECKING:
    from quarterstore.records.replays import Replay

DIFFERENCES = ("prediction", "row", "recorded", "candidate", "recorded_score", "candidate_score")
ANSWERED = ("version", "rows", "agreed", "rate", "low", "high")
SLICES = ("field", "value", "pairs", "agreed", "rate", "low", "high")
SCORED = ("metric", "n", "recorded", "recorded_low", "recorded_high", "candidate", "candidate_low", "candidate_high")
TIMINGS = ("version", "of", "rows", "p50", "p95")


def replay() -> click.Command:
    @click.option("--window", default="24h", help="how far back, such as 30m, 24h or 7d")
    @click.option("--endpoint", help="the model's name unless given")
    @click.option("--limit", default=100_000, show_default=True, help="rows at most, the newest")
    @click.option("--tolerance", default=0.01, show_default=True, help="part by which agreeing numbers may differ")
    @click.option("--top", default=20, show_default=True, help="differing rows that are listed")
    @click.argument("version")
    @command("replay", "Answer recorded traffic again with a version, and say where its answers differ.")
    def run(
        context: Context, version: str, window: str, endpoint: str | None, limit: int, tolerance: float, top: int
    ) -> None:
        from quarterdeck.cli.waiting import to_the_end
        from quarterstore.records.replays import ListReplays, StartReplay

        act = StartReplay(
            version=version,
            endpoint=endpoint,
            window=seconds("window", window),
            limit=limit,
            tolerance=tolerance,
            top=top,
        )
        job = to_the_end(context, context.client.ask(act))
        found = next(each for each in context.client.ask(ListReplays(version=job.subject)) if each.job == job.id)
        if context.json:
            context.out(found)
        else:
            _shown(context, found)

    return run


def _shown(context: Context, replay: Replay) -> None:
    """The sentence, then what is behind it, a table each; what has nothing to show is left out."""
    from quarterdeck.cli.printing import lines, plain, table

    found = replay.found
    context.say(f"{found.words} ({replay.id})")
    lines(
        {
            "psi": found.psi,
            "mean difference": found.mean_difference,
            "largest difference": found.largest_difference,
            "older": found.older,
            "hash": found.hash,
        }
    )
    timings = [plain(each) | {"of": "a request" if each.recorded else "the run"} for each in found.timings]
    left_out = [{"rows": rows, "reason": reason} for reason, rows in found.left_out.items()]
    parts = (
        ("not replayed", left_out, ("rows", "reason")),
        ("agreement by version", map(plain, found.answered), ANSWERED),
        ("changed class", map(plain, found.flips), ("recorded", "candidate", "rows")),
        ("beside the labels", map(plain, found.scored), SCORED),
        ("worst slices", map(plain, found.slices), SLICES),
        ("milliseconds", timings, TIMINGS),
        ("differ most", map(plain, found.differences), DIFFERENCES),
    )
    for title, rows, columns in parts:
        if listed := list(rows):
            print(f"\n{title}")
            table(listed, columns)


def drill_group() -> dict[str, Made]:
    return {"rollback": _rollback}


def _rollback() -> click.Command:
    @click.option("--rate", default=50.0, show_default=True, help="requests a second")
    @click.option("--seconds", "each", default=2.0, show_default=True, help="how long before the switch, and after it")
    @click.option("--hosts", default=1, show_default=True, help="hosts of the sandbox")
    @click.option("--within", default=1.0, show_default=True, help="seconds that the switch may take")
    @click.argument("endpoint")
    @command("rollback", "Rehearse a rollback beside the live endpoint, which it does not touch; exit 1 if it fails.")
    def run(context: Context, endpoint: str, rate: float, each: float, hosts: int, within: float) -> None:
        from quarterdeck.cli.waiting import to_the_end
        from quarterstore.records.drills import DrillRollback, ListDrills

        act = DrillRollback(endpoint=endpoint, rate=rate, seconds=each, hosts=hosts, within=within)
        job = to_the_end(context, context.client.ask(act))
        found = next(drill for drill in context.client.ask(ListDrills(endpoint=endpoint)) if drill.job == job.id)
        context.out(found)
        context.say(found.found.words)
        if not found.found.ok:
            sys.exit(1)

    return run


def gate() -> click.Command:
    @click.option("--drill-within", help="the rollback must have been drilled well within, such as 7d; 0d lifts it")
    @click.argument("model")
    @command("gate", "What a version must show before Production; its other rules: qd governance set-gate.")
    def run(context: Context, model: str, drill_within: str | None) -> None:
        from quarterstore.records.drills import DRILLED
        from quarterstore.records.faults import NotFound
        from quarterstore.records.governance import GateRule, SetGate, ShowGate
        from quarterstore.records.models import ShowModel

        if drill_within is None:
            context.out(context.client.ask(ShowGate(model=model)))
            return
        context.client.ask(
            ShowModel(model=model)
        )  # a gate may stand before its model does: a slip of the pen would guard nothing
        days = seconds("drill_within", drill_within) / 86_400
        try:
            before = context.client.ask(ShowGate(model=model)).rules
        except NotFound:
            before = ()
        others = tuple(rule for rule in before if rule.against != "drill")
        wanted = (GateRule(metric=DRILLED, op="<=", limit=days, against="drill"),) if days else ()
        context.out(context.client.ask(SetGate(model=model, rules=(*others, *wanted))))

    return run
