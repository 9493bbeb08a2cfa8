"""One answer at every door: REST in JSON and binary, gRPC raw and typed, rows by name; with unmodified clients too."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import httpx
import msgspec
import numpy as np
import polars as pl
import pytest
import tritonclient.grpc
import tritonclient.http
from onnx import TensorProto, helper

from quarterdeckd.serving import batch, tensors
from quarterdeckd.serving.protocol import MESSAGES, SERVICE
from quarterdeckd.serving.recorder import read_segment
from quarterdeckd.serving.rpc import CONTENTS
from quarterdeckd.serving.session import DTYPES
from quarterstore.records.batches import BatchSpec
from quarterstore.records.deployments import Route, RoutingTable, Slot
from quarterstore.records.places import Home
from quarterstore.records.registry import Feature, Signature, Tensor

PROTO = {
    "BOOL": TensorProto.BOOL,
    "INT8": TensorProto.INT8,
    "INT16": TensorProto.INT16,
    "INT32": TensorProto.INT32,
    "INT64": TensorProto.INT64,
    "UINT8": TensorProto.UINT8,
    "UINT16": TensorProto.UINT16,
    "UINT32": TensorProto.UINT32,
    "UINT64": TensorProto.UINT64,
    "FP16": TensorProto.FLOAT16,
    "FP32": TensorProto.FLOAT,
    "FP64": TensorProto.DOUBLE,
    "BYTES": TensorProto.STRING,
}


class Doors(NamedTuple):
    """Where REST and gRPC are answered."""

    rest: str
    grpc: str


def echo(folder: Path, made: Any) -> Slot:
    """A version that gives each datatype back as it came: `t` in, `t_out` out."""
    names = [name.lower() for name in PROTO]
    data = made.graph_bytes(
        [helper.make_node("Identity", [name], [f"{name}_out"]) for name in names],
        [(name.lower(), kind, ["n", 2]) for name, kind in PROTO.items()],
        [(f"{name.lower()}_out", kind, ["n", 2]) for name, kind in PROTO.items()],
    )
    signature = Signature(
        inputs=tuple(Tensor(name.lower(), name, (-1, 2)) for name in PROTO),
        outputs=tuple(Tensor(f"{name.lower()}_out", name, (-1, 2)) for name in PROTO),
    )
    return made.slot_of(folder, "echo@1", data, signature)


def drawn_rows(rows: int) -> dict[str, Any]:
    """Two columns of every datatype, its extremes among them."""
    chance = np.random.default_rng(7)
    found: dict[str, Any] = {}
    for name, kind in DTYPES.items():
        if name == "BYTES":
            values = [["", "Zürich ✓\0x"][number % 2] + "é" * (number % 5) for number in range(2 * rows)]
            array = np.array(values, np.object_)
        elif name == "BOOL":
            array = chance.random(2 * rows) < 0.5
        elif name.startswith("FP"):
            array = chance.normal(0, 100, 2 * rows).astype(kind)
            array[:3] = np.finfo(kind).max, np.finfo(kind).tiny, -0.0
        else:
            limits = np.iinfo(kind)
            array = chance.integers(limits.min, limits.max, 2 * rows, kind, endpoint=True)
            array[:2] = limits.min, limits.max
        found[name.lower()] = array.reshape(rows, 2)
    return found


def datatype(name: str) -> str:
    return name.removesuffix("_out").upper()


def same(found: dict[str, Any], sent: dict[str, Any]) -> None:
    """Every value came back as it went, to the bit."""
    assert found.keys() == {f"{name}_out" for name in sent}
    for name, array in sent.items():
        back = found[f"{name}_out"]
        if name == "bytes":
            assert back.tolist() == array.tolist()
        else:
            assert back.dtype == array.dtype and back.tobytes() == array.tobytes(), name


@pytest.fixture
async def doors(both: Any, made: Any, tmp_path: Path) -> Doors:
    """Serving the echo at `e`."""
    state = await both.push(made.table(1, echo(tmp_path, made)))
    return Doors(state.address, state.grpc)


@pytest.fixture
async def channel(doors: Doors) -> AsyncIterator[Any]:
    """A channel to gRPC."""
    async with grpc.aio.insecure_channel(doors.grpc) as found:
        yield found


async def call(channel: Any, name: str, message: Any) -> Any:
    """One of the six calls."""
    ask = channel.unary_unary(
        f"/{SERVICE}/{name}",
        request_serializer=lambda each: each if isinstance(each, bytes) else each.SerializeToString(),
        response_deserializer=MESSAGES[f"{name}Response"].FromString,
    )
    return await asyncio.wait_for(ask(message), 20)


async def by_json(doors: Doors, sent: dict[str, Any]) -> dict[str, Any]:
    inputs = [
        {"name": name, "datatype": datatype(name), "shape": list(array.shape), "data": array.tolist()}
        for name, array in sent.items()
    ]
    async with httpx.AsyncClient(base_url=doors.rest, timeout=30) as client:
        answer = await client.post("/v2/models/e/infer", json={"inputs": inputs})
    assert answer.status_code == 200, answer.text
    return {
        each["name"]: np.array(each["data"], DTYPES[each["datatype"]]).reshape(each["shape"])
        for each in answer.json()["outputs"]
    }


def unpacked(data: bytes, name: str, shape: Any) -> Any:
    if datatype(name) != "BYTES":
        return np.frombuffer(data, DTYPES[datatype(name)]).reshape(shape)
    values, at = [], 0
    while at < len(data):
        size = int.from_bytes(data[at : at + 4], "little")
        values.append(data[at + 4 : at + 4 + size].decode())
        at += 4 + size
    return np.array(values, np.object_).reshape(shape)


def binary(sent: dict[str, Any], **more: Any) -> tuple[dict[str, str], bytes]:
    """Headers and body of a request whose tensors follow its JSON."""
    parts = {name: tensors.packed(array) for name, array in sent.items()}
    inputs = [
        {
            "name": name,
            "datatype": datatype(name),
            "shape": list(array.shape),
            "parameters": {"binary_data_size": len(parts[name])},
        }
        for name, array in sent.items()
    ]
    head = msgspec.json.encode({"inputs": inputs, "parameters": {"binary_data_output": True}, **more})
    return {"inference-header-content-length": str(len(head))}, head + b"".join(parts.values())


async def by_binary(doors: Doors, sent: dict[str, Any]) -> dict[str, Any]:
    headers, body = binary(sent)
    async with httpx.AsyncClient(base_url=doors.rest, timeout=30) as client:
        answer = await client.post("/v2/models/e/infer", content=body, headers=headers)
    assert answer.status_code == 200, answer.text
    at = int(answer.headers["inference-header-content-length"])
    found = {}
    for each in msgspec.json.decode(answer.content[:at])["outputs"]:
        size = each["parameters"]["binary_data_size"]
        found[each["name"]] = unpacked(answer.content[at : at + size], each["name"], each["shape"])
        at += size
    assert at == len(answer.content)
    return found


def message_of(sent: dict[str, Any], *, raw: bool) -> Any:
    message = MESSAGES["ModelInferRequest"](model_name="e")
    for name, array in sent.items():
        tensor = message.inputs.add(name=name, datatype=datatype(name), shape=array.shape)
        if raw:
            message.raw_input_contents.append(tensors.packed(array))
        else:
            values = [each.encode() for each in array.ravel()] if name == "bytes" else array.ravel().tolist()
            getattr(tensor.contents, CONTENTS[datatype(name)]).extend(values)
    return message


async def by_grpc(channel: Any, sent: dict[str, Any], *, raw: bool, outputs: list[str]) -> dict[str, Any]:
    message = message_of(sent, raw=raw)
    for name in outputs:
        message.outputs.add(name=name)
    answer = await call(channel, "ModelInfer", message)
    found = {}
    for number, each in enumerate(answer.outputs):
        if raw:
            found[each.name] = unpacked(answer.raw_output_contents[number], each.name, list(each.shape))
            continue
        values = list(getattr(each.contents, CONTENTS[each.datatype]))
        values = [value.decode() for value in values] if each.datatype == "BYTES" else values
        found[each.name] = np.array(values, DTYPES[each.datatype]).reshape(list(each.shape))
    return found


async def test_a_thousand_rows_of_every_datatype_are_answered_alike_at_every_door(doors: Doors, channel: Any) -> None:
    """As they went, so as each other: REST in JSON, REST in binary, gRPC raw and typed."""
    sent = drawn_rows(1000)
    same(await by_json(doors, sent), sent)
    same(await by_binary(doors, sent), sent)
    same(await by_grpc(channel, sent, raw=True, outputs=[]), sent)


def test_a_batch_answers_the_same_thousand_rows_alike(
    made: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As they went, so as each door answers them: a column a number, of every datatype."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("os.nice", lambda step: step)
    slot, sent = echo(tmp_path, made), drawn_rows(1000)
    columns = {
        f"{name}_{index}": array[:, index].astype(np.float32) if name == "fp16" else array[:, index]
        for name, array in sent.items()
        for index in range(2)
    }
    columns |= {name: column.tolist() for name, column in columns.items() if name.startswith("bytes")}
    pl.DataFrame(columns).write_parquet(tmp_path / "rows.parquet")
    spec = BatchSpec(
        version=slot.version, model=slot.path, digest=slot.digest, data=str(tmp_path / "rows.parquet"),
        format="parquet", signature=slot.signature, keep=(), chunk=300, key="k", work=str(tmp_path / "work"),
    )  # fmt: skip
    answers = pl.read_parquet(batch.run(spec, Silent()).output)
    found = {}
    for name, array in sent.items():
        both = [answers[f"{name}_out_{index}"].to_numpy() for index in range(2)]
        found[f"{name}_out"] = np.stack(both, axis=1).astype(array.dtype)
    same(found, sent)


class Silent:
    """A job's report that nobody reads."""

    def progress(self, *given: Any, **more: Any) -> None: ...


