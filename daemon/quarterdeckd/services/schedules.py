"""The rules of schedules: when an act is due, and what becomes of what was missed."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec
from cronsim import CronSim, CronSimError

from quarterdeckd.services.deciding import Answerers, Asking, Decision, Rules
from quarterstore.ledger.state import State
from quarterstore.records import schedules
from quarterstore.records.base import Act
from quarterstore.records.batches import StartBatch
from quarterstore.records.datasets import AddDataset
from quarterstore.records.faults import Conflict, Forbidden, got, missing
from quarterstore.records.hooks import AddHook
from quarterstore.records.logged_models import LogModelArtefact
from quarterstore.records.messages import ACTS, BY_TAG
from quarterstore.records.names import checked_word
from quarterstore.records.registry import RegisterVersion
from quarterstore.records.remotes import AddRemote, SendVersion, TakeBundle
from quarterstore.records.runs import LogArtefact

LOOKED_AT = (
    RegisterVersion,
    AddDataset,
    LogArtefact,
    LogModelArtefact,
    AddHook,
    StartBatch,
    AddRemote,
    SendVersion,
    TakeBundle,
)
"""Acts that the daemon looks at something for before they are decided, which the clock's own acts pass by."""
SHORTEST = 1.0
MOST_CAUGHT_UP = 1000


