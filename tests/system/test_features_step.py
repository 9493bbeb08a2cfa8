"""The step `features` of pipelines: a rerun learns from the rows that came since, and from nothing else."""

from __future__ import annotations

import json
import os
import random
import signal
from pathlib import Path
from typing import Any

import pytest

from quarterstore.records import ct, features, governance, jobs, pipelines, registry
from tests.conftest import Daemon
from tests.decks import until

VIEWS = """
[entities.customer]
keys = { customer = "integer" }
[views.usage]
entities = ["customer"]
event_time = "at"
[views.usage.features]
minutes = "number"
"""
PIPELINE = """
name = "leavers"
model = "leavers"
[data]
file = "e.csv"
target = "left"
features = ["usage"]
entity_time = "when"
"""


def rows_of(first: int, last: int, day: str, factor: float) -> str:
    chance = random.Random(first)
    lines = [f"{n},{day},{factor * ((n % 2) * 5 + chance.random()):.4f}" for n in range(first, last)]
    return "\n".join(["customer,at,minutes", *lines, ""])


@pytest.fixture
def deck(absent: Daemon, tmp_path: Path) -> tuple[Daemon, Path]:
    """Half of the customers have a value."""
    entities = [f"{n},2026-06-01,{'yes' if n % 2 else 'no'}" for n in range(120)]
    texts = {
        "f.toml": VIEWS,
        "p.toml": PIPELINE,
        "e.csv": "\n".join(["customer,when,left", *entities, ""]),
        "one.csv": rows_of(0, 60, "2026-01-01", 1.0),
        "two.csv": rows_of(60, 120, "2026-02-01", 1.0),
        "late.csv": rows_of(0, 60, "2026-07-01", 9.0),
    }
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    absent.start()
    said(absent, "features", "apply", tmp_path / "f.toml")
    said(absent, "features", "load", "usage", tmp_path / "one.csv", "--known", "event")
    return absent, tmp_path


def said(daemon: Daemon, *words: str | Path) -> list[Any]:
    ran = daemon.qd("--json", *map(str, words))
    assert ran.returncode == 0, ran.stderr
    return [json.loads(line) for line in ran.stdout.splitlines()]


def over(client: Any, run: str) -> pipelines.PipelineRun:
    def looked() -> Any:
        found = client.ask(pipelines.ShowPipelineRun(pipeline_run=run))
        return found if found.state in ("SUCCEEDED", "FAILED", "LOST", "CANCELLED") else None

    found: pipelines.PipelineRun = until(looked, seconds=120)
    return found


def ended(client: Any, run: str) -> pipelines.PipelineRun:
    found = over(client, run)
    assert found.state == "SUCCEEDED", found.error
    return found


def again(client: Any) -> pipelines.PipelineRun:
    return ended(client, client.ask(pipelines.RerunPipeline(pipeline="leavers")).id)


def how(run: pipelines.PipelineRun) -> dict[str, str]:
    return {step.name: step.how for step in run.steps if step.name in ("features", "validate", "train")}


def test_a_rerun_learns_from_new_rows_and_from_the_cache_where_none_came(deck: tuple[Daemon, Path]) -> None:
    daemon, folder = deck
    said(daemon, "pipeline", "run", folder / "p.toml", "--wait")
    with daemon.client() as client:
        [first] = client.ask(pipelines.ListPipelineRuns())
        assert [step.name for step in first.steps[:3]] == ["features", "validate", "split"]
        made = first.steps[0].figures
        assert made["statuses"] == {"usage": {"PRESENT": 60, "NOT_FOUND": 60}} and made["rows"] == 120
        same = again(client)
        assert how(same) == {"features": "cached", "validate": "cached", "train": "cached"}
        said(daemon, "features", "load", "usage", folder / "two.csv", "--known", "event")
        newer = again(client)
        assert how(newer) == {"features": "", "validate": "", "train": ""}
        more = newer.steps[0].figures
        assert more["statuses"] == {"usage": {"PRESENT": 120}} and more["set"] != made["set"]
        said(daemon, "features", "load", "usage", folder / "late.csv")
        later = again(client)
        assert how(later) == {"features": "", "validate": "cached", "train": "cached"}
        assert later.steps[0].figures["set"] == more["set"]
        kept = {each.id: each for each in client.ask(features.ListTrainingSets())}
        assert set(kept) == {made["set"], more["set"]}
        for run, figures in ((first, made), (same, made), (newer, more), (later, more)):
            version = client.ask(registry.ShowVersion(version=run.version))
            assert version.dataset == kept[figures["set"]].digest
            assert [each.name for each in version.views] == ["usage"]
            above = said(daemon, "lineage", version.id, "--up")[0]["up"]
            assert {figures["set"], "usage@1"} <= {each["id"] for each in above}
    assert said(daemon, "features", "rebuild", more["set"])[0]["same"] is True


