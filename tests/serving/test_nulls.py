"""Nulls that were read by keys: what a version makes of them is its caller's affair, what of values its own."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import zmq
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from quarterdeckd.http.server import Request
from quarterdeckd.serving import rpc, status
from quarterdeckd.serving.copies import Copies
from quarterdeckd.serving.inference import Inference
from quarterdeckd.serving.nulls import blamed
from quarterdeckd.serving.protocol import MESSAGES
from quarterdeckd.serving.recorder import Recorder, read_segment
from quarterdeckd.serving.router import Routes
from quarterdeckd.serving.status import Status
from quarterdeckd.serving.web import Web
from quarterstore.records import features, online
from quarterstore.records.deployments import BatchingRule, Route, RoutingTable, Slot
from quarterstore.records.registry import Feature, Signature, Tensor
from tests.usage import Rows, generation

KEYS = (features.Key(name="customer", kind="integer"),)
HAS = (features.Feature(name="minutes", kind="number"), features.Feature(name="calls", kind="integer"))
FLOAT, WHOLE = TensorProto.FLOAT, TensorProto.INT64
X, N = Tensor("x", "FP32", (-1, 2)), Tensor("n", "INT64", (-1, 1))
MINUTES, AGE = Feature("minutes", "number", "x", 0), Feature("age", "number", "x", 1)


def takes(*tensors: Tensor, named: tuple[Feature, ...]) -> Signature:
    return Signature(inputs=tensors, outputs=(Tensor("y", "FP32", (-1, 2)),), features=named)


SIGNATURE = takes(X, named=(MINUTES, AGE))
OPTIONAL = takes(X, named=(msgspec.structs.replace(MINUTES, optional=True), AGE))
COUNTS = takes(X, N, named=(MINUTES, AGE, Feature("calls", "number", "n")))


class Served:
    """A host without its sockets: the real session, a real generation, the real ways in."""

    def __init__(self, folder: Path, slots: tuple[Slot, ...], rule: BatchingRule) -> None:
        status.fresh(folder / "status-0")
        now = time.time()
        ages = {1: 0.0, 2: 86_400.0}
        rows: Rows = {(customer,): (round((now - age) * 1e6), [4.0, 3]) for customer, age in ages.items()}
        view = generation(folder / "g", KEYS, HAS, rows, now)
        self.routes = Routes()
        for slot in slots:
            self.routes.hold(self.routes.load(slot))
        route = Route("e", 1, slots, "s", batching=rule)
        self.routes.swap(RoutingTable(epoch=1, routes=(route,), views=(view,)))
        self._context = zmq.Context[Any]()
        self._copies = Copies(self._context, f"ipc://{folder}/shadow")
        self.recorder = Recorder(folder / "p", 1)
        marks = Status(folder / "status-0")
        self._inference = Inference(self.routes, self.recorder, marks, self._copies, lambda: None)
        self._web = Web(self.routes, self._inference, lambda: True)

    async def post(self, path: str, body: Any) -> tuple[int, Any]:
        """Status and body of an answer."""
        request = Request("POST", path, {}, msgspec.json.encode(body), time.perf_counter())
        found: Any = self._web.handle(request)
        answer = await found if inspect.isawaitable(found) else found
        return answer.status, msgspec.json.decode(answer.body)

    async def rows(self, *rows: dict[str, Any]) -> tuple[int, Any]:
        """An answer to rows by name."""
        return await self.post("/v1/predict/e", {"rows": rows})

    @property
    def counts(self) -> tuple[int, int, int]:
        """Requests that were wrong, and of the first version those it answered and those it failed on."""
        way = self.routes.ways["e"]
        return way.refused, way.arms[0].requests, way.arms[0].errors

    def call(self, message: Any) -> Any:
        """A ModelInfer call."""
        data = message.SerializeToString()
        return self._inference.answer(rpc.Infer(data, {}), len(data), time.perf_counter())

    def close(self) -> None:
        self._copies.close()
        self._context.term()


Serve = Callable[..., Served]
KNOWN, STRANGE = {"customer": 1, "age": 1}, {"customer": 9, "age": 1}
"""Rows by keys: of an entity that is there, and of one that is not."""


@pytest.fixture
def serve(tmp_path: Path, made: Any) -> Iterator[Serve]:
    """Serves one version of this signature whose y is an operator of x, or that of a file."""
    begun: list[Served] = []

    def begin(
        signature: Signature = SIGNATURE, operator: str = "Identity", data: bytes = b"", rule: Any = None, **about: Any
    ) -> Served:
        inputs = [("x", FLOAT, ["n", 2]), *([("n", WHOLE, ["n", 1])] if signature is COUNTS else [])]
        nodes = [helper.make_node(operator, ["x"], ["y"])]
        if signature is COUNTS:
            nodes = [
                helper.make_node("Cast", ["n"], ["c"], to=FLOAT),
                helper.make_node("Add", ["x", "c"], ["y"]),
            ]
        whole = data or made.graph_bytes(nodes, inputs, [("y", FLOAT, ["n", 2])])
        slot = made.slot_of(tmp_path, "m@1", whole, signature)
        needs = online.Needed(name="usage", version=1, features=("minutes", "calls")[: len(signature.inputs)])
        slot = msgspec.structs.replace(slot, views=(needs,), **about)
        folder = tmp_path / str(len(begun))
        folder.mkdir()
        begun.append(Served(folder, (slot,), rule or BatchingRule()))
        return begun[-1]

    yield begin
    for each in begun:
        each.close()


UNKNOWN = (
    "features: got null for minutes in rows[1] (usage@1: customer=9 NOT_FOUND), expected a value: m@1 takes no null "
    "there; a row may give the value itself"
)


@pytest.mark.parametrize("rule", [BatchingRule(), BatchingRule(max_batch=8, max_wait_ms=1.0)])
async def test_a_key_that_is_not_known_is_refused_by_row_and_is_no_error_of_the_version(
    serve: Serve, tmp_path: Path, rule: BatchingRule
) -> None:
    served = serve(rule=rule)
    found = await asyncio.gather(served.rows(KNOWN, STRANGE), served.rows({"customer": 1, "age": 5}))
    (refused, told), (answered, body) = found
    assert (refused, told["error"], answered, body["rows"]) == (409, UNKNOWN, 200, [{"y": [4.0, 5.0]}])
    assert told["features"]["usage@1"]["statuses"] == ["PRESENT", "NOT_FOUND"] and "id" not in told
    assert served.counts == (1, 1, 0)
    served.recorder.tend(close=True)
    [segment] = tmp_path.glob("*/p/*.done")
    assert [each.status for each in read_segment(segment)] == [200], "it is no prediction"


async def test_what_is_too_old_is_refused_with_its_age_and_at_v2_as_well(serve: Serve) -> None:
    served = serve()
    body = {"inputs": [], "parameters": {"keys": [{"customer": 2, "age": 1}]}}
    refused, told = await served.post("/v2/models/e/infer", body)
    assert refused == 409 and "minutes in rows[0] (usage@1: customer=2 EXPIRED, 86400 s old)" in told["error"]
    assert served.counts == (1, 0, 0)
    body["parameters"]["keys"][0] |= {"customer": 1}  # type: ignore[index]
    answered, told = await served.post("/v2/models/e/infer", body)
    assert (answered, told["outputs"][0]["data"]) == (200, [4.0, 1.0])


async def test_of_many_rows_some_are_named_and_the_others_counted(serve: Serve) -> None:
    served = serve()
    _, told = await served.rows(*({"customer": number, "age": 1} for number in range(3, 9)))
    assert "rows[2] (usage@1: customer=5 NOT_FOUND), for 3 more rows, expected" in told["error"]


async def test_a_version_that_fails_on_whole_rows_has_an_error_also_beside_a_null(serve: Serve) -> None:
    """The logarithm of what is below zero is no number, whoever is asked for beside it."""
    served = serve(operator="Log")
    failed, told = await served.rows({"customer": 1, "age": -1}, STRANGE)
    assert (failed, served.counts) == (500, (0, 1, 1)) and "not finite" in told["error"]
    refused, _ = await served.rows(KNOWN, {"customer": 9, "age": -1})
    assert (refused, served.counts) == (409, (1, 1, 1)), "the row with a null is what it fails on"


async def test_a_null_that_the_signature_takes_is_a_promise_of_the_version(serve: Serve) -> None:
    served = serve(OPTIONAL)
    failed, _ = await served.rows(STRANGE)
    assert (failed, served.counts) == (500, (0, 1, 1))


async def test_an_error_that_a_null_raises_is_the_callers_and_one_that_values_raise_the_versions(
    serve: Serve, made: Any
) -> None:
    """x picks a row of a table by minutes: NaN, and 4, are beyond it."""
    for rows, expected, counts in ((5, 409, (1, 0, 0)), (2, 500, (0, 1, 1))):
        table = numpy_helper.from_array(np.zeros((rows, 2), np.float32), "t")
        nodes = [
            helper.make_node("Slice", ["x", "zero", "one", "one"], ["first"]),
            helper.make_node("Cast", ["first"], ["at"], to=WHOLE),
            helper.make_node("Squeeze", ["at", "one"], ["flat"]),
            helper.make_node("Gather", ["t", "flat"], ["y"]),
        ]
        places = [numpy_helper.from_array(np.array([each], np.int64), name) for name, each in (("zero", 0), ("one", 1))]
        data = made.graph_bytes(nodes, [("x", FLOAT, ["n", 2])], [("y", FLOAT, ["n", 2])], [table, *places])
        served = serve(data=data)
        found, _ = await served.rows(KNOWN, STRANGE)
        assert (found, served.counts) == (expected, counts)


async def test_where_whole_numbers_are_taken_a_null_is_refused_before_the_model_runs(serve: Serve) -> None:
    served = serve(COUNTS)
    refused, told = await served.rows({"customer": 9, "age": 1, "minutes": 1})
    assert refused == 409 and "null for calls in rows[0] (usage@1: customer=9 NOT_FOUND)" in told["error"]
    wrong, told = await served.rows({"customer": 1, "age": 1, "calls": "many"})
    assert wrong == 400 and told["error"].startswith('rows[0].calls: got "many" (str), expected a number')
    answered, body = await served.rows({"customer": 9, "age": 1, "minutes": 1, "calls": 2})
    assert (answered, body["rows"], served.counts) == (200, [{"y": [3.0, 3.0]}], (2, 1, 0))


async def test_a_row_without_keys_gives_every_value_itself(serve: Serve) -> None:
    served = serve()
    for row in ({"age": 1}, {"age": 1, "minutes": None}):
        refused, told = await served.rows(KNOWN, row)
        assert (refused, told["error"]) == (
            400,
            "rows[1].minutes: got no value, expected one, or the keys it is read by",
        )
    assert served.counts == (2, 0, 0)


async def test_keys_over_grpc_are_refused_in_one_line(serve: Serve) -> None:
    message = MESSAGES["ModelInferRequest"](model_name="e")
    message.parameters["keys"].string_param = '[{"customer": 1}]'
    refusal = serve().call(message)
    assert isinstance(refusal, rpc.Refusal)
    words = "got keys over gRPC, expected tensors, or keys over REST (/v1/predict, /v2)"
    assert refusal.fault.line() == f"parameters.keys: {words}"


async def test_a_shadow_is_shown_no_null_that_its_signature_may_not_take(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, made: Any
) -> None:
    nodes = [helper.make_node("IsNaN", ["x"], ["b"]), helper.make_node("Cast", ["b"], ["y"], to=FLOAT)]
    served = serve(data=made.graph_bytes(nodes, [("x", FLOAT, ["n", 2])], [("y", FLOAT, ["n", 2])]))
    served.routes.ways["e"].shadow = served.routes.ways["e"].arms[0].slot
    copied: list[Any] = []
    monkeypatch.setattr(Copies, "later", lambda *about: copied.append(about))
    answered, _ = await served.rows(STRANGE)
    assert (answered, copied) == (200, [])
    await served.rows(KNOWN)
    assert len(copied) == 1


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=12))
def test_nulls_are_blamed_exactly_where_no_whole_row_that_stands_for_all_fails(rows: list[tuple[bool, bool]]) -> None:
    """Of each row whether it has a null and whether a model fails on it; a row of nulls may fail or not."""
    nulls = {number: ["a"] for number, (null, _) in enumerate(rows) if null}
    fails = {number for number, (_, bad) in enumerate(rows) if bad}
    ran: list[int] = []

    def run(feed: Any) -> bool:
        ran.extend(feed["x"].tolist())
        return not fails.isdisjoint(ran)

    found = blamed(nulls, {"x": np.arange(len(rows))}, len(rows), run)
    whole = set(range(len(rows))) - set(nulls)
    assert found == (not whole or not fails & whole)
    assert (len(ran), set(ran)) == ((len(rows), whole) if whole else (0, set()))