@pytest.fixture
async def typed_doors(both: Any, made: Any, tmp_path: Path) -> Any:
    """The echo without FP16, which has no typed list."""
    names = [name for name in PROTO if name != "FP16"]
    data = made.graph_bytes(
        [helper.make_node("Identity", [name.lower()], [f"{name.lower()}_out"]) for name in names],
        [(name.lower(), PROTO[name], ["n", 2]) for name in names],
        [(f"{name.lower()}_out", PROTO[name], ["n", 2]) for name in names],
    )
    signature = Signature(
        inputs=tuple(Tensor(name.lower(), name, (-1, 2)) for name in names),
        outputs=tuple(Tensor(f"{name.lower()}_out", name, (-1, 2)) for name in names),
    )
    state = await both.push(made.table(1, made.slot_of(tmp_path, "typed@1", data, signature)))
    return Doors(state.address, state.grpc)


async def test_typed_lists_of_grpc_are_answered_with_typed_lists(typed_doors: Doors) -> None:
    sent = {name: array for name, array in drawn_rows(200).items() if name != "fp16"}
    async with grpc.aio.insecure_channel(typed_doors.grpc) as channel:
        same(await by_grpc(channel, sent, raw=False, outputs=[]), sent)
        two = await by_grpc(channel, sent, raw=False, outputs=["int8_out", "fp32_out"])
    assert list(two) == ["int8_out", "fp32_out"]


