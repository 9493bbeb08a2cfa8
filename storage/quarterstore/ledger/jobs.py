"""The book of jobs."""

from __future__ import annotations

from quarterstore.ledger.state import Fold, State, copy_of
from quarterstore.records import jobs


def _queued(state: State, event: jobs.JobQueued) -> None:
    state.jobs.put(event.job)


def _began(state: State, event: jobs.JobBegan) -> None:
    job = state.jobs[event.job]
    state.jobs.put(copy_of(job, state="RUNNING", pid=event.pid, born=event.born, started=event.at))


def _ended(state: State, event: jobs.JobEnded) -> None:
    job = state.jobs[event.job]
    state.jobs.put(copy_of(job, state=event.state, ended=event.at, result=event.result, error=event.error))


FOLDS: dict[type, Fold] = {jobs.JobQueued: _queued, jobs.JobBegan: _began, jobs.JobEnded: _ended}