def due_times(schedule: schedules.Schedule, after: float) -> Iterator[float]:
    """When a schedule is due beyond `after`, in order: cron's own rules by cronsim, in the schedule's zone, so that a
    local hour that is skipped or doubled fires once; `every` counts from when it was made."""
    if schedule.cron is not None:
        zone = ZoneInfo(schedule.zone)
        for moment in CronSim(schedule.cron, datetime.fromtimestamp(after, UTC).astimezone(zone)):
            yield moment.timestamp()
    else:
        assert schedule.every is not None
        count = max(0, int((after - schedule.created) // schedule.every))
        while True:
            count += 1
            due = schedule.created + count * schedule.every
            if due > after:
                yield due


def missed_before(schedule: schedules.Schedule, now: float) -> list[float]:
    """Every due time from `schedule.next` to now, oldest first, at most 1,000."""
    if schedule.next is None or schedule.next > now:
        return []
    found = [schedule.next]
    for due in due_times(schedule, schedule.next):
        if due > now or len(found) >= MOST_CAUGHT_UP:
            break
        found.append(due)
    return found


def _add(state: State, act: schedules.AddSchedule, asking: Asking) -> Decision:
    name = checked_word("name", act.name)
    kind = BY_TAG.get(str(act.act.get("type")))
    if kind is None or kind not in ACTS or kind.role == "daemon":  # type: ignore[attr-defined]
        raise missing("act.type", str(act.act.get("type")), [tag for tag, found in BY_TAG.items() if found in ACTS])
    if kind in LOOKED_AT:
        words = "an act whose file or address is not looked at by the daemon first"
        raise got("act.type", str(act.act["type"]), words)
    if kind.role not in asking.roles and "admin" not in asking.roles:  # type: ignore[attr-defined]
        words = f"{act.act['type']} needs the role {kind.role}, on the clock too"  # type: ignore[attr-defined]
        raise Forbidden(words, field="role")
    try:
        msgspec.convert(act.act, kind)
    except msgspec.ValidationError as error:
        raise got("act", str(error), f"the fields of {act.act['type']}") from error
    if (act.cron is None) == (act.every is None):
        raise got("cron", "both or neither", "either cron or every")
    if act.every is not None and not act.every >= SHORTEST:
        raise got("every", act.every, f"at least {SHORTEST:g} seconds")
    try:
        ZoneInfo(act.zone)
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise got("zone", act.zone, "an IANA time zone such as Europe/Berlin") from error
    schedule = schedules.Schedule(
        name=name,
        act=act.act,
        created=asking.now,
        created_by=asking.actor,
        cron=act.cron,
        every=act.every,
        zone=act.zone,
        missed=act.missed,
    )
    try:
        following = next(due_times(schedule, asking.now))
    except (CronSimError, StopIteration) as error:
        raise got("cron", act.cron, "five cron fields that come due") from error
    schedule = msgspec.structs.replace(schedule, next=following)
    return Decision(
        [schedules.ScheduleAdded(schedule=schedule)],
        f"scheduled {name}: {act.act['type']} at {act.cron or f'every {act.every:g} s'} {act.zone}",
        lambda after: after.schedules[name],
    )


def _found(state: State, name: str) -> schedules.Schedule:
    schedule = state.schedules.get(name)
    if schedule is None:
        raise missing("name", name, state.schedules.rows)
    return schedule


def _pause(state: State, act: schedules.PauseSchedule, asking: Asking) -> Decision:
    schedule = _found(state, act.name)
    following = None if act.paused else next(due_times(schedule, asking.now))
    event = schedules.SchedulePaused(name=schedule.name, paused=act.paused, next=following)
    words = f"{'paused' if act.paused else 'resumed'} {schedule.name}"
    return Decision([event], words, lambda after: after.schedules[act.name])


def _remove(state: State, act: schedules.RemoveSchedule, asking: Asking) -> Decision:
    schedule = _found(state, act.name)
    return Decision([schedules.ScheduleRemoved(name=act.name)], f"removed schedule {act.name}", lambda after: schedule)


def _fire(state: State, act: schedules.FireSchedule, asking: Asking) -> Decision:
    schedule = _found(state, act.name)
    if schedule.paused or schedule.next is None or act.due < schedule.next:
        raise Conflict(f"{act.name} is not due at {act.due}", field="due")
    event = schedules.ScheduleFired(
        name=act.name,
        due=act.due,
        at=asking.now,
        missed=act.missed,
        run=act.run,
        next=next(due_times(schedule, act.due)),
    )

    def then(after: State, asked: Asking) -> Iterator[tuple[Act[Any], Asking]]:
        if act.run:
            yield _spoken(schedule), asked._replace(actor=schedule.created_by)

    said = f" ({act.missed} missed before it)" if act.missed else ""
    return Decision([event], f"schedule {act.name} was due{said}", lambda after: after.schedules[act.name], then)


def _spoken(schedule: schedules.Schedule) -> Act[Any]:
    """The act of a schedule; one that can say what asked for it says the schedule unless it says something else."""
    kind = BY_TAG[schedule.act["type"]]
    fields = dict(schedule.act)
    if "cause" in kind.__struct_fields__ and not fields.get("cause"):  # type: ignore[attr-defined]
        fields["cause"] = f"schedule {schedule.name}"
    spoken: Act[Any] = msgspec.convert(fields, kind)
    return spoken


def _note_failure(state: State, act: schedules.NoteFailure, asking: Asking) -> Decision:
    schedule = _found(state, act.name)
    missed = [] if schedule.next is None else missed_before(schedule, asking.now)
    events = [
        schedules.ScheduleFired(
            name=act.name,
            due=act.due,
            at=asking.now,
            missed=max(0, len(missed) - 1),
            run=False,
            next=next(due_times(schedule, max(act.due, missed[-1] if missed else act.due))),
        ),
        schedules.ScheduledActFailed(name=act.name, due=act.due, error=act.error),
    ]
    return Decision(list(events), f"schedule {act.name}: {act.error}", lambda after: after.schedules[act.name])


def _next(state: State, query: schedules.NextFirings, asking: Asking) -> list[float]:
    schedule = _found(state, query.name)
    times = due_times(schedule, asking.now)
    return [due for due, _ in zip(times, range(max(1, min(query.count, 100))), strict=False)]


RULES: Rules = {
    schedules.AddSchedule: _add,
    schedules.PauseSchedule: _pause,
    schedules.RemoveSchedule: _remove,
    schedules.FireSchedule: _fire,
    schedules.NoteFailure: _note_failure,
}
ANSWERS: Answerers = {
    schedules.ListSchedules: lambda state, query, asking: sorted(state.schedules, key=lambda found: found.name),
    schedules.NextFirings: _next,
}
