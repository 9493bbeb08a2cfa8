"""Whatever bytes come, at whatever door: a 4xx with words, never a 5xx, and nothing counted against a version."""

from __future__ import annotations

import asyncio
import inspect
import re
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import msgspec
import numpy as np
import pytest
import zmq
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from quarterdeckd.http.server import Request, Response
from quarterdeckd.serving import rpc, status
from quarterdeckd.serving.copies import Copies
from quarterdeckd.serving.inference import Inference
from quarterdeckd.serving.protocol import MESSAGES, SERVICE
from quarterdeckd.serving.recorder import Recorder
from quarterdeckd.serving.router import Routes
from quarterdeckd.serving.status import Status
from quarterdeckd.serving.web import Web
from quarterstore.records.faults import MEANINGS
from quarterstore.records.registry import Feature, Signature, Tensor

TYPES = {"f": ("FP32", TensorProto.FLOAT), "i": ("INT64", TensorProto.INT64), "b": ("BOOL", TensorProto.BOOL),
         "h": ("FP16", TensorProto.FLOAT16), "t": ("BYTES", TensorProto.STRING)}  # fmt: skip
GOOD: dict[str, list[Any]] = {"f": [1.5], "i": [2**53 + 1], "b": [True], "h": [0.5], "t": ["é"]}


class Served:
    """A host without its sockets: the real session, the real ways in."""

    def __init__(self, folder: Path, made: Any) -> None:
        path = folder / "status-0"
        status.fresh(path)
        data = made.graph_bytes(
            [helper.make_node("Identity", [name], [f"{name}_out"]) for name in TYPES],
            [(name, kind, ["n", 1]) for name, (_, kind) in TYPES.items()],
            [(f"{name}_out", kind, ["n", 1]) for name, (_, kind) in TYPES.items()],
        )
        signature = Signature(
            inputs=tuple(Tensor(name, word, (-1, 1)) for name, (word, _) in TYPES.items()),
            outputs=tuple(Tensor(f"{name}_out", word, (-1, 1)) for name, (word, _) in TYPES.items()),
            features=tuple(Feature(f"c{name}", "number", name) for name in TYPES),
        )
        slot = made.slot_of(folder, "m@1", data, signature)
        self.routes = Routes()
        self.routes.hold(self.routes.load(slot))
        self.routes.swap(made.table(1, slot))
        self._context = zmq.Context[Any]()
        self._copies = Copies(self._context, f"ipc://{folder}/shadow")
        self._inference = Inference(self.routes, Recorder(folder / "p", 1), Status(path), self._copies, lambda: None)
        self._web = Web(self.routes, self._inference, lambda: True)
        self._loop = asyncio.new_event_loop()

    def post(self, path: str, body: bytes, headers: dict[bytes, bytes]) -> Response:
        """A request to the web."""

        async def asked() -> Any:
            found = self._web.handle(Request("POST", path, headers, body, time.perf_counter()))
            return await found if inspect.isawaitable(found) else found

        found: Response = self._loop.run_until_complete(asked())
        return found

    def call(self, data: bytes) -> bytes | rpc.Refusal:
        """A ModelInfer call."""

        async def asked() -> Any:
            found = self._inference.answer(rpc.Infer(data, {}), len(data), time.perf_counter())
            return await found if inspect.isawaitable(found) else found

        found: bytes | rpc.Refusal = self._loop.run_until_complete(asked())
        return found

    def close(self) -> None:
        """Let go of the loop and the socket."""
        self._loop.close()
        self._copies.close()
        self._context.term()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    import importlib.util

    spec = importlib.util.spec_from_file_location("serving_made", Path(__file__).parent / "conftest.py")
    assert spec is not None and spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    found = Served(tmp_path_factory.mktemp("served"), made)
    yield found
    found.close()


json = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
data = st.lists(json, max_size=3) | st.sampled_from(list(GOOD.values())) | json
shape = st.lists(st.sampled_from([1, 0, -1, 2, 2**31, 2**63, 10**30]), max_size=3) | st.just([1, 1])
tensor = st.fixed_dictionaries(
    {"name": st.sampled_from([*TYPES, "z", "\x1b[2J\n", ""]), "shape": shape,
     "datatype": st.sampled_from([word for word, _ in TYPES.values()] + ["FP99", ""])},
    optional={"data": data, "parameters": st.dictionaries(
        st.sampled_from(["binary_data_size", "shared_memory_region", "k"]), st.integers(-2, 20) | json, max_size=2)},
)  # fmt: skip
request = st.fixed_dictionaries(
    {"inputs": st.lists(tensor, max_size=6) | json},
    optional={"id": json, "outputs": st.lists(st.fixed_dictionaries({"name": st.sampled_from(["f_out", "q", "\x00"])})),
              "parameters": st.dictionaries(st.sampled_from(["key", "binary_data_output"]), json)},
)  # fmt: skip
columns = [f"c{name}" for name in TYPES]
rows = st.fixed_dictionaries(
    {"rows": st.lists(st.dictionaries(st.sampled_from([*columns, "q"]), json, max_size=6), max_size=3) | json},
    optional={"key": json, "outputs": json},
)
once = settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def refused_or_answered(answer: Response) -> None:
    """Never a 5xx; words that hold nothing of the machine and nothing that steers a terminal."""
    assert answer.status < 500, answer.body
    if answer.status != 200:
        words = msgspec.json.decode(answer.body)["error"]
        assert words and words.isprintable() and not re.search(r"Traceback|\.py|/tmp|numpy", words), words


@once
@given(body=st.binary(max_size=200), size=st.none() | st.binary(max_size=6) | st.integers(0, 300))
def test_any_bytes_are_refused(served: Served, body: bytes, size: Any) -> None:
    """As JSON, as JSON with a tail, as a message, as rows."""
    headers = {} if size is None else {b"inference-header-content-length": str(size).encode()}
    for path in ("/v2/models/e/infer", "/v1/predict/e", "/v2/models/e/versions/1/infer"):
        answer = served.post(path, body, headers)
        assert 400 <= answer.status < 500
        refused_or_answered(answer)
    found = served.call(body)
    assert isinstance(found, rpc.Refusal) and MEANINGS[type(found.fault)].http < 500


@once
@given(body=request, tail=st.binary(max_size=24), split=st.booleans())
def test_any_request_in_json_is_answered_or_told_what_is_wrong(
    served: Served, body: Any, tail: bytes, split: bool
) -> None:
    """Tensors with whatever shape, datatype, data and sizes."""
    head = msgspec.json.encode(body)
    headers = {b"inference-header-content-length": str(len(head)).encode()} if split else {}
    refused_or_answered(served.post("/v2/models/e/infer", head + (tail if split else b""), headers))


@once
@given(body=rows)
def test_any_rows_are_answered_or_told_what_is_wrong(served: Served, body: Any) -> None:
    refused_or_answered(served.post("/v1/predict/e", msgspec.json.encode(body), {}))


@once
@given(
    name=st.sampled_from(["e", "", "q"]),
    inputs=st.lists(
        st.tuples(
            st.sampled_from([*TYPES, "z", "\x1b[2J"]),
            st.sampled_from([word for word, _ in TYPES.values()] + [""]),
            st.lists(st.sampled_from([1, 0, -1, 2, 2**62]), max_size=3),
            st.sampled_from(["fp32_contents", "int64_contents", "bool_contents", "bytes_contents", ""]),
        ),
        max_size=6,
    ),
    raw=st.lists(st.binary(max_size=12), max_size=6),
    cut=st.integers(0, 40),
)
def test_any_message_is_answered_or_told_what_is_wrong(
    served: Served, name: str, inputs: Any, raw: list[bytes], cut: int
) -> None:
    """Raw contents of whatever size, lists of another type, both, and messages cut short."""
    message = MESSAGES["ModelInferRequest"](model_name=name, raw_input_contents=raw)
    values = {"fp32_contents": 1.5, "int64_contents": 7, "bool_contents": True, "bytes_contents": b"\xff\x00"}
    for called, word, sizes, contents in inputs:
        each = message.inputs.add(name=called, datatype=word, shape=sizes)
        if contents:
            getattr(each.contents, contents).append(values[contents])
    whole = message.SerializeToString()
    found = served.call(whole[: len(whole) - cut] if cut < 20 else whole)
    if isinstance(found, rpc.Refusal):
        assert MEANINGS[type(found.fault)].http < 500, found
        assert found.fault.line().isprintable()


