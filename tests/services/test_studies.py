"""The rules of tuning studies: which spaces can be searched, when one can be gone on with, what a winner leads to."""

from __future__ import annotations

import re
import time
import tomllib
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quarterdeckd.services.spaces import check_search
from quarterstore.records import flows, jobs, pipelines, studies
from quarterstore.records.faults import Conflict, Invalid, NotFound, Refused
from quarterstore.records.misfits import refuse_unknown
from quarterstore.records.wire import plain
from tests.ruling import Ruling

SPACE: dict[str, Any] = {
    "learner": {"kind": "choice", "choices": ["forest", "boosting"]},
    "trees": {"kind": "int", "low": 10, "high": 50, "step": 10},
    "rate": {"kind": "float", "low": 0.01, "high": 1, "log": True, "when": {"learner": "boosting"}},
}


def definition(**more: Any) -> studies.StudyDefinition:
    fields = {
        "name": "s",
        "objectives": {"accuracy": "maximise"},
        "space": SPACE,
        "data": {"builtin": "wine", "target": "target"},
    }
    return msgspec.convert(fields | more, studies.StudyDefinition)


def started(ruling: Ruling, **more: Any) -> studies.Study:
    study: studies.Study = ruling.act(studies.StartStudy(definition=definition(**more)))
    return study


def ended(ruling: Ruling, study: studies.Study, **result: Any) -> None:
    """As its job ends, with one trial scored again."""
    best = studies.Rescored(3, {"learner": "forest", "trees": 20}, (0.9,), (0.8,), (0.7,), (0.9,), 3, 40)
    found = studies.StudyResult(100, 0, 0, (best,), {}, False, 1.0, "as it went")
    ruling.act(jobs.EndJob(job=study.job, state="SUCCEEDED", result=plain(found)))


BAD_SPACES = [
    ({"x": {"kind": "float", "low": 2, "high": 1}}, r"space\.x\.low: got 2.*at most high"),
    ({"x": {"kind": "float", "low": 0, "high": 1, "log": True}}, r"space\.x\.low: got 0.*above 0, because log"),
    ({"x": {"kind": "choice", "choices": []}}, r"space\.x\.choices: got 0 choices"),
    ({"x": {"kind": "choice", "choices": [1, 1]}}, r"space\.x\.choices: got a choice twice"),
    ({"x": {"kind": "choice", "choices": [1], "low": 1}}, r"space\.x\.low"),
    ({"x": {"kind": "int", "low": 1, "high": 2, "choices": [1]}}, r"space\.x\.choices"),
    ({"x": {"kind": "int", "low": 0.5, "high": 2}}, r"space\.x\.low: got 0\.5, expected an integer"),
    ({"x": {"kind": "int", "low": 1}}, r"space\.x\.high: got nothing"),
    ({"x": {"kind": "float", "low": float("nan"), "high": 1}}, r"space\.x\.low: got nan"),
    ({"x": {"kind": "float", "low": 0, "high": float("inf")}}, r"space\.x\.high: got inf"),
    ({"x": {"kind": "float", "low": 0, "high": 1, "step": 0}}, r"space\.x\.step: got 0"),
    ({"x": {"kind": "float", "low": 1, "high": 2, "step": 1, "log": True}}, r"space\.x\.step.*because log"),
    ({"x": {"kind": "int", "low": 1, "high": 2, "when": {"y": 1}}}, r"space\.x\.when: got y"),
    ({**SPACE, "depth": {"kind": "int", "low": 1, "high": 2, "when": {"learner": "mpl"}}}, r"depth\.when\.learner"),
    ({"x": {"kind": "int", "low": 1, "high": 2, "when": {"x": 1}}}, r"space\.x\.when"),
    (
        {
            "x": {"kind": "int", "low": 1, "high": 2, "when": {"y": 1}},
            "y": {"kind": "int", "low": 1, "high": 2, "when": {"x": 1}},
        },
        r"space\.x\.when: got a circle",
    ),
    (
        {"x": {"kind": "float", "low": 0, "high": 1}, "y": {"kind": "int", "low": 0, "high": 1, "when": {"x": 1}}},
        "float",
    ),
    ({}, "space: got 0 parameters"),
]


