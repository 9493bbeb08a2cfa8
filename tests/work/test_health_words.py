"""How serving is said in one line, on the bridge, by `qd status` and by `qd doctor`."""

from __future__ import annotations

import pytest

from quarterdeckd.work.health import serves, serving_words
from quarterstore.records.serving import HostState, ServingState

HOST = HostState(pid=1, epoch=1, started=0.0)


@pytest.mark.parametrize(
    ("state", "stopped", "words"),
    [
        ({"hosts": ()}, False, "nothing is served"),
        ({"hosts": (HOST,)}, True, "stopped by a person (qd serving start)"),
        ({"hosts": (HOST,)}, False, "1 host at http://here:1"),
        ({"hosts": (HOST, HOST), "least": 2, "most": 2}, False, "2 hosts at http://here:1"),
        ({"hosts": (HOST, HOST), "most": 4}, False, "2 hosts at http://here:1 (1 to 4 by load)"),
        ({"hosts": (HOST,), "out": ("e: m@1",)}, False, "1 host at http://here:1; out of traffic: e: m@1"),
    ],
)
def test_a_line_says_what_serves_and_what_is_out(state: dict[str, object], stopped: bool, words: str) -> None:
    found = ServingState(launcher=1, address="http://here:1", epoch=1, **state)  # type: ignore[arg-type]
    assert serving_words(found, stopped) == words


@pytest.mark.parametrize(
    ("state", "well"),
    [
        ({"hosts": (HOST,)}, True),
        ({"hosts": ()}, False),
        ({"hosts": (HOST,), "out": ("e: m@1",)}, False),
        ({"hosts": (HOST,), "error": "the serving launcher did not answer within 40 s"}, False),
    ],
)
def test_trouble_with_serving_is_none_of_what_is_well(state: dict[str, object], well: bool) -> None:
    """`qd doctor` printed the trouble beside True, and ended with 0."""
    assert serves(ServingState(launcher=1, address="http://here:1", epoch=1, **state)) is well  # type: ignore[arg-type]
