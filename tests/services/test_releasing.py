"""What a run's end leads to: the same again is registered once, judged again, and sent where it is not yet."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from quarterstore.records import deployments, governance, jobs, pipelines, registry
from quarterstore.records.faults import Fault
from quarterstore.records.pipeline_results import PipelineOutcome, PipelineResult
from quarterstore.records.pipelines import CACHED, DeploySection, EvaluateSection, GateSection, StepSection
from tests.ruling import Ruling
from tests.services.test_registry import shape, version
from tests.services.test_traffic import live, promoted

ACCURACY = registry.Metric(name="accuracy", value=0.9, low=0.88, high=0.92, n=1000)
RESULT = PipelineResult(
    model="a" * 64,
    reference="b" * 64,
    golden="c" * 64,
    format="onnx",
    signature=shape(),
    metrics=(ACCURACY,),
    params={},
    dataset="d" * 64,
    rows=1000,
    parity=0.0,
    device="cpu",
    framework="scikit-learn",
    size=1,
)
DATA = pipelines.DataSection(target="target", builtin="iris")
STAGING, CANARY = DeploySection(then="staging"), DeploySection(then="canary", endpoint="m")


def ran(ruling: Ruling, cause: str | None = None, gate: Any = None, deploy: Any = None, **made: Any) -> Any:
    """A run of `p` whose steps made the usual files, or others, to its end."""
    definition = pipelines.Definition(
        name="p", model="m", data=DATA, gate=gate or GateSection(), deploy=deploy or DeploySection()
    )
    run = ruling.act(pipelines.RunPipeline(definition=definition, cause=cause))
    ruling.act(jobs.BeginJob(job=run.job, pid=1, born=1))
    outcome = PipelineOutcome(result=msgspec.structs.replace(RESULT, **made))
    ruling.act(jobs.EndJob(job=run.job, state="SUCCEEDED", result=msgspec.to_builtins(outcome)))
    found = ruling.state.pipeline_runs[run.id]
    assert found.state == "SUCCEEDED"
    return found


def said(run: pipelines.PipelineRun) -> dict[str, tuple[str, str]]:
    """How the steps of the daemon ended, and in which words."""
    return {step.name: (step.state, step.words) for step in run.steps if step.uses in ("register", "gate", "deploy")}


def numbers(ruling: Ruling) -> list[str]:
    """Every version there is."""
    return [each.id for each in ruling.state.versions]


def test_the_same_again_is_the_version_that_it_was_and_every_step_says_so() -> None:
    ruling = Ruling()
    gate = GateSection(limits={"accuracy": 0.5}, set=True)
    first = ran(ruling, gate=gate, deploy=STAGING)
    registered = dict(ruling.state.versions.rows)
    second = ran(ruling, gate=gate, deploy=STAGING)
    assert first.version == second.version == "m@1" and dict(ruling.state.versions.rows) == registered
    assert said(second) == {
        "register": ("DONE", f"{CACHED}; m@1 1.0.0"),
        "gate": ("DONE", f"{CACHED}; accuracy: 0.9 meets >= 0.5"),
        "deploy": ("SKIPPED", f"{CACHED}; m@1 is in Staging already"),
    }
    assert [step.how for step in second.steps[-3:]] == ["cached"] * 3
    assert b"governance.gate_set" not in bytes(ruling.entries[-1].events), "the gate is what it was"
    assert ruling.state.runs[second.run].state == "FINISHED"


@pytest.mark.parametrize(
    "other",
    [
        {"model": "e" * 64},
        {"dataset": "e" * 64},
        {"reference": "e" * 64},
        {"golden": "e" * 64},
        {"signature": shape(width=3)},
        {"metrics": (msgspec.structs.replace(ACCURACY, value=0.91),)},
        {"rejected": "worse"},
        {"leak": "3 rows on both sides, allowed, because"},
        {"warnings": ("x knows the target",)},
    ],
    ids=lambda other: next(iter(other)),
)
def test_whatever_differs_makes_another_version_and_back_again_yet_another(other: dict[str, Any]) -> None:
    """Only the newest counts: `m@latest` is always what the last run made."""
    ruling = Ruling()
    assert [ran(ruling).version, ran(ruling, **other).version, ran(ruling, **other).version] == ["m@1", "m@2", "m@2"]
    back = ran(ruling).version
    # what is warned of less than before is not another model
    assert back == ("m@2" if {"leak", "warnings"} & set(other) else "m@3")


@pytest.mark.parametrize("cause", ["schedule s", "retrain-1 of m: the schedule was due", "study-1 trial 3"])
def test_a_run_that_nobody_asked_for_registers_only_what_is_new(cause: str) -> None:
    ruling = Ruling()
    gate = GateSection(limits={"accuracy": 0.5})
    assert [ran(ruling, gate=gate).version, ran(ruling, cause, gate=gate).version] == ["m@1", "m@1"]
    judged = said(ran(ruling, cause, gate=gate))
    assert judged["register"] == ("DONE", f"{CACHED}; m@1 1.0.0")
    assert judged["gate"] == ("DONE", f"{CACHED}; accuracy: 0.9 meets >= 0.5")
    assert ran(ruling, cause, model="e" * 64).version == "m@2" and numbers(ruling) == ["m@1", "m@2"]


def test_a_clock_does_not_bring_back_what_a_person_or_its_canary_took_away() -> None:
    ruling = Ruling()
    version(ruling)
    live(ruling, "m@1")
    asked = ("DONE", "m@2 is in Staging, canary at m asked for")
    assert said(ran(ruling, "schedule s", deploy=CANARY))["deploy"] == asked
    ruling.act(deployments.AdmitVersion(endpoint="m", version="m@2", ok=True))
    ruling.act(deployments.RollBack(endpoint="m", reason="worse"))
    off = said(ran(ruling, "schedule s", deploy=CANARY))["deploy"]
    assert off == ("SKIPPED", "m@2 was on a canary at m before; by hand: qd canary m@2")
    ruling.act(registry.MoveStage(version="m@2", stage="Archived"))
    away = said(ran(ruling, "schedule s", deploy=STAGING))["deploy"]
    assert away == ("SKIPPED", "m@2 was put away; by hand: qd promote m@2 Staging")
    assert said(ran(ruling, "schedule s", deploy=CANARY, model="e" * 64))["deploy"][0] == "DONE", "what is new goes on"


def test_a_canary_that_had_to_wait_is_asked_for_by_the_next_run_of_the_clock() -> None:
    ruling = Ruling()
    version(ruling)
    busy = said(ran(ruling, "schedule s", deploy=CANARY))["deploy"]
    assert busy[0] == "DONE" and "a canary needs a free, live endpoint" in busy[1]
    live(ruling, "m@1")
    assert (
        said(ran(ruling, "schedule s", deploy=CANARY))["deploy"][1]
        == "m@2 is in Staging already, canary at m asked for"
    )


def test_a_version_that_was_removed_is_not_there_and_one_made_from_it_is_no_newer() -> None:
    ruling = Ruling()
    ran(ruling)
    version(ruling, 7, parent="m@1")
    assert ran(ruling).version == "m@1"
    ruling.act(registry.RemoveVersion(version="m@1"))
    assert ran(ruling).version == "m@3"


def test_a_limit_that_changed_is_judged_again_without_another_version() -> None:
    ruling = Ruling()
    ran(ruling, gate=GateSection(limits={"accuracy": 0.5}))
    missed = ran(ruling, gate=GateSection(limits={"accuracy": 0.95}), deploy=STAGING)
    assert missed.version == "m@1" and numbers(ruling) == ["m@1"]
    assert said(missed)["gate"] == ("FAILED", "accuracy: 0.9 misses >= 0.95")
    assert said(missed)["deploy"] == ("SKIPPED", "the gate says no")
    again = ran(ruling, gate=GateSection(limits={"accuracy": 0.95}))
    assert said(again)["gate"] == ("FAILED", "accuracy: 0.9 misses >= 0.95"), "a no is never taken from before"


def test_another_gate_of_the_model_is_other_evidence() -> None:
    ruling = Ruling()
    ran(ruling)
    rule = governance.GateRule(metric="accuracy", op=">=", limit=0.8)
    ruling.act(governance.SetGate(model="m", rules=(rule,)))
    assert said(ran(ruling))["gate"] == ("DONE", "accuracy: 0.9 meets >= 0.8")
    assert said(ran(ruling))["gate"] == ("DONE", f"{CACHED}; accuracy: 0.9 meets >= 0.8")


def test_what_is_not_where_the_definition_sends_it_goes_there() -> None:
    ruling = Ruling()
    ran(ruling)
    for stage in ("None", "Archived"):
        assert ruling.state.versions["m@1"].stage == stage
        assert said(ran(ruling, deploy=STAGING))["deploy"] == ("DONE", "m@1 is in Staging")
        ruling.act(registry.MoveStage(version="m@1", stage="Archived"))
    assert numbers(ruling) == ["m@1"]


def test_what_is_in_production_or_live_is_not_taken_down_to_staging() -> None:
    ruling = Ruling()
    ran(ruling)
    ruling.act(registry.MoveStage(version="m@1", stage="Staging"))
    ruling.act(registry.MoveStage(version="m@1", stage="Production"))
    for deploy in (STAGING, CANARY):
        assert said(ran(ruling, deploy=deploy))["deploy"] == ("SKIPPED", f"{CACHED}; m@1 is in Production already")
    live(ruling, "m@1")
    assert said(ran(ruling, deploy=CANARY))["deploy"] == ("SKIPPED", f"{CACHED}; m@1 is at m already")
    assert ruling.state.versions["m@1"].stage == "Production"


def test_a_canary_is_asked_for_once_and_again_where_it_is_over() -> None:
    ruling = Ruling()
    version(ruling)
    live(ruling, "m@1")
    assert said(ran(ruling, deploy=CANARY))["deploy"] == ("DONE", "m@2 is in Staging, canary at m asked for")
    assert said(ran(ruling, deploy=CANARY))["deploy"] == ("SKIPPED", f"{CACHED}; m@2 is at m already")
    ruling.act(deployments.AdmitVersion(endpoint="m", version="m@2", ok=True))
    assert said(ran(ruling, deploy=CANARY))["deploy"] == ("SKIPPED", f"{CACHED}; m@2 is at m already")
    ruling.act(deployments.RollBack(endpoint="m", reason="not today"))
    assert said(ran(ruling, deploy=CANARY))["deploy"] == ("DONE", "m@2 is in Staging already, canary at m asked for")
    assert numbers(ruling) == ["m@1", "m@2"]


def test_a_canary_that_cannot_be_is_said_and_the_run_ends_well() -> None:
    """Its callers could not ask it what they ask the live version; or the endpoint is another model's."""
    ruling = Ruling()
    version(ruling)
    live(ruling, "m@1")
    wider = said(ran(ruling, deploy=CANARY, signature=shape(width=3)))["deploy"]
    assert wider[0] == "DONE" and "no canary: it cannot answer what callers of m ask" in wider[1]
    assert ruling.state.deployments["m"].pending is None
    other = Ruling()
    version(other, model="n")
    promoted(other, "n@1")
    other.act(deployments.Deploy(version="n@1"))
    other.act(deployments.AdmitVersion(endpoint="n", version="n@1", ok=True))
    taken = said(ran(other, deploy=DeploySection(then="canary", endpoint="n")))["deploy"]
    assert taken[0] == "DONE" and "a canary needs a free, live endpoint" in taken[1]