async def test_fp16_has_no_typed_list_and_is_asked_for_raw(channel: Any) -> None:
    message = message_of({"fp32": np.ones((1, 2), np.float32)}, raw=False)
    message.inputs[0].datatype = "FP16"
    with pytest.raises(grpc.aio.AioRpcError) as told:
        await call(channel, "ModelInfer", message)
    assert told.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert told.value.details() == "inputs.fp32.contents: got fp32_contents, expected raw_input_contents for FP16"


async def test_tritons_http_client_infers_and_looks_around_unmodified(doors: Doors) -> None:
    """tritonclient.http: every datatype in binary, some in JSON, named outputs, metadata, readiness, index."""
    sent = drawn_rows(20)

    def look() -> None:
        client = tritonclient.http.InferenceServerClient(doors.rest.removeprefix("http://"))
        assert client.is_server_live() and client.is_server_ready() and client.is_model_ready("e")
        assert client.is_model_ready("e", "echo@1") and not client.is_model_ready("e", "7")
        assert not client.is_model_ready("nobody")
        assert "binary_tensor_data" in client.get_server_metadata()["extensions"]
        about = client.get_model_metadata("e", "1")
        assert about["versions"] == ["echo@1"]
        assert {each["name"]: each["datatype"] for each in about["inputs"]} == {n: datatype(n) for n in sent}
        assert [each["name"] for each in client.get_model_repository_index()] == ["e"]
        inputs = []
        for name, array in sent.items():
            given = tritonclient.http.InferInput(name, list(array.shape), datatype(name))
            given.set_data_from_numpy(array, binary_data=name not in ("int64", "bytes", "fp32"))
            inputs.append(given)
        answer = client.infer("e", inputs, request_id="mine", parameters={"key": "ana"})
        same({each["name"]: _texts(answer.as_numpy(each["name"])) for each in answer.get_response()["outputs"]}, sent)
        assert answer.get_response()["id"] == "mine" and answer.get_response()["model_version"] == "echo@1"
        assert answer.get_response()["parameters"]["arm"] == "live"
        wanted = [tritonclient.http.InferRequestedOutput("int8_out", binary_data=False)]
        (only,) = client.infer("e", inputs, model_version="1", outputs=wanted).get_response()["outputs"]
        assert only["name"] == "int8_out" and len(only["data"]) == 40
        with pytest.raises(Exception, match="nobody"):
            client.infer("nobody", inputs)
        client.close()

    await asyncio.to_thread(look)


