"""A/B and bandit under real traffic: arms are kept over every death, outcomes decide, and rollback ends it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from msgspec.structs import replace

from quarterdeckd.rollout.arms import arm, drawn, point_of
from quarterstore.records import deployments, monitoring, predictions, trials
from quarterstore.records.outcomes import ArmOutcome
from tests.faults.test_serving import deployed, live, made, staged, told_of, traffic, until

pytestmark = pytest.mark.fault

GIVEN = """
import sys
import msgspec
from quarterdeckd.assembly import Daemon
from quarterstore.records.outcomes import ArmOutcome
made = Daemon.__init__
def init(self, *given):
    made(self, *given)
    def by_arm(endpoint, metric, since_epoch, unit):
        path = self.ledger.home.root.parent / f"{endpoint}-{metric}-{since_epoch}.json"
        known = msgspec.json.decode(path.read_bytes(), type=list[ArmOutcome]) if path.exists() else []
        return {each.version: each for each in known}
    self.trials.by_arm = by_arm
Daemon.__init__ = init
from quarterdeckd.main import main
sys.exit(main())
"""
"""A daemon that reads the outcomes of an endpoint, metric and first epoch from a file."""


def start(absent: Any, *words: str) -> None:
    """Start a daemon that is given its outcomes, and looks at them each half second."""
    command = [sys.executable, "-c", GIVEN, "--home", str(absent.home.root), "--http", "127.0.0.1:0", *words]
    with (absent.folder / "log").open("ab") as log:
        environ = {**absent.environ, "QUARTERDECK_JUDGE_EVERY": "0.05"}
        absent.process = subprocess.Popen(command, env=environ, stderr=log, stdout=log)
    absent.answer()


def tell(absent: Any, trial: trials.Trial, *arms: tuple[int, int]) -> None:
    """Let these be the outcomes of the arms: how many, and how many of them successes."""
    known = []
    for version, (n, good) in zip(trial.versions, arms, strict=True):
        rate = good / n
        known.append(ArmOutcome(version, n, rate, n * rate * (1 - rate), good, 0))
    path: Path = absent.folder / f"small-{trial.metric}-{trial.epoch}.json"
    path.with_suffix(".part").write_bytes(msgspec.json.encode(known))
    path.with_suffix(".part").rename(path)


def shown(client: Any) -> trials.Trial:
    """The trial of `small`."""
    found: trials.Trial = client.ask(trials.ShowTrial(endpoint="small"))
    return found


def both(client: Any) -> tuple[str, str]:
    """A live version and one in Staging."""
    first = deployed(client, 0.0)
    until(lambda: live(client, first))
    return first, staged(client, made.model_bytes(7.0))


def routed(client: Any, first: str) -> str:
    """The address, once the running trial is routed."""
    until(lambda: shown(client).state == "RUNNING")
    until(lambda: live(client, first))
    return str(client.ask(deployments.ShowServing()).address)


async def asked(address: str, keys: list[str]) -> list[httpx.Response]:
    """One answer a key, none lost."""
    async with httpx.AsyncClient(base_url=address, timeout=20) as client:
        answers = []
        for key in keys:
            headers = {"quarterdeck-key": key} if key else {}
            answers.append(await client.post("/v2/models/small/infer", json=traffic.BODY, headers=headers))
    assert {each.status_code for each in answers} == {200}
    return answers


def versions(answers: list[httpx.Response]) -> list[str]:
    return [each.headers["quarterdeck-version"] for each in answers]


async def test_a_caller_keeps_its_arm_over_every_death_until_the_outcomes_decide(absent: Any) -> None:
    """The daemon is killed, then both hosts, then the launcher; the verdict comes once, and the live version stays."""
    start(absent, "--hosts", "2")
    with absent.client() as client:
        first, second = await asyncio.to_thread(both, client)
        started = absent.qd("ab", first, second, "--metric", "bought", "--effect", "0.02", "--split", "40", "--json")
        assert started.returncode == 0, started.stderr
        address = await asyncio.to_thread(routed, client, first)
        trial, serving = shown(client), client.ask(deployments.ShowServing())
    keys = [f"caller {number}" for number in range(80)]
    expected = [(first, second)[arm(trial.salt, key, (60, 40))] for key in keys]
    assert set(expected) == {first, second} and versions(await asked(address, keys)) == expected
    absent.stop(signal.SIGKILL)
    for pid in [*(host.pid for host in serving.hosts), serving.launcher]:
        os.kill(pid, signal.SIGKILL)
    await asyncio.to_thread(start, absent, "--hosts", "2")
    with absent.client() as client:
        await asyncio.to_thread(
            until, lambda: client.ask(deployments.ShowServing()).launcher not in (None, serving.launcher)
        )
        await asyncio.to_thread(until, lambda: all(h.ready for h in client.ask(deployments.ShowServing()).hosts))
        address = str(client.ask(deployments.ShowServing()).address)
        assert versions(await asked(address, keys)) == expected
        kept = replace(trial, judged=None, history=())
        assert replace(shown(client), judged=None, history=()) == kept, "a restart changed the trial"
        refused = absent.qd("shadow", second)
        assert refused.returncode == 5 and f"A/B {first} against {second} at 40 % since" in refused.stderr
        tell(absent, trial, (3000, 300), (2000, 210))
        await asyncio.to_thread(until, lambda: (shown(client).judged or NEVER).verdict == "NEEDS")
        tell(absent, trial, (30_000, 3000), (20_000, 3000))
        await asyncio.to_thread(until, lambda: shown(client).state == "ENDED")
        assert shown(client).why.startswith("WIN: bought 0.15 (20,000) against 0.1 (30,000)")
        await asyncio.to_thread(until, lambda: live(client, first))
        assert set(versions(await asked(address, keys))) == {first}
        assert [each.next for each in told_of(client, "A/B ended")] == [f"qd canary {second}"]


NEVER = trials.TrialVerdict("HOLD", "was not judged")


async def test_callers_that_are_missing_on_one_arm_hold_the_verdict_and_are_said(absent: Any) -> None:
    """As behind a cache that answers for two thirds of the candidate's callers: they never come here."""
    start(absent)
    with absent.client() as client:
        first, second = await asyncio.to_thread(both, client)
        rule = trials.AbRule(metric="bought", effect=0.02)
        client.ask(trials.StartAb(version=second, against=first, rule=rule))
        address = await asyncio.to_thread(routed, client, first)
        trial = shown(client)
        keys = [f"caller {number}" for number in range(300)]
        there = [key for index, key in enumerate(keys) if arm(trial.salt, key, (50, 50)) == 0 or index % 3 == 0]
        answers = await asked(address, [*there, *there[:50]])
        counts = {
            version: sum(each == version for each in versions(answers[: len(there)])) for version in (first, second)
        }
        await asyncio.to_thread(until, lambda: sum(counted(client).values()) == len(answers))
        tell(absent, trial, (30_000, 3000), (20_000, 3000))
        await asyncio.to_thread(until, lambda: told_of(client, "sample ratio mismatch"))
        # a caller that comes again is the same caller; the first judgement may come before the last of them
        words = f"sample ratio: {counts[first]} callers against {counts[second]}, dealt 50 to 50"
        await asyncio.to_thread(until, lambda: words in (shown(client).judged or NEVER).why)
        found = shown(client)
        assert found.state == "RUNNING" and (found.judged or NEVER).verdict == "HOLD"
        alert: monitoring.Alert = told_of(client, "sample ratio mismatch")[0]
        assert (alert.severity, alert.next) == ("critical", "qd ab stop small")
        assert absent.qd("ab", "stop", "small").returncode == 0
        assert shown(client).state == "ENDED"


