"""What each version answered, second by second and minute by minute: counts and percentiles in bounded memory."""

from __future__ import annotations

import math
import struct
import time
from collections import deque
from collections.abc import Iterator
from typing import Final, NamedTuple

from quarterdeckd.api.dispatch import Quick
from quarterdeckd.measures import latency
from quarterstore.ledger.finding import deployment_of
from quarterstore.ledger.state import State
from quarterstore.records.deployments import ArmCounts, ShowTraffic
from quarterstore.records.faults import got
from quarterstore.records.histories import ArmHistory, TrafficHistory
from quarterstore.records.hosts import HostNews

LENGTHS: Final = ((1.0, 180), (10.0, 360), (60.0, 1440))
"""Seconds of a reading, and how many are kept: three minutes by the second, an hour by ten, a day by the minute."""
LONGEST: Final = 86_400.0
MOST_ARMS: Final = 100
"""Versions at endpoints that are remembered; beyond them the one unheard of for longest is forgotten. Each takes 0.2 MB
at most."""
_PACKED: Final = struct.Struct("<7d")


class Reading(NamedTuple):
    """What one arm did in one stretch; NaN where there is no percentile."""

    at: float
    heard: float
    requests: float
    errors: float
    p50: float
    p95: float
    p99: float


class Stretches:
    """The readings of one arm at one length: the last `kept` that are over, and the one that is not."""

    def __init__(self, step: float, kept: int) -> None:
        self._step = step
        self._over: deque[bytes] = deque(maxlen=kept)
        self._number = -1
        self._heard = self._requests = self._errors = 0
        self._histogram: tuple[int, ...] = ()

    def add(self, at: float, requests: int, errors: int, histogram: tuple[int, ...]) -> None:
        """One more second, heard at a moment; a clock that was put back adds to the stretch that is open."""
        number = int(at // self._step)
        if number > self._number:
            if self._heard:
                self._over.append(_PACKED.pack(*self._open()))
            self._number, self._heard, self._requests, self._errors, self._histogram = number, 0, 0, 0, ()
        self._heard += 1
        self._requests += requests
        self._errors += errors
        self._histogram = latency.add(self._histogram, histogram)

    def _open(self) -> Reading:
        found = (latency.percentile(self._histogram, q) for q in (50, 95, 99))
        percentiles = (math.nan if each is None else each for each in found)
        return Reading(self._number * self._step, self._heard, self._requests, self._errors, *percentiles)

    def readings(self, since: float) -> Iterator[Reading]:
        """Those that begin at a moment or later, the oldest first."""
        for packed in self._over:
            reading = Reading(*_PACKED.unpack(packed))
            if reading.at >= since:
                yield reading
        if self._heard and self._number * self._step >= since:
            yield self._open()


class Arm:
    """One version at one endpoint: what its hosts counted last, and its readings at every length."""

    def __init__(self) -> None:
        self.role = "live"
        self._epoch = -1
        self._counted: ArmCounts | None = None
        self.stretches = [Stretches(step, kept) for step, kept in LENGTHS]

    def take(self, news: HostNews, now: ArmCounts, *, ours: bool) -> None:
        """Cumulative counts since their epoch began: what is more than before was done since. What was counted before
        this daemon listened cannot be told apart, so it is left out, unless the epoch is `ours`: it began later."""
        assert news.latency is not None
        before, epoch = self._counted, self._epoch
        self._epoch, self._counted, self.role = news.epoch, now, news.latency.role
        if before is None and not ours and now.requests != news.latency.requests:
            return
        if before is None or news.epoch != epoch or _fewer(now, before):
            before = ArmCounts(version=now.version)
        zeros = before.histogram or (0,) * len(now.histogram)
        histogram = tuple(map(int.__sub__, now.histogram, zeros))
        for each in self.stretches:
            each.add(news.latency.at, now.requests - before.requests, now.errors - before.errors, histogram)


class Traffic:
    """Fed by what the hosts say each second, asked by window; begins anew with the daemon."""

    def __init__(self, view: State) -> None:
        self._view = view
        self._arms: dict[tuple[str, str], Arm] = {}
        """By endpoint and version, the one heard of last at the end."""
        self._since = time.time()

    def quick(self) -> dict[type, Quick]:
        """What is asked -> what answers it, on the loop."""
        return {ShowTraffic: lambda query, speaker: self.history(query)}

    def heard(self, news: HostNews) -> None:
        """Take a second of one arm; other news is none of ours."""
        counts = news.counts.get(news.version)
        if news.kind != "latency" or news.latency is None or counts is None:
            return
        key = (news.endpoint, news.version)
        arm = self._arms.pop(key, None) or Arm()
        found = self._view.deployments.get(news.endpoint)
        ours = found is not None and found.epoch == news.epoch and found.changed >= self._since
        arm.take(news, counts, ours=ours)
        self._arms[key] = arm
        if len(self._arms) > MOST_ARMS:
            del self._arms[next(iter(self._arms))]

    def history(self, query: ShowTraffic) -> TrafficHistory:
        """The finest readings that reach back as far as is asked."""
        if not 1 <= query.window <= LONGEST:
            raise got("window", query.window, f"1 to {LONGEST:.0f} seconds")
        endpoint = deployment_of(self._view, query.endpoint).endpoint
        index = next(index for index, (step, kept) in enumerate(LENGTHS) if step * kept >= query.window)
        step, now = LENGTHS[index][0], time.time()
        found = (
            _columns(version, arm.role, list(arm.stretches[index].readings(now - query.window)))
            for (place, version), arm in self._arms.items()
            if place == endpoint
        )
        arms = sorted((each for each in found if each.at), key=lambda each: (each.at[0], each.version))
        return TrafficHistory(endpoint, query.window, step, now, self._since, tuple(arms))


def _fewer(now: ArmCounts, before: ArmCounts) -> bool:
    """Whether the hosts began to count anew: they have answered as many again after a launcher's death where the sum
    alone would not tell, but never the same ones."""
    longer = zip(now.histogram, before.histogram, strict=False)
    return now.requests < before.requests or now.errors < before.errors or any(new < old for new, old in longer)


def _columns(version: str, role: str, readings: list[Reading]) -> ArmHistory:
    at, heard, requests, errors, *percentiles = zip(*readings, strict=True) if readings else ((),) * 7
    p50, p95, p99 = (tuple(None if math.isnan(each) else each for each in column) for column in percentiles)
    return ArmHistory(version, role, at, heard, tuple(map(int, requests)), tuple(map(int, errors)), p50, p95, p99)
