"""Deployments: which version answers at an endpoint, which one is on trial, and how much traffic each has."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import msgspec

from quarterstore.records.base import Act, Event, Pulse, Query, Record, Role
from quarterstore.records.canaries import Canary as Canary
from quarterstore.records.canaries import CanaryEnd, GateReading
from quarterstore.records.canaries import CanaryRule as CanaryRule
from quarterstore.records.canaries import CanaryVerdict as CanaryVerdict
from quarterstore.records.histories import TrafficHistory
from quarterstore.records.online import Needed, OnExpired, OnlineView
from quarterstore.records.registry import Signature
from quarterstore.records.retention import Waiting
from quarterstore.records.serving import ServingState

DeploymentState = Literal["ADMITTING", "LIVE", "CANARY", "STOPPED", "REFUSED"]
LADDER: tuple[int, ...] = (5, 10, 25, 50, 100)


class ArmCounts(Record, frozen=True):
    """What one arm did since a step began: answers, errors (5xx or non-finite output), latency histogram in
    log-spaced buckets (see `measures.latency`)."""

    version: str
    requests: int = 0
    errors: int = 0
    histogram: tuple[int, ...] = ()


class BatchingRule(Record, frozen=True):
    """How requests that wait at the same time are run together: at most `max_batch` rows in one run of a version, a
    run that is under way waited for, and for others at most `max_wait_ms`. 1 is no batching."""

    max_batch: int = 1
    max_wait_ms: float = 0.0


class Deployment(Record, frozen=True):
    """An endpoint: the live version, the one before it, the canary if one runs. `epoch` grows with every change of
    the routes, so that each answer can say under which routes it was given."""

    id: str
    endpoint: str
    model: str
    environment: str
    state: DeploymentState
    live: str | None
    epoch: int
    created: float
    changed: float
    asked_by: str
    approval: str | None = None
    approved_by: str | None = None
    pending: str | None = None
    """A version that has to answer its golden rows before it gets traffic."""
    pending_plan: Literal["switch", "canary"] = "switch"
    pending_canary: Canary | None = None
    canary: Canary | None = None
    previous: tuple[str, ...] = ()
    """Versions that were live before, newest last: what rollback goes back to."""
    salt: str = ""
    why: str = ""
    batching: BatchingRule = BatchingRule()
    last_canary: CanaryEnd | None = None
    """How the last canary here ended; none while one runs."""


class Slot(Record, frozen=True):
    """One version as a host holds it."""

    version: str
    path: str
    digest: str
    signature: Signature
    share: int
    """Percent of the traffic."""
    role: Literal["live", "candidate", "shadow"]
    views: tuple[Needed, ...] = ()
    """What is read for callers who give keys instead of values."""
    on_expired: OnExpired = "null"


class RecordingRule(Record, frozen=True):
    """What is kept of each prediction: `fields` maps a feature to keep, hash or drop; `days` bounds the retention."""

    fields: dict[str, Literal["keep", "hash", "drop"]] = msgspec.field(default_factory=dict)
    default: Literal["keep", "hash", "drop"] = "keep"
    days: int = 90
    salt: str = ""


class Route(Record, frozen=True):
    """The traffic of one endpoint: dealt by key to the slots' shares, or drawn by `weights` for each prediction."""

    endpoint: str
    epoch: int
    slots: tuple[Slot, ...]
    salt: str
    recording: RecordingRule = RecordingRule()
    weights: tuple[float, ...] = ()
    batching: BatchingRule = BatchingRule()
    out: str = ""
    """The versions that hosts die of, where they are all there is: nobody answers for a while."""


class RoutingTable(Record, frozen=True):
    """Everything a host needs to know; the launcher keeps the last one on disk and serves it without the daemon."""

    epoch: int
    routes: tuple[Route, ...]
    waiting: Waiting = Waiting()
    views: tuple[OnlineView, ...] = ()
    """What features are read from, of every view."""


class Deploy(Act[Deployment], tag="deployments.deploy", frozen=True):
    """Give all traffic of an endpoint to a version that is in Production (blue-green: the old one keeps answering
    until the new one has answered its golden rows)."""

    version: str
    endpoint: str | None = None
    """The model's name unless given."""
    environment: str = "default"
    batching: BatchingRule | None = None
    """What the endpoint has already, unless given."""


class StartCanary(Act[Deployment], tag="deployments.start_canary", frozen=True):
    """Try a Staging version on a growing share of live traffic; it moves on evidence only and rolls back by itself."""

    version: str
    endpoint: str | None = None
    ladder: tuple[int, ...] = LADDER
    rule: CanaryRule = CanaryRule()


class JudgeStep(Act[Deployment], tag="deployments.judge_step", frozen=True):
    """Judge the running step by what both arms did since it began: hold, go on or roll back; spoken by the daemon's
    clock each second; kept only when the verdict changes or the step does."""

    role: ClassVar[Role] = "daemon"
    endpoint: str
    epoch: int
    live: ArmCounts
    candidate: ArmCounts
    readings: tuple[GateReading, ...] = ()
    watched: float | None = None
    """Seconds that the daemon has watched this step, by a clock that does not jump: one that started again watches it
    anew."""


class RollBack(Act[Deployment], tag="deployments.roll_back", frozen=True):
    """Take the candidate's traffic away or, without a canary, give it back to the version before; stages follow."""

    endpoint: str
    reason: str = ""


class StopEndpoint(Act[Deployment], tag="deployments.stop", frozen=True):
    """Take an endpoint down; the version keeps its stage."""

    endpoint: str
    reason: str = ""


class SetRecording(Act[RecordingRule], tag="deployments.set_recording", frozen=True):
    """Say which fields of the predictions of an endpoint are kept, hashed or dropped, and for how long."""

    endpoint: str
    fields: dict[str, Literal["keep", "hash", "drop"]] = {}
    default: Literal["keep", "hash", "drop"] = "keep"
    days: int = 90