@pytest.mark.parametrize(("space", "words"), BAD_SPACES)
def test_a_bad_space_is_refused_by_name_before_anything_happens(space: Any, words: str) -> None:
    ruling = Ruling()
    with pytest.raises(Invalid, match=words):
        started(ruling, space=space, objective="o.py:o", data=None)
    assert len(ruling.state.studies) == len(ruling.state.jobs) == 0


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"space": {**SPACE, "tree": {"kind": "int", "low": 1, "high": 2}}}, r"space\.tree \(forest\).*nearest: trees"),
        ({"space": {**SPACE, "rate": {"kind": "float", "low": 0.1, "high": 1}}}, r"space\.rate \(forest\): got rate"),
        ({"space": {**SPACE, "trees": {"kind": "float", "low": 1, "high": 2}}}, r"space\.trees\.kind: got float"),
        ({"space": {**SPACE, "trees": {"kind": "choice", "choices": ["ten"]}}}, r"space\.trees\.choices: got ten"),
        ({"space": {"learner": {"kind": "choice", "choices": ["forrest"]}}}, r"space\.learner\.choices: got forrest"),
        ({"train": {"learner": "forest", "params": {"trees": 5}}}, r"train\.params\.trees: got a parameter of the"),
        ({"train": {"run": "t.py:t", "interpreter": "/x/python"}}, r"train\.run: got code in an environment"),
        ({"train": {"command": ["./t.sh"]}}, r"train\.command"),
        ({"train": {"python": "t.py:t", "code": "."}}, r"train\.code: got \."),
        ({"objectives": {"acuracy": "maximise"}}, r"objectives: got acuracy.*nearest: accuracy"),
        ({"objectives": {}}, "objectives: got 0"),
        ({"objectives": {"accuracy": "maximise", "seconds": "minimise"}, "pruner": "asha"}, "pruner: got asha"),
        ({"data": None}, "data: got nothing"),
        ({"budget": {"trials": 0}}, r"budget\.trials: got 0"),
        ({"budget": {"workers": 65}}, r"budget\.workers: got 65"),
        ({"budget": {"within": float("nan")}}, r"budget\.within: got nan"),
        ({"budget": {"trial_seconds": 0}}, r"budget\.trial_seconds"),
        ({"rescore": {"seeds": 0}}, r"rescore\.seeds"),
        ({"name": "../up"}, "name: got"),
    ],
)
def test_a_bad_study_is_refused_by_name(more: dict[str, Any], words: str) -> None:
    with pytest.raises(Invalid, match=words):
        started(Ruling(), **more)


def test_the_tables_of_learners_are_those_the_learners_use() -> None:
    from quarterdeckd.learning import learners, parameters
    from quarterdeckd.services import definitions

    assert learners.LEARNERS is parameters.LEARNERS
    assert set(parameters.LEARNERS) == set(definitions.LEARNERS)


def test_a_study_that_runs_is_not_resumed_and_one_that_is_done_only_for_more() -> None:
    ruling = Ruling()
    study = started(ruling)
    with pytest.raises(Conflict, match="is running"):
        ruling.act(studies.ResumeStudy(study=study.id))
    ended(ruling, study)
    with pytest.raises(Conflict, match="done with 100 trials"):
        ruling.act(studies.ResumeStudy(study=study.id))
    with pytest.raises(Invalid, match="trials: got 100, expected more than the 100 that ended"):
        ruling.act(studies.ResumeStudy(study=study.id, trials=100))
    again = ruling.act(studies.ResumeStudy(study=study.id, trials=150, workers=2))
    assert (again.state, again.definition.budget.trials, again.definition.budget.workers) == ("RUNNING", 150, 2)
    assert again.job != study.job and again.result is not None


def test_a_study_that_was_stopped_or_lost_can_be_resumed() -> None:
    ruling = Ruling()
    study = started(ruling)
    assert ruling.act(studies.StopStudy(study=study.id)).state == "CANCELLED"
    with pytest.raises(Conflict, match="CANCELLED already"):
        ruling.act(studies.StopStudy(study=study.id))
    again = ruling.act(studies.ResumeStudy(study=study.id))
    ruling.act(jobs.EndJob(job=again.job, state="LOST", error="killed"))
    [alert] = list(ruling.state.alerts)
    assert (alert.kind, alert.next) == ("study lost", f"qd tune resume {study.id}")
    again = ruling.act(studies.ResumeStudy(study=study.id))
    assert again.state == "RUNNING"
    ended(ruling, again)
    assert [each.resolved is not None for each in ruling.state.alerts] == [True]


def test_the_winner_goes_into_a_pipeline_with_its_parameters() -> None:
    ruling = Ruling()
    study = started(ruling, model="wine", train={"learner": "forest", "params": {"depth": 4}})
    with pytest.raises(NotFound, match="no trial that was scored again"):
        ruling.act(studies.RegisterBest(study=study.id))
    ended(ruling, study)
    with pytest.raises(NotFound, match="trial: got 7"):
        ruling.act(studies.RegisterBest(study=study.id, trial=7))
    run = ruling.act(studies.RegisterBest(study=study.id))
    kept = ruling.state.pipelines[run.pipeline].definition
    assert (kept.model, kept.train.learner) == ("wine", "forest")
    assert kept.train.params == {"depth": 4, "trees": 20}
    assert ruling.state.studies[study.id].pipeline_run == run.id and run.cause == f"{study.id} trial 3"


