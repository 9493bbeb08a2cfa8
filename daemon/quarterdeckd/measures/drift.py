"""Whether a window of rows still looks like the reference rows: a test, an effect size and a verdict for each feature.

numbers     Kolmogorov-Smirnov, D and p as `scipy.stats.ks_2samp(reference, current)` gives them: the exact p up to
            10,000 rows a side, above that the asymptotic one, `kstwo.sf(D, round(m n / (m + n)))`.
categories  Pearson's chi-square of the 2 x k table, as `scipy.stats.chi2_contingency(table, correction=False)`.
effect      PSI = sum over bins of (c_i - r_i) ln(c_i / r_i), with r_i and c_i the shares of the reference and of the
            current rows (Siddiqi 2006; the symmetrised Kullback-Leibler divergence). A bin that is empty on one side
            has the share of half a row there, 0.5 / n; one empty on both counts nothing; shares are not scaled again.
bins        Of numbers: (-inf, d_1], (d_1, d_2], … (d_9, inf) with d_i the smallest reference value that at least i/10
            of the reference rows do not exceed; a value that is more than one decile is a bin of its own. Of
            categories: those of the reference rows, and `other` for what only the current rows hold.
many        q after Benjamini and Hochberg (1995) over all tested features: among those called drifted, the expected
            share of false ones is at most the level, however many features there are.

NaN, infinities and blanks are left out and counted in the note. The same input gives the same bytes.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from quarterstore.records.faults import got
from quarterstore.records.monitoring import DriftResult, DriftRule, DriftVerdict, FeatureDrift
from quarterstore.records.names import drawn
from quarterstore.records.registry import Feature

LITERAL: Final = 0.05
"""The textbooks' limit of p, whatever the level of the rule."""
EXACT: Final = 10_000
"""Rows a side up to which scipy computes the exact p of Kolmogorov-Smirnov (at most 0.16 s, measured)."""
FEWEST: Final = 50
"""Reference rows below which ten bins say nothing; the rule's `least` is for the window."""
OTHER: Final = "other"

Column = NDArray[Any]


class Tested(NamedTuple):
    """What a test found: statistic, p, PSI, and what has to be said about it."""

    statistic: float
    p: float
    effect: float
    notes: tuple[str, ...] = ()


def compare(
    reference: Mapping[str, Column], current: Mapping[str, Column], features: Sequence[Feature], rule: DriftRule
) -> DriftResult:
    """Judge each feature and the window as a whole.

    `reference` and `current` map a feature's name to its rows (numbers, or strings with None for a blank). The window
    is the worst of its features: DRIFT when one drifted, else NEGLIGIBLE when one differs significantly but by less
    than `rule.effect`, else NONE; NOT ENOUGH DATA below `rule.least` rows; UNDEFINED when no feature could be tested.
    """
    _checked(rule)
    n_reference, n_current = _longest(reference), _longest(current)
    found = [_feature(one, reference, current, rule) for one in features]
    tested = [one.p for one in found if one.p is not None]
    each_q = iter(benjamini_hochberg(tested))
    judged = tuple(one if one.p is None else _judged(one, next(each_q), rule) for one in found)
    verdict = _worst(judged, n_current, rule)
    return DriftResult(n_reference, n_current, judged, verdict, _words(judged, verdict, n_reference, n_current, rule))


def benjamini_hochberg(p: Sequence[float]) -> list[float]:
    """q for each p, in the order given: the lowest level of false discovery at which it counts as one."""
    n = len(p)
    q, lowest = [1.0] * n, 1.0
    for rank, index in reversed(list(enumerate(sorted(range(n), key=p.__getitem__), start=1))):
        lowest = min(lowest, p[index] * n / rank)
        q[index] = lowest
    return q


def psi(reference: NDArray[np.int64], current: NDArray[np.int64]) -> float:
    """PSI of two rows of counts over the same bins, by the formula at the top."""
    either = (reference > 0) | (current > 0)
    before, after = reference[either], current[either]
    r = np.maximum(before, 0.5) / before.sum()
    c = np.maximum(after, 0.5) / after.sum()
    return float(((c - r) * np.log(c / r)).sum())


def shift(reference: Column, current: Column) -> tuple[float, int]:
    """PSI between two columns without blanks, and over how many bins: finite numbers in the bins of above, strings each
    in one of its own."""
    if reference.dtype.kind == "f":
        before, after = _binned(np.sort(reference), np.sort(current))
    else:
        names = np.unique(np.concatenate([reference, current]))
        before, after = (
            np.bincount(np.searchsorted(names, side), minlength=len(names)) for side in (reference, current)
        )
    return psi(before, after), int(((before > 0) | (after > 0)).sum())