def inputs_of(**changed: Any) -> list[dict[str, Any]]:
    """A whole request, some of its tensors changed."""
    return [
        {"name": name, "datatype": word, "shape": [1, 1], "data": GOOD[name], **changed.get(name, {})}
        for name, (word, _) in TYPES.items()
    ]


@pytest.mark.parametrize(
    ("changed", "tail", "words"),
    [
        ({"parameters": {"binary_data_size": 4}, "data": msgspec.UNSET}, b"abc",
         "inputs.f.parameters.binary_data_size: got 4, expected a number of bytes, 3 are left"),
        ({"parameters": {"binary_data_size": 3}, "data": msgspec.UNSET}, b"abc", "3 bytes, not 4"),
        ({"parameters": {"binary_data_size": 4}, "data": msgspec.UNSET}, b"abcde", "body: got 1 bytes more"),
        ({"parameters": {"binary_data_size": 4}}, b"abcd", "inputs.f.data: got a list beside binary_data_size"),
        ({"parameters": {"binary_data_size": True}, "data": msgspec.UNSET}, b"a", "binary_data_size: got True"),
        ({"parameters": {"binary_data_size": 4}, "data": msgspec.UNSET}, struct.pack("<f", np.nan),
         "inputs.f.data: got nan in row 0, column cf, expected a finite FP32"),
        ({"parameters": {"binary_data_size": 4}, "data": msgspec.UNSET}, struct.pack("<f", np.inf), "got inf in row 0"),
        ({"parameters": {"shared_memory_region": "r"}}, b"", "got shared_memory_region"),
        ({"data": msgspec.UNSET}, b"", "inputs.f.data: got none, expected a list, or binary_data_size"),
        ({"shape": [-1, 1]}, b"", "inputs.f.shape: got [-1, 1]"),
        ({"shape": [2**62, 1]}, b"", "inputs.f.shape"),
        ({"shape": [1]}, b"", "inputs.f.shape: got [1], expected [-1, 1]"),
        ({"data": [[[[[[[[[[1.5]]]]]]]]]]}, b"", "nested too deep"),
        ({"name": "i"}, b"", "inputs.name: got i twice"),
    ],
)  # fmt: skip
def test_a_wrong_tensor_is_told_by_its_name_what_came_and_what_was_expected(
    served: Served, changed: dict[str, Any], tail: bytes, words: str
) -> None:
    inputs = [{name: value for name, value in each.items() if value is not msgspec.UNSET}
              for each in inputs_of(f=changed)]  # fmt: skip
    if "name" in changed:
        inputs[0] |= {"datatype": "INT64", "data": [1]}
    head = msgspec.json.encode({"inputs": inputs})
    answer = served.post(
        "/v2/models/e/infer", head + tail, {b"inference-header-content-length": str(len(head)).encode()}
    )
    assert answer.status == 400 and words in msgspec.json.decode(answer.body)["error"], answer.body


@pytest.mark.parametrize(
    ("name", "packed", "words"),
    [
        ("t", struct.pack("<I", 2) + b"\xff\xfe", "utf-8"),
        ("t", struct.pack("<I", 9) + b"ab", "a text of 9 bytes where 2 are left"),
        ("t", b"\x01", "1 bytes where a length of 4 should be"),
        ("t", struct.pack("<I", 0) * 2, "got 2 values, expected 1"),
        ("b", b"\x02", "neither 0 nor 1"),
        ("i", b"1234567", "7 bytes, not 8"),
        ("h", b"\x00\x7c", "got inf in row 0, column ch, expected a finite FP16"),
    ],
)
def test_wrong_bytes_of_a_tensor_are_told(served: Served, name: str, packed: bytes, words: str) -> None:
    inputs = inputs_of(**{name: {"parameters": {"binary_data_size": len(packed)}}})
    del next(each for each in inputs if each["name"] == name)["data"]
    head = msgspec.json.encode({"inputs": inputs})
    answer = served.post(
        "/v2/models/e/infer", head + packed, {b"inference-header-content-length": str(len(head)).encode()}
    )
    error = msgspec.json.decode(answer.body)["error"]
    assert answer.status == 400 and f"inputs.{name}.data" in error and words in error