class SetBatching(Act[Deployment], tag="deployments.set_batching", frozen=True):
    """Say how many rows of waiting requests an endpoint runs together, and how long one may wait for others."""

    endpoint: str
    batching: BatchingRule


class NoteCrash(Act[Deployment], tag="deployments.note_crash", frozen=True):
    """Say that a host died while a slot was running; the second crash of one version rolls it back, as does the third
    death that it is suspected of, by which the launcher took it `out` of traffic."""

    role: ClassVar[Role] = "daemon"
    endpoint: str
    version: str
    detail: str = ""
    out: bool = False


class AdmitVersion(Act[Deployment], tag="deployments.admit", frozen=True):
    """Say that a version answered its golden rows, or why not; what waited for it goes ahead or is called off."""

    role: ClassVar[Role] = "daemon"
    endpoint: str
    version: str
    ok: bool
    why: str = ""
    figures: dict[str, Any] = {}


class ListDeployments(Query[list[Deployment]], tag="deployments.list", frozen=True):
    """Every endpoint."""


class ShowDeployment(Query[Deployment], tag="deployments.show", frozen=True):
    """One endpoint."""

    endpoint: str


class ShowTraffic(Query[TrafficHistory], tag="deployments.history", frozen=True):
    """What each version of an endpoint did over the last `window` seconds (a day at most): requests, errors, P50, P95
    and P99 of each second, above three minutes of each ten, above an hour of each minute."""

    endpoint: str
    window: float = 600.0


class ShowServing(Query[ServingState], tag="deployments.serving", frozen=True):
    """The launcher, its hosts and the routes they acknowledged."""


class StopServing(Act[ServingState], tag="deployments.stop_serving", frozen=True):
    """Stop the launcher and its hosts; the endpoints are kept and come back with `resume`."""

    resume: bool = False


class DeploymentAsked(Event, tag="deployments.asked", frozen=True):
    """An endpoint shall have another version, once that one has answered its golden rows."""

    deployment: Deployment


class VersionAdmitted(Event, tag="deployments.version_admitted", frozen=True):
    """A version answered its golden rows in a throw-away process and may have traffic."""

    version: str
    at: float
    figures: dict[str, Any] = msgspec.field(default_factory=dict)


class AdmissionFailed(Event, tag="deployments.admission_failed", frozen=True):
    """A version did not load, or did not give its golden answers: it never gets traffic."""

    endpoint: str
    version: str
    at: float
    why: str


class Switched(Event, tag="deployments.switched", frozen=True):
    """All traffic of an endpoint goes to another version."""

    endpoint: str
    before: str | None
    after: str
    epoch: int
    at: float


class CanaryStarted(Event, tag="deployments.canary_started", frozen=True):
    """A candidate has its first share of the traffic."""

    endpoint: str
    canary: Canary
    epoch: int
    at: float


class CanaryJudged(Event, tag="deployments.canary_judged", frozen=True):
    """A step was judged and its verdict is another than before."""

    endpoint: str
    verdict: CanaryVerdict
    at: float


class CanaryAdvanced(Event, tag="deployments.canary_advanced", frozen=True):
    """The candidate has a larger share, on the evidence given."""

    endpoint: str
    step: int
    share: int
    verdict: CanaryVerdict
    epoch: int
    at: float


class CanaryFinished(Event, tag="deployments.canary_finished", frozen=True):
    """The candidate has all the traffic and is live."""

    endpoint: str
    before: str | None
    after: str
    epoch: int
    at: float
    verdict: CanaryVerdict


class RolledBack(Event, tag="deployments.rolled_back", frozen=True):
    """Traffic went back: from a candidate to the live version, or from the live version to the one before."""

    endpoint: str
    from_version: str
    to_version: str
    epoch: int
    at: float
    by: str
    reason: str
    automatic: bool = False
    verdict: CanaryVerdict | None = None


class EndpointStopped(Event, tag="deployments.stopped", frozen=True):
    """An endpoint answers no more."""

    endpoint: str
    epoch: int
    at: float
    reason: str


class RecordingSet(Event, tag="deployments.recording_set", frozen=True):
    """What is kept of an endpoint's predictions changed."""

    endpoint: str
    recording: RecordingRule


class BatchingSet(Event, tag="deployments.batching_set", frozen=True):
    """An endpoint batches so from now on, by a person."""

    endpoint: str
    batching: BatchingRule
    at: float


class SlotCrashed(Event, tag="deployments.slot_crashed", frozen=True):
    """A host died while this version was running."""

    endpoint: str
    version: str
    count: int
    at: float
    detail: str


class ServingStopped(Event, tag="deployments.serving_stopped", frozen=True):
    """Serving was stopped, or resumed, by a person."""

    stopped: bool
    at: float


class LatencySummary(Pulse, tag="deployments.latency", frozen=True):
    """One second of one arm: requests, errors, P50, P95 and P99 in milliseconds."""

    endpoint: str
    version: str
    role: str
    epoch: int
    at: float
    requests: int
    errors: int
    p50: float | None
    p95: float | None
    p99: float | None
    total_requests: int
    total_errors: int
    total_refused: int = 0
    """Requests to the endpoint since its epoch began that were wrong (4xx): they are no version's errors."""
    total_shed: int = 0
    """Those that were turned away because too much waited (503, RESOURCE_EXHAUSTED): nobody's errors either."""


class CanaryReading(Pulse, tag="deployments.canary_reading", frozen=True):
    """A canary's step as its counts are now; what is kept of it (`Canary.judged`) changes only with its reason."""

    endpoint: str
    epoch: int
    verdict: CanaryVerdict