def test_a_study_is_asked_for_by_its_name_and_the_newest_of_that_name_answers() -> None:
    ruling = Ruling()
    first, newest = started(ruling, name="wines"), started(ruling, name="wines")
    other = started(ruling, name=first.id)  # a name that looks like an id names nothing where there is one
    for text, expected in (("wines", newest), (first.id, first), (newest.id[-8:], newest), (other.id, other)):
        assert ruling.ask(studies.ShowStudy(study=text)).id == expected.id
    with pytest.raises(NotFound, match="study: got wine, expected a known one") as raised:
        ruling.act(studies.StopStudy(study="wine"))
    assert raised.value.nearest[0] == "wines"
    assert ruling.act(studies.StopStudy(study="wines")).id == newest.id


def test_values_of_an_objective_of_ones_own_are_no_model() -> None:
    ruling = Ruling()
    asked = studies.StartStudy(definition=definition(objective="o.py:o", data=None), sources={"o.py": "d" * 64})
    study = ruling.act(asked)
    ended(ruling, study)
    with pytest.raises(Refused, match="gives values and no model"):
        ruling.act(studies.RegisterBest(study=study.id))


def test_the_studies_of_the_page_can_be_searched() -> None:
    page = (Path(__file__).parents[2] / "docs" / "how-to" / "tune.md").read_text()
    first, second, third = (tomllib.loads(block) for block in re.findall(r"```toml\n(.*?)```", page, re.DOTALL))
    for fields in (first, second):
        refuse_unknown(studies.StudyDefinition, fields)
        found = check_search(msgspec.convert(fields, studies.StudyDefinition))
    assert found.objective == "objective.py:objective"
    third |= {"name": "p", "model": "p", "data": {"builtin": "wine", "target": "target"}}
    refuse_unknown(pipelines.Definition, third)
    definition = msgspec.convert(third, pipelines.Definition)
    assert [step.name for step in flows.flow(definition)][2] == "tune"
    check_search(studies.study_of(definition))


def valued(count: int) -> Any:
    return st.lists(st.tuples(*[st.integers(0, 5).map(float)] * count), max_size=30)


@given(valued(2))
def test_the_pareto_front_is_what_brute_force_finds(values: list[tuple[float, float]]) -> None:
    trials = [studies.StudyTrial(number, "COMPLETE", values=each) for number, each in enumerate(values)]
    two = definition(objectives={"a": "maximise", "b": "minimise"}, objective="o.py:o")
    front = {trial.values for trial in studies.pareto(two, trials)}

    def beats(first: tuple[float, float], second: tuple[float, float]) -> bool:
        return first != second and first[0] >= second[0] and first[1] <= second[1]

    assert front == {each for each in values if not any(beats(other, each) for other in values)}
    best = [trial.values[0] for trial in studies.best(two, trials, len(trials))]
    assert best == sorted(best, reverse=True) and len(best) == len(trials)


@given(valued(3))
def test_the_front_of_three_objectives_is_what_brute_force_finds(values: list[tuple[float, float, float]]) -> None:
    trials = [studies.StudyTrial(number, "COMPLETE", values=each) for number, each in enumerate(values)]
    three = definition(objectives=dict.fromkeys("abc", "minimise"), objective="o.py:o")
    front = studies.pareto(three, trials)
    wanted = [
        each
        for each in studies.best(three, trials, len(trials))
        if not any(other != each.values and all(map(float.__le__, other, each.values)) for other in values)
    ]
    assert front == wanted


def test_the_front_of_thousands_is_found_while_somebody_waits() -> None:
    trials = [studies.StudyTrial(number, "COMPLETE", values=(float(number), -float(number))) for number in range(5000)]
    two = definition(objectives={"a": "minimise", "b": "minimise"}, objective="o.py:o")
    began = time.process_time()
    assert studies.pareto(two, trials) == trials
    assert time.process_time() - began < 1.0, "each with each took half a minute"


def test_a_study_is_removed_when_it_is_over_and_its_alert_with_it() -> None:
    ruling = Ruling()
    study = started(ruling)
    with pytest.raises(Conflict, match=f"{study.id} is running") as refused:
        ruling.act(studies.RemoveStudy(study=study.id))
    assert refused.value.line() == f"study: {study.id} is running; qd tune stop {study.id}"
    ruling.act(jobs.EndJob(job=study.job, state="LOST", error="killed"))
    assert [each.resolved for each in ruling.state.alerts] == [None]
    assert ruling.act(studies.RemoveStudy(study=study.id)).id == study.id
    assert not ruling.state.studies.rows and [each.resolved for each in ruling.state.alerts] != [None]
    with pytest.raises(NotFound):
        ruling.act(studies.ResumeStudy(study=study.id))
