"""Experiments and what was added to runs: numbers, names, going out of sight together and coming back."""

from __future__ import annotations

from array import array
from pathlib import Path

import pytest

from quarterdeckd.api.intake import Intake
from quarterstore.records import experiments, logged_models, runs
from quarterstore.records.faults import Conflict, Invalid, NotFound, Refused
from quarterstore.records.store import Undo
from tests.ruling import Ruling


@pytest.fixture
def deck() -> Ruling:
    return Ruling()


def test_an_experiments_number_is_never_given_again(deck: Ruling) -> None:
    assert deck.act(experiments.CreateExperiment(name="Default")).id == "0"
    assert [deck.act(experiments.CreateExperiment(name=name)).id for name in ("a", "b")] == ["1", "2"]
    deck.act(experiments.RemoveExperiment(experiment="b"))
    deck.act(runs.StartRun(experiment="c"))
    assert deck.state.experiments["c"].id == "3"


def test_a_name_that_is_taken_is_a_conflict_also_by_a_removed_experiment(deck: Ruling) -> None:
    deck.act(experiments.CreateExperiment(name="a"))
    with pytest.raises(Conflict, match="a is there already"):
        deck.act(experiments.CreateExperiment(name="a"))
    deck.act(experiments.RemoveExperiment(experiment="a"))
    with pytest.raises(Conflict, match="removed"):
        deck.act(experiments.CreateExperiment(name="a"))
    with pytest.raises(NotFound, match="a"):
        deck.act(runs.StartRun(experiment="a"))


def test_a_tag_that_was_changed_in_between_is_not_overwritten(deck: Ruling) -> None:
    run = deck.act(runs.StartRun(experiment="a")).id
    deck.act(runs.SetTags(run=run, tags={"n": "1"}, before={"n": None}))
    deck.act(runs.SetTags(run=run, tags={"n": "2"}, before={"n": "1"}))
    for before in ({"n": "1"}, {"n": None}, {"other": ""}):
        with pytest.raises(Conflict, match="is another by now"):
            deck.act(runs.SetTags(run=run, tags={"n": "3"}, before=before))
    assert deck.state.runs[run].tags == {"n": "2"}


def test_runs_follow_their_experiments_new_name(deck: Ruling) -> None:
    run = deck.act(runs.StartRun(experiment="a")).id
    deck.act(experiments.RenameExperiment(experiment="1", name="b"))
    assert deck.state.runs[run].experiment == "b"
    assert "a" not in deck.state.experiments
    deck.act(Undo())
    assert deck.state.runs[run].experiment == "a"


def test_runs_go_and_come_back_with_their_experiment_but_not_those_removed_before(deck: Ruling) -> None:
    early, late = (deck.act(runs.StartRun(experiment="a")).id for _ in range(2))
    with pytest.raises(Refused, match="is running"):
        deck.act(experiments.RemoveExperiment(experiment="a"))
    for run in (early, late):
        deck.act(runs.EndRun(run=run))
    deck.act(runs.RemoveRun(run=early))
    deck.act(experiments.RemoveExperiment(experiment="a"))
    assert deck.state.runs[late].removed is not None
    deck.act(experiments.RestoreExperiment(experiment="a"))
    assert deck.state.runs[late].removed is None
    assert deck.state.runs[early].removed is not None
    deck.act(experiments.RemoveExperiment(experiment="a"))
    deck.act(Undo())
    assert (deck.state.runs[late].removed, deck.state.experiments["a"].removed) == (None, None)


def test_an_input_that_is_known_is_not_added_again(deck: Ruling) -> None:
    run = deck.act(runs.StartRun(experiment="a")).id
    rows, others = (runs.DatasetInput(name="rows", digest=digest) for digest in ("1", "2"))
    deck.act(runs.LogInputs(run=run, inputs=(rows, rows), models=("m", "m")))
    found = deck.act(runs.LogInputs(run=run, inputs=(others, rows)))
    assert (found.inputs, found.models) == ((rows, others), ("m",))


