"""Canaries: how far one is, and what it is judged by: its rule, its gates, what was measured for them, the verdict."""

from __future__ import annotations

from typing import Literal

from quarterstore.records.base import Record

Verdict = Literal["PASS", "HOLD", "FAIL"]
GateKind = Literal["accuracy", "psi", "disagreement", "calibration", "fairness", "metric"]
UNITS: dict[str, str] = {
    "accuracy": "labels",
    "psi": "predictions",
    "disagreement": "pairs",
    "calibration": "labels",
    "fairness": "labels",
    "metric": "outcomes",
}
"""What each kind of gate counts."""


class CanaryGate(Record, frozen=True):
    """A limit that the candidate has to keep beyond errors and latency, over all of its canary.

    accuracy      may be at most `limit` below the live version's, with `coverage` of both arms' predictions labelled
    calibration   ECE may be at most `limit` above the live version's, with the same coverage
    fairness      equalised odds difference over the values of the feature `of` at most `limit`, with that coverage
    psi           of the candidate's predictions against the live version's, below `limit`
    disagreement  share of predictions that both versions gave and that differ, at most `limit`
    metric        mean of the outcome `of`: a negative `limit` is how far it may fall below the live version's, a
                  positive one how far it may rise above it; `relative` to the live version's mean
    """

    kind: GateKind
    limit: float
    of: str = ""
    relative: bool = False
    coverage: float = 0.5

    @property
    def name(self) -> str:
        """The gate in a word: its kind, and of what."""
        return f"{self.kind}:{self.of}" if self.of else self.kind


class Measured(Record, frozen=True):
    """The mean of `n` values and their variance."""

    n: int = 0
    mean: float = 0.0
    variance: float = 0.0


class GateReading(Record, frozen=True):
    """What was measured for one gate since the canary began. Of fairness the two are the candidate's groups that differ
    most; of a disagreement there is only the candidate's. `value` and `bins` are of a PSI; `coverage` is the share of
    the live and of the candidate's predictions that are labelled; `missing` says why there is nothing."""

    gate: str
    live: Measured = Measured()
    candidate: Measured = Measured()
    value: float | None = None
    bins: int = 0
    coverage: tuple[float, float] | None = None
    missing: str = ""


class GateVerdict(Record, frozen=True):
    """One gate judged: `value` against `limit` on `n` of the candidate's `unit`, of which it takes `need` an arm."""

    gate: str
    verdict: Verdict
    why: str
    value: float | None
    limit: float
    n: int
    need: int
    unit: str


class CanaryRule(Record, frozen=True):
    """What a step of a canary must show. `effect` is the rise of the error rate (absolute) that must be seen with
    `power` at one-sided level `alpha`; the requests needed per arm follow from it and are never fewer than `least`.
    `latency` is the factor by which P95 may exceed the live one's, judged from `least` requests on."""

    effect: float = 0.01
    baseline: float = 0.01
    alpha: float = 0.05
    power: float = 0.8
    latency: float = 2.0
    least: int = 50
    soak: float = 0.0
    """Seconds a step lasts at least."""
    gates: tuple[CanaryGate, ...] = ()


class CanaryVerdict(Record, frozen=True):
    """A step judged: the verdict, why in words, and how many requests (or other `unit`) the candidate has of those it
    needs; each gate's own verdict."""

    verdict: Verdict
    why: str
    need: int
    have: int
    metric: str = "error rate"
    value: float | None = None
    limit: float | None = None
    unit: str = "requests"
    gates: tuple[GateVerdict, ...] = ()


class PassedStep(Record, frozen=True):
    """A step that a canary is beyond: its share, how long it took, and the verdict that let it go on."""

    share: int
    since: float
    until: float
    verdict: CanaryVerdict


class Canary(Record, frozen=True):
    """A rollout in progress: candidate, ladder, the step it is at and how that step was last judged."""

    candidate: str
    ladder: tuple[int, ...]
    step: int
    rule: CanaryRule
    since: float
    step_since: float
    asked_by: str
    approval: str | None = None
    approved_by: str | None = None
    judged: CanaryVerdict | None = None
    passed: tuple[PassedStep, ...] = ()
    """The steps before this one, as they went on."""

    @property
    def share(self) -> int:
        """Percent of the traffic the candidate has at this step."""
        return self.ladder[self.step]


class CanaryEnd(Record, frozen=True):
    """How a canary ended: `live` or called off, at which share of the traffic (0 where it never had any), why, and by
    whom; nobody where the evidence decided."""

    candidate: str
    live: bool
    share: int
    at: float
    why: str
    by: str = ""
