"""What versions did over time: kept by the second and the minute, in bounded memory, with gaps where nobody served."""

from __future__ import annotations

import itertools

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quarterdeckd.measures import latency
from quarterdeckd.work import traffic as module
from quarterdeckd.work.traffic import LENGTHS, Stretches, Traffic
from quarterstore.ledger.state import State
from quarterstore.records.deployments import ArmCounts, Deployment, LatencySummary, ShowTraffic
from quarterstore.records.faults import Invalid, NotFound
from quarterstore.records.histories import ArmHistory
from quarterstore.records.hosts import HostNews

NOW = 1_700_000_000.0
ENDPOINT = Deployment(
    id="dep-1", endpoint="m", model="m", environment="default", state="LIVE", live="m@1", epoch=7, created=1.0,
    changed=1.0, asked_by="ana",
)  # fmt: skip


class Hosts:
    """Hosts that count, as the launcher tells it each second."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        view = State()
        view.deployments.put(ENDPOINT)
        self.traffic = Traffic(view)
        self.requests = self.errors = 0
        self.histogram = latency.empty()
        monkeypatch.setattr(module.time, "time", lambda: NOW)

    def tell(self, at: float, *milliseconds: float, errors: int = 0, epoch: int = 7, version: str = "m@1") -> None:
        for each in milliseconds:
            self.histogram[latency.bucket(each)] += 1
        self.requests += len(milliseconds)
        self.errors += errors
        counts = ArmCounts(version, self.requests, self.errors, tuple(self.histogram))
        summary = LatencySummary(
            endpoint="m", version=version, role="live", epoch=epoch, at=at, requests=len(milliseconds), errors=errors,
            p50=None, p95=None, p99=None, total_requests=self.requests, total_errors=self.errors,
        )  # fmt: skip
        self.traffic.heard(
            HostNews(
                kind="latency",
                latency=summary,
                counts={version: counts},
                endpoint="m",
                version=version,
                epoch=epoch,
            )
        )

    def anew(self) -> None:
        """Count from zero again."""
        self.requests, self.errors, self.histogram = 0, 0, latency.empty()

    def shown(self, window: float = 180) -> ArmHistory:
        [arm] = self.traffic.history(ShowTraffic("m", window)).arms
        return arm


@pytest.fixture
def hosts(monkeypatch: pytest.MonkeyPatch) -> Hosts:
    return Hosts(monkeypatch)


def test_each_second_has_what_was_done_in_it_and_a_second_unasked_has_no_latency(hosts: Hosts) -> None:
    hosts.tell(NOW - 5, 1, 1, 1, 50)
    hosts.tell(NOW - 4)
    hosts.tell(NOW - 3, 8, errors=1)
    found = hosts.shown()
    assert (found.at, found.requests, found.errors) == ((NOW - 5, NOW - 4, NOW - 3), (4, 0, 1), (0, 0, 1))
    assert (
        found.p50[1] is None
        and found.p99[0] == pytest.approx(50, rel=0.06)
        and found.p50[2] == pytest.approx(8, rel=0.06)
    )


def test_while_nobody_served_there_is_no_reading(hosts: Hosts) -> None:
    hosts.tell(NOW - 100, 1)
    hosts.tell(NOW - 10, 1)
    assert hosts.shown().at == (NOW - 100, NOW - 10)


def test_an_hour_is_merged_exactly_not_averaged(hosts: Hosts) -> None:
    """Nine quick seconds and a slow one: P95 of the ten is the slow one's, their mean would be far below."""
    first = NOW - 3600 + 10
    for second in range(10):
        hosts.tell(first + second, *([1.0] * 10 if second else [100.0] * 10))
    found = hosts.shown(3600)
    assert sum(found.requests) == 100 and len(found.at) <= 2 and sum(found.heard) == 10
    assert found.p95[0] == pytest.approx(100, rel=0.06) and found.p50[0] == pytest.approx(1, rel=0.06)


def test_what_was_counted_before_the_daemon_listened_is_left_out(hosts: Hosts) -> None:
    hosts.requests, hosts.histogram[100] = 5000, 5000
    hosts.tell(NOW - 5, 1)
    hosts.tell(NOW - 4, 1, 1)
    assert hosts.shown().requests == (2,)


def test_counts_that_begin_at_zero_again_are_all_new(hosts: Hosts) -> None:
    """Other routes, or another launcher."""
    hosts.tell(NOW - 5, 1, 1, 1)
    hosts.anew()
    hosts.tell(NOW - 4, 1, 1, 1, 1, epoch=8)
    hosts.anew()
    hosts.tell(NOW - 3, 1, epoch=8)
    assert hosts.shown().requests == (3, 4, 1)


def test_another_launcher_that_has_counted_more_already_begins_anew_all_the_same(hosts: Hosts) -> None:
    """Its sum is higher, yet not the same answers are in it: taken for more of them, a bucket came out below zero and
    the daemon heard no news any more."""
    hosts.tell(NOW - 5, 1, 1, 1)
    hosts.anew()
    hosts.tell(NOW - 3, 1, 8, 8, 8, 8)
    assert hosts.shown().requests == (3, 5)


def test_what_is_kept_is_bounded_in_readings_and_in_arms(hosts: Hosts, monkeypatch: pytest.MonkeyPatch) -> None:
    stretches = Stretches(1.0, 180)
    for second in range(2000):
        stretches.add(float(second), 1, 0, ())
    assert [each.at for each in stretches.readings(0)] == [float(each) for each in range(1819, 2000)]
    monkeypatch.setattr(module, "MOST_ARMS", 2)
    for number in (1, 2, 1, 3):
        hosts.anew()
        hosts.tell(NOW - 5, 1, version=f"m@{number}", epoch=number)
    assert [each.version for each in hosts.traffic.history(ShowTraffic("m")).arms] == ["m@1", "m@3"]


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 50)), min_size=1, max_size=60), st.sampled_from(LENGTHS))
def test_no_request_is_lost_or_counted_twice_at_any_length(
    seconds: list[tuple[int, int]], length: tuple[float, int]
) -> None:
    stretches, at = Stretches(*length), 0.0
    for wait, requests in seconds:
        at += wait
        stretches.add(at, requests, 0, ())
    found = list(stretches.readings(0))
    assert sum(each.requests for each in found) == sum(requests for _, requests in seconds)
    assert sum(each.heard for each in found) == len(seconds)
    assert all(before.at < after.at for before, after in itertools.pairwise(found))


@pytest.mark.parametrize("window", [0, -1, 0.5, 86_401, float("nan"), float("inf")])
def test_a_window_that_is_not_kept_is_refused(hosts: Hosts, window: float) -> None:
    with pytest.raises(Invalid, match="1 to 86400 seconds"):
        hosts.traffic.history(ShowTraffic("m", window))


def test_an_endpoint_that_is_not_is_not_found(hosts: Hosts) -> None:
    with pytest.raises(NotFound):
        hosts.traffic.history(ShowTraffic("n"))


def test_an_epoch_that_began_after_the_daemon_listened_is_counted_from_its_first_request(hosts: Hosts) -> None:
    hosts.traffic._since = NOW - 60
    hosts.traffic._view.deployments.put(msgspec.structs.replace(ENDPOINT, changed=NOW - 10))
    hosts.requests, hosts.histogram[100] = 5, 5
    hosts.tell(NOW - 5, 1)
    assert hosts.shown().requests == (6,)
