"""What all hosts counted, as one: by endpoint and version since the route's epoch, and in the last second."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator

from msgspec.structs import replace

from quarterdeckd.measures import latency
from quarterstore.records.deployments import ArmCounts, LatencySummary
from quarterstore.records.hosts import HostNews


class Tally:
    """Counts of the hosts of one launcher, by pid: a host that ended keeps what it counted, one that restarts begins
    at zero under another pid. Counts of an epoch that is over are dropped."""

    def __init__(self) -> None:
        self._epochs: dict[str, int] = {}
        self._hosts: dict[str, dict[int, dict[str, ArmCounts]]] = {}
        self._roles: dict[tuple[str, str], str] = {}
        self._told: dict[tuple[str, str], ArmCounts] = {}
        self._copies: dict[str, dict[int, HostNews]] = {}
        self._aside: dict[str, dict[int, tuple[int, int]]] = {}
        """Requests that were wrong and those that were turned away, by endpoint and pid."""

    def keep(self, endpoints: set[str]) -> None:
        """Forget endpoints that are routed no more."""
        for name in self._epochs.keys() - endpoints:
            self._forget(name)

    def _forget(self, endpoint: str) -> None:
        self._epochs.pop(endpoint, None)
        self._hosts.pop(endpoint, None)
        self._aside.pop(endpoint, None)
        for key in [key for key in self._told if key[0] == endpoint]:
            del self._told[key]

    def begins(self, news: HostNews) -> bool:
        """Whether it is the first of an epoch that follows a counted one."""
        return news.endpoint in self._hosts and news.epoch > self._epochs[news.endpoint]

    def take(self, pid: int, news: HostNews, roles: dict[str, str]) -> None:
        """One host's cumulative counts of one endpoint."""
        if news.epoch < self._epochs.get(news.endpoint, -1):
            return
        if news.epoch > self._epochs.get(news.endpoint, -1):
            self._forget(news.endpoint)
            self._epochs[news.endpoint] = news.epoch
        self._hosts.setdefault(news.endpoint, {})[pid] = news.counts
        self._aside.setdefault(news.endpoint, {})[pid] = (news.refused, news.shed)
        for version, role in roles.items():
            self._roles[news.endpoint, version] = role

    def copies(self, pid: int, news: HostNews) -> HostNews:
        """One host's copies for a shadow, added to those of the other hosts since the same epoch began."""
        hosts = self._copies.setdefault(news.endpoint, {})
        hosts[pid] = news
        same = [each for each in hosts.values() if each.epoch == news.epoch]
        self._copies[news.endpoint] = {pid: each for pid, each in hosts.items() if each.epoch >= news.epoch}
        copied, dropped = sum(each.copied for each in same), sum(each.dropped for each in same)
        return replace(news, copied=copied, dropped=dropped)

    def tell(self) -> Iterator[HostNews]:
        """The last second of every arm, with the cumulative counts of its endpoint beside it."""
        for endpoint, by_host in self._hosts.items():
            counts = summed(by_host.values())
            refused, shed = map(sum, zip(*self._aside[endpoint].values(), strict=True))
            for version, each in counts.items():
                before = self._told.get((endpoint, version), ArmCounts(version=version))
                self._told[endpoint, version] = each
                yield HostNews(
                    kind="latency",
                    latency=replace(self._second(endpoint, before, each), total_refused=refused, total_shed=shed),
                    counts=counts,
                    endpoint=endpoint,
                    version=version,
                    epoch=self._epochs[endpoint],
                    refused=refused,
                    shed=shed,
                )

    def _second(self, endpoint: str, before: ArmCounts, now: ArmCounts) -> LatencySummary:
        zeros = before.histogram or (0,) * len(now.histogram)
        recent = tuple(map(int.__sub__, now.histogram, zeros))
        return LatencySummary(
            endpoint=endpoint,
            version=now.version,
            role=self._roles.get((endpoint, now.version), "live"),
            epoch=self._epochs[endpoint],
            at=time.time(),
            requests=now.requests - before.requests,
            errors=now.errors - before.errors,
            p50=latency.percentile(recent, 50),
            p95=latency.percentile(recent, 95),
            p99=latency.percentile(recent, 99),
            total_requests=now.requests,
            total_errors=now.errors,
        )


def summed(hosts: Iterable[dict[str, ArmCounts]]) -> dict[str, ArmCounts]:
    """The counts of several hosts, by version."""
    found: dict[str, ArmCounts] = {}
    for counts in hosts:
        for version, each in counts.items():
            before = found.get(version, ArmCounts(version=version))
            found[version] = ArmCounts(
                version=version,
                requests=before.requests + each.requests,
                errors=before.errors + each.errors,
                histogram=latency.add(before.histogram, each.histogram),
            )
    return found
