"""A shadow beside live traffic: it is shown what was asked, and nothing it does reaches a caller."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import time
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from quarterdeckd.serving import status
from quarterdeckd.serving.shadow import RUN_WITHIN
from quarterstore.records import deployments, monitoring, predictions, trials
from quarterstore.records.faults import Conflict
from tests.faults.test_serving import ask, deployed, live, made, nan_for_ones, staged, traffic, until

pytestmark = pytest.mark.fault


WIDE = made.Signature(inputs=made.SIGNATURE.inputs, outputs=(made.Tensor(name="y", datatype="FP32", shape=(-1, 4)),))


def shadows(launcher: int) -> list[int]:
    """The pids of the shadow processes of a launcher."""
    found = []
    for pid in Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it may end while we look
            if b"quarterdeckd.serving.shadow" in Path(f"/proc/{pid}/cmdline").read_bytes():
                found.append(int(pid))
    return found


def report(client: Any) -> trials.ShadowReport:
    """What is known of the shadow of `small`."""
    found: trials.ShadowReport = client.ask(trials.ReportShadow(endpoint="small"))
    return found


def shadowed(client: Any, data: bytes, signature: Any = made.SIGNATURE) -> tuple[str, str, str]:
    """A live version, a shadow of these bytes that is routed, and the address."""
    first = deployed(client, 0.0)
    until(lambda: live(client, first))
    second = staged(client, data, signature)
    client.ask(trials.StartShadow(version=second))
    until(lambda: client.ask(trials.ShowTrial(endpoint="small")).state == "RUNNING")
    until(lambda: live(client, first))
    return first, second, str(client.ask(deployments.ShowServing()).address)


async def test_a_shadow_is_shown_what_was_asked_and_answers_nobody(absent: Any) -> None:
    """Pairs by prediction id, over a restart of the daemon; a second rollout is refused until a rollback ends it."""
    absent.start()
    with absent.client() as client:
        first, second, address = await asyncio.to_thread(shadowed, client, nan_for_ones())
        early = await asyncio.to_thread(heard, client, address)
        zeros = {"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [0, 0, 0, 0]}]}
        async with httpx.AsyncClient(base_url=address, timeout=30) as asking:
            bodies = [zeros, traffic.BODY] * 40
            answers = [await asking.post("/v2/models/small/infer", json=body) for body in bodies]
        assert {each.status_code for each in answers} == {200}
        assert {each.headers["quarterdeck-version"] for each in answers} == {first}
        await asyncio.to_thread(until, lambda: seen(report(client)) == early + 80)
        found = report(client)
        # zeros: both say 0; ones: the live version says 1, the shadow no number
        assert (found.pairs, found.agreed) == (40, 40)
        assert found.failed + found.dropped == early + 40 and found.dropped < early
        assert client.ask(predictions.CountPredictions(endpoint="small")).versions == {first: early + 80}
        with pytest.raises(Conflict, match=rf"shadow {second} at 100 % since \d\d:\d\d; abort it"):
            client.ask(trials.StartShadow(version=second))
    refused = absent.qd("canary", second)
    assert refused.returncode == 5 and f"shadow {second} at 100 % since" in refused.stderr
    absent.stop(signal.SIGKILL)
    absent.start()
    shown = json.loads(absent.qd("--json", "shadow", "report", "small").stdout)
    assert (shown["live"], shown["shadow"], shown["failed"]) == (first, second, found.failed)
    with absent.client() as client:
        client.ask(deployments.RollBack(endpoint="small", reason="seen enough"))
        ended = client.ask(trials.ShowTrial(endpoint="small"))
        assert (ended.state, ended.why) == ("ENDED", "rolled back: seen enough")
        assert client.ask(deployments.ShowDeployment(endpoint="small")).live == first
        launcher = client.ask(deployments.ShowServing()).launcher
        await asyncio.to_thread(until, lambda: not shadows(launcher))


def heard(client: Any, address: str) -> int:
    """Ask until the shadow process is up and recorded one; answers how many requests that took."""
    count, deadline = 0, time.monotonic() + 60
    while not report(client).failed:
        ask(address)
        count += 1
        assert time.monotonic() < deadline, "the shadow process did not come up"
    return count


def seen(found: trials.ShadowReport) -> int:
    """Requests that the shadow answered, failed on, or was not shown."""
    return found.pairs + found.failed + found.dropped


async def test_a_shadow_that_dies_is_taken_away_and_no_caller_notices(absent: Any) -> None:
    """As the memory killer does it: SIGKILL while it runs, under live traffic."""
    absent.start()
    with absent.client() as client:
        first, second, address = await asyncio.to_thread(shadowed, client, made.loop_bytes(1_000_000), WIDE)
        launcher = client.ask(deployments.ShowServing()).launcher
        asking = traffic.Traffic(address, "small", retry=False)
        await asyncio.to_thread(until, partial(_runs, absent.home.serving / "status-shadow"))
        await asking.until(300)
        [pid] = shadows(launcher)
        os.kill(pid, signal.SIGKILL)
        await asyncio.to_thread(until, lambda: client.ask(trials.ShowTrial(endpoint="small")).state == "ENDED")
        await asking.until(100)
        answers = await asking.stop()
        found = client.ask(trials.ShowTrial(endpoint="small"))
        dropped = report(client).dropped
        alerts = [
            each for each in client.ask(monitoring.ListAlerts(all=True)) if each.kind == "shadow falls behind"
        ]  # over with its shadow
        assert client.ask(deployments.ShowDeployment(endpoint="small")).live == first
        await asyncio.to_thread(until, lambda: not shadows(launcher))
    assert {(each.status, each.version) for each in answers} == {(200, first)}
    assert f"1 crash while {second} was running" in found.why
    assert dropped > 50 and alerts, "it was slower than the traffic: what it was not shown is counted and said"


@pytest.mark.slow
async def test_a_shadow_that_hangs_is_taken_away_after_its_time_and_no_caller_notices(absent: Any) -> None:
    """Zeros, its golden rows, pass at once; ones would take hours."""
    absent.start()
    with absent.client() as client:
        hanging = made.loop_bytes(10**10, of_x=True)
        first, second, address = await asyncio.to_thread(shadowed, client, hanging, WIDE)
        await asyncio.to_thread(until, lambda: shadows(client.ask(deployments.ShowServing()).launcher))
        asking = traffic.Traffic(address, "small", retry=False)
        await asyncio.to_thread(
            until, lambda: client.ask(trials.ShowTrial(endpoint="small")).state == "ENDED", RUN_WITHIN * 2
        )
        answers = await asking.stop()
        assert client.ask(deployments.ShowDeployment(endpoint="small")).live == first
        assert f"1 crash while {second} was running" in client.ask(trials.ShowTrial(endpoint="small")).why
    assert {(each.status, each.version) for each in answers} == {(200, first)}


def _runs(path: Path) -> bool:
    return path.exists() and bool(status.running(path))