UNKNOWN: list[tuple[str, dict[str, Any], str]] = [
    ("a typing mistake", {"limits": {"acuracy": 0.9}}, "gate.limits.acuracy: got a limit, expected one of a metric"),
    ("of the other task", {"limits": {"rmse": 3.0}, "task": "classification"}, "roc_auc"),
    ("of the other task", {"limits": {"roc_auc": 0.9}, "task": "regression"}, "rmse, mae, r2"),
    ("of no groups", {"limits": {"equalised_odds": 0.1}}, "columns in evaluate.fairness"),
    ("of no parts", {"limits": {"worst_slice_rmse": 0.1}}, "columns in evaluate.slices"),
    ("no number", {"limits": {"accuracy": float("nan")}}, "a finite number"),
    ("above all", {"limits": {"accuracy": 1.7}}, "accuracy: got 1.7, expected a limit of accuracy, which is 0 to 1"),
    ("in percent", {"limits": {"roc_auc": 90.0}}, "a limit of roc auc, which is 0 to 1"),
    (
        "below all",
        {"limits": {"rmse": -0.1}, "task": "regression"},
        "got -0.1, expected a limit of rmse, which is 0 or more",
    ),
    ("above all", {"limits": {"r2": 1.01}, "task": "regression"}, "a limit of r2, which is 1 or less"),
    (
        "a ratio",
        {"limits": {"demographic_parity": 3.0}, "evaluate": EvaluateSection(fairness=("b",))},
        "a limit of demographic parity, which is 0 to 1",
    ),
]


