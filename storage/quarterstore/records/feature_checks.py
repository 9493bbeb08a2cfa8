"""Feature views looked at: what their values are like, and whether they are like those that a version learned from."""

from __future__ import annotations

from quarterstore.records.base import Act, Record
from quarterstore.records.features import Kind, Wanted
from quarterstore.records.jobs import Job
from quarterstore.records.monitoring import DriftRule, DriftVerdict


class StatsSpec(Record, frozen=True):
    """What a job that looks at a view is given; `baseline` is the training set of `against`, as a path."""

    wanted: Wanted
    since: float | None
    rule: DriftRule
    against: str | None = None
    baseline: str | None = None


class FeatureStats(Record, frozen=True):
    """One feature: rows, how many of them have none, different values, the smallest, the largest and the mean (of
    numbers); against the rows of a version the statistic, p, effect (PSI) and verdict as drift has them."""

    name: str
    kind: Kind
    rows: int
    nulls: int
    distinct: int
    lowest: float | str | None
    highest: float | str | None
    mean: float | None
    verdict: DriftVerdict | None = None
    effect: float | None = None
    p: float | None = None
    note: str = ""


class StatsResult(Record, frozen=True):
    """What it answers; `verdict` is that of the whole view, none where no version is there to compare with."""

    view: str
    rows: int
    against: str | None
    features: tuple[FeatureStats, ...]
    verdict: DriftVerdict | None
    words: str


class MeasureView(Act[Job], tag="features.stats", frozen=True):
    """Look at the values of a view, in a job: nulls, different values, range, and the effect size against the training
    set of a version (`against`; the newest version that was trained on one of this view unless said). `since` (seconds
    since 1970) leaves out rows of earlier event times."""

    view: str
    against: str | None = None
    since: float | None = None
    rule: DriftRule = DriftRule()
