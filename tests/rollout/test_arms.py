"""Who gets which version: sticky over restarts, nested over steps, in the shares asked for."""

from __future__ import annotations

import math
import subprocess
import sys
import timeit

from hypothesis import given
from hypothesis import strategies as st

from quarterdeckd.rollout.arms import arm

LADDER = (5, 10, 25, 50, 100)
KNOWN = "0001111010011010011010100100110100110110"


def split(share: int) -> tuple[int, int]:
    return 100 - share, share


def test_a_key_falls_on_the_same_arm_in_any_process() -> None:
    """A restart or a second host must not move a user; the arms written down here must hold for ever."""
    keys = [f"user-{i}" for i in range(40)]
    here = "".join(str(arm("salt", key, (50, 50))) for key in keys)
    code = (
        "from quarterdeckd.rollout.arms import arm\n"
        "print(''.join(str(arm('salt', f'user-{i}', (50, 50))) for i in range(40)))"
    )
    there = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    assert here == there == KNOWN


@given(st.text(max_size=20), st.one_of(st.binary(max_size=60), st.text(max_size=60)))
def test_whoever_is_in_the_candidate_stays_in_it_as_it_grows(salt: str, key: str | bytes) -> None:
    salt = salt.encode("utf-8", "ignore").decode()
    arms = [arm(salt, key, split(share)) for share in LADDER]
    assert arms == sorted(arms) and arms[-1] == 1
    assert arm(salt, key, split(0)) == 0


@given(st.binary(max_size=30), st.lists(st.integers(0, 25), min_size=1, max_size=4))
def test_every_key_has_an_arm_that_has_traffic(key: bytes, others: list[int]) -> None:
    shares = (100 - sum(others), *others)
    index = arm("s", key, shares)
    assert 0 <= index < len(shares) and (shares[index] > 0 or index == 0)


def test_text_and_its_bytes_are_the_same_key() -> None:
    assert all(arm("s", f"é{i}", (50, 50)) == arm("s", f"é{i}".encode(), (50, 50)) for i in range(100))


def test_the_shares_are_within_binomial_limits() -> None:
    """Five standard deviations: one false failure in millions, and the keys are fixed anyway."""
    n = 40_000
    for share in LADDER:
        count = sum(arm("deploy-1", f"key-{i}", split(share)) for i in range(n))
        p = share / 100
        assert abs(count - n * p) <= 5 * math.sqrt(n * p * (1 - p))


def test_another_salt_deals_anew() -> None:
    """Two rollouts must not try their candidates on the same people: of 50 % in one, 50 % are in the other."""
    n = 20_000
    both = sum(arm("one", f"{i}", (50, 50)) and arm("two", f"{i}", (50, 50)) for i in range(n))
    assert abs(both - n / 4) <= 5 * math.sqrt(n * 3 / 16)


def test_dealing_is_cheap() -> None:
    """1.2 us where measured; the bound leaves room for a busy machine."""
    best = min(timeit.repeat(lambda: arm("a-salt-of-16-chr", "user-12345", (95, 5)), number=5000, repeat=7)) / 5000
    assert best < 10e-6, f"{best * 1e6:.2f} us"
