"""What the values of a view are like, and whether they are like the training rows of a version."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
from msgspec.structs import replace
from numpy.typing import NDArray

from quarterdeckd.features.joining import TIME
from quarterdeckd.features.lumps import of_kinds, scanned
from quarterdeckd.features.reading import KINDS
from quarterdeckd.measures.drift import compare
from quarterstore.records.feature_checks import FeatureStats, StatsResult, StatsSpec
from quarterstore.records.features import Feature
from quarterstore.records.monitoring import FeatureDrift
from quarterstore.records.registry import Feature as Compared

NUMBERS = ("number", "integer")


def run(spec: StatsSpec, report: Any) -> StatsResult:
    """Feature after feature, so that one column is in memory at a time, and the columns of the comparison."""
    wanted = spec.wanted
    kinds = {TIME: pl.Int64, **{each.name: KINDS[each.kind] for each in wanted.features}}
    rows = pl.concat([of_kinds(scanned(lump), kinds) for lump in wanted.lumps])
    if spec.since is not None:
        rows = rows.filter(pl.col(TIME) >= round(spec.since * 1e6))
    if spec.until is not None:
        rows = rows.filter(pl.col(TIME) < round(spec.until * 1e6))
    count = rows.select(pl.len()).collect(engine="streaming").item()
    before = _baseline(spec)
    found, current = [], {}
    for number, feature in enumerate(wanted.features):
        report.progress("look", number / len(wanted.features), feature.name)
        column = rows.select(feature.name).collect().to_series()
        found.append(_described(feature, column))
        if feature.name in before:
            current[feature.name] = _array(column, feature)
    if not before:
        words = f"{count:,} rows; no version was trained on a set of {wanted.view}"
        return StatsResult(view=wanted.view, rows=count, against=None, features=tuple(found), verdict=None, words=words)
    compared = [
        Compared(name=each.name, kind="number" if each.kind in NUMBERS else "category", input="")
        for each in wanted.features
        if each.name in before
    ]
    judged = compare(before, current, compared, spec.rule)
    by_name = {each.feature: each for each in judged.features}
    return StatsResult(
        view=wanted.view,
        rows=count,
        against=spec.against,
        features=tuple(_judged(each, by_name.get(each.name)) for each in found),
        verdict=judged.verdict,
        words=judged.words,
    )


def _baseline(spec: StatsSpec) -> dict[str, NDArray[Any]]:
    """The features of the view as they are in the training set; none where there is no version."""
    if spec.baseline is None:
        return {}
    rows = pl.scan_parquet(spec.baseline, glob=False, hive_partitioning=False)
    there = rows.collect_schema()
    wanted = [each for each in spec.wanted.features if each.name in there]
    frame = rows.select(each.name for each in wanted).collect()
    return {each.name: _array(frame[each.name], each) for each in wanted}


def _array(column: pl.Series, feature: Feature) -> NDArray[Any]:
    """As `measures.drift.compare` takes it: numbers with NaN, or texts with None."""
    if feature.kind in NUMBERS:
        return column.cast(pl.Float64).fill_null(float("nan")).to_numpy()
    return np.array(column.cast(pl.String).to_list(), dtype=object)


def _described(feature: Feature, column: pl.Series) -> FeatureStats:
    values = column.drop_nulls()
    ends: tuple[Any, Any] = (values.min(), values.max()) if len(values) and feature.kind != "boolean" else (None, None)
    if feature.kind in NUMBERS:
        ends = tuple(None if end is None else float(end) for end in ends)  # type: ignore[assignment]
    mean: Any = values.cast(pl.Float64).mean() if feature.kind in NUMBERS and len(values) else None
    return FeatureStats(
        name=feature.name,
        kind=feature.kind,
        rows=len(column),
        nulls=column.null_count(),
        distinct=values.n_unique(),
        lowest=ends[0],
        highest=ends[1],
        mean=None if mean is None else float(mean),
    )


def _judged(found: FeatureStats, drift: FeatureDrift | None) -> FeatureStats:
    if drift is None:
        return found
    return replace(found, verdict=drift.verdict, effect=drift.effect, p=drift.p, note=drift.note)