def test_a_folder_of_artefacts_is_taken_off_whole_and_an_unknown_path_names_the_nearest(deck: Ruling) -> None:
    run = deck.act(runs.StartRun(experiment="a")).id
    for path in ("model/a.bin", "model/b.bin", "models.txt"):
        deck.act(runs.LogArtefact(run=run, path=path, digest="0" * 64, size=1))
    assert [each.path for each in deck.act(runs.RemoveArtefact(run=run, path="model")).artefacts] == ["models.txt"]
    with pytest.raises(NotFound, match="models"):
        deck.act(runs.RemoveArtefact(run=run, path="model.txt"))


def batch(name: str, *points: tuple[int, float, float]) -> runs.LogMetrics:
    step, time, value = zip(*points, strict=True)
    return runs.LogMetrics(
        run="run-1",
        batch=name,
        keys=("loss",),
        key=array("H", [0] * len(points)).tobytes(),
        step=array("q", step).tobytes(),
        time=array("d", time).tobytes(),
        value=array("d", value).tobytes(),
    )


@pytest.mark.parametrize("together", [True, False])
def test_the_latest_metric_is_the_one_of_the_highest_step_then_time_then_value(tmp_path: Path, together: bool) -> None:
    intake = Intake(tmp_path / "samples", lambda run: None)
    points = [(1, 9.0, 0.1), (3, 1.0, 0.2), (3, 2.0, 0.3), (3, 2.0, 0.25), (2, 99.0, 0.9)]
    batches = [batch("all", *points)] if together else [batch(str(n), point) for n, point in enumerate(points)]
    for each in batches:
        intake.take(each)
    assert intake.latest["run-1"] == {"loss": 0.3}
    intake.close()


def test_a_point_that_came_twice_is_there_once_also_as_nan(tmp_path: Path) -> None:
    intake = Intake(tmp_path / "samples", lambda run: None)
    nan = float("nan")
    intake.take(batch("one", (1, 1.0, nan), (2, 1.0, 5.0)))
    intake.take(batch("two", (1, 1.0, nan), (2, 1.0, 5.0), (2, 1.0, 6.0)))
    (curve,) = intake.history("run-1", (), 0)
    assert (curve.steps, curve.values[1:]) == ([1, 2, 2], [5.0, 6.0])
    assert curve.values[0] != curve.values[0]
    intake.close()


def test_a_run_without_signs_of_life_can_be_removed_while_it_runs_and_end_afterwards(deck: Ruling) -> None:
    """So an import leaves a run open until all of it is here, the removal with it."""
    run = deck.act(runs.StartRun(experiment="a", beats=False)).id
    deck.act(experiments.RemoveExperiment(experiment="a"))
    ended = deck.act(runs.EndRun(run=run, state="KILLED", ended=5.0))
    assert (ended.state, ended.ended) == ("KILLED", 5.0) and ended.removed is not None
    deck.act(experiments.RestoreExperiment(experiment="a"))
    assert deck.state.runs[run].removed is None and deck.state.runs[run].state == "KILLED"


def test_a_logged_model_may_bring_its_own_id_once(deck: Ruling) -> None:
    deck.act(experiments.CreateExperiment(name="a"))
    create = logged_models.CreateLoggedModel(experiment="a", model="m-1", created=7.0)
    assert deck.act(create).created == 7.0
    with pytest.raises(Conflict, match="m-1 is there already"):
        deck.act(create)
    with pytest.raises(Invalid, match="model"):
        deck.act(logged_models.CreateLoggedModel(experiment="a", model="../m"))
    deck.act(logged_models.RemoveLoggedModel(model="m-1"))
    assert deck.act(logged_models.FinishLoggedModel(model="m-1", status="FAILED")).removed is not None
    assert deck.ask(logged_models.ShowLoggedModel(model="m-1")).status == "FAILED"
    assert deck.ask(logged_models.ListLoggedModels()) == []
