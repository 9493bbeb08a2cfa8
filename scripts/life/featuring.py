"""Features: kept offline, joined in a pipeline that is a graph, read online by whoever gives a key."""

from __future__ import annotations

import csv
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
from sklearn.datasets import load_breast_cancer

from life.play import Figures, Play
from quarterstore.records import datasets, features, online, pipelines, registry

VIEW = "measured"
MODEL = "patients"
COLUMNS = {"radius": "mean radius", "texture": "mean texture", "concavity": "mean concavity", "worst": "worst radius"}
"""Feature of the view -> column of the breast cancer set."""
STEPS = '''
"""A step of the user's own: how often each answer is there."""

import polars as pl


def count(step):
    rows = pl.read_parquet(step.file("joined.parquet"))
    return dict(rows["malignant"].value_counts().sort("malignant").iter_rows())
'''


def offline(play: Play) -> Figures:
    """A view is defined and loaded; a training set takes of it what was known at the time of each row."""
    _write(play.home.parent)
    play.deck.ask(
        features.DefineView(
            name=VIEW,
            entities=(features.Entity(name="patient", keys=(features.Key(name="patient", kind="integer"),)),),
            features=tuple(features.Feature(name=name, kind="number") for name in COLUMNS),
            event_time="at",
            ttl=90 * 86_400.0,
            owner="you",
            description="what was measured of a patient",
            on_demand={"growth": "worst / radius"},
        )
    )
    rows, _ = play.deck.put(play.home.parent / "measured.csv")
    play.done(play.deck.ask(features.AddRows(view=VIEW, digest=rows, format="csv", known="event")))
    asked, _ = play.deck.put(play.home.parent / "patients.csv")
    join = features.JoinFeatures(digest=asked, views=(VIEW,), time="event_time", format="csv")
    made = play.deck.ask(features.ShowTrainingSet(set=play.done(play.deck.ask(join)).result["id"]))
    shown = play.deck.ask(features.ShowView(view=VIEW))
    return {
        "view": f"{shown.view.id}, {shown.rows} rows, {len(shown.view.kinds)} features of which growth on demand",
        "training set": f"{made.id}, {made.rows} rows",
        "found": ", ".join(f"{n} {status}" for status, n in made.statuses[VIEW].items()),
    }


def _write(folder: Path) -> None:
    """Measurements of the patients, and which of them turned out how, some of them before they were measured."""
    data = load_breast_cancer()
    places = [list(data.feature_names).index(column) for column in COLUMNS.values()]
    now = datetime.now(UTC).replace(microsecond=0)
    with (folder / "measured.csv").open("w", newline="") as file:
        out = csv.writer(file)
        out.writerow(["patient", "at", *COLUMNS])
        for patient, row in enumerate(data.data):
            out.writerow([patient, (now - timedelta(days=30 + patient % 30)).isoformat(), *row[places]])
    with (folder / "patients.csv").open("w", newline="") as file:
        out = csv.writer(file)
        out.writerow(["patient", "event_time", "malignant"])
        for patient, benign in enumerate(data.target):
            asked = now - timedelta(days=80 if patient % 50 == 0 else 1)
            out.writerow([patient, asked.isoformat(), "no" if benign else "yes"])


def graph(play: Play) -> Figures:
    """Steps of ours and one of the user's own, two at a time; a second run is cached, and registers nothing."""
    digest, size = play.deck.put(play.home.parent / "patients.csv")
    play.deck.ask(datasets.AddDataset(digest=digest, name="patients.csv", format="csv", size=size))
    code, _ = play.deck.put(STEPS.encode())
    definition = pipelines.Definition(
        name=MODEL,
        model=MODEL,
        data=pipelines.DataSection(target="malignant", dataset=digest, features=(VIEW,)),
        train=pipelines.TrainSection(learner="logistic"),
        parallel=2,
        steps=(
            _step("features"),
            _step("validate", "features"),
            pipelines.StepSection(name="count", run="steps.py:count", after=("features",)),
            _step("split", "validate"),
            _step("train", "split"),
            _step("evaluate", "train"),
            _step("register", "evaluate", "count"),
        ),
    )
    asked = pipelines.RunPipeline(definition=definition, sources={"steps.py": code})
    first = play.ended(play.deck.ask(asked).id)
    second = play.ended(play.deck.ask(asked).id)
    counted = next(step for step in first.steps if step.name == "count")
    return {
        "graph": " > ".join(step.name for step in first.steps),
        "count": ", ".join(f"{n} {answer}" for answer, n in counted.figures.items()),
        "first run": f"{_seconds(first):.2f} s, {first.version}",
        "second run": f"{_seconds(second):.2f} s, {_cached(second)} steps from the cache, {second.version}",
    }


def _step(kind: str, *after: str) -> pipelines.StepSection:
    return pipelines.StepSection(name=kind, uses=kind, after=after)


def _seconds(run: pipelines.PipelineRun) -> float:
    return max(step.ended or 0.0 for step in run.steps) - run.created


def _cached(run: pipelines.PipelineRun) -> int:
    return sum(step.how == "cached" for step in run.steps)


def by_key(play: Play) -> Figures:
    """The newest values are read online: a caller gives a key, and a value that is pushed counts at once."""
    job = play.done(play.deck.ask(online.Materialise(view=VIEW)))
    version = play.deck.ask(registry.ShowVersion(version=f"{MODEL}@latest")).id
    play.deck.ask(registry.MoveStage(version=version, stage="Staging"))
    play.agreed(registry.MoveStage(version=version, stage="Production"))
    url = f"{play.deployed(version, MODEL)}/v1/predict/{MODEL}"
    before, after = _answered(url, 19), {"radius": 25.0, "texture": 30.0, "concavity": 0.4, "worst": 36.0}
    play.deck.ask(online.PushRows(view=VIEW, rows=({"patient": 19, **after},)))
    return {
        "online": f"{job.result['entities']} patients, made in {job.result['seconds']:.2f} s",
        "asked": f"POST {url} {{'rows': [{{'patient': 19}}]}}",
        "answer": before,
        "answer after a push": _answered(url, 19),
    }


def _answered(url: str, patient: int) -> str:
    response = httpx.post(url, json={"rows": [{"patient": patient}]}, timeout=30.0)
    response.raise_for_status()
    found: dict[str, Any] = response.json()
    status = next(iter(found["features"].values()))["statuses"][0]
    return f"{found['rows'][0]} ({status})"
