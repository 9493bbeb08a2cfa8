"""Dynamic batching: never more rows than allowed, each request its own answer and its own fault, at every door."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from quarterdeckd.serving import batching
from quarterdeckd.serving.batching import Batches
from quarterdeckd.serving.protocol import MESSAGES, SERVICE
from quarterdeckd.serving.router import Arm, Routes
from quarterdeckd.serving.running import Ran
from quarterdeckd.serving.status import Status, fresh
from quarterstore.records.deployments import BatchingRule, Route, RoutingTable, Slot
from quarterstore.records.registry import Signature, Tensor

ANY = Signature(
    inputs=(Tensor(name="x", datatype="FP32", shape=(-1, -1)),),
    outputs=(Tensor(name="y", datatype="FP32", shape=(-1,)),),
)


class Bench:
    """Arms over real sessions, and the rows of every run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        fresh(folder / "status")
        self.status = Status(folder / "status")
        self.runs: list[int] = []

    def batches(self, made: Any, data: bytes, rule: BatchingRule, *, quick: bool = True) -> Batches:
        """Those of a version; one that is not `quick` runs in threads."""
        routes = Routes()
        slot = made.slot_of(self.folder, "m@1", data, ANY)
        routes.hold(routes.load(slot))
        routes.swap(RoutingTable(epoch=1, routes=(Route("e", 1, (slot,), "s", batching=rule),)))
        arm: Arm = routes.ways["e"].arms[0]
        loaded = arm.loaded
        plain = loaded.run

        def run(feed: Any, names: list[str] | None = None) -> list[Any]:
            self.runs.append(len(next(iter(feed.values()))))
            return plain(feed, names)

        loaded.run = run  # type: ignore[method-assign]
        loaded.expected = lambda rows: 0.0 if quick else 1.0  # type: ignore[method-assign]
        return Batches(loaded, slot.version, arm.number, rule, self.status)


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    """A folder of its own."""
    with tempfile.TemporaryDirectory(prefix="qds", dir="/tmp") as folder:
        yield Bench(Path(folder))


def sums() -> bytes:
    """y = the sum of each row, whatever its width."""
    axes = numpy_helper.from_array(np.array([1], np.int64), "axes")
    return one_node(helper.make_node("ReduceSum", ["x", "axes"], ["y"], keepdims=0), [axes])


def one_node(node: Any, constants: list[Any], kind: int = TensorProto.FLOAT) -> bytes:
    """A model of one operator."""
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", kind, ["n", "m"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n"] if node.op_type == "ReduceSum" else ["n", "m"])],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    return bytes(model.SerializeToString())


async def ran(batches: Batches, *arrays: Any) -> list[Ran | None]:
    """Several requests in one turn of the loop."""
    for array in arrays:
        assert batches.takes({"x": array}, len(array))
    return list(await asyncio.gather(*(batches.run({"x": array}, len(array)) for array in arrays)))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    most=st.integers(2, 9),
    quick=st.booleans(),
    requests=st.lists(st.tuples(st.integers(1, 9), st.integers(1, 3), st.booleans()), min_size=1, max_size=25),
)
def test_no_batch_has_more_rows_than_allowed_and_each_request_gets_its_own_answer(
    bench: Bench, made: Any, most: int, quick: bool, requests: list[tuple[int, int, bool]]
) -> None:
    """Whatever the rows, widths and moments: turns of the loop lie between some of the requests."""

    async def asked() -> None:
        batches = bench.batches(made, sums(), BatchingRule(max_batch=most, max_wait_ms=1.0), quick=quick)
        bench.runs.clear()
        answers, expected = [], []
        for number, (rows, width, turn) in enumerate(requests):
            array = np.arange(rows * width, dtype=np.float32).reshape(rows, width) + 100 * number
            if not batches.takes({"x": array}, rows):
                assert rows > most
                continue
            answers.append(batches.run({"x": array}, rows))
            expected.append(array.sum(axis=1))
            if turn:
                await asyncio.sleep(0)
        for found, wanted in zip(await asyncio.gather(*answers), expected, strict=True):
            assert found is not None and found.error is None
            assert found.found[0].tolist() == wanted.tolist()

    asyncio.run(asked())
    assert all(rows <= most for rows in bench.runs), bench.runs


