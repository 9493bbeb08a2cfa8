"""How many hosts there should be: up within seconds of more load, down after minutes without it, and no flapping."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from quarterdeckd.serving.load import QUEUE

UP_WITHIN = 3.0
"""Seconds that hosts have to be short of room until there is one more."""
UP_AGAIN = 5.0
"""Seconds from one more to the next: it has to come up and take its share before the others are looked at again."""
DOWN_AFTER = 180.0
"""Seconds in which one host fewer would have been enough, until there is one fewer."""
BUSY = 0.75
"""Seconds of processor a second of each host from which on they are short of room. A host answers on one thread."""
LONG = QUEUE // 2
"""Requests that wait at one of them from which on they are."""
QUIET = 0.5
"""The same that the hosts that stay may have to do. Less than `BUSY` by a third: load that swings by less than that
around any number of hosts changes nothing."""


class Hosts(NamedTuple):
    """What the hosts of one launcher were doing at a moment: busy seconds of processor a second, in all; the longest
    queue of any; how many requests they had turned away since the moment before; how many of them answer."""

    busy: float
    waiting: int
    shed: int
    ready: int


class Change(NamedTuple):
    """Another number of hosts, and why."""

    hosts: int
    why: str


class Scaling:
    """Between `least` and `most` hosts; told every second or so how they are, at `time.monotonic()`.

    More is by what each host is short of now, less by what all of them did at most in the last minutes: the two ask
    different questions, so that no load that stays as it is can make both true in turn.
    """

    def __init__(self, least: int, most: int) -> None:
        self.least, self.most = least, most
        self.wanted = least
        self._seen: deque[tuple[float, Hosts]] = deque()
        self._short_since: float | None = None
        self._changed = float("-inf")

    def saw(self, now: float, hosts: Hosts) -> Change | None:
        """How the hosts are; answers a change of their number where one is due."""
        self._seen.append((now, hosts))
        while now - self._seen[0][0] > DOWN_AFTER:
            self._seen.popleft()
        short = _short(hosts)
        if not short:
            self._short_since = None
        elif self._short_since is None:
            self._short_since = now
        if hosts.ready != self.wanted:
            return None  # one is on its way up or down: what is seen is not yet what was decided
        if self._short_since is not None and now - self._short_since >= UP_WITHIN:
            if self.wanted < self.most and now - self._changed >= UP_AGAIN:
                return self._to(now, self.wanted + 1, short)
        elif self.wanted > self.least and self._idle(now):
            return self._to(now, self.wanted - 1, f"one fewer was enough for {DOWN_AFTER / 60:g} minutes")
        return None

    def _idle(self, now: float) -> bool:
        """Whether one host fewer would have been enough ever since the last change, for long enough."""
        seen: Sequence[Hosts] = [each for moment, each in self._seen if moment >= self._changed]
        whole = now - max(self._seen[0][0], self._changed) >= DOWN_AFTER - 2
        return whole and all(_light(each, self.wanted - 1) for each in seen)

    def _to(self, now: float, hosts: int, why: str) -> Change:
        self.wanted, self._changed, self._short_since = hosts, now, None
        return Change(hosts, why)


def _light(hosts: Hosts, count: int) -> bool:
    """Whether so many hosts could have done it, with room to spare: a queue at most doubles where one of two goes."""
    return not hosts.shed and hosts.waiting < LONG // 2 and hosts.busy <= QUIET * count


def _short(hosts: Hosts) -> str:
    """What the hosts are short of, in words; empty where they have room."""
    if hosts.shed:
        return f"{hosts.shed} requests were turned away in the last second"
    if hosts.waiting >= LONG:
        return f"{hosts.waiting} requests waited"
    if hosts.ready and hosts.busy / hosts.ready >= BUSY:
        return f"each host was {hosts.busy / hosts.ready:.0%} busy"
    return ""