def test_new_rows_of_a_view_lead_to_a_retrain_on_them(deck: tuple[Daemon, Path]) -> None:
    daemon, folder = deck
    said(daemon, "pipeline", "run", folder / "p.toml", "--wait")
    with daemon.client() as client:
        rule = governance.GateRule(metric="accuracy", op=">=", limit=0.1)
        client.ask(governance.SetGate(model="leavers", rules=(rule,)))
        on = ct.OnRows(least=50, of="features", view="usage")
        client.ask(ct.SetPolicy(model="leavers", pipeline="leavers", rows=on, strategy="none", cooldown=0.0))
        client.ask(ct.SwitchPolicy(model="leavers", enabled=True))
        said(daemon, "features", "load", "usage", folder / "two.csv", "--known", "event")
        found = until(
            lambda: next((run for run in client.ask(pipelines.ListPipelineRuns()) if run.cause), None), seconds=60
        )
        retrained = ended(client, found.id)
    assert "rows" in (retrained.cause or "")
    assert retrained.steps[0].figures["statuses"] == {"usage": {"PRESENT": 120}}


def test_a_run_whose_join_paused_while_one_was_forgotten_ends_and_is_resumed_without_them(
    deck: tuple[Daemon, Path],
) -> None:
    daemon, folder = deck
    said(daemon, "pipeline", "run", folder / "p.toml", "--wait")
    said(daemon, "features", "load", "usage", folder / "two.csv", "--known", "event")
    with daemon.client() as client:
        run = client.ask(pipelines.RerunPipeline(pipeline="leavers"))
        worker = until(lambda: client.ask(jobs.ShowJob(job=run.job)).pid)
        os.kill(worker, signal.SIGSTOP)
        try:
            [forgotten] = said(daemon, "features", "forget", "customer=7", "--reason", "asked to")
        finally:
            os.kill(worker, signal.SIGCONT)
        cut = over(client, run.id)
        assert cut.state == "FAILED" and f"rows that {forgotten['id']} took out meanwhile" in str(cut.error)
        assert cut.steps[0].state == "FAILED" and len(client.ask(features.ListTrainingSets())) == 1
        client.ask(pipelines.ResumePipeline(pipeline_run=run.id))
        assert ended(client, run.id).steps[0].figures["statuses"] == {"usage": {"PRESENT": 119, "NOT_FOUND": 1}}


CHECKED = PIPELINE + '[[validate.checks]]\ncheck = "not_null"\ncolumns = ["minutes"]\n'
STEPS = """
[[steps]]
name = "train"
uses = "train"
"""


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (PIPELINE.replace('"usage"', '"usages"'), "data.features: got usages"),
        (PIPELINE.replace('"usage"', '"usage:hours"'), "data.features: got usage:hours"),
        (PIPELINE.replace('"when"', '"then"'), "without the column then, expected it among customer, when, left"),
        (PIPELINE.replace('"left"', '"right"'), "right"),
        (PIPELINE.replace('file = "e.csv"', 'builtin = "iris"'), "data.builtin: got iris"),
        (PIPELINE.replace('file = "e.csv"', ""), "data.file: got nothing"),
        (PIPELINE + STEPS, "data.features: got usage, expected nothing, or a step that uses features"),
        (
            PIPELINE + STEPS + '[[steps]]\nname = "f"\nuses = "features"\n[[steps]]\nname = "v"\nuses = "validate"\n',
            "v.after: got nothing, expected f",
        ),
    ],
)
def test_what_cannot_be_joined_is_named_before_anything_runs(deck: tuple[Daemon, Path], text: str, words: str) -> None:
    daemon, folder = deck
    (folder / "p.toml").write_text(text)
    refused = daemon.qd("pipeline", "run", str(folder / "p.toml"))
    assert refused.returncode in (2, 3, 4, 6) and words in refused.stderr, refused.stderr
    assert "Traceback" not in refused.stderr
    with daemon.client() as client:
        assert client.ask(pipelines.ListPipelineRuns()) == []


def test_checks_are_of_the_joined_rows(deck: tuple[Daemon, Path]) -> None:
    daemon, folder = deck
    (folder / "p.toml").write_text(CHECKED)
    failed = daemon.qd("pipeline", "run", str(folder / "p.toml"), "--wait")
    assert failed.returncode != 0 and "minutes" in failed.stderr + failed.stdout
    with daemon.client() as client:
        [run] = client.ask(pipelines.ListPipelineRuns())
    assert [step.state for step in run.steps[:2]] == ["DONE", "FAILED"]
    assert [check["bad"] for check in run.steps[1].figures["checks"]] == [60]
