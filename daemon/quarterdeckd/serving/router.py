"""Which version answers: the routing table with its sessions, and what each arm has done since its epoch began."""

from __future__ import annotations

from collections import OrderedDict
from itertools import count
from pathlib import Path
from typing import NamedTuple

from quarterdeckd.measures import latency
from quarterdeckd.rollout.arms import arm_at, drawn, point_of
from quarterdeckd.serving.batching import Batches
from quarterdeckd.serving.looking import Views
from quarterdeckd.serving.session import Loaded
from quarterstore.records.deployments import ArmCounts, Route, RoutingTable, Slot
from quarterstore.records.faults import Overloaded, missing
from quarterstore.records.registry import Signature

RETRY = 10
"""Seconds after which a caller may ask again a version that is out of traffic."""
WARM = 4
"""Sessions kept that no route names any more: what makes a rollback instant."""


class Arm:
    """One slot of a route: its session, and its counts since the route's epoch began."""

    __slots__ = (
        "after",
        "batches",
        "columns",
        "errors",
        "histogram",
        "loaded",
        "number",
        "recent",
        "recent_errors",
        "requests",
        "route",
        "slot",
    )

    def __init__(self, route: Route, slot: Slot, loaded: Loaded, number: int) -> None:
        self.route = route
        self.slot = slot
        self.loaded = loaded
        self.number = number
        self.columns = _columns(slot.signature)
        self.after: Arm | None = None
        """Who counts on, once the rule of the epoch changed: for requests that began before it did."""
        self.batches: Batches | None = None
        """Those of its requests that wait to be run together, once there was one."""
        self.requests = 0
        self.errors = 0
        self.histogram = latency.empty()
        self.recent = latency.empty()
        self.recent_errors = 0

    def count(self, milliseconds: float, failed: bool) -> None:
        """One answered request."""
        if self.after is not None:
            self.after.count(milliseconds, failed)
            return
        bucket = latency.bucket(milliseconds)
        self.requests += 1
        self.histogram[bucket] += 1
        self.recent[bucket] += 1
        if failed:
            self.errors += 1
            self.recent_errors += 1

    def go_on(self, before: Arm) -> None:
        """Count on from where the same version was, under another rule of the same epoch."""
        self.requests, self.errors = before.requests, before.errors
        self.histogram = list(before.histogram)
        self.recent, self.recent_errors = list(before.recent), before.recent_errors
        before.after = self

    def counts(self) -> ArmCounts:
        """The counts as a record."""
        return ArmCounts(
            version=self.slot.version, requests=self.requests, errors=self.errors, histogram=tuple(self.histogram)
        )


def _columns(signature: Signature) -> dict[str, list[str]] | None:
    """The features' names by tensor, where they are its columns in order, as they nearly always are."""
    found: dict[str, list[str]] = {}
    for each in signature.features:
        names = found.setdefault(each.input, [])
        if each.index != len(names):
            return None
        names.append(each.name)
    return found


class Dealt(NamedTuple):
    """The arm of a request, the point that dealt it (None where there is one arm only), and the chance it had."""

    arm: Arm
    point: int | None
    propensity: float


class Way:
    """One endpoint: its arms, their shares, and who is shown what they answered."""

    __slots__ = ("arms", "refused", "route", "shadow", "shares", "shed")

    def __init__(self, route: Route, arms: list[Arm]) -> None:
        self.route = route
        self.arms = arms
        self.shares = tuple(each.slot.share for each in arms)
        self.shadow = next((slot for slot in route.slots if slot.role == "shadow"), None)
        self.refused = 0
        """Requests since the epoch began that were wrong: they are no version's errors."""
        self.shed = 0
        """Those for which there was no room."""

    def deal(self, key: str | None, prediction: str) -> Dealt:
        """The arm of a request: the same one for the same key, whatever host answers; by its own id without a key, and
        where a bandit draws."""
        if len(self.arms) == 1:
            return Dealt(self.arms[0], None, 1.0)
        if weights := self.route.weights:
            point = point_of(self.route.salt, prediction)
            index = drawn(point, weights)
            return Dealt(self.arms[index], point, weights[index])
        point = point_of(self.route.salt, key or prediction)
        index = arm_at(point, self.shares)
        return Dealt(self.arms[index], point, self.shares[index] / 100)

    def go_on(self, before: Way) -> None:
        """Keep what was counted in this epoch: what is recorded, and how requests are batched, may change within it."""
        self.refused = before.refused
        earlier = {each.slot.version: each for each in before.arms}
        for each in self.arms:
            if each.slot.version in earlier:
                each.go_on(earlier[each.slot.version])

    def named(self, version: str) -> Arm:
        """The arm of `name@3`, or of `3` alone; raises `NotFound` with those that answer callers."""
        for each in self.arms:
            if version in (each.slot.version, each.slot.version.partition("@")[2]):
                return each
        raise missing("version", version, self.versions)

    @property
    def versions(self) -> list[str]:
        """The versions that answer callers."""
        return [each.slot.version for each in self.arms]


