"""What is measured for the gates of a canary: labels, outcomes and predictions of both arms since it began."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from quarterdeckd.measures.calibration import calibration
from quarterdeckd.measures.drift import shift
from quarterdeckd.measures.fairness import MOST_GROUPS, equalised_odds
from quarterdeckd.measures.holding import ANSWERED, holding, right, values
from quarterstore.records.canaries import CanaryGate, GateReading, Measured
from quarterstore.records.faults import Invalid
from quarterstore.records.outcomes import LABEL
from quarterstore.records.predictions import column_of
from quarterstore.records.registry import Signature

SAME = ("id", "row")
MOST_ROWS = 200_000
"""Rows of an arm that a PSI and an ECE are made from, the newest: they say as much."""
EMPTY = {
    **dict.fromkeys(("id", "version", "value", "prediction"), pl.String),
    **dict.fromkeys(("at", "number", "score"), pl.Float64),
    "row": pl.Int32,
}
FEW = 20
"""Different predictions up to which numbers are classes to a PSI."""


class Arms(NamedTuple):
    """The two versions of a canary, and where what is recorded of them lies: `predictions` since it began, `outcomes`
    by metric, and `before` all that is kept where a gate needs what a shadow said before it."""

    endpoint: str
    live: str
    candidate: str
    since: float
    signatures: Mapping[str, Signature]
    predictions: Sequence[Path]
    outcomes: Mapping[str, Sequence[Path]]
    before: Sequence[Path] = ()


def readings(arms: Arms, gates: Sequence[CanaryGate]) -> tuple[GateReading, ...]:
    """A reading for each gate; what cannot be measured says why."""
    looked = _Looked(arms)
    return tuple(_MEASURES[gate.kind](looked, gate) for gate in gates)


class _Looked:
    """The rows behind the readings, read when the first gate asks for them."""

    def __init__(self, arms: Arms) -> None:
        self.arms = arms
        self._answered: dict[str, int] | None = None
        self._labels: pl.DataFrame | None = None

    def predictions(self, columns: Sequence[str]) -> pl.DataFrame:
        """Recorded answers of both versions since the canary began; a column that a file lacks is blank."""
        found = [pl.DataFrame(schema={"version": pl.String, "role": pl.String})]
        for path in self.arms.predictions:
            rows = pl.scan_parquet(path, glob=False, hive_partitioning=False)
            there = set(rows.collect_schema())
            rows = rows.filter(
                (pl.col("endpoint") == self.arms.endpoint)
                & (pl.col("at") >= self.arms.since)
                & (pl.col("status") == 200)
                & pl.col("version").is_in([self.arms.live, self.arms.candidate])
            )
            found.append(rows.select("version", "role", *(name for name in columns if name in there)).collect())
        frame = pl.concat(found, how="diagonal_relaxed")
        return frame.with_columns(pl.lit(None).alias(name) for name in columns if name not in frame.columns)

    def pairs(self) -> pl.DataFrame:
        """What the newest rows that one of the versions said as a shadow, of the same epoch and id the other one
        answered: `prediction` and `shadow`."""
        both = (pl.col("endpoint") == self.arms.endpoint) & (pl.col("status") == 200)
        both &= pl.col("version").is_in([self.arms.live, self.arms.candidate])
        scans = [pl.scan_parquet(path, glob=False, hive_partitioning=False) for path in self.arms.before]
        shown = [
            rows.filter(both & (pl.col("role") == "shadow")).select(*ANSWERED, "at", "epoch", shadow="prediction")
            for rows in scans
        ]
        said = _together(shown).sort("at").tail(MOST_ROWS).unique(ANSWERED)
        wanted = both & (pl.col("role") != "shadow") & pl.col("epoch").is_in(said["epoch"].unique().implode())
        ids = said.select("id").unique().lazy()
        answered = _together(
            [
                rows.filter(wanted).select(*ANSWERED, "prediction").join(ids, on="id", how="semi")
                for rows in (scans if said.height else ())
            ]
        ).unique(ANSWERED)
        pairs = answered.join(said, on=SAME, how="inner", suffix="_shadow")
        return pairs.filter(pl.col("version") != pl.col("version_shadow"))

    def labels(self) -> pl.DataFrame:
        """The label that holds of each answer a caller got, and whether the prediction was right."""
        if self._labels is None:
            self._labels = self._held(LABEL).with_columns(right=right())
        return self._labels

    def outcomes(self, metric: str) -> pl.DataFrame:
        """The number that holds of each answer a caller got."""
        return self._held(metric)

    def _held(self, metric: str) -> pl.DataFrame:
        paths = self.arms.outcomes.get(metric, ())
        if not paths:
            return pl.DataFrame(schema=EMPTY)
        rows = values(paths, self.arms.endpoint).filter(
            (pl.col("at") >= self.arms.since)
            & (pl.col("role") != "shadow")
            & pl.col("version").is_in([self.arms.live, self.arms.candidate])
        )
        return holding(rows).collect()

    def coverage(self) -> tuple[float, float]:
        """The share of the predictions of the live version and of the candidate that are labelled."""
        if self._answered is None:
            got = self.predictions([]).filter(pl.col("role") != "shadow")
            self._answered = dict(got.group_by("version").len().iter_rows())
        labelled = dict(self.labels().group_by("version").len().iter_rows())
        live, candidate = (
            labelled.get(version, 0) / max(1, self._answered.get(version, 0))
            for version in (self.arms.live, self.arms.candidate)
        )
        return live, candidate

    def each(self, rows: pl.DataFrame, column: str) -> tuple[Any, Any]:
        """A column of the live version and of the candidate, as arrays."""
        live, candidate = (
            rows.filter(pl.col("version") == version)[column].to_numpy()
            for version in (self.arms.live, self.arms.candidate)
        )
        return live, candidate

    def unfit(self, gate: CanaryGate) -> GateReading | None:
        """Of a version whose answers are numbers none is right or wrong."""
        for version in (self.arms.live, self.arms.candidate):
            if self.arms.signatures[version].task == "regression":
                return _missing(gate, f"{version} is a regression, whose answers are not right or wrong")
        return None


def _missing(gate: CanaryGate, why: str) -> GateReading:
    return GateReading(gate=gate.name, missing=why)


def _measured(column: Any) -> Measured:
    n = len(column)
    if not n:
        return Measured()
    return Measured(n=n, mean=float(column.mean()), variance=float(column.var(ddof=1)) if n > 1 else 0.0)


def _accuracy(looked: _Looked, gate: CanaryGate) -> GateReading:
    if (unfit := looked.unfit(gate)) is not None:
        return unfit
    live, candidate = (_measured(column.astype(float)) for column in looked.each(looked.labels(), "right"))
    return GateReading(gate.name, live=live, candidate=candidate, coverage=looked.coverage())


def _metric(looked: _Looked, gate: CanaryGate) -> GateReading:
    live, candidate = map(_measured, looked.each(looked.outcomes(gate.of), "number"))
    return GateReading(gate.name, live=live, candidate=candidate)


def _calibration(looked: _Looked, gate: CanaryGate) -> GateReading:
    """Of both arms over the same number of labels, the newest: fewer have a larger ECE by chance."""
    if (unfit := looked.unfit(gate)) is not None:
        return unfit
    rows = looked.labels().filter(pl.col("score").is_between(0, 1)).sort("at")
    scores, hits = looked.each(rows, "score"), looked.each(rows, "right")
    n = min(*map(len, scores), MOST_ROWS)
    if not n:
        labelled = looked.labels().height
        return _missing(
            gate, "no label of a prediction with a score from 0 to 1" if labelled else "no label of both arms"
        )
    found = []
    for version, score, hit in zip((looked.arms.live, looked.arms.candidate), scores, hits, strict=True):
        sure = _confidence(score[-n:], looked.arms.signatures[version])
        found.append(calibration(sure, hit[-n:]))
    live, candidate = (Measured(n=each.n, mean=each.ece, variance=each.variance) for each in found)
    return GateReading(gate.name, live=live, candidate=candidate, coverage=looked.coverage())


def _confidence(score: Any, signature: Signature) -> Any:
    """How sure a prediction is: of one number per row, which is that of the second class, the larger share."""
    tensor = next((each for each in signature.outputs if each.name == signature.score), None)
    single = tensor is not None and (len(tensor.shape) < 2 or tensor.shape[1] == 1)
    if not single:
        return score
    turned = 1 - score
    return score * (score >= turned) + turned * (score < turned)


def _fairness(looked: _Looked, gate: CanaryGate) -> GateReading:
    """Of the candidate alone; the reading holds the two groups that differ most, or the smallest while it is small."""
    if (unfit := looked.unfit(gate)) is not None:
        return unfit
    labels = looked.labels().filter(pl.col("version") == looked.arms.candidate)
    column = column_of(gate.of)
    groups = looked.predictions(["id", "row", column]).filter(pl.col("role") != "shadow").drop("version", "role")
    if not labels.height:
        return _missing(gate, "no label of the candidate")
    rows = labels.join(groups, on=SAME, how="inner").filter(pl.col(column).is_not_null())
    if not rows.height:
        return _missing(gate, f"{gate.of} is not kept of any labelled prediction")
    if (many := rows[column].n_unique()) > MOST_GROUPS:
        return _missing(gate, f"{gate.of} has {many} values, expected at most {MOST_GROUPS} groups")
    whole = pl.col("prediction").cast(pl.Float64, strict=False).cast(pl.Int64, strict=False).cast(pl.String)
    said = pl.when("right").then("value").otherwise(whole.fill_null(pl.col("prediction")))  # 1 and 1.0 are one class
    texts = [rows.select(each.cast(pl.String))[:, 0].to_numpy() for each in (pl.col("value"), said, pl.col(column))]
    try:
        odds = equalised_odds(*texts)
    except Invalid as fault:
        return _missing(gate, fault.line())
    high, low = (Measured(n=each.n, mean=each.value, variance=each.value * (1 - each.value)) for each in odds[1:3])
    if odds.fewest.n < min(high.n, low.n):  # the smallest group decides whether there is enough
        low = Measured(n=odds.fewest.n, mean=low.mean, variance=low.variance)
    return GateReading(gate.name, live=low, candidate=high, coverage=looked.coverage())


def _psi(looked: _Looked, gate: CanaryGate) -> GateReading:
    rows = looked.predictions(["at", "prediction"]).filter(
        (pl.col("role") != "shadow") & pl.col("prediction").is_not_null()
    )
    numeric = rows["prediction"].cast(pl.Float64, strict=False)
    as_numbers = rows.height > 0 and bool(numeric.is_finite().fill_null(False).all()) and numeric.n_unique() > FEW
    rows = rows.with_columns(prediction=numeric if as_numbers else pl.col("prediction")).sort("at")
    live, candidate = (column[-MOST_ROWS:] for column in looked.each(rows, "prediction"))
    if not len(live) or not len(candidate):
        return _missing(gate, f"no prediction of the {'candidate' if len(live) else 'live version'}")
    if not as_numbers:
        live, candidate = live.astype("U"), candidate.astype("U")
    value, bins = shift(live, candidate)
    return GateReading(
        gate.name, live=Measured(n=len(live)), candidate=Measured(n=len(candidate)), value=value, bins=bins
    )


def _disagreement(looked: _Looked, gate: CanaryGate) -> GateReading:
    """Of rows that both versions answered, one of them as a shadow, also before the canary began."""
    pairs = looked.pairs()
    if not pairs.height:
        return _missing(gate, "no prediction was given by both versions, as a shadow does")
    one, other = pl.col("prediction"), pl.col("shadow")
    numbers = one.cast(pl.Float64, strict=False) == other.cast(pl.Float64, strict=False)
    differ = pairs.select((~(one.eq_missing(other) | numbers.fill_null(False))).cast(pl.Float64))[:, 0].to_numpy()
    return GateReading(gate.name, candidate=_measured(differ))


def _together(scans: Sequence[pl.LazyFrame]) -> pl.DataFrame:
    schema = dict.fromkeys(("id", "version", "prediction", "shadow"), pl.String) | {"row": pl.Int32, "epoch": pl.Int64}
    empty = pl.DataFrame(schema={**schema, "at": pl.Float64})
    return pl.concat(pl.collect_all(scans), how="vertical_relaxed") if scans else empty


_MEASURES: dict[str, Callable[[_Looked, CanaryGate], GateReading]] = {
    "accuracy": _accuracy,
    "metric": _metric,
    "calibration": _calibration,
    "fairness": _fairness,
    "psi": _psi,
    "disagreement": _disagreement,
}
