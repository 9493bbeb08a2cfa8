"""The rules of retention: limits and holds, and which samples go first when a limit is met."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from quarterdeckd.services.deciding import Answerers, Asking, Decision, Rules
from quarterstore.ledger.finding import deployment_of, model_of, one_of, run_of
from quarterstore.ledger.retention import retention_of
from quarterstore.ledger.state import State
from quarterstore.records import retention
from quarterstore.records.faults import Conflict, got
from quarterstore.records.names import checked_text

LEAST_SIZE = 1_000_000
LEAST_ROWS = 1000
MOST = 2**62
MOST_DAYS = 36_500
MOST_HOLDS = 10_000
HELD = "are held (qd hold list)"
"""Why a lot stays, where a hold is the reason."""


class Lot(NamedTuple):
    """What is purged whole: a file of predictions, or the points of one run."""

    name: str
    size: int
    rows: int
    oldest: str
    """The day of its oldest row, `2026-01-31`."""
    newest: str
    expired: bool = False
    """Older than its days."""
    kept: str = ""
    """Why it may not go, if so: held, open, registered."""


class Choice(NamedTuple):
    """What goes, by which limits, and what is kept then."""

    lots: list[Lot]
    rules: tuple[str, ...]
    size: int
    rows: int


def choose(lots: list[Lot], size: int, rows: int, limit: retention.Retention) -> Choice:
    """What has to go, of lots that come oldest first, out of `size` bytes and `rows` in all (what waits to become lots
    included): what is expired, then from the oldest on until both totals are at their low mark, if either is over its
    high one. What may not go is passed over."""
    chosen = [lot for lot in lots if lot.expired and not lot.kept]
    rules = ["days"] if chosen else []
    size -= sum(lot.size for lot in chosen)
    rows -= sum(lot.rows for lot in chosen)
    by_size = retention.marks(limit.size, retention.WAITING_SIZE)
    by_rows = retention.marks(limit.rows, retention.WAITING_ROWS)
    over = [size > by_size.high, rows > by_rows.high]
    expired = len(chosen)
    for lot in lots:
        if not ((over[0] and size > by_size.low) or (over[1] and rows > by_rows.low)):
            break
        if not lot.kept and not lot.expired:
            chosen.append(lot)
            size, rows = size - lot.size, rows - lot.rows
    if len(chosen) > expired:
        rules += [name for name, met in zip(("size", "rows"), over, strict=True) if met]
    return Choice(chosen, tuple(rules), size, rows)


def unmet(lots: list[Lot], size: int, rows: int, limit: retention.Retention) -> str:
    """Why a limit cannot be met, in words, of what is kept after a purge; nothing where it is met."""
    words = []
    if size > limit.size:
        words.append(f"{size:,} bytes, the limit is {limit.size:,}")
    if rows > limit.rows:
        words.append(f"{rows:,} rows, the limit is {limit.rows:,}")
    if not words:
        return ""
    reasons: dict[str, tuple[int, int]] = {}
    for lot in lots:
        if lot.kept:
            more, number = reasons.get(lot.kept, (0, 0))
            reasons[lot.kept] = (more + lot.size, number + lot.rows)
    why = [f"{more:,} bytes ({number:,} rows) {reason}" for reason, (more, number) in sorted(reasons.items())]
    return f"{limit.kind}: {' and '.join(words)}; {', '.join(why) or 'nothing of it can go'}"


def with_limits(
    present: retention.Retention, wanted: retention.SetRetention | retention.PlanPurge
) -> retention.Retention:
    """Limits with those that are given in place of the present ones; `Invalid` for one that is out of range."""
    given = {name: getattr(wanted, name) for name in ("size", "rows", "days", "registered")}
    changes = {name: value for name, value in given.items() if value is not None}
    if not changes:
        raise got("retention", "no limit", "size, rows, days or registered")
    for name, least in (("size", LEAST_SIZE), ("rows", LEAST_ROWS)):
        if name in changes and not least <= changes[name] <= MOST:
            raise got(name, changes[name], f"{least} to {MOST}")
    if "days" in changes:
        if not 0 <= changes["days"] <= MOST_DAYS:
            raise got("days", changes["days"], f"0 (no limit) to {MOST_DAYS}")
        changes["days"] = changes["days"] or None
    if "registered" in changes and present.kind != "points":
        raise got("registered", present.kind, "points: a version is registered from a run")
    return msgspec.structs.replace(present, **changes)


def _set(state: State, act: retention.SetRetention, asking: Asking) -> Decision:
    found = with_limits(retention_of(state, act.kind), act)
    found = msgspec.structs.replace(found, set_by=asking.actor, at=asking.now)
    words = f"keeps {found.size:,} bytes and {found.rows:,} rows of {act.kind}"
    words += f", {found.days} days" if found.days else ""
    words += ", also without the points of registered versions" if found.registered else ""
    return Decision([retention.RetentionSet(retention=found)], words, lambda after: found)


def _hold(state: State, act: retention.HoldSamples, asking: Asking) -> Decision:
    reason = checked_text("reason", act.reason, longest=1000)
    if act.on == "run":
        name = run_of(state, act.name, removed=True).id
    elif act.on == "model":
        name = model_of(state, act.name, removed=True).name
    else:
        name = deployment_of(state, act.name).endpoint
    for standing in state.holds:
        if (standing.on, standing.name) == (act.on, name):
            raise Conflict(f"{standing.id} holds it already: {standing.reason}", field="name")
    if len(state.holds) >= MOST_HOLDS:
        raise got("name", f"a hold beside {MOST_HOLDS} others", f"at most {MOST_HOLDS}")
    hold = retention.Hold(id=asking.id("hold"), on=act.on, name=name, reason=reason, by=asking.actor, at=asking.now)
    words = f"holds the samples of {act.on} {name}: {reason}"
    return Decision([retention.SamplesHeld(hold=hold)], words, lambda after: hold)


def _release(state: State, act: retention.ReleaseHold, asking: Asking) -> Decision:
    hold: retention.Hold = one_of(state.holds, "hold", act.hold)
    event = retention.HoldReleased(hold=hold.id, by=asking.actor, at=asking.now)
    return Decision([event], f"released {hold.on} {hold.name}, held for: {hold.reason}", lambda after: hold)


def _note(state: State, act: retention.NotePurge, asking: Asking) -> Decision:
    event = retention.SamplesPurged(
        kind=act.kind,
        rows=act.rows,
        size=act.size,
        oldest=act.oldest,
        newest=act.newest,
        rules=act.rules,
        at=asking.now,
        runs=act.runs,
    )
    of = f" of {len(act.runs)} runs" if act.runs else ""
    words = f"purged {act.rows:,} {act.kind}{of} ({act.size:,} bytes, {act.oldest} to {act.newest})"
    words += f" by {', '.join(act.rules)}" + (", cut short by a stop and ended after it" if act.mended else "")
    return Decision([event], words, lambda after: None)


RULES: Rules = {
    retention.SetRetention: _set,
    retention.HoldSamples: _hold,
    retention.ReleaseHold: _release,
    retention.NotePurge: _note,
}
ANSWERS: Answerers = {
    retention.ListHolds: lambda state, query, asking: sorted(state.holds, key=lambda hold: hold.at, reverse=True),
}