def _texts(array: Any) -> Any:
    """A text comes back as bytes where it came in binary, and as a text where it came in JSON."""
    if array.dtype != np.object_:
        return array
    texts = [each.decode() if isinstance(each, bytes) else each for each in array.ravel()]
    return np.array(texts, np.object_).reshape(array.shape)


async def test_tritons_grpc_client_infers_and_looks_around_unmodified(doors: Doors) -> None:
    sent = drawn_rows(20)

    def look() -> None:
        client = tritonclient.grpc.InferenceServerClient(doors.grpc)
        assert client.is_server_live() and client.is_server_ready() and client.is_model_ready("e", "1")
        assert not client.is_model_ready("nobody")
        assert "binary_tensor_data" in client.get_server_metadata().extensions
        about = client.get_model_metadata("e")
        assert list(about.versions) == ["echo@1"] and list(about.inputs[0].shape) == [-1, 2]
        inputs = []
        for name, array in sent.items():
            given = tritonclient.grpc.InferInput(name, list(array.shape), datatype(name))
            given.set_data_from_numpy(array)
            inputs.append(given)
        answer = client.infer("e", inputs, request_id="mine", parameters={"key": "ana"})
        response = answer.get_response()
        same({each.name: _texts(answer.as_numpy(each.name)) for each in response.outputs}, sent)
        assert (response.id, response.model_version) == ("mine", "echo@1")
        assert response.parameters["epoch"].int64_param == 1
        with pytest.raises(tritonclient.grpc.InferenceServerException, match="got nobody, expected a known one"):
            client.infer("nobody", inputs)
        client.close()

    await asyncio.to_thread(look)


def canary(made: Any, folder: Path) -> RoutingTable:
    """m@2 has a tenth beside m@1 and m@3 only looks on."""
    slots = tuple(
        made.slot_of(folder, version, made.model_bytes(bias), made.SIGNATURE, share, role)
        for version, bias, share, role in (
            ("m@1", 0.0, 90, "live"),
            ("m@2", 7.0, 10, "candidate"),
            ("m@3", 9.0, 0, "shadow"),
        )
    )
    return RoutingTable(epoch=1, routes=(Route(endpoint="e", epoch=1, slots=slots, salt="s"),))


