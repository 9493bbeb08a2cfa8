"""The clocks of the machine: what lasts is counted by the one that nobody sets."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from quarterdeckd.api.clock import Clock
from quarterstore.records.moments import Moment

TURNS = st.lists(st.tuples(st.integers(0, 10**6), st.integers(-(10**9), 10**9)), max_size=8)


class Clocks:
    """Both clocks, set by hand."""

    def __init__(self) -> None:
        self.wall, self.up = 2e9, 1000.0
        self.clock = Clock(lambda: self.wall, lambda: self.up)

    def turn(self, seconds: float, jump: float) -> None:
        """Let time pass, then put the wall clock ahead."""
        self.wall += seconds + jump
        self.up += seconds


@given(TURNS)
def test_no_jump_moves_what_lasts(turns: list[tuple[int, int]]) -> None:
    clocks = Clocks()
    then = clocks.clock.now().moment
    for seconds, jump in turns:
        clocks.turn(seconds, jump)
    assert clocks.clock.now().since(then) == sum(seconds for seconds, _ in turns)
    assert clocks.clock.now().moment.at == clocks.wall


@given(TURNS, st.integers(-(10**9), 10**9))
def test_of_a_moment_before_the_machine_began_the_journal_counts_up_to_its_start(
    turns: list[tuple[int, int]], before: int
) -> None:
    clocks = Clocks()
    began = clocks.wall
    for seconds, jump in turns:
        clocks.turn(seconds, jump)
    passed = sum(seconds for seconds, _ in turns)
    for then in (Moment(began - before), Moment(began - before, 1e9, "another run of it")):
        assert clocks.clock.now().since(then) == max(0, before) + passed


def test_a_moment_of_this_machine_counts_over_a_restart_of_the_daemon() -> None:
    clocks = Clocks()
    then = clocks.clock.now().moment
    clocks.turn(60.0, -1e6)
    again = Clock(lambda: clocks.wall, lambda: clocks.up)
    assert again.now().since(then) == 60.0
    ahead = replace(then, up=then.up + 1e6)  # as no clock of this machine showed it
    assert again.now().since(ahead) == pytest.approx(0.0)


def test_the_true_clocks_go_on() -> None:
    clock = Clock()
    one, two = clock.now(), clock.now()
    assert one.moment.boot == two.moment.boot != "" and 0 <= two.since(one.moment) < 60