def numbers(reference: NDArray[np.float64], current: NDArray[np.float64]) -> Tested:
    """Test finite numbers, at least one on each side, from one sort of both together."""
    both = np.concatenate([reference, current])
    order = np.argsort(both, kind="stable")
    ordered, is_reference = both[order], order < len(reference)
    if ordered[0] == ordered[-1]:
        return Tested(0.0, 1.0, 0.0, ("constant",))
    ends = np.append(np.flatnonzero(ordered[1:] != ordered[:-1]), len(both) - 1)
    up_to = np.cumsum(is_reference)[ends]
    gaps = up_to / len(reference) - (ends + 1 - up_to) / len(current)
    statistic = float(np.abs(gaps).max())
    sorted_reference = ordered[is_reference]
    notes = ("constant in the reference",) if sorted_reference[0] == sorted_reference[-1] else ()
    effect = psi(*_binned(sorted_reference, ordered[~is_reference]))
    return Tested(statistic, _ks_p(reference, current, statistic), effect, notes)


def categories(reference: Column, current: Column) -> Tested:
    """Test strings, at least one on each side."""
    names, before = np.unique(reference, return_counts=True)
    place = np.minimum(np.searchsorted(names, current), len(names) - 1)
    known = names[place] == current
    after = np.bincount(place[known], minlength=len(names))
    unseen = int((~known).sum())
    notes: tuple[str, ...] = ()
    if unseen:
        kinds = len(np.unique(current[~known]))
        before, after = np.append(before, 0), np.append(after, unseen)
        notes = (f"{unseen} rows of {kinds} unseen {'category' if kinds == 1 else 'categories'} counted as {OTHER}",)
    if len(before) == 1:
        return Tested(0.0, 1.0, 0.0, ("constant",))
    statistic, p, thin = _chi_square(np.vstack([before, after]))
    if thin > 0.2:  # Cochran's (1954) rule of thumb for when the chi-square p can be trusted
        notes = (*notes, f"{thin:.0%} of the cells expect fewer than 5 rows: p is rough")
    return Tested(statistic, p, psi(before, after), notes)


def _checked(rule: DriftRule) -> None:
    if not 0 < rule.level < 1:
        raise got("level", rule.level, "a number between 0 and 1")
    if not 0 <= rule.effect < math.inf:
        raise got("effect", rule.effect, "a PSI from 0 on")
    if rule.least < 1:
        raise got("least", rule.least, "at least 1 row")


def _longest(columns: Mapping[str, Column]) -> int:
    return max((len(column) for column in columns.values()), default=0)


def _feature(
    feature: Feature, reference: Mapping[str, Column], current: Mapping[str, Column], rule: DriftRule
) -> FeatureDrift:
    """The feature with its p, or with the reason why it was not tested."""
    numeric = feature.kind == "number"
    blank = FeatureDrift(feature.name, "KS" if numeric else "chi-square", None, None, None, None, 0, 0, "UNDEFINED")
    sides = (("reference", reference), ("current", current))
    if not _longest(current):  # no rows have no columns either
        return msgspec.structs.replace(blank, verdict="NOT ENOUGH DATA", note=_short(0, 0, rule))
    absent = [side for side, columns in sides if feature.name not in columns]
    if absent:
        return msgspec.structs.replace(blank, note=f"no such column in the {' and '.join(absent)} rows")
    kept = [_finite(columns[feature.name]) if numeric else _named(columns[feature.name]) for _, columns in sides]
    left_out = [
        f"{len(columns[feature.name]) - len(rows)} of {len(columns[feature.name])} {side} rows left out "
        + ("(blank or not a finite number)" if numeric else "(blank)")
        for (side, columns), rows in zip(sides, kept, strict=True)
        if len(rows) < len(columns[feature.name])
    ]
    before, after = kept
    counted = msgspec.structs.replace(blank, n_reference=len(before), n_current=len(after), note="; ".join(left_out))
    short = _short(len(before), len(after), rule)
    if short:
        return msgspec.structs.replace(counted, verdict="NOT ENOUGH DATA", note="; ".join([short, *left_out]))
    found = numbers(before, after) if numeric else categories(before, after)
    return msgspec.structs.replace(
        counted,
        statistic=found.statistic,
        p=found.p,
        effect=found.effect,
        note="; ".join([*found.notes, *left_out]),
    )


def _short(n_reference: int, n_current: int, rule: DriftRule) -> str:
    if n_current < rule.least:
        return f"not enough data ({n_current} of {rule.least})"
    fewest = min(FEWEST, rule.least)
    return f"not enough reference rows ({n_reference} of {fewest})" if n_reference < fewest else ""


def _finite(column: Column) -> NDArray[np.float64]:
    """The finite numbers of a column; what is no number at all (None, text) is left out like a blank."""
    if column.dtype.kind not in "biuf":
        column = np.array([_number(value) for value in column.tolist()], dtype=np.float64)
    values = column.astype(np.float64)
    return values[np.isfinite(values)]


