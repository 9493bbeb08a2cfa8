"""Trials: a version beside the live one that is only looked at (shadow), compared (A/B), or fed by success (bandit)."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import msgspec

from quarterstore.records.base import Act, Event, Pulse, Query, Record, Role
from quarterstore.records.outcomes import ArmOutcome

TrialKind = Literal["shadow", "ab", "bandit"]
TrialState = Literal["ADMITTING", "RUNNING", "ENDED"]
Better = Literal["higher", "lower"]
Algorithm = Literal["thompson", "egreedy"]
KINDS: dict[str, str] = {"shadow": "shadow", "ab": "A/B", "bandit": "bandit"}
"""What people call each kind."""
BEHIND = "shadow falls behind"
"""The alert of a shadow that is not shown every request that it should see."""


class AbRule(Record, frozen=True):
    """What an A/B trial decides by: the outcome `metric`, the smallest difference worth having (`effect`, absolute,
    also the margin of no difference), the level over all looks together, the outcomes per arm before the first look."""

    metric: str
    effect: float
    alpha: float = 0.05
    power: float = 0.8
    better: Better = "higher"
    least: int = 100


class BanditRule(Record, frozen=True):
    """What a bandit deals by: the reward `metric`, the algorithm, the seed of every draw, and the smallest share an arm
    ever has. `epsilon` is what egreedy spreads over all arms."""

    metric: str
    algorithm: Algorithm = "thompson"
    seed: int = 1
    floor: float = 0.05
    epsilon: float = 0.1
    better: Better = "higher"


class TrialVerdict(Record, frozen=True):
    """A trial as it stands: the verdict and why; for A/B the difference (candidate less live) with its always-valid
    interval, and the outcomes per arm it has and needs."""

    verdict: Literal["WIN", "LOSS", "NO DIFFERENCE", "NEEDS", "HOLD", "GOES ON"]
    why: str
    have: int = 0
    need: int = 0
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    callers: tuple[int, ...] = ()
    """Distinct callers of each arm of an A/B trial, as far as they were counted."""
    ratio: float | None = None
    """The p of their chi-square against the split: how likely it is that the arms are as they were dealt."""


class TrialPoint(Record, frozen=True):
    """A trial as it stood at one time: of A/B the difference with its interval and the outcomes of the smaller arm, of
    a bandit the percent of each arm."""

    at: float
    verdict: str
    have: int = 0
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    shares: tuple[float, ...] = ()


class Trial(Record, frozen=True):
    """One trial at an endpoint. `versions` begin with the live one; `shares` are the percent of the requests that each
    answers, of a shadow the percent that it is shown. `epoch` is that of its first request."""

    id: str
    kind: TrialKind
    endpoint: str
    model: str
    state: TrialState
    versions: tuple[str, ...]
    shares: tuple[float, ...]
    salt: str
    """Deals the arms anew: who was in the candidate of the last trial is not so again."""
    since: float
    changed: float
    asked_by: str
    epoch: int = 0
    approval: str | None = None
    approved_by: str | None = None
    ab: AbRule | None = None
    bandit: BanditRule | None = None
    judged: TrialVerdict | None = None
    ended: float | None = None
    why: str = ""
    history: tuple[TrialPoint, ...] = ()
    """How it stood, the oldest first: at most 200 times, the older ones ever further apart. `trials.show` has it."""

    @property
    def metric(self) -> str:
        """The outcome it looks at; a shadow looks at none."""
        rule = self.ab or self.bandit
        return rule.metric if rule else ""

    def words(self) -> str:
        """`shadow churn@2 at 100 %`, `A/B churn@1 against churn@2 at 50 %`, `bandit of churn@1, churn@2`."""
        if self.kind == "bandit":
            return f"bandit of {', '.join(self.versions)}"
        arms = self.versions[1:] if self.kind == "shadow" else self.versions
        return f"{KINDS[self.kind]} {' against '.join(arms)} at {self.shares[1]:g} %"


class StartShadow(Act[Trial], tag="trials.start_shadow", frozen=True):
    """Show a version a copy of the requests (`share` percent of them) after the live version answered; it answers
    nobody, and what it would have said is kept beside what was said."""

    version: str
    endpoint: str | None = None
    share: int = 100


class StartAb(Act[Trial], tag="trials.start_ab", frozen=True):
    """Split the callers between the live version (`against`) and a Staging one, `split` percent to that, each key on
    its arm for good; ended by what an always-valid interval of their outcomes says, after which the live one answers
    everything."""

    version: str
    against: str
    rule: AbRule
    endpoint: str | None = None
    split: int = 50


class StartBandit(Act[Trial], tag="trials.start_bandit", frozen=True):
    """Deal the requests between the live version (`against`) and Staging ones by what each has earned, until it is
    stopped; the share a prediction was drawn by is kept with it."""

    version: str
    against: str
    rule: BanditRule
    others: tuple[str, ...] = ()
    endpoint: str | None = None


class JudgeTrial(Act[Trial], tag="trials.judge", frozen=True):
    """Judge a trial by the outcomes of its arms and the distinct callers each had, in the order of its versions; spoken
    by the daemon, kept only when that changes something."""

    role: ClassVar[Role] = "daemon"
    trial: str
    outcomes: tuple[ArmOutcome, ...]
    callers: tuple[int, ...] = ()


class StopTrial(Act[Trial], tag="trials.stop", frozen=True):
    """End the trial at an endpoint; the live version answers everything."""

    endpoint: str
    reason: str = ""


class ListTrials(Query[list[Trial]], tag="trials.list", frozen=True):
    """Every trial without its history, newest first; `running` ones only unless told otherwise."""

    running: bool = True


class ShowTrial(Query[Trial], tag="trials.show", frozen=True):
    """The trial at an endpoint that runs, else the last one."""

    endpoint: str


class Disagreement(Record, frozen=True):
    """One request that the shadow would have answered otherwise, with the fields that are kept of it."""

    prediction: str
    row: int
    at: float
    live: str | None
    shadow: str | None
    live_score: float | None
    shadow_score: float | None
    inputs: dict[str, Any] = msgspec.field(default_factory=dict)


class Slice(Record, frozen=True):
    """The requests with one value of a field, or in one quarter of its range: how many pairs, how many agree, and the
    Wilson interval of that share, at 95 % for all slices that were looked at together."""

    field: str
    value: str
    pairs: int
    agreed: int
    rate: float
    low: float
    high: float


class ShadowReport(Record, frozen=True):
    """A shadow beside what was answered: pairs by prediction id, the share that agrees with its 95 % interval, slices
    from the surely worst on, and the largest disagreements. `copied` and `dropped` count requests since the routes
    last changed; `failed` those on which the shadow gave no answer."""

    trial: str
    endpoint: str
    live: str
    shadow: str
    pairs: int
    agreed: int
    rate: float | None
    low: float | None
    high: float | None
    failed: int
    copied: int
    dropped: int
    words: str
    live_p95: float | None = None
    shadow_p95: float | None = None
    slices: tuple[Slice, ...] = ()
    disagreements: tuple[Disagreement, ...] = ()


class ReportShadow(Query[ShadowReport], tag="trials.report_shadow", frozen=True):
    """What a shadow at an endpoint would have answered, beside what was answered: the running one, else the last one.
    Numbers agree within the part `tolerance` of the larger one, labels when they are the same."""

    endpoint: str
    tolerance: float = 0.01
    top: int = 20
    newest: int = 100_000


class TrialAsked(Event, tag="trials.asked", frozen=True):
    """A trial waits for its versions to answer their golden rows."""

    trial: Trial


class TrialStarted(Event, tag="trials.started", frozen=True):
    """A trial has its first traffic."""

    trial: Trial
    epoch: int
    at: float


class TrialJudged(Event, tag="trials.judged", frozen=True):
    """A trial was judged, and goes on."""

    trial: str
    endpoint: str
    verdict: TrialVerdict
    at: float


class TrialWeighed(Event, tag="trials.weighed", frozen=True):
    """The arms of a bandit have other shares (percent), on the rewards that the verdict names."""

    trial: str
    endpoint: str
    shares: tuple[float, ...]
    verdict: TrialVerdict
    epoch: int
    at: float


class TrialEnded(Event, tag="trials.ended", frozen=True):
    """A trial is over, and the live version answers everything; `automatic` when no person ended it."""

    trial: str
    endpoint: str
    epoch: int
    at: float
    by: str
    why: str
    automatic: bool = False
    verdict: TrialVerdict | None = None


class TrialReading(Pulse, tag="trials.reading", frozen=True):
    """A trial as it is now: the requests that were copied to a shadow, those that were dropped for it, the verdict."""

    trial: str
    endpoint: str
    copied: int = 0
    dropped: int = 0
    verdict: TrialVerdict | None = None
    at: float = 0.0
