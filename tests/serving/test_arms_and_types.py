"""Whole requests through real hosts: which arm answers, and every datatype there and back."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from onnx import TensorProto, helper

from quarterdeckd.rollout.arms import arm
from quarterdeckd.serving.recorder import read_segment
from quarterstore.records.deployments import Route, RoutingTable, Slot
from quarterstore.records.places import Home
from quarterstore.records.registry import Feature, Signature, Tensor

ROW = {"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1, 1, 1, 1]}
INFER = "/v2/models/e/infer"


def canary(slot: Callable[..., Slot], share: int) -> RoutingTable:
    """m@2 has a share beside m@1."""
    slots = (slot("m@1", share=100 - share), slot("m@2", 7.0, share=share, role="candidate"))
    return RoutingTable(epoch=1, routes=(Route(endpoint="e", epoch=1, slots=slots, salt="s"),))


async def arms_of(client: httpx.AsyncClient, keys: list[str]) -> list[str]:
    """The version each key gets, by header."""
    answers = [await client.post(INFER, json={"inputs": [ROW]}, headers={"quarterdeck-key": key}) for key in keys]
    return [each.headers["quarterdeck-version"] for each in answers]


async def test_a_key_keeps_its_version_on_every_host_and_after_a_restart(
    two: Any, slot: Callable[..., Slot], made: Any
) -> None:
    """By header or by parameter; and it is the arm that the rule says."""
    state = await two.push(canary(slot, 30))
    keys = [f"caller {number}" for number in range(60)]
    expected = [("m@1", "m@2")[arm("s", key, (70, 30))] for key in keys]
    assert set(expected) == {"m@1", "m@2"}
    async with httpx.AsyncClient(base_url=state.address, timeout=30) as client:
        assert await arms_of(client, keys) == expected
        answer = await client.post(INFER, json={"inputs": [ROW], "parameters": {"key": keys[0]}})
        assert answer.headers["quarterdeck-version"] == expected[0]
    for each in state.hosts:
        os.kill(each.pid, signal.SIGKILL)
    gone = {each.pid for each in state.hosts}
    await made.until(lambda: two.states[-1].hosts and not gone & {each.pid for each in two.states[-1].hosts})
    async with httpx.AsyncClient(base_url=state.address, timeout=15) as client:
        assert await arms_of(client, keys) == expected


async def test_a_constant_request_id_does_not_pin_all_traffic_to_one_version(
    link: Any, slot: Callable[..., Slot]
) -> None:
    """Many clients send the same `id` each time; with it as the key a canary of 5 % has nothing, or all of it."""
    state = await link.push(canary(slot, 50))
    async with httpx.AsyncClient(base_url=state.address, timeout=30) as client:
        answers = [await client.post(INFER, json={"id": "same", "inputs": [ROW]}) for _ in range(60)]
    assert {each.json()["id"] for each in answers} == {"same"}
    share = sum(each.headers["quarterdeck-version"] == "m@2" for each in answers)
    assert 10 <= share <= 50, share  # beyond it once in 10 million
    assert {each.headers["quarterdeck-arm"] for each in answers} == {"live", "candidate"}


async def test_a_key_that_is_no_text_is_refused(link: Any, slot: Callable[..., Slot]) -> None:
    state = await link.push(canary(slot, 50))
    async with httpx.AsyncClient(base_url=state.address, timeout=30) as client:
        answer = await client.post(INFER, json={"inputs": [ROW], "parameters": {"key": ["a"]}})
    assert answer.status_code == 400 and "parameters.key: got list" in answer.json()["error"]


TYPES = {"i": ("INT64", TensorProto.INT64), "b": ("BOOL", TensorProto.BOOL), "s": ("BYTES", TensorProto.STRING)}


@pytest.fixture
async def typed(link: Any, made: Any, tmp_path: Path) -> str:
    """The address of an endpoint that gives back an integer, a truth and a text as they are."""
    nodes = [helper.make_node("Identity", [name], [f"{name}_out"]) for name in TYPES]
    data = made.graph_bytes(
        nodes,
        [(name, kind, ["n", 1]) for name, (_, kind) in TYPES.items()],
        [(f"{name}_out", kind, ["n", 1]) for name, (_, kind) in TYPES.items()],
    )
    signature = Signature(
        inputs=tuple(Tensor(name=name, datatype=word, shape=(-1, 1)) for name, (word, _) in TYPES.items()),
        outputs=tuple(Tensor(name=f"{name}_out", datatype=word, shape=(-1, 1)) for name, (word, _) in TYPES.items()),
        features=tuple(Feature(name=f"f_{name}", kind="category", input=name, index=0) for name in TYPES),
        label="s_out",
    )
    made_slot = made.slot_of(tmp_path, "t@1", data, signature)
    return str((await link.push(made.table(1, made_slot))).address)


def typed_inputs(**data: list[Any]) -> dict[str, Any]:
    """A request with these values, one a row."""
    return {
        "inputs": [
            {"name": name, "shape": [len(data[name]), 1], "datatype": word, "data": data[name]}
            for name, (word, _) in TYPES.items()
        ]
    }


async def test_integers_truths_and_texts_come_back_as_they_went(typed: str, home: Home, made: Any) -> None:
    """2^53 + 1 is what a detour over a float loses; and they are recorded as what they are."""
    sent = {"i": [2**53 + 1, -(2**63)], "b": [True, False], "s": ["Zürich ✓", ""]}
    async with httpx.AsyncClient(base_url=typed, timeout=30) as client:
        answer = await client.post(INFER, json=typed_inputs(**sent))
        about = (await client.get("/v2/models/e")).json()
    found = {each["name"]: each for each in answer.json()["outputs"]}
    assert {name: found[f"{name}_out"]["data"] for name in TYPES} == sent
    assert {found[f"{name}_out"]["datatype"] for name in TYPES} == {"INT64", "BOOL", "BYTES"}
    assert [each["datatype"] for each in about["inputs"]] == ["INT64", "BOOL", "BYTES"]
    spool = home.serving / "predictions"
    (path,) = await made.until(lambda: list(spool.glob("*.done")))
    (frame,) = read_segment(path)
    assert frame.features == {f"f_{name}": values for name, values in sent.items()}
    assert frame.predictions == sent["s"]


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("i", 1.5, "fractions among integers"),
        ("i", True, "booleans among numbers"),
        ("i", 2**63, "beyond -9223372036854775808"),
        ("i", 2**64, "beyond -9223372036854775808"),
        ("i", "1", "not all of it is numbers"),
        ("b", 1, "numbers among booleans"),
        ("b", "true", "not all of it is numbers"),
        ("s", 1, "int among texts"),
        ("s", None, "NoneType among texts"),
        ("s", {"a": 1}, "dict among texts"),
    ],
)
async def test_a_value_of_another_type_is_refused_by_name(typed: str, name: str, value: Any, words: str) -> None:
    """Taken silently, 1.5 would be 1 and "true" whatever it is."""
    sent: dict[str, list[Any]] = {"i": [1], "b": [True], "s": ["a"], name: [value]}
    async with httpx.AsyncClient(base_url=typed, timeout=30) as client:
        answer = await client.post(INFER, json=typed_inputs(**sent))
    assert answer.status_code == 400
    assert f"inputs.{name}.data" in answer.json()["error"] and words in answer.json()["error"]


async def test_a_model_that_raises_is_the_versions_error_and_nobody_elses(link: Any, made: Any, tmp_path: Path) -> None:
    """An index beyond the table: 500 without details, counted, recorded; the next request is answered."""
    data = made.graph_bytes(
        [helper.make_node("Gather", ["t", "i"], ["y"])],
        [("i", TensorProto.INT64, ["n"])],
        [("y", TensorProto.FLOAT, ["n"])],
        [helper.make_tensor("t", TensorProto.FLOAT, [2], [10.0, 20.0])],
    )
    signature = Signature(
        inputs=(Tensor(name="i", datatype="INT64", shape=(-1,)),),
        outputs=(Tensor(name="y", datatype="FP32", shape=(-1,)),),
    )
    state = await link.push(made.table(1, made.slot_of(tmp_path, "g@1", data, signature)))
    async with httpx.AsyncClient(base_url=state.address, timeout=30) as client:

        def ask(index: int) -> Any:
            body = {"inputs": [{"name": "i", "shape": [1], "datatype": "INT64", "data": [index]}]}
            return client.post(INFER, json=body)

        answers = [await ask(index) for index in (0, 5, 1)]
    assert [each.status_code for each in answers] == [200, 500, 200]
    assert answers[1].json()["error"] == "the model raised an error on this input"
    assert answers[1].headers["quarterdeck-version"] == "g@1"
    await made.until(
        lambda: any(each.latency and (each.latency.total_requests, each.latency.total_errors) == (3, 1)
                    for each in link.news)
    )  # fmt: skip
    assert [host.pid for host in (await link.state()).hosts] == [host.pid for host in state.hosts]


async def test_an_optional_input_that_is_left_out_is_a_missing_value_to_the_model(
    link: Any, made: Any, tmp_path: Path
) -> None:
    """NaN for a number, an empty text for a text, in each row; a required one is still asked for by name."""
    data = made.graph_bytes(
        [
            helper.make_node("IsNaN", ["a"], ["missing"]),
            helper.make_node("Identity", ["t"], ["text"]),
            helper.make_node("Identity", ["x"], ["same"]),
        ],
        [("x", TensorProto.FLOAT, ["n", 1]), ("a", TensorProto.FLOAT, ["n", 1]), ("t", TensorProto.STRING, ["n", 1])],
        [
            ("same", TensorProto.FLOAT, ["n", 1]),
            ("missing", TensorProto.BOOL, ["n", 1]),
            ("text", TensorProto.STRING, ["n", 1]),
        ],
    )
    signature = Signature(
        inputs=(
            Tensor("x", "FP32", (-1, 1)),
            Tensor("a", "FP32", (-1, 1), optional=True),
            Tensor("t", "BYTES", (-1, 1), optional=True),
        ),
        outputs=(Tensor("same", "FP32", (-1, 1)), Tensor("missing", "BOOL", (-1, 1)), Tensor("text", "BYTES", (-1, 1))),
    )
    address = (await link.push(made.table(1, made.slot_of(tmp_path, "o@1", data, signature)))).address
    x, a = (
        {"name": name, "shape": [2, 1], "datatype": "FP32", "data": values}
        for name, values in (("x", [1, 2]), ("a", [3, 4]))
    )
    async with httpx.AsyncClient(base_url=address, timeout=30) as client:
        without = (await client.post(INFER, json={"inputs": [x]})).json()
        given = (await client.post(INFER, json={"inputs": [x, a]})).json()
        refused = await client.post(INFER, json={"inputs": [a]})
        nothing = await client.post(INFER, json={"inputs": []})
    assert [each["data"] for each in without["outputs"]] == [[1, 2], [True, True], ["", ""]]
    assert given["outputs"][1]["data"] == [False, False]
    assert refused.status_code == 400 and "no x" in refused.json()["error"]
    assert nothing.status_code == 400
