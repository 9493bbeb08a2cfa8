"""Training: by a schedule, with live curves, and a study of parameters."""

from __future__ import annotations

import time
from typing import Any

import msgspec

from life.play import GOING, MODEL, Figures, Play
from quarterstore.records import pipelines, registry, runs, schedules, spaces, studies

ROWS = pipelines.DataSection(target="target", builtin="breast_cancer")
"""Scikit-learn's breast cancer set: 569 rows, 30 features."""


def definition(learner: str, **params: Any) -> pipelines.Definition:
    """A pipeline on those rows."""
    train = pipelines.TrainSection(learner=learner, params=params)
    return pipelines.Definition(name=f"{MODEL}-{learner}", model=MODEL, data=ROWS, train=train)


def schedule_fires(play: Play) -> Figures:
    """A schedule is due in a second, fires, and its training starts; from then on it is due at night."""
    asked = pipelines.RunPipeline(definition=definition("logistic"), cause="schedule nightly")
    act = msgspec.to_builtins(asked)
    play.deck.ask(schedules.AddSchedule(name="nightly", act=act, every=1.5))
    play.until(lambda: _nightly(play).fired >= 1, "the schedule to fire")
    play.deck.ask(schedules.PauseSchedule(name="nightly"))
    fired = _nightly(play).fired
    found = play.deck.ask(pipelines.ListPipelineRuns(pipeline=f"{MODEL}-logistic"))
    play.deck.ask(schedules.AddSchedule(name="nightly", act=act, cron="30 2 * * 1-5", zone="Europe/Berlin"))
    again = play.deck.ask(schedules.NextFirings(name="nightly", count=1))
    return {"schedule": "nightly", "fired": fired, "pipeline run": found[-1].id, "next at": again[0].local}


def _nightly(play: Play) -> schedules.Schedule:
    return next(each for each in play.deck.ask(schedules.ListSchedules()) if each.name == "nightly")


def train(play: Play) -> Figures:
    """The second candidate, a torch network, beside the first; live points come in while it runs."""
    asked = play.deck.ask(pipelines.RunPipeline(definition=definition("mlp", epochs=60), cause="a person"))
    live = 0
    while play.pipeline(asked.id).state in GOING:
        curves = play.deck.ask(runs.MetricHistory(run=asked.run))
        live = max(live, len(curves[0].steps) if curves else 0)
        time.sleep(0.1)
    done = play.ended(asked.id)
    first = play.ended(play.deck.ask(pipelines.ListPipelineRuns(pipeline=f"{MODEL}-logistic"))[-1].id)
    play.first, play.second = str(first.version), str(done.version)
    figures: Figures = {"points seen while it trained": live}
    for version in (play.first, play.second):
        record = play.deck.ask(registry.ShowVersion(version=version))
        accuracy = next(metric for metric in record.metrics if metric.name == "accuracy")
        assert accuracy.low is not None and accuracy.high is not None
        figures[version] = (
            f"{record.semver}, {record.tags['framework']}, accuracy {accuracy.value:.3f} "
            f"({accuracy.low:.3f} to {accuracy.high:.3f}), data {str(record.dataset)[:12]}"
        )
    for run in (first, done):
        trained = next(step for step in run.steps if step.name == "train")
        figures[f"parity of {run.version}"] = trained.words.rpartition("; ")[2]
    return figures


def study(play: Play) -> Figures:
    """Ten trials; the best are trained again with fresh seeds and scored on rows that no trial saw."""
    asked = play.deck.ask(
        studies.StartStudy(
            definition=studies.StudyDefinition(
                name=f"{MODEL}-boosting",
                data=ROWS,
                train=pipelines.TrainSection(learner="boosting"),
                objectives={"accuracy": "maximise"},
                space={
                    "trees": spaces.Parameter(kind="int", low=5, high=60, log=True),
                    "depth": spaces.Parameter(kind="int", low=1, high=4),
                    "rate": spaces.Parameter(kind="float", low=0.02, high=0.5, log=True),
                },
                budget=spaces.Budget(trials=10),
                rescore=spaces.Rescoring(top=2, seeds=2),
            )
        )
    )
    play.until(lambda: _study(play, asked.id).state != "RUNNING", "the study to end")
    found = _study(play, asked.id)
    if found.result is None or not found.result.best:
        raise RuntimeError(f"{found.id} {found.state}: {found.error}")
    shares = sorted(found.result.importance.items(), key=lambda each: -each[1])
    return {
        "study": found.id,
        "found": found.result.words,
        "matters most": ", ".join(f"{name} {share:.0%}" for name, share in shares),
    }


def _study(play: Play, study: str) -> studies.Study:
    return play.deck.ask(studies.ShowStudy(study=study))
