"""The registry on the command line, on a real daemon: what was live when, what came of what, what can be undone."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from quarterstore.records import datasets, registry, runs
from tests.services.test_registry import shape
from tests.small import onnx_file

PRODUCTION = {"stage": "Production", "reason": "good enough"}


@pytest.fixture(scope="module")
def home(daemon: Any) -> Any:
    """`churn` with three versions of which the second is live, one with a run, code and data, and a child."""
    with daemon.client() as owner:
        data, size = owner.put(b"a,y\n1,2\n2,3\n")
        owner.ask(datasets.AddDataset(digest=data, name="customers.csv", format="csv", size=size))
        source = runs.Source(commit="c0ffee" * 6)
        run = owner.ask(runs.StartRun(experiment="churn", name="spring", source=source)).id
        owner.ask(runs.LogInputs(run=run, inputs=(runs.DatasetInput(name="customers.csv", digest=data),)))
        owner.ask(runs.EndRun(run=run))
        for number, wide in ((1, 2), (2, 2), (3, 3)):
            register(owner, number, "churn", shape(width=wide), run=run if number == 2 else None)
        register(owner, 4, "small", shape(), parent="churn@2")
        for version in ("churn@1", "churn@2"):
            owner.ask(registry.MoveStage(version=version, stage="Staging", reason="looks well"))
            owner.ask(registry.MoveStage(version=version, **PRODUCTION))  # type: ignore[arg-type]
    return daemon


def register(owner: Any, number: int, model: str, signature: registry.Signature, **parts: Any) -> None:
    """A version with a metric."""
    wide, out = int(signature.inputs[0].shape[-1]), signature.outputs[0]
    digest, size = owner.put(onnx_file(f"file {number}", inputs=wide, outputs=int(out.shape[-1]), y=out.name))
    metric = registry.Metric(name="accuracy", value=number / 8)
    owner.ask(
        registry.RegisterVersion(
            model=model, digest=digest, size=size, format="onnx", signature=signature, metrics=(metric,), **parts
        )
    )


def told(home: Any, *words: str, code: int = 0) -> str:
    """What a command wrote, after it ended as expected."""
    done = home.qd(*words)
    assert done.returncode == code, (words, done.stdout, done.stderr)
    assert "Traceback" not in done.stderr
    return str(done.stdout if code == 0 else done.stderr)


def records(home: Any, *words: str) -> list[dict[str, Any]]:
    """The same as JSON lines."""
    return [json.loads(line) for line in told(home, *words, "--json").splitlines()]


def test_what_was_live_at_a_time_is_told_with_who_put_it_there(home: Any) -> None:
    spans = records(home, "registry", "history", "churn")
    assert [(span["version"], span["until"] is None) for span in spans] == [("churn@1", False), ("churn@2", True)]
    middle = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 1))
    (found,) = records(home, "registry", "at", "churn", middle)
    assert found["version"] == "churn@2" and found["asked_by"] and found["entry"] == spans[1]["entry"]
    assert "nothing in Production then" in told(home, "registry", "at", "churn", "2020-01-01T00:00Z", code=4)
    assert "a time with a zone" in told(home, "registry", "at", "churn", "2026-03-01T12:00", code=2)
    assert "expected ISO 8601" in told(home, "registry", "at", "churn", "yesterday", code=2)
    told(home, "registry", "at", "chrn", middle, code=4)


def test_every_stage_move_is_told_also_the_one_that_another_made(home: Any) -> None:
    moves = records(home, "registry", "moves", "churn")
    assert [(move["version"], move["after"]) for move in moves] == [
        ("churn@1", "Staging"),
        ("churn@1", "Production"),
        ("churn@2", "Staging"),
        ("churn@1", "Archived"),
        ("churn@2", "Production"),
    ]
    assert len(records(home, "registry", "moves", "churn", "--version", "churn@2")) == 2
    assert "churn@2 takes its place" in told(home, "registry", "moves", "churn")


def test_lineage_is_a_tree_for_people_and_records_for_programs(home: Any) -> None:
    lines = told(home, "lineage", "churn@2").splitlines()
    here = lines.index("churn@2")
    assert [line.split(maxsplit=3)[0] for line in lines[:here]] == ["┌─", "├─", "┌─"]
    assert "dataset" in lines[0] and "code c0ffee" in lines[1] and "churn / spring, FINISHED" in lines[2]
    assert lines[here + 1].startswith("├─ child small@1") and lines[here + 2].startswith("└─ production default")
    assert told(home, "lineage", "churn@2", "--up").splitlines() == lines[: here + 1]
    assert told(home, "lineage", "churn@2", "--down").splitlines() == lines[here:]
    (found,) = records(home, "lineage", "churn@2", "--up")
    assert [node["kind"] for node in found["up"]] == ["run", "code", "dataset"] and found["down"] == []
    (above,) = records(home, "lineage", "small@1")
    assert [(node["kind"], node["depth"]) for node in above["up"]][:2] == [("parent", 1), ("run", 2)]
    data = next(node["id"] for node in found["up"] if node["kind"] == "dataset")
    reached = told(home, "lineage", f"data:{data}")
    assert "version churn@2" in reached and "version small@1" in reached and "churn@1" not in reached


def test_two_versions_are_told_apart_by_signature_and_metrics(home: Any) -> None:
    done = home.qd("version", "diff", "churn@2", "churn@3")
    assert done.returncode == 0
    assert "FP32[-1, 2]" in done.stdout and "FP32[-1, 3]" in done.stdout and "major" in done.stdout
    assert "+0.125" in done.stdout and "1.0.1 -> churn@3 2.0.0" in done.stderr
    (found,) = records(home, "version", "diff", "churn@2", "churn@3")
    assert found["bump"] == "major" and found["changes"][0]["change"] == "changed"
    assert "the same signature" in home.qd("version", "diff", "churn@1", "churn@2").stderr
    assert "nearest" in told(home, "version", "diff", "churn@2", "churn@9", code=4)


def test_a_model_is_shown_with_its_versions(home: Any) -> None:
    shown = told(home, "model", "show", "churn")
    assert "default 2" in shown and "churn@3" in shown and "2.0.0" in shown
    assert len(records(home, "model", "show", "churn")) == 1
    told(home, "model", "show", "nobody", code=4)


def test_a_removed_version_comes_back_byte_equal_and_a_live_one_is_not_removed(home: Any) -> None:
    before = told(home, "version", "show", "churn@3", "--json")
    told(home, "version", "rm", "churn@2.0.0")
    told(home, "promote", "churn@3", "Staging", code=4)
    assert "removed churn@3" in told(home, "undo")
    assert told(home, "version", "show", "churn@3", "--json") == before
    assert "in Production" in told(home, "version", "rm", "churn@Production", code=6)


def test_a_stage_is_skipped_only_when_asked_with_a_reason_and_then_it_is_told(home: Any) -> None:
    """The former one leaves Production in the same entry."""
    skipped = ("promote", "small@1", "Production", "--skip-stage")
    assert "Staging first, or --skip-stage --reason" in told(home, *skipped[:3], code=6)
    assert "Staging first, or --skip-stage --reason" in told(home, *skipped, code=6)
    told(home, *skipped, "--reason", "tonight")
    (move,) = records(home, "registry", "moves", "small")
    assert move["skipped"] and move["reason"] == "tonight" and move["before"] == "None"


def test_every_model_is_listed_with_what_is_live_and_in_staging(home: Any) -> None:
    with home.client() as owner:
        owner.ask(registry.MoveStage(version="small@1", stage="Staging", reason="looks well"))
    head, *rows = told(home, "registry", "models").splitlines()
    assert head.split() == ["MODEL", "PRODUCTION", "STAGING", "LATEST", "VERSIONS", "CHANGED"]
    found = {row.split()[0]: row.split()[1:5] for row in rows}
    assert found == {"churn": ["@2", "-", "@3", "3"], "small": ["-", "@1", "@1", "1"]}
    assert max(map(len, [head, *rows])) <= 80
    assert json.loads(told(home, "registry", "models", "--json").splitlines()[0])["production"] == {"default": 2}
    shown = told(home, "model", "show", "churn")
    assert "PRODUCTION" in shown and "Production  default" in shown


def test_a_move_and_the_status_are_told_in_a_few_lines_that_fit(home: Any) -> None:
    """A person sees what it is about; `--json` and `--all` have every field."""
    moved = told(home, "promote", "churn@3", "Staging")
    assert moved.splitlines()[:3] == ["version  churn@3", *moved.splitlines()[1:3]] and "stage    Staging" in moved
    assert "accuracy 0.375" in moved and "signature" not in moved
    (whole,) = records(home, "promote", "churn@3", "None")
    assert whole["stage"] == "None" and whole["signature"]["inputs"]
    status, every = told(home, "status"), told(home, "status", "--all")
    assert len(status.splitlines()) < 12 < len(every.splitlines())
    assert "versions 4" in status and "hooks" not in status and "hooks 0" in every
    assert max(map(len, (moved + status).splitlines())) < 160
