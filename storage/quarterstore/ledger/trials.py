"""The book of trials: what runs beside the live version, and how each one ended."""

from __future__ import annotations

from quarterstore.ledger.state import Fold, State, copy_of
from quarterstore.records import trials

MOST_POINTS = 200


def _asked(state: State, event: trials.TrialAsked) -> None:
    state.trials.put(event.trial)


def _started(state: State, event: trials.TrialStarted) -> None:
    started = copy_of(event.trial, state="RUNNING", since=event.at, changed=event.at, epoch=event.epoch)
    if started.bandit is not None:
        first = trials.TrialPoint(at=event.at, verdict="GOES ON", shares=started.shares)
        started = copy_of(started, history=(first,))
    state.trials.put(started)
    _rerouted(state, started.endpoint, event.epoch, event.at)


def _judged(state: State, event: trials.TrialJudged) -> None:
    trial = state.trials[event.trial]
    state.trials.put(copy_of(trial, judged=event.verdict, history=_longer(trial, event.verdict, event.at)))


def _weighed(state: State, event: trials.TrialWeighed) -> None:
    trial = state.trials[event.trial]
    history = _longer(trial, event.verdict, event.at, event.shares)
    state.trials.put(copy_of(trial, shares=event.shares, judged=event.verdict, changed=event.at, history=history))
    _rerouted(state, event.endpoint, event.epoch, event.at)


def _ended(state: State, event: trials.TrialEnded) -> None:
    trial = state.trials[event.trial]
    judged = event.verdict or trial.judged
    history = _longer(trial, event.verdict, event.at) if event.verdict else trial.history
    over = copy_of(
        trial, state="ENDED", changed=event.at, ended=event.at, why=event.why, judged=judged, history=history
    )
    state.trials.put(over)
    _rerouted(state, event.endpoint, event.epoch, event.at)


def _longer(
    trial: trials.Trial, verdict: trials.TrialVerdict, at: float, shares: tuple[float, ...] = ()
) -> tuple[trials.TrialPoint, ...]:
    """The history of a trial with one more point; when it is full, every other point of its older half goes."""
    point = trials.TrialPoint(
        at=at,
        verdict=verdict.verdict,
        have=verdict.have,
        difference=verdict.difference,
        low=verdict.low,
        high=verdict.high,
        shares=shares,
    )
    kept = trial.history
    if len(kept) >= MOST_POINTS:
        kept = (*kept[: MOST_POINTS // 2 : 2], *kept[MOST_POINTS // 2 :])
    return (*kept, point)


def _rerouted(state: State, endpoint: str, epoch: int, at: float) -> None:
    """The routes of an endpoint are others from here on."""
    state.deployments.put(copy_of(state.deployments[endpoint], epoch=epoch, changed=at))


FOLDS: dict[type, Fold] = {
    trials.TrialAsked: _asked,
    trials.TrialStarted: _started,
    trials.TrialJudged: _judged,
    trials.TrialWeighed: _weighed,
    trials.TrialEnded: _ended,
}
