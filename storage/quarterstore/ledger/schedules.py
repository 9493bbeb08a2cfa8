"""The books of schedules: when each is due, what became of its last firings, and the maintenance that is on."""

from __future__ import annotations

from quarterstore.ledger.state import Fold, State, copy_of
from quarterstore.records import schedules

KEPT = 50
"""Firings of one schedule that are kept."""
STRETCHES = 8
"""Stretches of due times that are remembered: each clock that jumped ends one."""


def _added(state: State, event: schedules.ScheduleAdded) -> None:
    name = event.schedule.name
    state.schedules.put(event.schedule)
    kept = state.firings.get(name)
    for firing in kept.firings if kept else ():
        if firing.state == "WAITING":
            _put(state, name, copy_of(firing, state="SKIPPED", why="the schedule was set anew"))


def _paused(state: State, event: schedules.SchedulePaused) -> None:
    state.schedules.put(copy_of(state.schedules[event.name], paused=event.paused, next=event.next))


def _removed(state: State, event: schedules.ScheduleRemoved) -> None:
    state.schedules.drop(event.name)
    if event.name in state.firings:
        state.firings.drop(event.name)


def _decided(state: State, event: schedules.FiringDecided) -> None:
    firing = event.firing
    schedule = state.schedules[firing.schedule]
    state.schedules.put(
        copy_of(
            schedule,
            last=firing.due,
            next=event.next,
            fired=schedule.fired + (firing.state == "RAN"),
            missed_count=schedule.missed_count + event.missed,
            last_error=firing.why if firing.state == "FAILED" else None,
            handled=_handled(schedule, firing.due, event.missed),
        )
    )
    kept = state.firings.get(firing.schedule)
    firings = (*(kept.firings if kept else ()), firing)[-KEPT:]
    state.firings.put(schedules.History(schedule=firing.schedule, firings=firings))


def _handled(schedule: schedules.Schedule, due: float, missed: int) -> tuple[tuple[float, float], ...]:
    """The stretches with one more due time: the newest goes on where nothing between was missed, and `every` counts
    from where it did."""
    spans = schedule.handled
    if spans and missed == 0 and spans[-1][1] == schedule.last and due > spans[-1][1] and _in_step(schedule, due):
        return (*spans[:-1], (spans[-1][0], due))
    return (*spans, (due, due))[-STRETCHES:]


def _in_step(schedule: schedules.Schedule, due: float) -> bool:
    if schedule.every is None or schedule.last is None:
        return True
    return abs(due - schedule.last - schedule.every) < 0.001


def _put(state: State, name: str, firing: schedules.Firing) -> None:
    found = tuple(firing if each.id == firing.id else each for each in state.firings[name].firings)
    state.firings.put(schedules.History(schedule=name, firings=found))


def _started(state: State, event: schedules.FiringStarted) -> None:
    firing = next(each for each in state.firings[event.name].firings if each.id == event.firing)
    if firing.state == "WAITING":
        schedule = state.schedules[event.name]
        state.schedules.put(copy_of(schedule, fired=schedule.fired + 1))
    jobs = (*firing.jobs, *event.jobs)
    why = firing.why if firing.state == "RAN" else ""  # what it waited behind is over
    _put(state, event.name, copy_of(firing, state="RAN", at=event.at, why=why, jobs=jobs, tries=firing.tries + 1))


def _failed(state: State, event: schedules.ScheduledActFailed) -> None:
    if event.name in state.schedules:
        state.schedules.put(copy_of(state.schedules[event.name], last_error=event.error))


def _firing_failed(state: State, event: schedules.FiringFailed) -> None:
    state.schedules.put(copy_of(state.schedules[event.name], last_error=event.error))
    firing = next(each for each in state.firings[event.name].firings if each.id == event.firing)
    _put(state, event.name, copy_of(firing, state="FAILED", why=event.error))


def _retimed(state: State, event: schedules.ScheduleRetimed) -> None:
    schedule = state.schedules[event.name]
    state.schedules.put(copy_of(schedule, next=event.next, anchor=event.anchor or schedule.anchor))


def _began(state: State, event: schedules.MaintenanceBegan) -> None:
    state.maintenance.put(event.maintenance)


def _ended(state: State, event: schedules.MaintenanceEnded) -> None:
    for key in list(state.maintenance.rows):
        state.maintenance.drop(key)


FOLDS: dict[type, Fold] = {
    schedules.ScheduleAdded: _added,
    schedules.SchedulePaused: _paused,
    schedules.ScheduleRemoved: _removed,
    schedules.FiringDecided: _decided,
    schedules.FiringStarted: _started,
    schedules.ScheduledActFailed: _failed,
    schedules.FiringFailed: _firing_failed,
    schedules.ScheduleRetimed: _retimed,
    schedules.MaintenanceBegan: _began,
    schedules.MaintenanceEnded: _ended,
}
