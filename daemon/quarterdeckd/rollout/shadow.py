"""A shadow beside what was answered: how often they agree, where they agree least, and their largest disagreements."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from statistics import NormalDist
from typing import Any, Final, NamedTuple

from quarterdeckd.measures.quality import wilson
from quarterstore.records.faults import got
from quarterstore.records.trials import Disagreement, Slice

FEWEST: Final = 30
"""Pairs of a slice that is looked at."""
MOST_VALUES: Final = 20
"""Different values of a field that are slices of their own; a field of more texts is none."""
QUARTERS: Final = 4
SHOWN: Final = 10
LEVEL: Final = 0.05


class Pair(NamedTuple):
    """One row that both answered."""

    prediction: str
    row: int
    at: float
    live: str | None
    shadow: str | None
    live_score: float | None
    shadow_score: float | None
    inputs: dict[str, Any]


class Compared(NamedTuple):
    """How many of the pairs agree, the slices from the surely worst on, the largest disagreements."""

    agreed: int
    slices: tuple[Slice, ...]
    disagreements: tuple[Disagreement, ...]


def checked(tolerance: float, top: int, newest: int) -> None:
    """A fault for what makes no report."""
    if not 0 <= tolerance < 1:
        raise got("tolerance", tolerance, "from 0 to below 1")
    if not 0 <= top <= 1000:
        raise got("top", top, "0 to 1000")
    if not 1 <= newest <= 1_000_000:
        raise got("newest", newest, "1 to 1000000")


def compare(pairs: Sequence[Pair], tolerance: float, top: int) -> Compared:
    """Compare pair by pair. Whole numbers and texts are labels, which agree when they are the same; other numbers agree
    within `tolerance` of the larger one, and so do the scores of models that give nothing else. The intervals of the
    slices are Wilson's, at 95 % for all of them together (Bonferroni)."""
    agree = [_agree(pair, tolerance) for pair in pairs]
    apart = [pair for pair, same in zip(pairs, agree, strict=True) if not same]
    apart.sort(key=_distance, reverse=True)
    return Compared(sum(agree), _slices(pairs, agree), tuple(map(_told, apart[:top])))


def agrees(live: str | None, shadow: str | None, tolerance: float) -> bool:
    """Whether two predictions say the same."""
    if live == shadow:
        return True
    one, other = _number(live), _number(shadow)
    if one is None or other is None or (_whole(live) and _whole(shadow)):
        return False
    return _near(one, other, tolerance)


def _agree(pair: Pair, tolerance: float) -> bool:
    if pair.live is None and pair.shadow is None and pair.live_score is not None and pair.shadow_score is not None:
        return _near(pair.live_score, pair.shadow_score, tolerance)
    return agrees(pair.live, pair.shadow, tolerance)


def _near(one: float, other: float, tolerance: float) -> bool:
    return abs(one - other) <= tolerance * max(abs(one), abs(other))


def _number(text: str | None) -> float | None:
    try:
        found = float(text) if text is not None else math.nan
    except ValueError:
        return None
    return found if math.isfinite(found) else None


def _whole(text: str | None) -> bool:
    return text is not None and text.lstrip("+-").isdigit()


def _distance(pair: Pair) -> float:
    """How far apart two answers are: numbers by their difference, labels by how sure both were of theirs."""
    one, other = _number(pair.live), _number(pair.shadow)
    if pair.live is None and pair.shadow is None:
        one, other = pair.live_score, pair.shadow_score
    if one is not None and other is not None and not (_whole(pair.live) and _whole(pair.shadow)):
        return abs(one - other)
    return (pair.live_score or 0.0) + (pair.shadow_score or 0.0)


def _told(pair: Pair) -> Disagreement:
    return Disagreement(
        prediction=pair.prediction,
        row=pair.row,
        at=pair.at,
        live=pair.live,
        shadow=pair.shadow,
        live_score=pair.live_score,
        shadow_score=pair.shadow_score,
        inputs=pair.inputs,
    )


def _slices(pairs: Sequence[Pair], agree: Sequence[bool]) -> tuple[Slice, ...]:
    counted: list[tuple[str, str, int, int]] = []
    for field in dict.fromkeys(name for pair in pairs for name in pair.inputs):
        counted += _of_field(field, [pair.inputs.get(field) for pair in pairs], agree)
    z = NormalDist().inv_cdf(1 - LEVEL / (2 * max(1, len(counted))))
    found = []
    for field, value, n, agreed in counted:
        low, high = wilson(agreed, n, z)
        found.append(Slice(field=field, value=value, pairs=n, agreed=agreed, rate=agreed / n, low=low, high=high))
    return tuple(sorted(found, key=lambda each: (each.high, each.rate))[:SHOWN])


def _of_field(field: str, values: Sequence[Any], agree: Sequence[bool]) -> Iterator[tuple[str, str, int, int]]:
    values = [None if isinstance(value, float) and math.isnan(value) else value for value in values]
    known = [value for value in values if value is not None]
    name = _naming(known)
    if name is None:
        return
    total: Counter[str] = Counter()
    agreed: Counter[str] = Counter()
    for value, same in zip(values, agree, strict=True):
        total[name(value)] += 1
        agreed[name(value)] += same
    for each, n in total.items():
        if n >= FEWEST and len(total) > 1:
            yield field, each, n, agreed[each]


def _naming(known: Sequence[Any]) -> Callable[[Any], str] | None:
    """What calls a value by its slice: few values by themselves, many numbers by quarters of their order."""
    if len(set(known)) <= MOST_VALUES:
        return lambda value: "missing" if value is None else str(value)[:60]
    if any(isinstance(value, str | bool) for value in known):
        return None
    ordered = sorted(known)
    edges = [ordered[len(ordered) * part // QUARTERS] for part in range(1, QUARTERS)]

    def quarter(value: Any) -> str:
        if value is None:
            return "missing"
        at = sum(value >= edge for edge in edges)
        low = f"{edges[at - 1]:.4g} <= " if at else ""
        return f"{low}x" + (f" < {edges[at]:.4g}" if at < len(edges) else "")

    return quarter
