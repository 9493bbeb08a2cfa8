"""Continuous training: one policy per model, the four triggers it watches, and what became of each retrain."""

from __future__ import annotations

from typing import ClassVar, Literal

from quarterstore.records.base import Act, Event, Query, Record, Role
from quarterstore.records.canaries import CanaryRule
from quarterstore.records.deployments import LADDER
from quarterstore.records.moments import Moment

Trigger = Literal["schedule", "drift", "accuracy", "rows"]
TRIGGERS: tuple[Trigger, ...] = ("schedule", "drift", "accuracy", "rows")
Cause = Literal["schedule", "drift", "accuracy", "rows", "person"]
Strategy = Literal["none", "staging", "canary"]
TriggerState = Literal["OFF", "BELOW", "WAITING", "HELD", "SUPPRESSED", "FIRES"]
Verdict = Literal["", "GONE", "UNCHANGED"]


class OnSchedule(Record, frozen=True):
    """When the clock retrains: `cron` (five fields) or `every` seconds, in a zone; kept as the schedule
    `ct-schedule-MODEL`."""

    cron: str | None = None
    every: float | None = None
    zone: str = "UTC"


class OnDrift(Record, frozen=True):
    """Retrain when `checks` drift checks of the live version in a row say DRIFT; with `every` the schedule
    `ct-drift-MODEL` checks the last `window` seconds so often."""

    checks: int = 1
    every: float | None = None
    window: float = 86400.0


class OnAccuracy(Record, frozen=True):
    """Retrain when the accuracy by the labels of the last `window` seconds is more than `drop` points (hundredths)
    below what the live version had when it was registered, and the 95 % interval of that drop lies above 0; fewer than
    `least` labels are never judged."""

    drop: float = 5.0
    least: int = 200
    window: float = 7 * 86400.0


class OnRows(Record, frozen=True):
    """Retrain at `least` new rows since the last training: `labels` joined to answers of the endpoint, rows of the
    feature view `view`, or what the newest `dataset` of the pipeline's dataset's name has more than the one before."""

    least: int = 10_000
    of: Literal["labels", "dataset", "features"] = "labels"
    view: str | None = None


class Retrain(Record, frozen=True):
    """One retrain: what set it off, at which value against which limit, its pipeline run, how the new version was sent
    on, and whether the signal was gone with it."""

    id: str
    cause: Cause
    at: float
    words: str
    pipeline_run: str
    value: float | None = None
    limit: float | None = None
    live: str | None = None
    """What was live when it began."""
    sent: str = ""
    """What the strategy did with the version, in words; empty until it was its turn."""
    tried: bool = False
    """Whether live traffic was asked for it."""
    verdict: Verdict = ""
    """Of a drift or an accuracy: empty until data after it was judged."""
    began: Moment | None = None
    """When it began by two clocks, which cool-down goes by."""
    seq: int = 0
    """The entry in which it began: what came after it is known by its entry, whatever the clock showed."""
    newest: int = 0
    """The number of the newest version of the model then."""
    called_off: str | None = None
    """The version that an earlier retrain put on live traffic and that did not stay there."""


class Held(Record, frozen=True):
    """The last time that something was asked for and did not happen, and why."""

    cause: Cause
    at: float
    why: str


class Suppressed(Record, frozen=True):
    """A trigger that starts nothing more until a person resumes it, and why."""

    trigger: Trigger
    at: float
    why: str


class Policy(Record, frozen=True):
    """When a model is retrained, by which pipeline, how often at most, and how the new version goes out. `since` says
    from when each trigger counts; `retrains` holds the last one of each cause."""

    model: str
    pipeline: str
    endpoint: str
    set_by: str
    at: float
    enabled: bool = False
    schedule: OnSchedule | None = None
    drift: OnDrift | None = None
    accuracy: OnAccuracy | None = None
    rows: OnRows | None = None
    cooldown: float = 21_600.0
    strategy: Strategy = "none"
    ladder: tuple[int, ...] = LADDER
    rule: CanaryRule = CanaryRule()
    """How a canary of it is judged."""
    since: dict[Trigger, float] = {}
    retrains: dict[Cause, Retrain] = {}
    suppressed: dict[Trigger, Suppressed] = {}
    held: Held | None = None
    last: float | None = None
    """When it last began a retrain: new rows count from here."""
    cools: Moment | None = None
    """The same by two clocks: cool-down counts from here."""
    counted: dict[Trigger, int] = {}
    """The entry from which on each trigger counts, beside the time of `since`."""
    count: int = 0


