"""How much is kept of predictions and metric points, and what is held whatever the limits say."""

from __future__ import annotations

from typing import Any

import click

from quarterdeck.cli.context import Context
from quarterdeck.cli.short.making import Made, command

KEPT = (
    "kind",
    "size",
    "limit_size",
    "rows",
    "limit_rows",
    "oldest",
    "newest",
    "limit_days",
    "held",
    "registered",
    "over",
)
HOLDS = ("id", "on", "name", "reason", "by", "at")
KINDS = click.Choice(("predictions", "points"))
SIZES = {"TB": 10**12, "GB": 10**9, "MB": 10**6, "KB": 10**3, "B": 1}
COUNTS = {"G": 10**9, "M": 10**6, "k": 10**3}


def retention() -> click.Command:
    @command("show", "What is kept of predictions and points, beside the limits.")
    def run(context: Context) -> None:
        from quarterstore.records.retention import ShowRetention

        context.out(context.client.ask(ShowRetention(), timeout=600.0), KEPT)

    return run


def retention_group() -> dict[str, Made]:
    return {"show": retention, "set": _set}


def _set() -> click.Command:
    @click.option("--size", help="bytes on the disk: 50MB, 10GB")
    @click.option("--rows", help="100k, 5M")
    @click.option("--days", type=int, help="0: however old")
    @click.option("--registered/--no-registered", default=None, help="points of registered versions may go too")
    @click.option("--dry-run", is_flag=True, help="only say what would go at once")
    @click.argument("kind", type=KINDS)
    @command(
        "set", "Limit what is kept; what is over goes within seconds, oldest first, and is said in the audit trail."
    )
    def run(
        context: Context,
        kind: Any,
        size: str | None,
        rows: str | None,
        days: int | None,
        registered: bool | None,
        dry_run: bool,
    ) -> None:
        from quarterstore.records.retention import PlanPurge, SetRetention

        limits: Any = {
            "size": _amount("size", size, SIZES),
            "rows": _amount("rows", rows, COUNTS),
            "days": days,
            "registered": registered,
        }
        if dry_run:
            context.out(context.client.ask(PlanPurge(kind=kind, **limits), timeout=600.0))
        else:
            context.out(context.client.ask(SetRetention(kind=kind, **limits)))

    return run


def _amount(field: str, text: str | None, units: dict[str, int]) -> int | None:
    """`50MB` or `100k` as a number; a plain number as it is."""
    from quarterstore.records.faults import got

    if text is None:
        return None
    unit = next((each for each in units if text.endswith(each)), "")
    number = text.removesuffix(unit)
    if not number.isascii() or not number.isdecimal() or len(number) > 18:
        raise got(field, text, f"a whole number, with {', '.join(units)} behind it or without")
    return int(number) * units.get(unit, 1)


def hold_group() -> dict[str, Made]:
    return {"add": _add, "list": _list, "rm": _rm}


def _add() -> click.Command:
    @click.option("--reason", required=True, help="kept in the journal")
    @click.argument("name")
    @click.argument("on", metavar="model|endpoint|run", type=click.Choice(("model", "endpoint", "run")))
    @command("add", "Keep the samples of a model, an endpoint or a run whatever the limits say.")
    def run(context: Context, on: Any, name: str, reason: str) -> None:
        from quarterstore.records.retention import HoldSamples

        context.out(context.client.ask(HoldSamples(on=on, name=name, reason=reason)))

    return run


def _list() -> click.Command:
    @command("list", "Every hold that stands, newest first.")
    def run(context: Context) -> None:
        from quarterstore.records.retention import ListHolds

        context.out(context.client.ask(ListHolds()), HOLDS)

    return run


def _rm() -> click.Command:
    @click.argument("hold")
    @command("rm", "Release a hold: the limits are met again, oldest first; needs admin.")
    def run(context: Context, hold: str) -> None:
        from quarterstore.records.retention import ReleaseHold

        context.out(context.client.ask(ReleaseHold(hold=hold)))

    return run
