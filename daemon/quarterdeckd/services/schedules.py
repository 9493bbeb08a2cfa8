"""The rules of schedules: when an act is due, what becomes of a firing, and maintenance, while nothing fires."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

import msgspec
from msgspec.structs import replace

from quarterdeckd.services.clock_words import lasting, utc
from quarterdeckd.services.deciding import Answerers, Asking, Decision, Rules
from quarterdeckd.services.due_times import coming, following, retimed
from quarterdeckd.services.scheduled import (
    LONGEST,
    checked_act,
    checked_jitter,
    checked_when,
    first_due,
    may,
)
from quarterdeckd.services.scheduled_targets import checked_target
from quarterstore.ledger.state import State
from quarterstore.records import schedules
from quarterstore.records.base import Act, Event
from quarterstore.records.faults import Conflict, Forbidden, got, missing
from quarterstore.records.jobs import CancelJob
from quarterstore.records.messages import BY_TAG
from quarterstore.records.names import checked_text, checked_word

MOST_WAITING = 10
"""Firings of one schedule that wait for its job; what comes beyond them is skipped."""
MOST_TRIES = 3
GOING = ("QUEUED", "RUNNING")


def _add(state: State, act: schedules.AddSchedule, asking: Asking) -> Decision:
    name = checked_word("name", act.name)
    checked_act(act.act, asking)
    when = [field for field in ("cron", "every", "calendar", "on") if getattr(act, field) is not None]
    if len(when) != 1:
        raise got("cron", " and ".join(when) or "nothing", "one of cron, every, calendar and on")
    checked_when(act)
    fields = {field: getattr(act, field) for field in act.__struct_fields__}
    schedule = schedules.Schedule(
        **{**fields, "name": name}, created=asking.now, created_by=asking.actor, since=asking.seq
    )
    schedule = replace(schedule, next=first_due(schedule, asking.now))
    if act.jitter and schedule.next is not None:
        checked_jitter(schedule, schedule.next)
    checked_target(state, act.act)
    return Decision(
        [schedules.ScheduleAdded(schedule=schedule)],
        f"scheduled {name}: {act.act['type']}, {schedules.when_words(schedule)} ({schedule.zone})",
        lambda after: after.schedules[name],
    )


def _found(state: State, name: str) -> schedules.Schedule:
    schedule = state.schedules.get(name)
    if schedule is None:
        raise missing("name", name, state.schedules.rows)
    return schedule


def _pause(state: State, act: schedules.PauseSchedule, asking: Asking) -> Decision:
    schedule = _found(state, act.name)
    due = None if act.paused else following(schedule, asking.now)
    event = schedules.SchedulePaused(name=schedule.name, paused=act.paused, next=due)
    words = f"{'paused' if act.paused else 'resumed'} {schedule.name}"
    return Decision([event], words, lambda after: after.schedules[act.name])


def _remove(state: State, act: schedules.RemoveSchedule, asking: Asking) -> Decision:
    schedule = _found(state, act.name)
    return Decision([schedules.ScheduleRemoved(name=act.name)], f"removed schedule {act.name}", lambda after: schedule)


def in_maintenance(state: State, now: float) -> schedules.Maintenance | None:
    """The maintenance that is on at `now`."""
    found = state.maintenance.get("deck")
    return found if found is not None and now < found.until else None


def _pause_all(state: State, act: schedules.PauseAll, asking: Asking) -> Decision:
    if not asking.now < act.until <= asking.now + LONGEST:
        raise got("until", utc(act.until), f"a time in the next 366 days (it is {utc(asking.now)})")
    reason = checked_text("reason", act.reason, longest=500)
    former = in_maintenance(state, asking.now)
    since = former.since if former else asking.now
    found = schedules.Maintenance(since=since, until=act.until, reason=reason, by=asking.actor)
    return Decision([schedules.MaintenanceBegan(maintenance=found)], f"maintenance: {reason}", lambda after: found)


def _resume_all(state: State, act: schedules.ResumeAll, asking: Asking) -> Decision:
    found = state.maintenance.get("deck")
    if found is None:
        raise Conflict("no maintenance is on", field="maintenance")
    return Decision([schedules.MaintenanceEnded(at=asking.now)], "the maintenance is over", lambda after: found)


def going(state: State, schedule: str) -> list[str]:
    """The jobs of a schedule's firings that are not over."""
    kept = state.firings.get(schedule)
    jobs = [job for firing in (kept.firings if kept else ()) for job in firing.jobs]
    return [job for job in jobs if (found := state.jobs.get(job)) is not None and found.state in GOING]


def waiting(state: State, schedule: str) -> list[schedules.Firing]:
    """The firings of a schedule that wait for its job, oldest first."""
    kept = state.firings.get(schedule)
    return [firing for firing in (kept.firings if kept else ()) if firing.state == "WAITING"]


