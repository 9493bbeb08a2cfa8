"""What is taken out of traffic because hosts die of it, and when it is tried again."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from quarterdeckd.serving.breaker import OPEN, OPEN_MOST, WITHIN, Breaker, Suspect
from quarterdeckd.serving.shedding import AGAIN, LASTS, Shedding
from quarterstore.records.deployments import Route, RoutingTable, Slot
from quarterstore.records.registry import Signature

ONE, TWO, OTHER = Suspect("e", "m@1", 1), Suspect("e", "m@2", 3), Suspect("o", "n@1", 2)


def slot(version: str, share: int, role: Any) -> Slot:
    return Slot(version, "/nowhere", version, Signature(inputs=(), outputs=()), share, role)


def table(*slots: Slot, epoch: int = 3, weights: tuple[float, ...] = ()) -> RoutingTable:
    other = Route(endpoint="o", epoch=2, slots=(slot("n@1", 100, "live"),), salt="s")
    return RoutingTable(epoch=3, routes=(Route("e", epoch, slots, "s", weights=weights), other))


def test_the_third_death_in_a_minute_opens_it_and_no_earlier_one() -> None:
    found = Breaker()
    assert [found.died(float(second), [ONE]) for second in (0, 10, 20)] == [None, None, ONE]
    assert found.open == (ONE,)


def test_deaths_that_are_further_apart_open_nothing() -> None:
    found = Breaker()
    assert [found.died(second * WITHIN / 2, [ONE]) for second in range(10)] == [None] * 10


def test_deaths_by_another_hand_open_nothing_however_many() -> None:
    found = Breaker()
    assert [found.died(float(second), []) for second in range(30)] == [None] * 30


def test_what_all_deaths_suspect_is_taken_out_though_no_single_one_tells() -> None:
    found = Breaker()
    deaths = ([ONE, OTHER], [TWO, OTHER], [OTHER, ONE, TWO])
    assert [found.died(float(second), suspects) for second, suspects in enumerate(deaths)] == [None, None, OTHER]


def test_where_it_cannot_be_told_what_was_given_traffic_last_is_taken_out() -> None:
    found = Breaker()
    assert [found.died(float(second), [ONE, OTHER, TWO]) for second in range(3)] == [None, None, TWO]
    assert [found.died(float(second), [ONE, OTHER]) for second in range(3, 6)] == [None, None, OTHER]


def test_it_is_tried_again_and_stays_out_twice_as_long_where_that_fails() -> None:
    found = Breaker()
    for second in range(3):
        found.died(float(second), [ONE])
    now, seconds = 2.0, OPEN
    for _ in range(8):
        assert found.next() == now + seconds and not found.due(now + seconds - 1) and found.open == (ONE,)
        assert found.due(now + seconds) and found.open == ()
        now += seconds + 1
        assert found.died(now, [ONE]) == ONE, "the first death while it is tried is enough"
        seconds = min(OPEN_MOST, seconds * 2)
    assert seconds == OPEN_MOST


def test_what_does_well_for_a_minute_is_as_any_other() -> None:
    found = Breaker()
    for second in range(3):
        found.died(float(second), [ONE])
    assert found.due(2 + OPEN) and not found.due(2 + OPEN + WITHIN) and found.next() is None
    assert found.died(300.0, [ONE]) is None


def test_a_change_of_the_routes_closes_it() -> None:
    found = Breaker()
    for second in range(3):
        found.died(float(second), [TWO])
    found.keep(table(slot("m@2", 100, "live")))
    assert found.open == (TWO,), "the table was pushed again as it was"
    found.keep(table(slot("m@2", 100, "live"), epoch=4))
    assert found.open == () and found.next() is None


def test_the_share_of_what_is_out_goes_to_the_live_version() -> None:
    found = Breaker()
    whole = table(slot("m@1", 75, "live"), slot("m@2", 25, "candidate"), slot("m@3", 10, "shadow"))
    assert found.applied(whole) is whole
    for second in range(3):
        found.died(float(second), [TWO])
    first, other = found.applied(whole).routes
    assert [(each.version, each.share) for each in first.slots] == [("m@1", 100), ("m@3", 10)]
    assert other == whole.routes[1]


def test_an_endpoint_of_which_nothing_is_left_says_so() -> None:
    found = Breaker()
    for second in range(3):
        found.died(float(second), [TWO])
    first, other = found.applied(table(slot("m@2", 100, "live"))).routes
    assert (first.slots, first.out) == ((), "m@2") and other.slots


@given(shares=st.lists(st.integers(1, 30), min_size=2, max_size=4), out=st.integers(0, 3))
def test_shares_always_add_up(shares: list[int], out: int) -> None:
    """Also those of a bandit, whose weights are dropped with the arm."""
    whole = [100 - sum(shares[1:]), *shares[1:]]
    slots = [slot(f"m@{each}", share, "live" if not each else "candidate") for each, share in enumerate(whole)]
    found = Breaker()
    suspect = Suspect("e", f"m@{out % len(slots)}", 3)
    for second in range(3):
        found.died(float(second), [suspect])
    route = found.applied(table(*slots, weights=tuple(share / 100 for share in whole))).routes[0]
    assert sum(each.share for each in route.slots) == 100 and route.weights == ()
    assert suspect.version not in {each.version for each in route.slots}


def test_turning_away_is_said_when_it_lasts_and_not_again_at_once() -> None:
    found = Shedding()
    said = [found.took(float(second), {1: second * 10, 2: second}) for second in range(1, 100)]
    first = next(index for index, count in enumerate(said) if count)
    assert first + 1 == LASTS + 1 and said[first] == 11 * 11
    again = next(index for index, count in enumerate(said) if count and index > first)
    assert again - first == AGAIN


def test_bursts_and_hosts_that_are_replaced_are_not_said() -> None:
    found = Shedding()
    count = 0
    for second in range(300):
        count += second % 20 < 5
        assert found.took(float(second), {1 if second < 150 else 2: count if second < 150 else 0}) == 0