async def test_requests_of_one_turn_are_one_run(bench: Bench, made: Any) -> None:
    batches = bench.batches(made, sums(), BatchingRule(max_batch=8, max_wait_ms=1000))
    row = np.ones((1, 2), np.float32)
    await ran(batches, row, row)  # the first batch is run apart as well
    bench.runs.clear()
    await ran(batches, row, row, row)
    assert bench.runs == [3]


async def test_a_lone_request_waits_for_nobody(bench: Bench, made: Any) -> None:
    """The rule would let it wait for ten seconds."""
    for quick in (True, False):
        batches = bench.batches(made, sums(), BatchingRule(max_batch=8, max_wait_ms=10_000), quick=quick)
        row = np.ones((1, 2), np.float32)
        began = time.perf_counter()
        await ran(batches, row)
        assert time.perf_counter() - began < 9.0


async def test_a_run_under_way_is_waited_for_no_longer_than_allowed(bench: Bench, made: Any, tmp_path: Path) -> None:
    """The second is not started with the first, nor held until that is done."""
    batches = bench.batches(made, made.loop_bytes(300_000), BatchingRule(max_batch=8, max_wait_ms=5), quick=False)
    row = np.ones((1, 4), np.float32)
    first = batches.run({"x": row}, 1)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert batches._running == 1
    second = batches.run({"x": row}, 1)
    assert batches._running == 1
    await made.until(lambda: batches._running == 2)
    assert not first.done(), "the model is not slow enough for this test"
    await asyncio.gather(first, second)


async def test_the_fault_of_one_request_is_not_that_of_its_mates(bench: Bench, made: Any) -> None:
    """Log of a negative number is no number; a name beyond the table makes the whole run fail."""
    log = one_node(helper.make_node("Log", ["x"], ["y"]), [])
    batches = bench.batches(made, log, BatchingRule(max_batch=8))
    good, bad = np.ones((2, 2), np.float32), -np.ones((1, 2), np.float32)
    for _ in range(2):
        found = await ran(batches, good, bad, good)
        assert [each.error for each in found] == [None, "the model's answer is not finite", None]  # type: ignore[union-attr]
    table = numpy_helper.from_array(np.arange(4, dtype=np.float32), "table")
    gather = one_node(helper.make_node("Gather", ["table", "x"], ["y"]), [table], TensorProto.INT64)
    batches = bench.batches(made, gather, BatchingRule(max_batch=8))
    known, unknown = np.array([[1, 2]]), np.array([[1, 99]])
    for _ in range(2):
        found = await ran(batches, known, unknown, known)
        assert [each.error for each in found] == [None, "the model raised an error on this input", None]  # type: ignore[union-attr]
        assert found[2].found[0].tolist() == [[1.0, 2.0]]  # type: ignore[union-attr]


async def test_a_model_that_looks_at_the_rows_beside_is_not_batched(bench: Bench, made: Any) -> None:
    """A softmax down the batch: strangers' rows would change the answer."""
    batches = bench.batches(
        made, one_node(helper.make_node("Softmax", ["x"], ["y"], axis=0), []), BatchingRule(max_batch=8)
    )
    for each in await ran(batches, np.zeros((1, 2), np.float32), np.zeros((1, 2), np.float32)):
        assert each is not None and each.found[0].tolist() == [[1.0, 1.0]]
    assert not batches.takes({"x": np.zeros((1, 2), np.float32)}, 1)


async def test_a_batch_that_hangs_is_given_up(bench: Bench, made: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batching, "RUN_WITHIN", 0.05)
    batches = bench.batches(made, made.loop_bytes(300_000), BatchingRule(max_batch=8), quick=False)
    row = np.ones((1, 4), np.float32)
    assert await ran(batches, row, row) == [None, None]