def to_start(state: State, schedule: schedules.Schedule) -> schedules.Firing | None:
    """The firing whose act is to be done now: the newest that ran, where its job was lost; else one that waited."""
    if schedule.paused or going(state, schedule.name):
        return None
    kept = state.firings.get(schedule.name)
    newest = next((each for each in reversed(kept.firings if kept else ()) if each.jobs), None)
    if newest is not None and _to_repeat(state, schedule, newest):
        return newest
    return next(iter(waiting(state, schedule.name)), None)


def _to_repeat(state: State, schedule: schedules.Schedule, firing: schedules.Firing) -> bool:
    job = state.jobs.get(firing.jobs[-1])
    lost = job is not None and job.state == "LOST"
    return lost and schedule.lost == "again" and firing.tries < MOST_TRIES and firing.seq > schedule.since


def _checked_open(state: State, schedule: schedules.Schedule, now: float) -> None:
    found = in_maintenance(state, now)
    if found is not None:
        raise Conflict(f"maintenance is on: {found.reason}", field="maintenance")
    if schedule.paused:
        raise Conflict(f"{schedule.name} is paused", field="name")


def _fire(state: State, act: schedules.FireSchedule, asking: Asking) -> Decision:
    schedule = _found(state, act.name)
    _checked_open(state, schedule, asking.now)
    _checked_due(state, schedule, act)
    busy = going(state, schedule.name)
    became, why = _became(schedule, act, busy, len(waiting(state, schedule.name)), asking.now)
    firing = schedules.Firing(
        id=schedules.firing_id(act.name, act.due, act.place),
        schedule=act.name,
        due=act.due,
        at=asking.now,
        state=became,
        missed=act.missed,
        why=why,
        seq=asking.seq,
    )
    event = schedules.FiringDecided(firing=firing, missed=act.missed + (not act.run), next=_next_of(schedule, act))

    def then(after: State, asked: Asking) -> Iterator[tuple[Act[Any], Asking]]:
        if became == "RAN":
            yield from _done(after, schedule, firing.id, busy, asked)

    counted = f" ({act.missed} missed before it)" if act.missed and became != "RAN" else ""
    words = f"schedule {act.name} was due{counted}" + (f": {why}" if why else "")
    return Decision([event], words, lambda after: after.schedules[act.name], then)


def _next_of(schedule: schedules.Schedule, act: schedules.FireSchedule | schedules.NoteFailure) -> float | None:
    return schedule.next if schedule.on is not None else following(schedule, act.due)


def _checked_due(
    state: State, schedule: schedules.Schedule, act: schedules.FireSchedule | schedules.NoteFailure
) -> None:
    """Each due time, and each event, is fired once."""
    if schedule.on is None:
        if schedule.next is None or act.due < schedule.next:
            raise Conflict(f"{act.name} is not due at {act.due}", field="due")
        return
    seq = int(act.place.partition("/")[0] or 0)
    kept = state.firings.get(act.name)
    own = schedules.firing_id(act.name, act.due, act.place)
    if seq <= schedule.since or any(each.id == own for each in (kept.firings if kept else ())):
        raise Conflict(f"{act.name} is not asked of entry {act.place}", field="place")


def _became(
    schedule: schedules.Schedule, act: schedules.FireSchedule, busy: list[str], queued: int, now: float
) -> tuple[schedules.FiringState, str]:
    if not act.run:
        return "SKIPPED", f"late by {lasting(now - act.due)}, and what is missed is skipped"
    if (busy or queued) and schedule.overlap == "skip":
        return "SKIPPED", f"{busy[0] if busy else 'a firing'} is not over"
    if (busy or queued) and schedule.overlap == "queue":
        if queued >= MOST_WAITING:
            return "SKIPPED", f"{queued} firings wait already"
        return "WAITING", f"behind {busy[0] if busy else 'another firing'}"
    return "RAN", _made_up_for(schedule, act.missed)


def _made_up_for(schedule: schedules.Schedule, missed: int) -> str:
    """What became of the due times that were missed before a firing."""
    became = "skipped" if schedule.missed == "skip" else "made up for once"
    return f"{missed} missed before it, {became}" if missed else ""


def _done(
    state: State, schedule: schedules.Schedule, firing: str, busy: list[str], asking: Asking
) -> Iterator[tuple[Act[Any], Asking]]:
    """The act of a schedule as its creator, who still has to hold the role; then which jobs it queued. Of `kill`
    the jobs before it end first."""
    kind = BY_TAG[schedule.act["type"]]
    person = state.people.get(schedule.created_by)
    if person is not None and not may(person.roles, kind):
        raise Forbidden(f"{schedule.created_by} may not {schedule.act['type']} any more", field="role")
    own = asking._replace(actor=schedule.created_by)
    for job in busy:
        yield CancelJob(job=job, reason=f"schedule {schedule.name} is due again"), own
    before = len(state.jobs.rows)
    yield _spoken(schedule), own
    queued = tuple(islice(state.jobs.rows, before, None))
    yield schedules.NoteStarted(name=schedule.name, firing=firing, jobs=queued), asking


