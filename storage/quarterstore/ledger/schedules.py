"""The book of schedules."""

from __future__ import annotations

from quarterstore.ledger.state import Fold, State, copy_of
from quarterstore.records import schedules


def _added(state: State, event: schedules.ScheduleAdded) -> None:
    state.schedules.put(event.schedule)


def _paused(state: State, event: schedules.SchedulePaused) -> None:
    state.schedules.put(copy_of(state.schedules[event.name], paused=event.paused, next=event.next))


def _removed(state: State, event: schedules.ScheduleRemoved) -> None:
    state.schedules.drop(event.name)


def _fired(state: State, event: schedules.ScheduleFired) -> None:
    schedule = state.schedules[event.name]
    state.schedules.put(
        copy_of(
            schedule,
            last=event.due,
            next=event.next,
            fired=schedule.fired + event.run,
            missed_count=schedule.missed_count + event.missed,
            last_error=None,
        )
    )


def _failed(state: State, event: schedules.ScheduledActFailed) -> None:
    if event.name in state.schedules:
        state.schedules.put(copy_of(state.schedules[event.name], last_error=event.error))


FOLDS: dict[type, Fold] = {
    schedules.ScheduleAdded: _added,
    schedules.SchedulePaused: _paused,
    schedules.ScheduleRemoved: _removed,
    schedules.ScheduleFired: _fired,
    schedules.ScheduledActFailed: _failed,
}
