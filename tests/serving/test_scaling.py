"""How many hosts there are follows the load, and only that: simulated, a second a turn."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quarterdeckd.serving.scaling import DOWN_AFTER, LONG, UP_AGAIN, UP_WITHIN, Hosts, Scaling
from quarterdeckd.settings import least_and_most
from quarterstore.records.faults import Invalid

COMES_UP = 2
"""Seconds until a host that was started answers."""


def simulated(load: Callable[[int], float], seconds: int, least: int, most: int) -> list[tuple[int, int]]:
    """Hosts that each do a second of work a second, under so much of it: the changes as (second, hosts)."""
    scaling = Scaling(least, most)
    ready, coming, changes = least, -1, []
    for second in range(seconds):
        if second == coming:
            ready = scaling.wanted
        wanted = load(second)
        over = wanted > ready
        seen = Hosts(min(wanted, ready), LONG * 2 if over else 0, int((wanted - ready) * 100) if over else 0, ready)
        if (change := scaling.saw(float(second), seen)) is not None:
            changes.append((second, change.hosts))
            coming = second + COMES_UP
            ready = min(ready, change.hosts)
    return changes


@given(load=st.floats(0, 12), least=st.integers(1, 4), more=st.integers(0, 6))
def test_steady_load_finds_its_number_of_hosts_once_and_keeps_it(load: float, least: int, more: int) -> None:
    changes = simulated(lambda second: load, 1200, least, least + more)
    counts = [hosts for _, hosts in changes]
    assert counts == list(range(least + 1, least + 1 + len(counts))), "it only ever grew, one at a time"
    assert all(second < 100 for second, _ in changes), "and was done with it soon"
    found = least + len(counts)
    assert found == least + more or load / found < 0.75


@given(load=st.floats(0, 6), swing=st.floats(0, 0.15), seed=st.integers(0, 1000))
def test_load_that_swings_a_little_makes_nothing_flap(load: float, swing: float, seed: int) -> None:
    """Within a third, whatever the moment: once there are enough hosts there is no further change."""
    chance = random.Random(seed)
    found = [load * (1 + chance.uniform(-swing, swing)) for _ in range(1500)]
    changes = simulated(lambda second: found[second], 1500, 1, 10)
    assert [hosts for _, hosts in changes] == list(range(2, 2 + len(changes)))


@given(loads=st.lists(st.floats(0, 8), min_size=5, max_size=12), least=st.integers(1, 3))
def test_whatever_the_load_does_the_number_keeps_its_bounds_and_its_pauses(loads: list[float], least: int) -> None:
    changes = simulated(lambda second: loads[second // 100], 100 * len(loads), least, least + 3)
    before = least
    last = float("-inf")
    for second, hosts in changes:
        assert least <= hosts <= least + 3 and abs(hosts - before) == 1
        assert second - last >= (UP_AGAIN if hosts > before else DOWN_AFTER - 2)
        before, last = hosts, second


def test_a_step_up_has_another_host_within_seconds_and_silence_takes_it_away_after_minutes() -> None:
    changes = simulated(lambda second: 1.4 if 100 <= second < 200 else 0.0, 900, 1, 4)
    assert [hosts for _, hosts in changes] == [2, 1]
    (up, _), (down, _) = changes
    assert up - 100 <= UP_WITHIN + 1
    assert 200 + DOWN_AFTER - 2 <= down <= 200 + DOWN_AFTER + 2


def test_a_burst_of_two_seconds_starts_nothing() -> None:
    assert simulated(lambda second: 5.0 if second % 60 < 2 else 0.1, 600, 1, 4) == []


def test_a_queue_that_stays_long_is_reason_enough_though_no_host_is_busy() -> None:
    """The machine gives the hosts less than they would use."""
    scaling = Scaling(1, 2)
    changes = [scaling.saw(float(second), Hosts(0.3, LONG, 0, 1)) for second in range(6)]
    (change,) = [each for each in changes if each]
    assert change.hosts == 2 and "requests waited" in change.why


def test_nothing_is_decided_while_a_host_is_on_its_way() -> None:
    scaling = Scaling(2, 4)
    assert [scaling.saw(float(second), Hosts(1.0, 0, 0, 1)) for second in range(30)] == [None] * 30


@pytest.mark.parametrize(("said", "meant"), [(1, (1, 1)), ("2", (2, 2)), ("1:4", (1, 4)), ("64:64", (64, 64))])
def test_hosts_are_a_number_or_two(said: int | str, meant: tuple[int, int]) -> None:
    assert least_and_most(said) == meant


@pytest.mark.parametrize("said", [0, -1, 65, "0:3", "3:2", "1:", ":2", "a", "1:2:3", "1.5", "", "\u0663"])
def test_other_numbers_of_hosts_are_refused(said: int | str) -> None:
    with pytest.raises(Invalid, match=r"hosts: got .*, expected MIN or MIN:MAX, 1 to 64"):
        least_and_most(said)