async def test_every_door_and_both_arms_of_a_canary_answer_as_without_batches(
    both: Any, slot: Callable[..., Slot], made: Any
) -> None:
    """Forty requests at once over REST, rows by name and gRPC; each says which version answered, by which it is
    checked."""
    slots = (slot("m@1", share=50), slot("m@2", bias=7.0, share=50, role="candidate"))
    rule = BatchingRule(max_batch=8, max_wait_ms=20)
    route = Route(endpoint="e", epoch=1, slots=slots, salt="s", batching=rule)
    state = await both.push(RoutingTable(epoch=1, routes=(route,)))
    bias = {"m@1": 0.0, "m@2": 7.0}
    async with (
        httpx.AsyncClient(base_url=state.address, timeout=30) as client,
        grpc.aio.insecure_channel(state.grpc) as channel,
    ):
        call = channel.unary_unary(
            f"/{SERVICE}/ModelInfer",
            request_serializer=lambda each: each.SerializeToString(),
            response_deserializer=MESSAGES["ModelInferResponse"].FromString,
        )

        async def rest(value: float) -> tuple[str, float]:
            tensor = {"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [value] * 4}
            answer = (await client.post("/v2/models/e/infer", json={"inputs": [tensor]})).json()
            return answer["model_version"], answer["outputs"][0]["data"][0]

        async def plain(value: float) -> tuple[str, float]:
            row = {f"f{index}": value for index in range(4)}
            answer = (await client.post("/v1/predict/e", json={"rows": [row, row]})).json()
            assert answer["rows"][0] == answer["rows"][1]
            return answer["version"], answer["rows"][0]["y"][0]

        async def rpc(value: float) -> tuple[str, float]:
            message = MESSAGES["ModelInferRequest"](model_name="e")
            message.inputs.add(name="x", datatype="FP32", shape=[1, 4]).contents.fp32_contents.extend([value] * 4)
            answer = await call(message)
            return answer.model_version, answer.outputs[0].contents.fp32_contents[0]

        values = [float(number) for number in range(40)]
        answers = await asyncio.gather(*((rest, plain, rpc)[int(value) % 3](value) for value in values))
        for value, (version, answer) in zip(values, answers, strict=True):
            assert answer == pytest.approx(value + bias[version])
        assert {version for version, _ in answers} == set(bias)


def test_another_rule_of_the_same_epoch_loses_no_counts(made: Any, tmp_path: Path) -> None:
    """The daemon's tallies go up only; a canary is judged by all of its epoch."""
    routes = Routes()
    slot = made.slot_of(tmp_path, "m@1", sums(), ANY)
    routes.hold(routes.load(slot))
    for rule, epoch, requests in ((BatchingRule(), 1, 1), (BatchingRule(max_batch=8), 1, 2), (BatchingRule(), 2, 1)):
        routes.swap(RoutingTable(epoch=epoch, routes=(Route("e", epoch, (slot,), "s", batching=rule),)))
        way = routes.ways["e"]
        way.arms[0].count(1.0, failed=True)
        way.refused += 1
        counts = way.arms[0].counts()
        assert (counts.requests, counts.errors, sum(counts.histogram), way.refused) == (requests,) * 4


@pytest.mark.parametrize("quick", [True, False])
async def test_an_error_of_our_own_reaches_whoever_waits_and_the_next_batch_runs(
    bench: Bench, made: Any, monkeypatch: pytest.MonkeyPatch, quick: bool
) -> None:
    """A caller who hung up meanwhile once left its mates waiting, and every batch after them."""
    batches = bench.batches(made, sums(), BatchingRule(max_batch=8, max_wait_ms=1000), quick=quick)
    row = np.ones((1, 2), np.float32)
    with monkeypatch.context() as patch:
        patch.setattr(batching, "checked", lambda found: 1 / 0)
        gone, waits = (batches.run({"x": row}, 1) for _ in range(2))
        gone.cancel()
        with pytest.raises(ZeroDivisionError):
            await asyncio.wait_for(waits, 5)
    [found] = await asyncio.wait_for(ran(batches, row), 5)
    assert found is not None and found.found[0].tolist() == [2.0]


def test_a_request_that_began_before_the_rule_changed_counts_for_who_goes_on() -> None:
    slot = Slot("m@1", "/none", "0", Signature(inputs=(), outputs=()), 100, "live")
    route = Route(endpoint="m", epoch=1, slots=(slot,), salt="s")
    before, after = Arm(route, slot, None, 1), Arm(route, slot, None, 2)  # type: ignore[arg-type]
    before.count(1.0, failed=False)
    after.go_on(before)
    before.count(1.0, failed=True)
    assert (after.requests, after.errors, sum(after.histogram), after.recent_errors) == (2, 1, 2, 1)
