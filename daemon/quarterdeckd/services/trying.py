"""How a trial begins and ends, whichever act does it: its versions are admitted first, its traffic goes in one
entry."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from quarterdeckd.services.deciding import Asking, Decision
from quarterdeckd.services.endpoints import admission
from quarterstore.ledger.finding import trial_at
from quarterstore.ledger.state import State
from quarterstore.records import monitoring, trials
from quarterstore.records.base import Act, Event


def begun(state: State, trial: trials.Trial, asking: Asking, first: list[Event]) -> Decision:
    """A trial starts at once where all its versions have answered their golden rows, else it waits for those that have
    not; `first` are the events of its clearance."""
    waiting = [state.versions[each] for each in trial.versions if each not in state.admissions]
    events: list[Event] = [*first]
    if waiting:
        events.append(trials.TrialAsked(trial=trial))
        events += [admission(trial.endpoint, version, asking) for version in waiting]
    else:
        events.append(trials.TrialStarted(trial=trial, epoch=asking.seq, at=asking.now))
    words = f"{trial.words()} at {trial.endpoint}" + (" asked for" if waiting else "")
    return Decision(events, words, lambda after: after.trials[trial.id])


def admitted(state: State, endpoint: str, version: str, asking: Asking) -> list[Event]:
    """The start of the trial that waited for this version last."""
    trial = _waiting(state, endpoint, version)
    if trial is None or any(each not in state.admissions and each != version for each in trial.versions):
        return []
    return [trials.TrialStarted(trial=trial, epoch=asking.seq, at=asking.now)]


def not_admitted(state: State, endpoint: str, version: str, why: str, asking: Asking) -> list[Event]:
    """The end of a trial whose version did not answer its golden rows."""
    trial = _waiting(state, endpoint, version)
    if trial is None:
        return []
    return ended(trial, asking, f"{version} was not admitted: {why}", lambda after: trial).events


def _waiting(state: State, endpoint: str, version: str) -> trials.Trial | None:
    trial = trial_at(state, endpoint)
    return trial if trial is not None and trial.state == "ADMITTING" and version in trial.versions else None


def ended(
    trial: trials.Trial,
    asking: Asking,
    why: str,
    answer: Callable[[State], Any],
    verdict: trials.TrialVerdict | None = None,
) -> Decision:
    """A trial is over; with a `verdict` it ended by itself, which is said."""
    event = trials.TrialEnded(
        trial=trial.id,
        endpoint=trial.endpoint,
        epoch=asking.seq,
        at=asking.now,
        by=asking.actor,
        why=why[:1000],
        automatic=verdict is not None,
        verdict=verdict,
    )

    def alert(after: State, asked: Asking) -> Iterator[tuple[Act[Any], Asking]]:
        for each in after.alerts:  # what it fell behind with is over too
            if (each.kind, each.subject, each.resolved) == (trials.BEHIND, trial.endpoint, None):
                yield monitoring.ResolveAlert(alert=each.id, note=f"{trial.words()} ended"), asked
        if verdict is not None:
            yield (
                monitoring.RaiseAlert(
                    kind=f"{trials.KINDS[trial.kind]} ended",
                    subject=trial.endpoint,
                    severity="warning",
                    words=f"{trial.words()}: {why}"[:500],
                    next=f"qd canary {trial.versions[1]}"
                    if verdict.verdict == "WIN"
                    else f"qd trials show --endpoint {trial.endpoint}",
                ),
                asked,
            )

    return Decision([event], f"ended {trial.words()} at {trial.endpoint}: {why}", answer, alert)