def test_nan_as_python_writes_it_is_told_by_the_tensor_and_a_compressed_body_by_its_header(served: Served) -> None:
    import json as python_json

    body = python_json.dumps({"inputs": inputs_of(f={"data": [float("nan")]})}).encode()
    answer = served.post("/v2/models/e/infer", body, {})
    assert b"inputs.f.data: got nan in row 0, column cf" in answer.body and answer.status == 400
    answer = served.post("/v2/models/e/infer", body, {b"content-encoding": b"gzip"})
    assert b"content-encoding: got gzip, expected none" in answer.body and answer.status == 400


def test_wrong_requests_are_counted_apart_from_the_versions_errors(served: Served) -> None:
    way = served.routes.ways["e"]
    (arm,) = way.arms
    before = (way.refused, arm.requests, arm.errors)
    for path, body in (("/v2/models/e/infer", b"{"), ("/v1/predict/e", b'{"rows": [{"q": 1}]}')):
        assert served.post(path, body, {}).status == 400
    assert isinstance(served.call(MESSAGES["ModelInferRequest"](model_name="e").SerializeToString()), rpc.Refusal)
    assert (way.refused, arm.requests, arm.errors) == (before[0] + 3, before[1], before[2])


async def test_the_calls_of_grpc_end_with_the_status_of_what_is_wrong(both: Any, slot: Any) -> None:
    """INVALID_ARGUMENT, NOT_FOUND, RESOURCE_EXHAUSTED; the model's own error is INTERNAL and names its version."""
    state = await both.push(_table(slot("m@1", operator="Log")))

    def message(name: str = "e", version: str = "", values: Any = (1, 1, 1, 1)) -> Any:
        found = MESSAGES["ModelInferRequest"](model_name=name, model_version=version)
        each = found.inputs.add(name="x", datatype="FP32", shape=[1, 4])
        each.contents.fp32_contents.extend(values)
        return found

    large = message()
    large.raw_input_contents.append(bytes(65 * 1024 * 1024))
    wrong = [
        (b"\xff\xff", "INVALID_ARGUMENT", "message: got 2 bytes that are none, expected a ModelInferRequest"),
        (message("nobody"), "NOT_FOUND", "model: got nobody, expected a known one; nearest: e"),
        (message(version="9"), "NOT_FOUND", "version: got 9, expected a known one; nearest: m@1"),
        (message(values=(1, 2)), "INVALID_ARGUMENT", "inputs.x.data: got 2 values, expected 4, for shape [1, 4]"),
        (message(values=(1, 2, 3, np.nan)), "INVALID_ARGUMENT", "got nan in row 0, column f3"),
        (large, "RESOURCE_EXHAUSTED", "67108864"),
        (message(values=(-1, -1, -1, -1)), "INTERNAL", "the model's answer is not finite"),
    ]
    async with grpc.aio.insecure_channel(state.grpc, options=[("grpc.max_send_message_length", -1)]) as channel:
        ask = channel.unary_unary(
            f"/{SERVICE}/ModelInfer", request_serializer=lambda m: m if isinstance(m, bytes) else m.SerializeToString()
        )
        for body, code, words in wrong:
            with pytest.raises(grpc.aio.AioRpcError) as told:
                await asyncio.wait_for(ask(body), 20)
            assert told.value.code().name == code and words in told.value.details(), told.value
        trailing = dict(told.value.trailing_metadata())
        assert (trailing["quarterdeck-version"], trailing["quarterdeck-arm"]) == ("m@1", "live")
        assert await ask(message())


def _table(slot: Any) -> Any:
    from quarterstore.records.deployments import Route, RoutingTable

    return RoutingTable(epoch=1, routes=(Route(endpoint="e", epoch=1, slots=(slot,), salt="s"),))


async def test_a_body_of_100_mb_is_refused_by_its_length(link: Any, slot: Any) -> None:
    state = await link.push(_table(slot("m@1")))
    host, _, port = state.address.removeprefix("http://").rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(f"POST /v2/models/e/infer HTTP/1.1\r\nhost: x\r\ncontent-length: {100 << 20}\r\n\r\n".encode())
    writer.write(bytes(1 << 20))
    answer = await asyncio.wait_for(reader.read(), 20)
    writer.close()
    assert answer.startswith(b"HTTP/1.1 413 ") and b"body: got 104857600 bytes, expected at most" in answer
