"""Which versions are taken out of traffic because hosts die of them, and for how long."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

from msgspec.structs import replace

from quarterstore.records.deployments import Route, RoutingTable

MANY, WITHIN = 3, 60.0
"""So many deaths of hosts in so many seconds open the breaker for what they have in common."""
OPEN, OPEN_MOST = 60.0, 960.0
"""Seconds until what was taken out is tried again; twice as long each time it fails at once."""


class Suspect(NamedTuple):
    """A version at an endpoint, under the routes that it was running by."""

    endpoint: str
    version: str
    epoch: int


class Opened(NamedTuple):
    """An open breaker: until when (`time.monotonic()`), for how long; whether it is being tried again."""

    until: float
    seconds: float
    trying: bool = False


class Breaker:
    """A death has suspects: the one version that was running, all of them where several were, all that a host was to
    load where it never answered; none where it had answered and ran nothing, since somebody else killed it then.

    At the third death in a minute the version that all of them suspect is taken out; where that are several, it cannot
    be told, and the one that was given traffic last is: what changed last is the likeliest cause, and it is tried again
    after a minute. Any change of its endpoint's routes closes it, since a person or a rule has decided anew.
    """

    def __init__(self) -> None:
        self._deaths: deque[tuple[float, frozenset[Suspect]]] = deque()
        self._opened: dict[Suspect, Opened] = {}

    def died(self, now: float, suspects: Iterable[Suspect]) -> Suspect | None:
        """A host died at `time.monotonic()`; answers the version that is taken out for it, if one is."""
        found = frozenset(suspects)
        if not found:
            return None
        for each in found:
            if (opened := self._opened.get(each)) is not None and opened.trying and len(found) == 1:
                return self._open(now, each, min(OPEN_MOST, 2 * opened.seconds))
        self._deaths.append((now, found))
        while now - self._deaths[0][0] >= WITHIN:
            self._deaths.popleft()
        common = frozenset.intersection(*[each for _, each in list(self._deaths)[-MANY:]])
        if len(self._deaths) < MANY or not common:
            return None
        return self._open(now, max(common, key=lambda each: (each.epoch, each.version)), OPEN)

    def _open(self, now: float, suspect: Suspect, seconds: float) -> Suspect:
        self._opened[suspect] = Opened(now + seconds, seconds)
        self._deaths.clear()
        return suspect

    def due(self, now: float) -> bool:
        """Try again what was out long enough, and forget what then did well for as long; answers whether the routes
        are others for it."""
        before = self.open
        for suspect, opened in list(self._opened.items()):
            if now < opened.until:
                continue
            if opened.trying:
                del self._opened[suspect]
            else:
                self._opened[suspect] = Opened(now + WITHIN, opened.seconds, trying=True)
        return self.open != before

    def next(self) -> float | None:
        """When to ask `due` again, `time.monotonic()`; None where nothing is open."""
        return min((each.until for each in self._opened.values()), default=None)

    @property
    def open(self) -> tuple[Suspect, ...]:
        """What is out of traffic now."""
        return tuple(suspect for suspect, opened in self._opened.items() if not opened.trying)

    def keep(self, table: RoutingTable) -> None:
        """Close it for what is routed anew."""
        epochs = {route.endpoint: route.epoch for route in table.routes}
        for suspect in [each for each in self._opened if epochs.get(each.endpoint) != each.epoch]:
            del self._opened[suspect]

    def applied(self, table: RoutingTable) -> RoutingTable:
        """The routes without what is out: its share goes to the live version; where nobody is left, the endpoint
        is kept, and says that it is out."""
        out = {(each.endpoint, each.version) for each in self.open}
        if not out:
            return table
        return replace(table, routes=tuple(_without(route, out) for route in table.routes))


def _without(route: Route, out: set[tuple[str, str]]) -> Route:
    left = [slot for slot in route.slots if (route.endpoint, slot.version) not in out]
    if len(left) == len(route.slots):
        return route
    answering = [slot for slot in left if slot.role != "shadow"]
    if not answering:
        words = ", ".join(slot.version for slot in route.slots if (route.endpoint, slot.version) in out)
        return replace(route, slots=(), weights=(), out=words)
    first, *others = answering
    missing = 100 - sum(slot.share for slot in answering)
    shadows = [slot for slot in left if slot.role == "shadow"]
    return replace(route, slots=(replace(first, share=first.share + missing), *others, *shadows), weights=())