def _spoken(schedule: schedules.Schedule) -> Act[Any]:
    """The act of a schedule; one that can say what asked for it says the schedule unless it says something else."""
    kind = BY_TAG[schedule.act["type"]]
    fields = dict(schedule.act)
    if "cause" in kind.__struct_fields__ and not fields.get("cause"):  # type: ignore[attr-defined]
        fields["cause"] = f"schedule {schedule.name}"
    spoken: Act[Any] = msgspec.convert(fields, kind)
    return spoken


def _start_firing(state: State, act: schedules.StartFiring, asking: Asking) -> Decision:
    schedule = _found(state, act.name)
    _checked_open(state, schedule, asking.now)
    firing = to_start(state, schedule)
    if firing is None or firing.id != act.firing:
        raise Conflict(f"{act.firing} is not to be started", field="firing")

    def then(after: State, asked: Asking) -> Iterator[tuple[Act[Any], Asking]]:
        yield from _done(after, schedule, act.firing, [], asked)

    why = "waited" if firing.state == "WAITING" else f"lost {firing.jobs[-1]}, try {firing.tries + 1}"
    return Decision([], f"schedule {act.name}: {why}", lambda after: after.schedules[act.name], then)


def _note_started(state: State, act: schedules.NoteStarted, asking: Asking) -> Decision:
    event = schedules.FiringStarted(name=act.name, firing=act.firing, at=asking.now, jobs=act.jobs)
    return Decision([event], f"started {act.firing}", lambda after: after.schedules[act.name])


def _note_failure(state: State, act: schedules.NoteFailure, asking: Asking) -> Decision:
    schedule = _found(state, act.name)
    own = schedules.firing_id(act.name, act.due, act.place)
    kept = state.firings.get(act.name)
    event: Event
    if any(each.id == own for each in (kept.firings if kept else ())):
        event = schedules.FiringFailed(name=act.name, firing=own, error=act.error)
    else:
        _checked_due(state, schedule, act)
        firing = schedules.Firing(
            id=own,
            schedule=act.name,
            due=act.due,
            at=asking.now,
            state="FAILED",
            missed=act.missed,
            why=act.error,
            seq=asking.seq,
        )
        event = schedules.FiringDecided(firing=firing, missed=act.missed, next=_next_of(schedule, act))
    return Decision([event], f"schedule {act.name}: {act.error}", lambda after: after.schedules[act.name])


def _retime(state: State, act: schedules.RetimeSchedule, asking: Asking) -> Decision:
    schedule = _found(state, act.name)
    due, anchor = retimed(schedule, asking.now)
    if due == schedule.next:
        raise Conflict(f"{act.name} is due when it was", field="name")
    event = schedules.ScheduleRetimed(name=act.name, next=due, anchor=anchor)
    return Decision([event], f"schedule {act.name} is due anew", lambda after: after.schedules[act.name])


def _next(state: State, query: schedules.NextFirings, asking: Asking) -> list[schedules.DueTime]:
    schedule = _found(state, query.name)
    if not 1 <= query.count <= 100:
        raise got("count", query.count, "1 to 100")
    return coming(schedule, asking.now, query.count)


def _history(state: State, query: schedules.ListFirings, asking: Asking) -> list[schedules.Firing]:
    names = list(state.firings.rows) if query.name is None else [_found(state, query.name).name]
    found = [each for name in names if (kept := state.firings.get(name)) is not None for each in kept.firings]
    newest = sorted(found, key=lambda each: each.seq, reverse=True)[: max(1, query.limit)]
    return [replace(each, ended=_ended(state, each)) for each in newest]


def _ended(state: State, firing: schedules.Firing) -> str | None:
    job = state.jobs.get(firing.jobs[-1]) if firing.jobs else None
    return job.state if job is not None else None


RULES: Rules = {
    schedules.AddSchedule: _add,
    schedules.PauseSchedule: _pause,
    schedules.RemoveSchedule: _remove,
    schedules.PauseAll: _pause_all,
    schedules.ResumeAll: _resume_all,
    schedules.FireSchedule: _fire,
    schedules.StartFiring: _start_firing,
    schedules.NoteStarted: _note_started,
    schedules.NoteFailure: _note_failure,
    schedules.RetimeSchedule: _retime,
}
ANSWERS: Answerers = {
    schedules.ListSchedules: lambda state, query, asking: sorted(state.schedules, key=lambda found: found.name),
    schedules.NextFirings: _next,
    schedules.ListFirings: _history,
    schedules.ShowMaintenance: lambda state, query, asking: in_maintenance(state, asking.now),
}