def _number(value: object) -> float:
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return math.nan


def _named(column: Column) -> Column:
    """The categories of a column as strings; None and NaN are blanks."""
    kept = [_name(value) for value in column.tolist() if value is not None and value == value]
    return np.array(kept, dtype=np.str_)


def _name(value: object) -> str:
    """1 and 1.0 are one category, and True is true: one side may come from a table, the other from JSON."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _binned(
    reference: NDArray[np.float64], current: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows per bin of both sides, each sorted."""
    n = len(reference)
    deciles = [reference[-(-i * n // 10) - 1] for i in range(1, 10)]  # an observed value: 1e308 cannot overflow
    edges, times = np.unique(deciles, return_counts=True)
    own = edges[times > 1]

    def counts(ordered: NDArray[np.float64]) -> NDArray[np.int64]:
        cuts = np.concatenate([np.searchsorted(ordered, edges, "right"), np.searchsorted(ordered, own, "left")])
        return np.diff(np.sort(cuts), prepend=0, append=len(ordered)).astype(np.int64)

    return counts(reference), counts(current)


def _ks_p(reference: NDArray[np.float64], current: NDArray[np.float64], statistic: float) -> float:
    from scipy import stats  # 2 s and 100 MB: in the job's process only

    m, n = len(reference), len(current)
    if max(m, n) > EXACT:
        return float(np.clip(stats.kstwo.sf(statistic, np.round(m * n / (m + n))), 0.0, 1.0))
    with warnings.catch_warnings():  # where the exact p cannot be had, scipy warns and gives the asymptotic one
        warnings.simplefilter("ignore", RuntimeWarning)
        return float(stats.ks_2samp(reference, current).pvalue)


def _chi_square(table: NDArray[np.int64]) -> tuple[float, float, float]:
    """Statistic, p, and the share of cells that expect fewer than five rows."""
    from scipy.special import chdtrc

    expected = table.sum(axis=1, keepdims=True) * (table.sum(axis=0) / table.sum())
    statistic = float(((table - expected) ** 2 / expected).sum())
    return statistic, float(chdtrc(table.shape[1] - 1, statistic)), float((expected < 5).mean())


def _judged(found: FeatureDrift, q: float, rule: DriftRule) -> FeatureDrift:
    assert found.p is not None and found.effect is not None
    if rule.literal:
        return msgspec.structs.replace(found, q=q, verdict="DRIFT" if found.p < LITERAL else "NONE")
    if q >= rule.level:
        return msgspec.structs.replace(found, q=q, verdict="NONE")
    if found.effect >= rule.effect:
        return msgspec.structs.replace(found, q=q, verdict="DRIFT")
    note = "; ".join(part for part in ("significant but negligible: no action", found.note) if part)
    return msgspec.structs.replace(found, q=q, verdict="NEGLIGIBLE", note=note)


def _worst(judged: tuple[FeatureDrift, ...], n_current: int, rule: DriftRule) -> DriftVerdict:
    verdicts = {one.verdict for one in judged}
    if n_current < rule.least:
        return "NOT ENOUGH DATA"
    order: tuple[DriftVerdict, ...] = ("DRIFT", "NEGLIGIBLE", "NONE", "NOT ENOUGH DATA")
    return next((verdict for verdict in order if verdict in verdicts), "UNDEFINED")


def _words(
    judged: tuple[FeatureDrift, ...], verdict: DriftVerdict, n_reference: int, n_current: int, rule: DriftRule
) -> str:
    """One sentence: what was found, the worst features, and by which rule."""
    if n_current < rule.least:
        return f"not enough data ({n_current} of {rule.least} rows)"
    tested = [one for one in judged if one.p is not None]
    if not tested:
        return f"no feature could be tested: {judged[0].note if judged else 'none was named'}"
    hit = [one for one in tested if one.verdict == verdict]
    method = (
        f"literal rule, p < {LITERAL:g} in any feature, no correction"
        if rule.literal
        else f"Benjamini-Hochberg at level {rule.level:g}, effect at least PSI {rule.effect:g}"
    )
    how = f"{method}; {n_current:,} rows against {n_reference:,}"
    if len(judged) > len(tested):
        how += f"; {len(judged) - len(tested)} not tested"
    if verdict == "NONE":
        return f"no drift in {len(tested)} features ({how})"
    worst = sorted(hit, key=lambda one: (-(one.effect or 0.0), one.feature))
    named = ", ".join(f"{drawn(one.feature, longest=40)} PSI {one.effect:.3g} (q {one.q:.2g})" for one in worst[:3])
    more = f" and {len(hit) - 3} more" if len(hit) > 3 else ""
    said = "drift" if verdict == "DRIFT" else "significant but negligible: no action;"
    return f"{said} in {len(hit)} of {len(tested)} features: {named}{more} ({how})"
