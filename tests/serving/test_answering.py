"""What a stream answers with: the doors of a host, one message after the other in the thread that takes them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
import zmq

from quarterdeckd.serving import last_routes
from quarterdeckd.serving.answering import Answering
from quarterdeckd.serving.copies import Copies
from quarterdeckd.serving.load import QUEUE
from quarterstore.records.deployments import BatchingRule, Route, RoutingTable, Slot
from quarterstore.records.places import Home
from quarterstore.records.streams import StreamSpec

ROW = b'{"rows":[{"f0":1,"f1":2,"f2":3,"f3":4}]}'
TENSORS = b'{"inputs":[{"name":"x","shape":[1,4],"datatype":"FP32","data":[1,2,3,4]}]}'
ALONE = BatchingRule()


def answering(home: Home, slot: Slot, tmp_path: Path, batching: BatchingRule = ALONE) -> Answering:
    """A stream's model by the last routes of a home."""
    route = Route(endpoint="small", epoch=1, slots=(slot,), salt="s", batching=batching)
    last_routes.keep(home, RoutingTable(epoch=1, routes=(route,)))
    about = {"version": "", "model": "", "digest": "", "signature": None, "input": "", "output": ""}
    spec = StreamSpec(stream="stream-1", endpoint="small", waiting=10, window=1000, **about)  # type: ignore[arg-type]
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    return Answering(spec, home, Copies(context, home.shadow_address))


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A job's process runs in its folder, where its status file lies."""
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("body", [ROW, TENSORS])
def test_a_message_is_answered_by_the_door_that_its_body_is_for(
    home: Home, slot: Callable[..., Slot], tmp_path: Path, body: bytes
) -> None:
    """No loop runs around the thread that takes messages, and the doors need one: it once answered nothing at all."""
    found = answering(home, slot("small@1"), tmp_path).answer(body)
    assert found.status == 200, found.body
    assert b"small@1" in found.body + found.headers


def test_more_messages_than_a_host_lets_wait_are_all_answered(
    home: Home, slot: Callable[..., Slot], tmp_path: Path
) -> None:
    """A stream takes one message at a time: however many came, none of them waits here, so none is turned away."""
    model = answering(home, slot("small@1"), tmp_path)
    assert {model.answer(ROW).status for _ in range(3 * QUEUE)} == {200}


def test_an_endpoint_that_batches_answers_a_lone_message_as_one_that_does_not(
    home: Home, slot: Callable[..., Slot], tmp_path: Path
) -> None:
    """Nothing comes to be run with it, and it waits for nothing: the rule would let it wait for a minute."""
    rule = BatchingRule(max_batch=16, max_wait_ms=60_000.0)
    alone, batched = (answering(home, slot("small@1"), tmp_path, each) for each in (ALONE, rule))
    assert _outputs(alone.answer(TENSORS).body) == _outputs(batched.answer(TENSORS).body)


def test_what_is_wrong_with_a_message_is_its_answer(home: Home, slot: Callable[..., Slot], tmp_path: Path) -> None:
    """And the next one is answered as if it had not come."""
    model = answering(home, slot("small@1"), tmp_path)
    assert model.answer(b"[1, 2").status == 400
    assert model.answer(ROW).status == 200


def _outputs(body: bytes) -> object:
    return [(each["name"], each["data"]) for each in msgspec.json.decode(body)["outputs"]]