async def test_a_version_asked_for_by_name_answers_and_is_no_evidence_of_the_rollout(
    both: Any, made: Any, tmp_path: Path
) -> None:
    """By path or by field; one that only looks on is not there. What the routes dealt is counted, these are not."""
    state = await both.push(canary(made, tmp_path))
    row = {"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1, 1, 1, 1]}
    async with httpx.AsyncClient(base_url=state.address, timeout=30) as client:
        for path in ("m@2", "2", "m%402"):
            answer = await client.post(f"/v2/models/e/versions/{path}/infer", json={"inputs": [row]})
            assert answer.json()["outputs"][0]["data"] == [8.0, 8.0]
            assert answer.headers["quarterdeck-arm"] == "candidate"
        absent = await client.post("/v2/models/e/versions/3/infer", json={"inputs": [row]})
        assert absent.status_code == 404
        assert absent.json()["error"] == "version: got 3, expected a known one; nearest: m@1, m@2"
        about = (await client.get("/v2/models/e/versions/2")).json()
        assert about["versions"] == ["m@1", "m@2"]
        assert (await client.get("/v2/models/e/versions/2/ready")).status_code == 200
        index = (await client.post("/v2/repository/index")).json()
        assert [each["version"] for each in index] == ["m@1", "m@2"]
        for _ in range(20):
            await client.post("/v2/models/e/infer", json={"inputs": [row]})
    async with grpc.aio.insecure_channel(state.grpc) as channel:
        message = message_of({}, raw=False)
        message.model_version = "m@2"
        tensor = message.inputs.add(name="x", datatype="FP32", shape=[1, 4])
        tensor.contents.fp32_contents.extend([1, 1, 1, 1])
        answer = await call(channel, "ModelInfer", message)
        assert list(answer.outputs[0].contents.fp32_contents) == [8.0, 8.0]
    await made.until(lambda: both.news and sum(each.requests for each in both.news[-1].counts.values()) >= 20)
    assert sum(each.requests for each in both.news[-1].counts.values()) == 20


async def test_a_key_keeps_its_arm_at_every_door(both: Any, made: Any, tmp_path: Path) -> None:
    table = canary(made, tmp_path)
    (route,) = table.routes
    slots = tuple(
        msgspec.structs.replace(each, share=share) for each, share in zip(route.slots, (50, 50, 0), strict=True)
    )
    state = await both.push(RoutingTable(epoch=1, routes=(msgspec.structs.replace(route, slots=slots),)))
    row = {"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1, 1, 1, 1]}
    rows = [{f"f{number}": 1 for number in range(4)}]
    seen = set()
    async with (
        httpx.AsyncClient(base_url=state.address, timeout=30) as client,
        grpc.aio.insecure_channel(state.grpc) as channel,
    ):
        for key in map(str, range(20)):
            message = message_of({"x": np.ones((1, 4), np.float32)}, raw=True)
            message.inputs[0].datatype = "FP32"
            message.parameters["key"].string_param = key
            body = {"inputs": [row], "parameters": {"key": key}}
            versions = {
                (await client.post("/v2/models/e/infer", json=body)).json()["model_version"],
                (await client.post("/v1/predict/e", json={"rows": rows, "key": key})).json()["version"],
                (await call(channel, "ModelInfer", message)).model_version,
            }
            assert len(versions) == 1
            seen |= versions
    assert seen == {"m@1", "m@2"}


async def test_a_shadow_is_shown_what_was_asked_at_every_door_and_no_version_asked_for_by_name(
    both: Any, made: Any, home: Home, tmp_path: Path
) -> None:
    """Every datatype, extremes and texts: the shadow says the same of the same prediction, after the answer."""
    live = echo(tmp_path, made)
    shadow = msgspec.structs.replace(live, version="echo@2", role="shadow")
    state = await both.push(made.table(1, live, shadow))
    doors, sent = Doors(state.address, state.grpc), drawn_rows(3)
    rows = [
        {name: array[number].tolist() for name, array in sent.items() if name not in ("fp16", "fp32", "fp64")}
        | {name: [1, 2] for name in ("fp16", "fp32", "fp64")}
        for number in range(3)
    ]

    def said(role: str) -> dict[str, Any]:
        paths = [*(home.serving / "predictions").glob("*.*")]
        frames = [each for path in paths for each in read_segment(path) if each.role == role]
        return {each.id: (each.status, each.predictions, each.error) for each in frames}

    await awake(doors, sent, lambda: said("shadow"))
    async with (
        httpx.AsyncClient(base_url=doors.rest, timeout=30) as client,
        grpc.aio.insecure_channel(doors.grpc) as channel,
    ):
        before = set(said("live"))
        same(await by_json(doors, sent), sent)
        same(await by_binary(doors, sent), sent)
        same(await by_grpc(channel, sent, raw=True, outputs=[]), sent)
        assert (await client.post("/v1/predict/e", json={"rows": rows})).status_code == 200
        headers, body = binary(sent)
        by_name = await client.post("/v2/models/e/versions/1/infer", content=body, headers=headers)
        assert by_name.status_code == 200
        await by_json(doors, sent)
    asked = await made.until(lambda: len(said("live").keys() - before) == 6 and said("live").keys() - before)
    named = by_name.headers["quarterdeck-prediction"]
    shown = await made.until(lambda: (seen := said("shadow").keys() & asked) == asked - {named} and seen)
    assert len(shown) == 5 and {said("shadow")[each][0] for each in shown} == {200}
    assert all(said("shadow")[each] == said("live")[each] for each in shown)


async def awake(doors: Doors, sent: dict[str, Any], shown: Callable[[], Any]) -> None:
    """Ask until the shadow's process is up: until then copies are dropped."""
    deadline = asyncio.get_running_loop().time() + 30
    while not shown():
        assert asyncio.get_running_loop().time() < deadline, "the shadow did not come up"
        await by_json(doors, sent)


NAMED = Signature(
    inputs=(
        Tensor("x", "FP32", (-1, 2)),
        Tensor("n", "INT64", (-1, 1)),
        Tensor("t", "BYTES", (-1, 1)),
        Tensor("v", "FP32", (-1, 3)),
    ),
    outputs=(
        Tensor("x_out", "FP32", (-1, 2)),
        Tensor("n_out", "INT64", (-1, 1)),
        Tensor("t_out", "BYTES", (-1, 1)),
        Tensor("v_out", "FP32", (-1, 3)),
    ),
    features=(
        Feature("age", "number", "x", 1),
        Feature("income", "number", "x", 0, optional=True),
        Feature("children", "number", "n"),
        Feature("city", "category", "t", categories=("Bern", "Basel")),
    ),
)
GOOD = {"age": 40, "income": 1.5, "children": 2**53 + 1, "city": "Bern", "v": [1, 2, 3]}


@pytest.fixture
async def named(link: Any, made: Any, tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    """An endpoint with features in an order of their own, one of them optional, and a tensor without any."""
    kinds = {"FP32": TensorProto.FLOAT, "INT64": TensorProto.INT64, "BYTES": TensorProto.STRING}
    data = made.graph_bytes(
        [helper.make_node("Identity", [each.name], [f"{each.name}_out"]) for each in NAMED.inputs],
        [(each.name, kinds[each.datatype], ["n", *each.shape[1:]]) for each in NAMED.inputs],
        [(each.name, kinds[each.datatype], ["n", *each.shape[1:]]) for each in NAMED.outputs],
    )
    state = await link.push(made.table(3, made.slot_of(tmp_path, "n@4", data, NAMED)))
    async with httpx.AsyncClient(base_url=state.address, timeout=30) as client:
        yield client


async def test_rows_by_name_are_answered_in_rows_by_name(named: httpx.AsyncClient, home: Home, made: Any) -> None:
    """Columns in whatever order; who answered and the id stand beside them; recorded by the features' names."""
    rows = [GOOD, {**dict(reversed(GOOD.items())), "age": 41.5, "city": ""}]
    answer = await named.post("/v1/predict/e", json={"rows": rows})
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert body["rows"] == [
        {"x_out": [1.5, 40.0], "n_out": 2**53 + 1, "t_out": "Bern", "v_out": [1, 2, 3]},
        {"x_out": [1.5, 41.5], "n_out": 2**53 + 1, "t_out": "", "v_out": [1, 2, 3]},
    ]
    assert (body["version"], body["epoch"], body["arm"]) == ("n@4", 3, "live")
    assert body["prediction"] == answer.headers["quarterdeck-prediction"]
    only = await named.post("/v1/predict/e", json={"rows": [GOOD], "outputs": ["n_out"]})
    assert only.json()["rows"] == [{"n_out": 2**53 + 1}]
    spool = home.serving / "predictions"
    (path,) = await made.until(lambda: list(spool.glob("*.done")))
    frame = next(iter(read_segment(path)))
    assert frame.id == body["prediction"] and frame.features["age"] == [40.0, 41.5]


WRONG: list[tuple[Any, str]] = [
    ({**GOOD, "age": "old"}, 'rows[1].age: got "old" (str), expected a number (FP32)'),
    ({**GOOD, "age": True}, "rows[1].age: got true (bool), expected a number (FP32)"),
    ({**GOOD, "age": None}, "rows[1].age: got null (NoneType), expected a number (FP32)"),
    ({**GOOD, "age": [1]}, "rows[1].age: got [1] (list), expected a number (FP32)"),
    ({**GOOD, "age": 1e300}, "rows[1].age: got 1e+300 (float), expected a number (FP32)"),
    ({**GOOD, "age": float("nan")}, "rows[1].age: got nan (float), expected a number (FP32)"),
    ({**GOOD, "income": float("inf")}, "rows[1].income: got inf (float), expected a number (FP32)"),
    ({**GOOD, "children": 1.5}, "rows[1].children: got 1.5 (float), expected a number (INT64)"),
    ({**GOOD, "children": 2**63}, "rows[1].children: got 9223372036854775808 (int), expected a number (INT64)"),
    ({**GOOD, "city": 3}, "rows[1].city: got 3 (int), expected a text (BYTES)"),
    ({**GOOD, "aeg": 3}, "rows[1]: got aeg, expected a known one; nearest: age"),
    ({**GOOD, "v": [1, 2]}, "rows[1].v.data: got 2 values, expected 3"),
    ({**GOOD, "v": 1}, "rows[1].v.data: got"),
    ({name: value for name, value in GOOD.items() if name != "age"}, "rows[1].age: got no value, expected a number"),
    ({}, "rows[1].age: got no value"),
    (7, "body: got JSON that is no prediction request (Expected `object`, got `int` - at `$.rows[1]`), expected {"),
]


async def test_a_wrong_value_in_a_row_is_told_by_row_and_column(named: httpx.AsyncClient) -> None:
    """Type, lack, surplus, NaN as Python writes it, a number beyond all: what came and what was expected, and the
    good rows beside it do not hide it."""
    beyond = await named.post(
        "/v1/predict/e", content=json.dumps({"rows": [{**GOOD, "income": 12345.5}]}).replace("12345.5", "1e999")
    )
    assert beyond.status_code == 400 and "rows[0].income: got inf (float)" in beyond.json()["error"], beyond.text
    for row, words in WRONG:
        answer = await named.post("/v1/predict/e", content=json.dumps({"rows": [GOOD, row]}))
        assert answer.status_code == 400 and words in answer.json()["error"], answer.text


async def test_an_optional_column_may_lack_or_be_null(named: httpx.AsyncClient) -> None:
    """It is a missing value to the model, which here gives it back: its error, not the caller's."""
    without = {name: value for name, value in GOOD.items() if name != "income"}
    for row in (without, {**GOOD, "income": None}):
        answer = await named.post("/v1/predict/e", json={"rows": [row]})
        assert answer.status_code == 500 and answer.json()["error"] == "the model's answer is not finite"


async def test_a_body_that_is_no_rows_is_told_the_form(named: httpx.AsyncClient) -> None:
    form = 'expected {"rows": [{"NAME": VALUE, ...}, ...]}'
    wrong = [
        (b'{"rows": []}', "rows: got none, expected at least one"),
        (b"", form),
        (b"[]", form),
        (b'{"row": []}', form),
        (b'{"rows": [{"age": 1}]}', "rows[0].children: got no value"),
        (json.dumps({"rows": [GOOD], "outputs": ["z"]}).encode(), "outputs.name: got z, expected a known one"),
    ]
    for body, words in wrong:
        answer = await named.post("/v1/predict/e", content=body)
        assert answer.status_code == 400 and words in answer.json()["error"], answer.text


async def test_a_call_whose_caller_gave_up_counts_all_the_same(both: Any, made: Any, tmp_path: Path) -> None:
    """A version that hangs would have no answers at all where every caller's deadline is shorter than ours."""
    signature = Signature(inputs=(Tensor("x", "FP32", (-1, 4)),), outputs=(Tensor("y", "FP32", ()),))
    state = await both.push(made.table(1, made.slot_of(tmp_path, "slow@1", made.loop_bytes(3_000_000), signature)))
    message = message_of({"x": np.ones((1, 4), np.float32)}, raw=True)
    message.inputs[0].datatype = "FP32"
    async with grpc.aio.insecure_channel(state.grpc) as channel:
        await channel.channel_ready()
        ask = channel.unary_unary(f"/{SERVICE}/ModelInfer")
        with pytest.raises(grpc.aio.AioRpcError) as told:
            await ask(message.SerializeToString(), timeout=1.0)
        assert told.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    await made.until(lambda: any(each.counts and each.counts["slow@1"].requests == 1 for each in both.news))


async def test_hosts_share_the_port_of_grpc_and_one_that_is_killed_is_replaced_at_it(
    home: Home, slot: Callable[..., Slot], made: Any
) -> None:
    """Connections are dealt to both; with one dead the other goes on, and the next one opens the same port."""
    told = made.Told(home, 2, "127.0.0.1:0")
    try:
        await told.start()
        state = await told.push(made.table(1, slot("m@1")))
        await made.until(lambda: len([each for each in told.states[-1].hosts if each.ready]) == 2)
        message = message_of({"x": np.ones((1, 4), np.float32)}, raw=True)
        message.inputs[0].datatype = "FP32"

        async def answered_by(address: str) -> int:
            options = [("grpc.use_local_subchannel_pool", 1)]
            async with grpc.aio.insecure_channel(address, options=options) as channel:
                ask = channel.unary_unary(f"/{SERVICE}/ModelInfer")
                data = await ask(message.SerializeToString(), timeout=20, wait_for_ready=True)
            number = MESSAGES["ModelInferResponse"].FromString(data).parameters["prediction"].string_param
            return int(number.partition("-")[0][12:], 16)

        pids = {each.pid for each in told.states[-1].hosts}
        seen: set[int] = set()
        for _ in range(60):
            seen.add(await answered_by(state.grpc))
        assert seen == pids
        victim = min(pids)
        os.kill(victim, signal.SIGKILL)
        await made.until(
            lambda: (
                victim not in {each.pid for each in told.states[-1].hosts}
                and len([each for each in told.states[-1].hosts if each.ready]) == 2
            )
        )
        (new,) = {each.pid for each in told.states[-1].hosts} - pids
        again = set()
        for _ in range(60):
            again.add(await answered_by(state.grpc))
        assert again == {max(pids), new}
    finally:
        await asyncio.wait_for(told.stop(), 60)
        told.close()
