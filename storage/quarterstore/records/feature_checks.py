"""Feature views looked at: what their values are like, and whether they are like those that a version learned from."""

from __future__ import annotations

from typing import Any

from quarterstore.records.base import Act, Record
from quarterstore.records.features import Kind, Wanted
from quarterstore.records.jobs import Job
from quarterstore.records.monitoring import DriftRule, DriftVerdict
from quarterstore.records.online import OnlineView


class StatsSpec(Record, frozen=True):
    """What a job that looks at a view is given; `baseline` is the training set of `against`, as a path."""

    wanted: Wanted
    since: float | None
    rule: DriftRule
    against: str | None = None
    baseline: str | None = None
    until: float | None = None


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
    set of a version (`against`; the newest version that was trained on one of this view unless said). `since` and
    `until` (seconds since 1970) leave out rows of event times before the first, and at or after the second."""

    view: str
    against: str | None = None
    since: float | None = None
    rule: DriftRule = DriftRule()
    until: float | None = None


class ParitySpec(Record, frozen=True):
    """What a job that compares both sides is given: how the view lies offline and how it is read online, which files
    are in the generation and which hold rows that were pushed, all of it as it was `at` an instant."""

    wanted: Wanted
    sample: int
    seed: int
    at: float
    files: tuple[str, ...]
    pushed_files: tuple[str, ...]
    online: OnlineView
    pushed: str = ""
    """The folder of what was pushed, as a path."""


class Mismatch(Record, frozen=True):
    """An entity that is read otherwise online than offline: both values of each feature, statuses, ages in seconds."""

    keys: list[str]
    features: tuple[str, ...]
    offline: list[Any]
    online: list[Any]
    statuses: tuple[str, str]
    ages: tuple[float | None, float | None]


class ParityResult(Record, frozen=True):
    """What it answers; `shown` are the first of the mismatches."""

    view: str
    sample: int
    mismatches: int
    shown: tuple[Mismatch, ...]
    generation: str
    words: str


class CheckParity(Act[Job], tag="features.parity", frozen=True):
    """Read a sample of entities online and offline at one instant, in a job, and compare; an alert stands as long as
    they differ. A schedule can ask it (`every` 3600). Rows that wait to be materialised are a lag, no mismatch."""

    view: str
    sample: int = 1000
