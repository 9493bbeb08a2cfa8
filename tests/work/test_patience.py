"""Patience: at its end after five failures, then one at a time until an answer comes."""

from __future__ import annotations

from quarterdeckd.work.patience import AWAY_FOR, FAILURES, Patience


def test_it_ends_at_the_fifth_failure_and_lets_one_try_after_a_pause() -> None:
    patience = Patience()
    for number in range(FAILURES):
        assert patience.wait(100.0 + number) == 0.0
        patience.failed(100.0 + number)
    last = 100.0 + FAILURES - 1
    assert patience.wait(last + 1) == AWAY_FOR - 1
    assert patience.wait(last + AWAY_FOR) == 0.0, "one tries"
    assert patience.wait(last + AWAY_FOR) == AWAY_FOR, "the others wait for what comes of it"
    patience.worked()
    assert (patience.failures, patience.wait(last + AWAY_FOR)) == (0, 0.0)


def test_an_answer_begins_the_count_again() -> None:
    patience = Patience()
    for _ in range(10):
        for _ in range(FAILURES - 1):
            patience.failed(0.0)
        patience.worked()
    assert patience.wait(0.0) == 0.0