async def test_a_bandit_deals_by_what_was_earned_and_keeps_the_chance_of_each_prediction(absent: Any) -> None:
    """The same draw as by hand, over a restart of the daemon; rewards count from its first request on."""
    start(absent)
    with absent.client() as client:
        first, second = await asyncio.to_thread(both, client)
        words = ("bandit", first, second, "--metric", "clicked", "--algo", "thompson", "--seed", "3", "--json")
        began = absent.qd(*words)
        assert began.returncode == 0, began.stderr
        address = await asyncio.to_thread(routed, client, first)
        trial = shown(client)
        even = await asked(address, [""] * 100)
        assert versions(even) == chosen(even, (first, second), (0.5, 0.5))
        tell(absent, trial, (1000, 100), (1000, 160))
        await asyncio.to_thread(until, lambda: shown(client).shares[1] > 90)
        await asyncio.to_thread(until, lambda: live(client, first))
        weights = tuple(share / 100 for share in shown(client).shares)
        assert weights == pytest.approx((0.05, 0.95), abs=0.001), "the loser keeps the floor"
    absent.stop(signal.SIGKILL)
    await asyncio.to_thread(start, absent)
    with absent.client() as client:
        later = await asked(address, [""] * 200)
        assert versions(later) == chosen(later, (first, second), weights)
        assert shown(client).epoch == trial.epoch < client.ask(deployments.ShowDeployment(endpoint="small")).epoch
        await asyncio.to_thread(until, lambda: sum(counted(client).values()) == 300)
        for answers, dealt in ((even, (0.5, 0.5)), (later, weights)):
            for index, version in enumerate((first, second)):
                one = next(each for each in answers if each.headers["quarterdeck-version"] == version)
                kept = client.ask(predictions.ShowPrediction(prediction=one.headers["quarterdeck-prediction"]))
                assert (kept.version, kept.propensity) == (version, pytest.approx(dealt[index]))
        client.ask(deployments.RollBack(endpoint="small", reason="enough"))
        await asyncio.to_thread(until, lambda: live(client, first))
        assert set(versions(await asked(address, [""] * 30))) == {first}
    shown_words = json.loads(absent.qd("--json", "bandit", "report", "small").stdout)
    assert (shown_words["state"], shown_words["why"]) == ("ENDED", "rolled back: enough")


def counted(client: Any) -> dict[str, int]:
    found: dict[str, int] = client.ask(predictions.CountPredictions(endpoint="small")).versions
    return found


def chosen(answers: list[httpx.Response], arms: tuple[str, ...], weights: tuple[float, ...]) -> list[str]:
    """What the seed draws for these predictions."""
    ids = [each.headers["quarterdeck-prediction"] for each in answers]
    return [arms[drawn(point_of("bandit/3", each), weights)] for each in ids]
