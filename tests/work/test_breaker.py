"""The breaker: open after five failures, then one at a time until an answer comes."""

from __future__ import annotations

from quarterdeckd.work.breaker import FAILURES, OPEN_FOR, Breaker


def test_it_opens_at_the_fifth_failure_and_lets_one_try_after_a_pause() -> None:
    breaker = Breaker()
    for number in range(FAILURES):
        assert breaker.wait(100.0 + number) == 0.0
        breaker.failed(100.0 + number)
    last = 100.0 + FAILURES - 1
    assert breaker.wait(last + 1) == OPEN_FOR - 1
    assert breaker.wait(last + OPEN_FOR) == 0.0, "one tries"
    assert breaker.wait(last + OPEN_FOR) == OPEN_FOR, "the others wait for what comes of it"
    breaker.worked()
    assert (breaker.failures, breaker.wait(last + OPEN_FOR)) == (0, 0.0)


def test_an_answer_begins_the_count_again() -> None:
    breaker = Breaker()
    for _ in range(10):
        for _ in range(FAILURES - 1):
            breaker.failed(0.0)
        breaker.worked()
    assert breaker.wait(0.0) == 0.0
