"""The book of trials: what runs beside the live version, and how each one ended."""

from __future__ import annotations

from quarterstore.ledger.state import Fold, State, copy_of
from quarterstore.records import trials


def _asked(state: State, event: trials.TrialAsked) -> None:
    state.trials.put(event.trial)


def _started(state: State, event: trials.TrialStarted) -> None:
    started = copy_of(event.trial, state="RUNNING", since=event.at, changed=event.at, epoch=event.epoch)
    state.trials.put(started)
    _rerouted(state, started.endpoint, event.epoch, event.at)


def _judged(state: State, event: trials.TrialJudged) -> None:
    state.trials.put(copy_of(state.trials[event.trial], judged=event.verdict))


def _weighed(state: State, event: trials.TrialWeighed) -> None:
    trial = state.trials[event.trial]
    state.trials.put(copy_of(trial, shares=event.shares, judged=event.verdict, changed=event.at))
    _rerouted(state, event.endpoint, event.epoch, event.at)


def _ended(state: State, event: trials.TrialEnded) -> None:
    trial = state.trials[event.trial]
    judged = event.verdict or trial.judged
    state.trials.put(copy_of(trial, state="ENDED", changed=event.at, ended=event.at, why=event.why, judged=judged))
    _rerouted(state, event.endpoint, event.epoch, event.at)


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