def answering(route: Route) -> list[Slot]:
    """The slots that answer callers; a shadow is another process's work."""
    return [slot for slot in route.slots if slot.role != "shadow"]


class Routes:
    """Sessions by digest, ways by endpoint."""

    def __init__(self, pushed: Path | None = None) -> None:
        self.views = Views(pushed)
        self.epoch = -1
        self.whole = False
        """Whether every endpoint of the last table is served as it says."""
        self.ways: dict[str, Way] = {}
        self._sessions: OrderedDict[str, Loaded] = OrderedDict()
        self._numbers = count(1)
        """Of arms, never used twice: what a thread still runs after a switch is not blamed on who came after it."""

    def way(self, endpoint: str) -> Way:
        """The way of an endpoint; raises `NotFound` with the nearest."""
        found = self.ways.get(endpoint)
        if found is None:
            raise missing("model", endpoint, self.ways)
        if found.route.out:
            raise Overloaded(
                f"{found.route.out} is out of traffic for a while: hosts died of it", field="model", after=RETRY
            )
        return found

    def lacking(self, table: RoutingTable) -> list[Slot]:
        """The slots whose files are not loaded yet."""
        slots = {slot.digest: slot for route in table.routes for slot in answering(route)}
        return [slot for digest, slot in slots.items() if digest not in self._sessions]

    def load(self, slot: Slot) -> dict[str, Loaded]:
        """Load a slot's file; in a thread. Answers the session by digest; raises a `Fault` that says why not."""
        return {slot.digest: Loaded(Path(slot.path), slot.digest, slot.signature)}

    def hold(self, loaded: dict[str, Loaded]) -> None:
        """Keep sessions that no way names yet."""
        self._sessions.update(loaded)

    def swap(self, table: RoutingTable) -> None:
        """Serve by another table, from the next request on; what runs ends on the arm it began with. A way whose
        epoch is the same keeps its counts; an endpoint with a slot that is not loaded goes on as it was, so that one
        lost file holds back no other endpoint."""
        ways: dict[str, Way] = {}
        for route in table.routes:
            before = self.ways.get(route.endpoint)
            slots = answering(route)
            whole = all(slot.digest in self._sessions for slot in slots)
            if before is not None and (before.route == route or not whole):
                ways[route.endpoint] = before
            elif whole:
                arms = [Arm(route, slot, self._sessions[slot.digest], next(self._numbers)) for slot in slots]
                ways[route.endpoint] = way = Way(route, arms)
                if before is not None and before.route.epoch == route.epoch:
                    way.go_on(before)
        self.ways, self.epoch = ways, table.epoch
        self.views.swap(table.views)
        self.whole = len(ways) == len(table.routes) and all(ways[each.endpoint].route == each for each in table.routes)
        wanted = {slot.digest for route in table.routes for slot in answering(route) if slot.digest in self._sessions}
        self._cool(wanted | {each.slot.digest for way in ways.values() for each in way.arms})

    def _cool(self, used: set[str]) -> None:
        for digest in used:
            self._sessions.move_to_end(digest)
        spare = [digest for digest in self._sessions if digest not in used]
        for digest in spare[: max(0, len(spare) - WARM)]:
            del self._sessions[digest]