class TriggerStatus(Record, frozen=True):
    """One trigger as it stands: its value against its limit, when that was looked at, and why it does not fire."""

    trigger: Trigger
    state: TriggerState
    value: float | None
    limit: float | None
    unit: str
    checked: float | None
    why: str


class PolicyStatus(Record, frozen=True):
    """A policy with its triggers, and where its newest retrain is."""

    model: str
    policy: Policy
    triggers: tuple[TriggerStatus, ...]
    retrain: str
    """The newest retrain in words; empty before the first."""
    next: str


class AccuracyReading(Record, frozen=True):
    """What the labels of a window say of the live version: `right` of `n`."""

    version: str
    n: int
    right: int
    at: float


class Readings(Record, frozen=True):
    """What is read from files for the triggers of one policy: the accuracy of the live version, and the answers that
    got a label since the last training."""

    accuracy: AccuracyReading | None = None
    labels: int = 0
    at: float = 0.0


class SetPolicy(Act[Policy], tag="ct.set", frozen=True):
    """Set when a model is retrained; replaces its policy and leaves it on or off as it was, at first off. The endpoint
    is the model's name unless given; `strategy` says how a version that passed its gate goes out, `ladder` and `rule`
    how a canary of it is judged."""

    model: str
    pipeline: str
    endpoint: str | None = None
    schedule: OnSchedule | None = None
    drift: OnDrift | None = None
    accuracy: OnAccuracy | None = None
    rows: OnRows | None = None
    cooldown: float = 21_600.0
    strategy: Strategy = "none"
    ladder: tuple[int, ...] = LADDER
    rule: CanaryRule = CanaryRule()


class SwitchPolicy(Act[Policy], tag="ct.switch", frozen=True):
    """Switch continuous training of a model on or off; on needs a gate of the model."""

    model: str
    enabled: bool


class RemovePolicy(Act[Policy], tag="ct.remove", frozen=True):
    """Forget the policy of a model, and its schedules."""

    model: str


class ResumeTrigger(Act[Policy], tag="ct.resume", frozen=True):
    """Let a suppressed trigger of a model fire again, or all of them; it counts from now on."""

    model: str
    trigger: Trigger | None = None


class StartRetrain(Act[Policy], tag="ct.retrain", frozen=True):
    """Retrain a model now, unless something stands in the way: then that is noted and nothing begins. This is what the
    schedule of a policy speaks."""

    model: str
    by_schedule: bool = False


class LookAtTriggers(Act[Policy], tag="ct.look", frozen=True):
    """Do what the triggers of a model lead to: begin a retrain, send its version on, or say that it did not help."""

    role: ClassVar[Role] = "daemon"
    model: str
    readings: Readings


class NoteRetrain(Act[Policy], tag="ct.note", frozen=True):
    """Say which pipeline run a retrain is; follows in the entry that began it."""

    role: ClassVar[Role] = "daemon"
    model: str
    retrain: Retrain


class ShowPolicy(Query[PolicyStatus], tag="ct.show", frozen=True):
    """The policy of a model with the value, limit, last check and reason of each trigger."""

    model: str


class ListPolicies(Query[list[PolicyStatus]], tag="ct.list", frozen=True):
    """Every policy, as it stands."""


class PolicySet(Event, tag="ct.policy_set", frozen=True):
    """A policy was set, or switched on or off."""

    policy: Policy


class PolicyRemoved(Event, tag="ct.policy_removed", frozen=True):
    """A policy is gone."""

    model: str


class RetrainBegan(Event, tag="ct.retrain_began", frozen=True):
    """A trigger fired, or a person asked: a pipeline run began."""

    model: str
    retrain: Retrain


class RetrainHeld(Event, tag="ct.retrain_held", frozen=True):
    """A retrain was due and did not begin, and why."""

    model: str
    held: Held


class RetrainSent(Event, tag="ct.retrain_sent", frozen=True):
    """The version of a retrain went out by the strategy, or could not, in words."""

    model: str
    cause: Cause
    words: str
    tried: bool


class RetrainJudged(Event, tag="ct.retrain_judged", frozen=True):
    """The signal that set off a retrain was looked at on data after it: gone, or unchanged."""

    model: str
    cause: Cause
    verdict: Verdict


class TriggerSuppressed(Event, tag="ct.trigger_suppressed", frozen=True):
    """A retrain did not remove its cause: its trigger starts nothing more."""

    model: str
    suppressed: Suppressed


class TriggerResumed(Event, tag="ct.trigger_resumed", frozen=True):
    """A person lets a trigger fire again."""

    model: str
    trigger: Trigger
    at: float
