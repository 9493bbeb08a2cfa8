"""The step `features` as the daemon sees it: pinned rows, a set whose id it works out itself, bad inputs."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from quarterdeckd.pipeline import keying
from quarterstore.records import datasets, features, flows, jobs, pipelines
from quarterstore.records.faults import Fault, Refused
from quarterstore.records.pipelines import Definition, StepSection
from tests.ruling import Ruling
from tests.services.test_features import USAGE, defined, load
from tests.services.test_pipelines import end, note

ENTITIES, JOINED = "e" * 64, "d" * 64
DATA = pipelines.DataSection(dataset=ENTITIES, features=("usage",), entity_time="when")
STEPS = (StepSection("join", uses="features"), StepSection("look", run="steps.py:do", after=("join",)))
FIGURES: dict[str, Any] = {"set": "set-x", "rows": 2, "newest": 10**15, "statuses": {"usage": {"PRESENT": 2}}}


def started(ruling: Ruling, steps: tuple[StepSection, ...] = STEPS, **about: Any) -> pipelines.PipelineRun:
    ruling.act(datasets.AddDataset(digest=ENTITIES, name="e.csv", format="csv"))
    definition = Definition(name="p", data=msgspec.structs.replace(DATA, **about), steps=steps)
    sources = {"steps.py": "c" * 64}
    run: pipelines.PipelineRun = ruling.act(pipelines.RunPipeline(definition=definition, sources=sources))
    return run


def join_of(ruling: Ruling, run: pipelines.PipelineRun) -> features.JoinSpec:
    job = ruling.state.jobs[ruling.state.pipeline_runs[run.id].job]
    return msgspec.convert(job.spec["join"], features.JoinSpec)


def told(ruling: Ruling, run: pipelines.PipelineRun, **about: Any) -> pipelines.PipelineRun:
    given = {"name": "join", "state": "DONE", "figures": FIGURES, "outputs": {"joined.parquet": JOINED}, "attempts": 1}
    return note(ruling, run, **(given | about))


def key_of(run: pipelines.PipelineRun, join: features.JoinSpec) -> str:
    assert run.definition is not None
    return keying.key(run.definition, STEPS[0], ENTITIES, {}, {}, None, join)


def test_a_run_reads_the_rows_of_when_it_was_asked_for_and_the_next_run_those_that_came() -> None:
    ruling = defined()
    load(ruling, "one")
    first = started(ruling)
    ruling.now += 10.0
    load(ruling, "two")
    ruling.act(msgspec.structs.replace(USAGE, ttl=3600.0))
    end(ruling, first, "FAILED", error="a bug")
    ruling.now += 10.0
    ruling.act(pipelines.ResumePipeline(pipeline_run=first.id))
    assert join_of(ruling, first).views[0].files == ("parquet of one",)
    assert join_of(ruling, first).views[0].view == "usage@1"
    again = ruling.act(pipelines.RerunPipeline(pipeline="p"))
    newer = join_of(ruling, again)
    assert (newer.views[0].view, newer.views[0].files) == ("usage@2", ("parquet of one", "parquet of two"))
    assert key_of(first, newer) != key_of(first, join_of(ruling, first))
    lying = msgspec.structs.replace(newer.views[0], lumps=())
    moved = msgspec.structs.replace(newer, views=(lying,), entities="/elsewhere")
    assert key_of(first, newer) == key_of(first, moved)


def test_the_set_of_a_step_is_kept_with_the_id_that_the_daemon_works_out() -> None:
    ruling = defined()
    load(ruling, "one")
    run = started(ruling)
    told(ruling, run)
    [made] = ruling.state.training_sets
    assert made.id != "set-x" and (made.digest, made.rows, made.entities) == (JOINED, 2, ENTITIES)
    assert ruling.state.datasets[JOINED].name == made.id
    assert [each.digest for each in ruling.state.runs[run.run].inputs] == [JOINED]
    told(ruling, run, how="cached")
    assert len(list(ruling.state.training_sets)) == 1 and len(ruling.state.runs[run.run].inputs) == 1


@pytest.mark.parametrize(
    "about",
    [
        {"figures": {}},
        {"figures": FIGURES | {"newest": "soon"}},
        {"figures": FIGURES | {"statuses": {"usage": 1}}},
        {"outputs": {"other.parquet": JOINED}},
    ],
)
def test_a_set_that_a_worker_makes_up_is_refused(about: dict[str, Any]) -> None:
    ruling = defined()
    load(ruling, "one")
    run = started(ruling)
    with pytest.raises(Fault, match="join"):
        told(ruling, run, **about)
    assert not list(ruling.state.training_sets)


@pytest.mark.parametrize(
    ("about", "steps", "words"),
    [
        ({"features": ("usages",)}, STEPS, "data.features: got usages"),
        ({"features": ("usage:hours",)}, STEPS, "data.features: got usage:hours"),
        ({"features": ()}, STEPS, "data.features: got nothing"),
        ({"entity_time": ""}, STEPS, "data.entity_time"),
        ({"dataset": None, "builtin": "iris"}, STEPS, "data.builtin: got iris"),
        ({"dataset": None}, STEPS, "data.file: got nothing"),
        ({}, (StepSection("look", run="steps.py:do"),), "data.features: got usage, expected nothing, or a step that"),
        ({}, (*STEPS, StepSection("more", uses="features")), "join and more"),
        ({"target": "y"}, (*STEPS, StepSection("v", uses="validate")), "v.after: got nothing, expected join"),
    ],
)
def test_what_cannot_be_joined_is_named_and_nothing_is_kept(
    about: dict[str, Any], steps: tuple[StepSection, ...], words: str
) -> None:
    ruling = defined()
    load(ruling, "one")
    with pytest.raises(Fault) as raised:
        started(ruling, steps, **about)
    assert words in raised.value.line(), raised.value.line()
    assert not list(ruling.state.pipeline_runs)


def test_a_definition_that_was_kept_with_its_rows_joined_already_says_so() -> None:
    ruling = defined()
    load(ruling, "one")
    run = started(ruling)
    told(ruling, run)
    end(ruling, run, "SUCCEEDED", result={})
    with pytest.raises(Refused, match="training set") as raised:
        ruling.act(pipelines.RerunPipeline(pipeline="p", dataset=JOINED))
    assert raised.value.field == "data.dataset"


def test_the_short_form_has_the_step_where_views_are_named() -> None:
    def names(definition: Definition) -> list[str]:
        return [step.name for step in flows.flow(definition)][:2]

    assert names(Definition(name="p", data=DATA)) == ["features", "validate"]
    assert names(Definition(name="p")) == ["validate", "split"]
    assert jobs.Limits() == flows.flow(Definition(name="p", data=DATA))[0].limits
