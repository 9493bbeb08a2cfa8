"""The deployments screen by its keys, on a daemon that serves: the past, what a shadow said, and how it is left."""

from __future__ import annotations

import json
import time
import urllib.request
from typing import Any

from quarterdeck.tui.screens.deployments import DeploymentsScreen
from quarterdeck.tui.screens.detail import DetailScreen
from quarterdeck.tui.screens.disagreements import DisagreementsScreen
from quarterstore.records import deployments, trials
from quarterstore.records.deployments import ShowTraffic


def asked(client: Any, count: int) -> None:
    """So many requests to `churn`, answered and heard of."""
    epoch = client.ask(deployments.ShowDeployment(endpoint="churn")).epoch
    deadline = time.monotonic() + 20
    while not (serving := client.ask(deployments.ShowServing())).hosts or serving.epoch < epoch:
        assert time.monotonic() < deadline, serving
        time.sleep(0.05)
    before = heard(client)
    for number in range(count):
        tensor = {"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [number % 3, 1, 1, 1]}
        body = json.dumps({"inputs": [tensor]}).encode()
        with urllib.request.urlopen(f"{serving.address}/v2/models/churn/infer", body, timeout=10) as answer:
            answer.read()
    while heard(client) < before + count:
        assert time.monotonic() < deadline, "what was answered was not heard of"
        time.sleep(0.05)


def heard(client: Any) -> int:
    """Requests to `churn` that the daemon knows of."""
    return sum(sum(arm.requests) for arm in client.ask(ShowTraffic(endpoint="churn", window=3600)).arms)


async def test_a_console_that_is_opened_later_sees_what_was_answered_before(life: Any, made: Any, console: Any) -> None:
    """Each measure and each window by its key, from the card with the whole screen too."""
    with life.client() as owner:
        asked(owner, 40)
    app = console(life.home)
    async with app.run_test(size=(160, 48)) as pilot:
        await made.gone_to(pilot, "4", "deployments")
        await made.shown(pilot, "traffic, last 10 min, readings of 10 s")
        assert "$ qd deployment history churn --window 10m" in made.text(pilot)
        for measure in ("P99", "rate", "errors", "P50", "P95"):
            await pilot.press("m")
            await made.shown(pilot, f"{measure} by version")
        await pilot.press("w")
        await made.shown(pilot, "--window 1h")
        await pilot.press("enter")
        await made.until(pilot, lambda: isinstance(app.screen, DetailScreen), "the card alone")
        await pilot.press("w")
        await made.shown(pilot, "traffic, last 6 h, readings of 60 s")
        await pilot.press("m")
        await made.shown(pilot, "P99 by version")


async def test_what_a_shadow_would_have_answered_is_looked_through(life: Any, made: Any, console: Any) -> None:
    with life.client() as owner:
        version = made.register(owner, 1.5, lean=1.0)
        owner.ask(trials.StartShadow(version=version))
        deadline = time.monotonic() + 30
        while owner.ask(trials.ShowTrial(endpoint="churn")).state != "RUNNING":
            assert time.monotonic() < deadline
            time.sleep(0.05)
        asked(owner, 30)
        while not (report := owner.ask(trials.ReportShadow(endpoint="churn"))).disagreements:
            assert time.monotonic() < deadline, report
            asked(owner, 1)
    app = console(life.home)
    try:
        async with app.run_test(size=(160, 48)) as pilot:
            await made.shown(pilot, f"shadow {version} at 100 %")  # on the bridge
            await made.gone_to(pilot, "4", "deployments")
            assert "◔ SHADOW" in await made.shown(pilot, "largest disagreements")
            await pilot.press("d")
            await made.until(pilot, lambda: isinstance(app.screen, DisagreementsScreen), "the list")
            await made.shown(pilot, "% agree")
            assert "qd predictions show --prediction" in await made.shown(pilot, "f0")
            await pilot.press("enter")
            await made.until(pilot, lambda: isinstance(app.screen, DetailScreen), "one of them")
            found = await made.shown(pilot, "answers")
            assert version in found and "churn@2" in found and "inputs" in found
            await pilot.press("escape", "escape")
            await made.until(pilot, lambda: isinstance(app.screen, DeploymentsScreen), "the way back")
    finally:
        with life.client() as owner:
            owner.ask(trials.StopTrial(endpoint="churn"))
    async with console(life.home).run_test(size=(160, 48)) as pilot:
        await made.gone_to(pilot, "4", "deployments")
        await made.shown(pilot, "stopped: by")


async def test_the_chart_that_a_key_draws_is_in_sight_on_a_small_terminal(life: Any, made: Any, console: Any) -> None:
    with life.client() as owner:
        asked(owner, 5)
    async with console(life.home).run_test(size=(80, 24)) as pilot:
        await made.gone_to(pilot, "4", "deployments")
        await made.shown(pilot, "epoch ")
        for measure in ("P99", "rate"):
            await pilot.press("m")
            await made.shown(pilot, f"{measure} by version")
        await made.shown(pilot, "10 min ago")
