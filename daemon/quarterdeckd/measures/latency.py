"""Latency as counts in fixed log-spaced buckets: cheap to fill, exact to add, percentiles within one bucket's width.

Twelve buckets an octave (5.95 % wide) from 1 µs to 60 s, one below and one above: 312 counts. The idea is that of
Prometheus' native and OpenTelemetry's exponential histograms; the edges are fixed, so counts of any two hosts add up.
Standard library only: this is on the path of every answer and on the daemon's way to its first one.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from typing import Final

from quarterstore.records.faults import got

SHORTEST: Final = 0.001
"""Milliseconds: the upper edge of the lowest bucket."""
LONGEST: Final = 60_000.0
"""Milliseconds: the lower edge of the highest bucket, which has no upper one."""
OCTAVE: Final = 12
"""Buckets in a doubling."""
WIDTH: Final = 2.0 ** (1 / OCTAVE) - 1
"""How far apart the edges of a bucket are, as a fraction: the largest relative error of a percentile."""

EDGES: Final[tuple[float, ...]] = (
    *(SHORTEST * 2.0 ** (i / OCTAVE) for i in range(math.ceil(OCTAVE * math.log2(LONGEST / SHORTEST)))),
    LONGEST,
)
"""Milliseconds; bucket `i` holds `EDGES[i - 1] <= x < EDGES[i]`."""
BUCKETS: Final = len(EDGES) + 1


def bucket(milliseconds: float) -> int:
    """The bucket of a latency: 0 below 1 µs (and below zero), the last from 60 s on (and for NaN, so that a broken
    clock shows as slow, not as fast).

    0.2 µs; bisect over the edges was faster than a logarithm (0.25 µs) and exact on them.
    """
    return bisect_right(EDGES, milliseconds)


def empty() -> list[int]:
    """A histogram of nothing, to be filled with `histogram[bucket(ms)] += 1`."""
    return [0] * BUCKETS


def checked(histogram: Sequence[int]) -> Sequence[int]:
    """The histogram, or a fault: it is empty or has `BUCKETS` counts, none below zero."""
    if len(histogram) not in (0, BUCKETS):
        raise got("histogram", f"{len(histogram)} buckets", f"{BUCKETS} or none")
    if histogram and min(histogram) < 0:
        raise got("histogram", min(histogram), "counts from 0 on")
    return histogram


def add(one: Sequence[int], other: Sequence[int]) -> tuple[int, ...]:
    """Both histograms as one; `()` is a histogram of nothing."""
    if not checked(one) or not checked(other):
        return tuple(one or other)
    return tuple(map(int.__add__, one, other))


def total(histogram: Sequence[int]) -> int:
    """How many latencies were counted."""
    return sum(histogram)


def above(histogram: Sequence[int], milliseconds: float) -> int:
    """How many latencies were surely above a limit: those of the buckets that lie wholly above it."""
    return sum(histogram[bucket(milliseconds) + 1 :])


def percentile(histogram: Sequence[int], q: float) -> float | None:
    """The q-th percentile in milliseconds (0 <= q <= 100), or None of nothing.

    The bucket is that of the sample of rank `ceil(q/100 · n)`; inside it the n_b samples are taken to lie evenly on the
    log scale. So the value is never further from that sample than the bucket is wide: 5.95 %. Below 1 µs it is said
    to be 1 µs, from 60 s on to be 60 s.
    """
    if not 0.0 <= q <= 100.0:
        raise got("q", q, "a percentile from 0 to 100")
    n = total(checked(histogram))
    if not n:
        return None
    rank = max(1, math.ceil(q * n / 100))
    below = 0
    for index, count in enumerate(histogram):
        if below + count >= rank:
            return _inside(index, (rank - below - 0.5) / count)
        below += count
    raise AssertionError("the counts add up to fewer than their total")


def _inside(index: int, fraction: float) -> float:
    if index == 0:
        return SHORTEST
    if index == BUCKETS - 1:
        return LONGEST
    low, high = EDGES[index - 1], EDGES[index]
    return float(low * (high / low) ** fraction)
