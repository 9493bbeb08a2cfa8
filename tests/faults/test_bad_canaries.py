"""F23: candidates that are worse, each in its own way, are taken back by themselves and hurt no more than a share."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from quarterstore.records import deployments, jobs
from tests.faults import test_serving as serving
from tests.faults.test_serving import made, traffic

pytestmark = pytest.mark.fault
SHARE = 50
WITHIN = 10.0
EVERY = "2"
"""Seconds between two judgements."""
ROWS = ["n", 4]


def graph(nodes: list[Any], constants: list[Any]) -> bytes:
    """A model of x with four numbers a row that answers y with two."""
    inputs, outputs = [("x", TensorProto.FLOAT, ROWS)], [("y", TensorProto.FLOAT, ["n", 2])]
    return bytes(made.graph_bytes(nodes, inputs, outputs, constants))


def weights() -> list[Any]:
    return [numpy_helper.from_array(np.full((4, 2), 0.25, np.float32), "w")]


def one_in_twenty() -> bytes:
    """y = x @ W, and no number for a row of ones whenever a draw from [0, 1) is below 0.06; zeros are always sound, so
    that it is admitted."""
    return graph(
        [
            helper.make_node("MatMul", ["x", "w"], ["h"]),
            helper.make_node("RandomUniformLike", ["h"], ["u"]),
            helper.make_node("ReduceMax", ["u"], ["most"], keepdims=1),
            helper.make_node("Less", ["most", "few"], ["bad"]),
            helper.make_node("Sub", ["zero", "h"], ["below"]),
            helper.make_node("Log", ["below"], ["none"]),
            helper.make_node("Where", ["bad", "none", "h"], ["y"]),
        ],
        [
            *weights(),
            # both of two draws are below it in 6 of 100 rows
            numpy_helper.from_array(np.array(0.245, np.float32), "few"),
            numpy_helper.from_array(np.array(0, np.float32), "zero"),
        ],
    )


def wrong_shape() -> bytes:
    """A row of zeros is added to two numbers, one of ones to six of them, which raises."""
    return graph(
        [
            helper.make_node("MatMul", ["x", "w"], ["h"]),
            helper.make_node("ReduceSum", ["x"], ["sum"], keepdims=0),
            helper.make_node("Cast", ["sum"], ["more"], to=TensorProto.INT64),
            helper.make_node("Add", ["more", "two"], ["columns"]),
            helper.make_node("Unsqueeze", ["columns", "axis"], ["second"]),
            helper.make_node("ConstantOfShape", ["second"], ["many"]),
            helper.make_node("Add", ["h", "many"], ["y"]),
        ],
        [
            *weights(),
            numpy_helper.from_array(np.array(2, np.int64), "two"),
            numpy_helper.from_array(np.array([0], np.int64), "axis"),
        ],
    )


LOOPS = made.Signature(inputs=made.SIGNATURE.inputs, outputs=(made.Tensor(name="y", datatype="FP32", shape=(-1, 4)),))
CASES = {
    "five of a hundred more errors": (made.model_bytes(0.0), one_in_twenty(), made.SIGNATURE),
    "another shape than it says": (made.model_bytes(0.0), wrong_shape(), made.SIGNATURE),
    "three times the latency": (made.loop_bytes(3_000), made.loop_bytes(12_000), LOOPS),
}


@pytest.mark.alone
@pytest.mark.parametrize("case", CASES)
async def test_a_worse_candidate_is_taken_back_in_time(absent: Any, report: Any, case: str) -> None:
    good, bad, signature = CASES[case]
    absent.start(QUARTERDECK_JUDGE_EVERY=EVERY)
    with absent.client() as client:
        first = await asyncio.to_thread(serving.deployed, client, 0.0, good, signature)
        await asyncio.to_thread(serving.until, lambda: serving.live(client, first))
        second = await asyncio.to_thread(serving.staged, client, bad, signature)
        address = client.ask(deployments.ShowServing()).address
        asking = traffic.Traffic(address, "small", 200 if signature is not LOOPS else 40, retry=False)
        await asking.until(20)
        client.ask(deployments.StartCanary(version=second, ladder=(SHARE, 100)))
        await asyncio.to_thread(serving.until, lambda: any(each.version == second for each in asking.answers))
        began = time.monotonic()
        await asyncio.to_thread(serving.until, lambda: not shown(client).canary)
        took = time.monotonic() - began
        await asking.until(20)
        await asyncio.to_thread(serving.until, lambda: serving.live(client, first))
        await asking.until(20)
        answers = await asking.stop()
        alert = serving.told_of(client, "canary rolled back")[0]
    during = [each for each in answers if began <= each.done <= began + took]
    hit = [each for each in during if each.version == second]
    report(
        "F23", 1, 0, case=case.replace(" ", "-"), took=f"{took:.1f} s", hit=len(hit), of=len(during), why=alert.words
    )
    assert took <= WITHIN
    assert len(hit) <= (SHARE / 100) * len(during) + 5 * (len(during) * 0.25) ** 0.5, "no more than its share"
    assert {each.status for each in answers if each.version == first} == {200}
    assert {each.version for each in answers[-10:]} == {first}


def shown(client: Any) -> deployments.Deployment:
    """The deployment of `small`."""
    found: deployments.Deployment = client.ask(deployments.ShowDeployment(endpoint="small"))
    return found


async def test_a_candidate_whose_loading_crashes_never_gets_traffic(absent: Any, report: Any) -> None:
    """Its admission is killed as the memory killer does it, whenever it is tried."""
    absent.start()
    with absent.client() as client:
        first = await asyncio.to_thread(serving.deployed, client, 0.0, made.loop_bytes(3_000), LOOPS)
        await asyncio.to_thread(serving.until, lambda: serving.live(client, first))
        second = await asyncio.to_thread(serving.staged, client, made.loop_bytes(5_000_000), LOOPS)
        asking = traffic.Traffic(client.ask(deployments.ShowServing()).address, "small", 50, retry=False)
        await asking.until(20)
        client.ask(deployments.StartCanary(version=second, ladder=(SHARE, 100)))

        def admitting() -> list[int]:
            found = client.ask(jobs.ListJobs())
            return [each.pid for each in found if each.kind == "admission" and each.state == "RUNNING" and each.pid]

        killed = 0
        deadline = time.monotonic() + 60
        while shown(client).pending == second and time.monotonic() < deadline:
            for pid in await asyncio.to_thread(admitting):
                with contextlib.suppress(ProcessLookupError):  # it died of the last one meanwhile
                    os.kill(pid, signal.SIGKILL)
                    killed += 1
            await asyncio.sleep(0.02)
        found = shown(client)
        await asking.until(20)
        answers = await asking.stop()
    report("F23", killed, 0, case="crash-on-load", state=found.state, why=found.why)
    assert killed and found.live == first and found.canary is None and found.pending is None
    assert {(each.status, each.version) for each in answers} == {(200, first)}


async def test_a_canary_that_nobody_asks_holds(absent: Any) -> None:
    """Time alone moves nothing, and what is missing is said with its number."""
    absent.start(QUARTERDECK_JUDGE_EVERY="0.1")
    with absent.client() as client:
        first = await asyncio.to_thread(serving.deployed, client, 0.0)
        await asyncio.to_thread(serving.until, lambda: serving.live(client, first))
        second = await asyncio.to_thread(serving.staged, client, made.model_bytes(7.0))
        client.ask(deployments.StartCanary(version=second, ladder=(5, 100)))

        def judged() -> Any:
            canary = shown(client).canary
            return canary and canary.judged

        await asyncio.to_thread(serving.until, judged)
        await asyncio.sleep(2.0)  # twenty judgements
        found = shown(client).canary
    assert found is not None and found.step == 0 and found.judged is not None
    assert (found.judged.verdict, found.judged.have) == ("HOLD", 0) and found.judged.need >= 50