@pytest.mark.parametrize(("about", "words"), [case[1:] for case in UNKNOWN], ids=[case[0] for case in UNKNOWN])
def test_a_limit_that_no_run_can_meet_is_refused_before_anything_runs(about: dict[str, Any], words: str) -> None:
    ruling = Ruling()
    before = ruling.kept()
    gate = GateSection(limits=about.pop("limits"))
    definition = pipelines.Definition(name="p", model="m", data=DATA, gate=gate, **about)
    with pytest.raises(Fault) as refused:
        ruling.act(pipelines.RunPipeline(definition=definition))
    assert words in refused.value.line() and ruling.kept() == before


def test_a_limit_of_what_is_measured_is_taken_and_any_where_code_of_ones_own_measures() -> None:
    ruling = Ruling()
    limits = {"accuracy": 0.9, "log loss": 1.0, "equalised_odds": 0.1, "worst_slice_accuracy": 0.5}
    judged = EvaluateSection(slices=("a",), fairness=("b",))
    gate = GateSection(limits=limits)
    ruling.act(
        pipelines.RunPipeline(
            definition=pipelines.Definition(name="p", model="m", data=DATA, evaluate=judged, gate=gate)
        )
    )
    own = (
        StepSection(name="make", run="steps.py:make"),
        StepSection(name="register", uses="register", after=("make",)),
        StepSection(
            name="gate",
            uses="gate",
            after=("register",),
            params={"limits": {"profit": 100.0, "accuracy": 90.0}, "set": True},
        ),
    )
    definition = pipelines.Definition(name="q", model="q", steps=own)
    assert ruling.act(pipelines.RunPipeline(definition=definition, sources={"steps.py": "c" * 64})).state == "QUEUED"


def test_a_limit_in_the_params_of_a_step_is_looked_at_as_one_in_its_section() -> None:
    """A function that prepares the rows measures nothing: what `evaluate` behind it leaves is what counts."""
    names = ("clean", "validate", "split", "train", "evaluate", "register", "gate")
    steps = tuple(
        StepSection(
            name=name,
            uses=None if name == "clean" else name,
            run="steps.py:clean" if name == "clean" else None,
            after=names[:place][-1:],
            params={"limits": {"acuracy": 0.9}} if name == "gate" else {},
        )
        for place, name in enumerate(names)
    )
    definition = pipelines.Definition(name="p", model="m", data=DATA, steps=steps)
    with pytest.raises(Fault, match=r"gate\.limits\.acuracy"):
        Ruling().act(pipelines.RunPipeline(definition=definition, sources={"steps.py": "c" * 64}))
