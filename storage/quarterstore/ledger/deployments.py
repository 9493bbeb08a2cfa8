"""The book of deployments: who answers where, and what is on trial."""

from __future__ import annotations

from quarterstore.ledger.state import Admission, Cursor, Fold, Recording, State, copy_of
from quarterstore.records import deployments
from quarterstore.records.canaries import CanaryEnd, PassedStep

KEPT_BEHIND = 8


def _asked(state: State, event: deployments.DeploymentAsked) -> None:
    state.deployments.put(event.deployment)


def _admitted(state: State, event: deployments.VersionAdmitted) -> None:
    state.admissions.put(Admission(version=event.version, at=event.at))


def _not_admitted(state: State, event: deployments.AdmissionFailed) -> None:
    deployment = state.deployments[event.endpoint]
    state.deployments.put(
        copy_of(
            deployment,
            state="LIVE" if deployment.live else "REFUSED",
            pending=None,
            pending_canary=None,
            changed=event.at,
            why=event.why,
            last_canary=_called_off(deployment, event.at, event.why),
        )
    )


def _called_off(deployment: deployments.Deployment, at: float, why: str, by: str = "") -> CanaryEnd | None:
    """The end of the canary that runs or waits; of none what is known of the last one."""
    canary = deployment.canary or deployment.pending_canary
    if canary is None:
        return deployment.last_canary
    share = canary.share if deployment.canary is not None else 0
    return CanaryEnd(candidate=canary.candidate, live=False, share=share, at=at, why=why, by=by)


def _behind(previous: tuple[str, ...], before: str | None) -> tuple[str, ...]:
    if before is None:
        return previous
    return (*(version for version in previous if version != before), before)[-KEPT_BEHIND:]


def _carried(state: State, deployment: deployments.Deployment, version: str) -> None:
    """The tenure of a version that was Production before it had traffic: this deployment carries it."""
    for tenure in list(state.tenures):
        if (tenure.version, tenure.environment, tenure.until, tenure.deployment) == (
            version,
            deployment.environment,
            None,
            None,
        ):
            state.tenures.put(copy_of(tenure, deployment=deployment.id))


def _switched(state: State, event: deployments.Switched) -> None:
    deployment = state.deployments[event.endpoint]
    _carried(state, deployment, event.after)
    state.deployments.put(
        copy_of(
            deployment,
            state="LIVE",
            live=event.after,
            previous=_behind(deployment.previous, event.before),
            pending=None,
            canary=None,
            epoch=event.epoch,
            changed=event.at,
            why="",
        )
    )


def _canary(state: State, event: deployments.CanaryStarted) -> None:
    deployment = state.deployments[event.endpoint]
    state.deployments.put(
        copy_of(
            deployment,
            state="CANARY",
            canary=event.canary,
            pending=None,
            pending_canary=None,
            epoch=event.epoch,
            changed=event.at,
            why="",
            last_canary=None,
        )
    )


def _judged(state: State, event: deployments.CanaryJudged) -> None:
    deployment = state.deployments[event.endpoint]
    if deployment.canary is not None:
        state.deployments.put(copy_of(deployment, canary=copy_of(deployment.canary, judged=event.verdict)))


def _advanced(state: State, event: deployments.CanaryAdvanced) -> None:
    deployment = state.deployments[event.endpoint]
    assert deployment.canary is not None
    before = deployment.canary
    done = PassedStep(share=before.share, since=before.step_since, until=event.at, verdict=event.verdict)
    canary = copy_of(before, step=event.step, step_since=event.at, judged=event.verdict, passed=(*before.passed, done))
    state.deployments.put(copy_of(deployment, canary=canary, epoch=event.epoch, changed=event.at))


def _finished(state: State, event: deployments.CanaryFinished) -> None:
    deployment = state.deployments[event.endpoint]
    state.deployments.put(
        copy_of(
            deployment,
            state="LIVE",
            live=event.after,
            previous=_behind(deployment.previous, event.before),
            canary=None,
            epoch=event.epoch,
            changed=event.at,
            why="",
            last_canary=CanaryEnd(candidate=event.after, live=True, share=100, at=event.at, why=event.verdict.why),
        )
    )


def _rolled_back(state: State, event: deployments.RolledBack) -> None:
    deployment = state.deployments[event.endpoint]
    previous = deployment.previous
    if deployment.canary is None:
        previous = tuple(version for version in previous if version != event.to_version)
    state.deployments.put(
        copy_of(
            deployment,
            state="LIVE",
            live=event.to_version,
            previous=previous,
            canary=None,
            pending=None,
            pending_canary=None,
            epoch=event.epoch,
            changed=event.at,
            why=event.reason,
            last_canary=_called_off(deployment, event.at, event.reason, "" if event.automatic else event.by),
        )
    )


def _stopped(state: State, event: deployments.EndpointStopped) -> None:
    deployment = state.deployments[event.endpoint]
    state.deployments.put(
        copy_of(
            deployment,
            state="STOPPED",
            live=None,
            previous=_behind(deployment.previous, deployment.live),
            canary=None,
            pending=None,
            pending_canary=None,
            epoch=event.epoch,
            changed=event.at,
            why=event.reason,
            last_canary=_called_off(deployment, event.at, event.reason),
        )
    )


def _recording(state: State, event: deployments.RecordingSet) -> None:
    state.recordings.put(Recording(endpoint=event.endpoint, rule=event.recording))


def _batching(state: State, event: deployments.BatchingSet) -> None:
    deployment = state.deployments[event.endpoint]
    state.deployments.put(copy_of(deployment, batching=event.batching, changed=event.at))


def _crashed(state: State, event: deployments.SlotCrashed) -> None:
    state.cursors.put(Cursor(name=f"crashes/{event.endpoint}/{event.version}", value=str(event.count)))


def _serving(state: State, event: deployments.ServingStopped) -> None:
    state.cursors.put(Cursor(name="serving", value="stopped" if event.stopped else "running"))


FOLDS: dict[type, Fold] = {
    deployments.DeploymentAsked: _asked,
    deployments.VersionAdmitted: _admitted,
    deployments.AdmissionFailed: _not_admitted,
    deployments.Switched: _switched,
    deployments.CanaryStarted: _canary,
    deployments.CanaryJudged: _judged,
    deployments.CanaryAdvanced: _advanced,
    deployments.CanaryFinished: _finished,
    deployments.RolledBack: _rolled_back,
    deployments.EndpointStopped: _stopped,
    deployments.RecordingSet: _recording,
    deployments.BatchingSet: _batching,
    deployments.SlotCrashed: _crashed,
    deployments.ServingStopped: _serving,
}
