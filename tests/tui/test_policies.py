"""The monitoring screen says of each model that is retrained by itself how its triggers stand, and why they hold."""

from __future__ import annotations

import os
from typing import Any

import pytest

from quarterstore.records import ct, governance, pipelines


@pytest.fixture(scope="module")
def policies(life: Any) -> Any:
    """`churn` is retrained by drift, labels, rows and the clock: on, and nothing has come yet."""
    data = pipelines.DataSection(target="target", builtin="iris")
    with life.client() as owner, life.client("ana") as ana:
        run = owner.ask(pipelines.RunPipeline(definition=pipelines.Definition(name="weekly", model="churn", data=data)))
        for _ in owner.follow(0):
            found = owner.ask(pipelines.ShowPipelineRun(pipeline_run=run.id))
            if found.state not in ("QUEUED", "RUNNING"):
                break
        rule = governance.GateRule(metric="accuracy", op=">=", limit=0.5)
        ana.ask(governance.SetGate(model="churn", rules=(rule,)))
        owner.ask(
            ct.SetPolicy(
                model="churn",
                pipeline="weekly",
                schedule=ct.OnSchedule(every=604_800.0),
                drift=ct.OnDrift(checks=2),
                accuracy=ct.OnAccuracy(),
                rows=ct.OnRows(),
                strategy="canary",
            )
        )
        owner.ask(ct.SwitchPolicy(model="churn", enabled=True))
    return life


@pytest.mark.parametrize("size", [(80, 24), (160, 48)])
async def test_a_policy_shows_each_trigger_against_its_limit_and_why_it_does_not_fire(
    policies: Any, made: Any, console: Any, size: tuple[int, int]
) -> None:
    """At both sizes; alone on the screen after enter, with the command that says the same."""
    async with console(policies.home).run_test(notifications=True, size=size) as pilot:
        screen = await made.gone_to(pilot, "6", "monitoring")
        await made.until(pilot, lambda: isinstance(screen.selected(), ct.PolicyStatus), "the policy")
        await made.shown(pilot, "qd ct status churn")
        if folder := os.environ.get("UPDATE_SCREENS"):
            pilot.app.save_screenshot(f"policies-{size[0]}.svg", folder)
        await pilot.press("enter")
        shown = await made.shown(pilot, "continuous training of churn")
        for words in ("weekly → canary", "0 of 2 checks in a row", "no check yet: qd drift churn"):
            assert words in shown, shown
        if size[1] > 40:
            for words in ("no labels yet: 0 of 200", "0 of 10,000 rows", "due 20", "none yet", "qd ct off churn"):
                assert words in shown, shown
