"""`qd features` online: materialise, status, push, online, bench."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from quarterdeck.cli.context import Context
from quarterdeck.cli.short.making import Made, command

if TYPE_CHECKING:
    from quarterstore.records.online import OnlineStatus

STANDS = ("view", "entities", "made_at", "lag", "allowed", "waiting", "pushed", "newest_at", "generation")


def online_commands() -> dict[str, Made]:
    return {"materialise": _materialise, "status": _status, "push": _push, "online": _online, "bench": _bench}


def _materialise() -> click.Command:
    @click.option("--full", is_flag=True, help="from all rows, not on top of the generation before")
    @click.argument("view")
    @command("materialise", "Make the newest value of each entity ready to be read online, and follow it to the end.")
    def run(context: Context, view: str, full: bool) -> None:
        from quarterdeck.cli.waiting import to_the_end
        from quarterstore.records.online import Materialise, ShowOnline

        job = to_the_end(context, context.client.ask(Materialise(view=view, full=full)))
        result = job.result
        if result["unchanged"]:
            context.say(f"nothing came since {result['generation']}")
        else:
            rate = result["rows"] / max(result["seconds"], 1e-9)
            context.say(f"{result['rows']:,} rows read, {rate:,.0f} a second ({job.id})")
        _stands(context, context.client.ask(ShowOnline(view=view)))

    return run


def _status() -> click.Command:
    @click.argument("view", required=False)
    @command("status", "How views stand online: generation, lag and freshness; exit 1 where one is late.")
    def run(context: Context, view: str | None) -> None:
        from quarterstore.records.online import ShowOnline

        found = context.client.ask(ShowOnline(view=view))
        _stands(context, found)
        if any(each.late for each in found):
            sys.exit(1)

    return run


def _stands(context: Context, found: list[OnlineStatus]) -> None:
    if context.json:
        context.out(found)
        return
    from quarterdeck.cli.printing import table

    table([_row(each) for each in found], STANDS)


def _row(each: OnlineStatus) -> dict[str, Any]:
    made = each.generation
    return {
        "view": each.view,
        "entities": made.entities if made else None,
        "made_at": made.made if made else None,
        "lag": f"{each.lag:.0f} s" + (" LATE" if each.late else ""),
        "allowed": f"{each.max_lag:.0f} s",
        "waiting": each.rows_waiting,
        "pushed": each.pushed,
        "newest_at": made.newest if made else None,
        "generation": made.id if made else None,
    }


def _push() -> click.Command:
    @click.option("--key", help="whose row: customer=7; several keys: customer=7,region=eu")
    @click.option("--value", "values", multiple=True, help="NAME=VALUE for every feature; nothing behind = is null")
    @click.option("--at", help="its event time: ISO 8601, or seconds since 1970; now without it")
    @click.argument("view")
    @command("push", "Keep one row and read it online at once; without --key, JSON lines from standard input.")
    def run(context: Context, view: str, key: str | None, values: tuple[str, ...], at: str | None) -> None:
        from quarterdeck import entity_words
        from quarterdeck.cli import online
        from quarterstore.records.online import PushRows

        if key is None:
            if values or at:
                raise click.UsageError("--value and --at go with --key")
            for answer in online.pushed(context, view, sys.stdin.buffer):
                context.out(answer)
            return
        row = entity_words.row_of(online.view_of(context, view), key, values, at)
        context.out(context.client.ask(PushRows(view=view, rows=(row,))))

    return run


def _online() -> click.Command:
    @click.option("--key", "keys", required=True, multiple=True, help="customer=7; several keys: customer=7,region=eu")
    @click.option("--feature", "features", multiple=True, help="only these; all without it")
    @click.argument("view")
    @command("online", "What a serving host reads now of entities, with statuses and ages.")
    def run(context: Context, view: str, keys: tuple[str, ...], features: tuple[str, ...]) -> None:
        from quarterdeck import entity_words
        from quarterdeck.cli import online
        from quarterdeck.cli.printing import table
        from quarterstore.records.online import LookUp

        asked = entity_words.keys_of(online.view_of(context, view), keys)
        found = context.client.ask(LookUp(view=view, keys=asked, features=features))
        if context.json:
            context.out(found)
            return
        rows = []
        for key, values, status, age in zip(asked, found.values, found.statuses, found.ages, strict=True):
            shown = {name: "-" if value is None else value for name, value in zip(found.features, values, strict=True)}
            rows.append({**key, "status": status, "age": "-" if age is None else f"{age:,.0f} s", **shown})
        table(rows)

    return run


def _bench() -> click.Command:
    @click.option("--entities", default=100, help="how many are read at a time")
    @click.option("--rounds", default=1000)
    @click.argument("view")
    @command("bench", "How long reads take in the daemon's own process: P50, P95 and P99 in milliseconds, and rows.")
    def run(context: Context, view: str, entities: int, rounds: int) -> None:
        from quarterstore.records.online import MeasureReads

        context.out(context.client.ask(MeasureReads(view=view, entities=entities, rounds=rounds), timeout=120.0))

    return run
