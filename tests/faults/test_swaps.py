"""F25 and what §1.4 asks of a swap: version after version under load, not one call that fails or mixes two of them."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import msgspec
import pytest

from quarterstore.records import deployments
from tests.faults import test_serving as serving
from tests.faults.test_serving import made, traffic

pytestmark = [pytest.mark.fault, pytest.mark.alone]
home, slot, two = made.home, made.slot, made.two


def mixed(answers: list[Any], meant: dict[str, float]) -> list[Any]:
    """Answers whose header, body and figures are not all of one version."""
    found = []
    for each in answers:
        body = msgspec.json.decode(each.body)
        if body["model_version"] != each.version or body["outputs"][0]["data"] != [meant[each.version]] * 2:
            found.append(each)
    return found


async def f25(link: Any, slot: Any, report: Any, switches: int) -> None:
    """Odd epochs serve m@1, which answers 1 to a row of ones; even ones m@2, which answers 8."""
    slots, meant = {1: slot("m@1"), 0: slot("m@2", bias=7.0)}, {"m@1": 1.0, "m@2": 8.0}
    state = await link.push(made.table(1, slots[1]))
    await made.until(lambda: sum(each.ready for each in link.states[-1].hosts) == 2)
    asking = traffic.Traffic(state.address, "e", 500, 16, retry=False)
    took = []
    for epoch in range(2, switches + 2):
        await asking.until(50)
        began = time.monotonic()
        assert (await link.push(made.table(epoch, slots[epoch % 2]))).epoch == epoch
        took.append(time.monotonic() - began)
    await asking.until(50)
    answers = await asking.stop()
    failed = [each for each in answers if each.status != 200]
    good = [each for each in answers if each.status == 200]
    wrong = mixed(good, meant) + [each for each in good if each.version != ("m@1" if each.epoch % 2 else "m@2")]
    rate = len(answers) / (answers[-1].done - answers[0].sent)
    report("F25", switches, len(failed), requests=len(answers), rate=f"{rate:.0f}/s", mixed=len(wrong),
           switch=f"{sorted(took)[len(took) // 2] * 1000:.0f} ms")  # fmt: skip
    assert not failed and not wrong, failed[:5]
    assert {each.epoch for each in answers} >= set(range(2, switches + 1)), "each of them answered"


async def test_twenty_switches_at_500_requests_a_second_fail_and_mix_nothing(two: Any, slot: Any, report: Any) -> None:
    await f25(two, slot, report, 20)


@pytest.mark.slow
async def test_two_hundred_switches_at_500_requests_a_second_fail_and_mix_nothing(
    two: Any, slot: Any, report: Any
) -> None:
    await f25(two, slot, report, 200)


@pytest.mark.parametrize("seconds", [5, pytest.param(60, marks=pytest.mark.slow)])
async def test_versions_are_swapped_under_200_requests_a_second_without_a_failed_call(
    absent: Any, report: Any, seconds: int
) -> None:
    """By people's acts: deployed and rolled back in turn, each answer with the version that gave it."""
    absent.start()
    with absent.client() as client:
        first = await asyncio.to_thread(serving.deployed, client, 0.0)
        await asyncio.to_thread(serving.until, lambda: serving.live(client, first))
        address = client.ask(deployments.ShowServing()).address
        asking = traffic.Traffic(address, "small", 200, retry=False)
        await asking.until(20)
        began, swaps = time.monotonic(), 0
        meant = {first: 1.0}
        while time.monotonic() - began < seconds:
            second = await asyncio.to_thread(serving.deployed, client, 7.0 + swaps)
            meant[second] = 8.0 + swaps
            await asyncio.to_thread(serving.until, lambda version=second: serving.live(client, version))
            await asking.until(20)
            await asyncio.to_thread(client.ask, deployments.RollBack(endpoint="small", reason="a test"))
            await asyncio.to_thread(serving.until, lambda: serving.live(client, first))
            swaps += 2
        await asking.until(20)
        answers = await asking.stop()
    failed = [each for each in answers if each.status != 200]
    report("swaps", swaps, len(failed), requests=len(answers), versions=len(meant))
    assert not failed and not mixed(answers, meant)
    assert {each.version for each in answers} == set(meant)
    assert len(answers) >= 0.8 * 200 * seconds
