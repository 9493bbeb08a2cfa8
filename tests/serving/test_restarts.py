"""Which deaths of hosts are made up for at once, and which are paused."""

from __future__ import annotations

from quarterdeckd.serving.restarts import MANY, PAUSE, WITHIN, Restarts


def test_hosts_that_had_answered_are_replaced_at_once_however_many_die() -> None:
    found = Restarts()
    for second in range(20):
        found.died(float(second), proven=True)
    assert found.pause(20.0) == 0.0 and found.many(20.0) == 20


def test_hosts_that_die_before_they_answer_are_paused() -> None:
    """Started again at once they would do nothing but load the machine."""
    found = Restarts()
    for second in range(MANY - 1):
        found.died(float(second), proven=False)
    assert found.pause(2.0) == 0.0 and found.many(2.0) == 0
    found.died(2.0, proven=False)
    assert found.pause(2.0) == PAUSE and found.pause(2.0 + PAUSE) == 0.0


def test_deaths_of_more_than_a_minute_ago_count_no_more() -> None:
    found = Restarts()
    for _ in range(MANY):
        found.died(0.0, proven=False)
    assert found.pause(WITHIN) == 0.0 and found.many(WITHIN) == 0
