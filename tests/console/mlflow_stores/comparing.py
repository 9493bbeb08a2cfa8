"""A store of MLflow unpacked, and what a daemon shows of it in the words of `write.py`'s `read`."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import Any

from quarterstore.records import experiments, logged_models, models, registry, runs

FOLDER = Path(__file__).parent
OURS = ("mlflow.experimentId", "mlflow.created", "mlflow.user")
"""Tags that an import adds to what has no other place for them."""


def unpacked(kind: str, folder: Path) -> Path:
    """The store of files or the database, in a folder of its own."""
    target = folder / kind
    with tarfile.open(FOLDER / f"{kind}.tar.gz") as tar:
        tar.extractall(target, filter="data")
    return target


def expected(kind: str) -> dict[str, Any]:
    """What MLflow's client read when the store was written."""
    text = (FOLDER / f"{kind}.json").read_text()
    found: dict[str, Any] = json.loads(text.replace("1.7976931348623157e+308", "inf"))  # as MLflow's SQL keeps it
    for model in found["models"].values():
        model["description"] = model["description"].rstrip("\n")  # a description ends with its last line here
    return found


def differences(found: Any, wanted: Any, where: str = "") -> list[str]:
    """Where two of these differ."""
    if isinstance(found, dict) and isinstance(wanted, dict):
        names = sorted({*found, *wanted})
        return [line for name in names for line in differences(found.get(name), wanted.get(name), f"{where}/{name}")]
    return [] if found == wanted else [f"{where}: got {found!r}, expected {wanted!r}"]


def shown(client: Any, folder: Path) -> dict[str, Any]:
    """What the daemon shows; every file is fetched, and checked against its hash as it arrives."""
    told: dict[str, Any] = {"experiments": {}, "runs": {}, "logged_models": {}, "models": {}}
    for each in client.ask(experiments.ListExperiments(removed=True)):
        told["experiments"][each.name] = {"tags": _theirs(each.tags), "removed": each.removed is not None}
    for run in client.ask(runs.ListRuns(removed=True, limit=1000)).runs:
        told["runs"][run.id] = _run(client, run, folder)
    for model in client.ask(logged_models.ListLoggedModels()):
        told["logged_models"][model.id] = {
            "name": model.name,
            "status": model.status,
            "created": round(model.created * 1000),
            "run": model.run,
            "kind": model.flavour,
            "params": model.params,
            "tags": model.tags,
            "files": _files(client, model.artefacts, folder),
        }
    for name in [each.name for each in client.ask(registry.ListModels())]:
        told["models"][name] = _model(client, name)
    return told


def _run(client: Any, run: runs.Run, folder: Path) -> dict[str, Any]:
    curves = client.ask(runs.MetricHistory(run=run.id, points=0))
    return {
        "experiment": run.experiment,
        "name": run.name,
        "state": run.state,
        "started": round(run.started * 1000),
        "ended": None if run.ended is None else round(run.ended * 1000),
        "removed": run.removed is not None,
        "parent": run.parent,
        "params": run.params,
        "tags": run.tags,
        "metrics": {key: repr(value) for key, value in run.metrics.items()},
        "points": {
            curve.key: sorted(
                [step, round(at * 1000), repr(value)]
                for step, at, value in zip(curve.steps, curve.times, curve.values, strict=True)
            )
            for curve in curves
        },
        "inputs": [[each.name, each.digest, each.source, each.tags] for each in run.inputs],
        "outputs": [[each.model, each.step] for each in run.outputs],
        "files": _files(client, run.artefacts, folder),
    }


def _model(client: Any, name: str) -> dict[str, Any]:
    found = client.ask(models.ShowModel(model=name))
    return {
        "description": found.description,
        "tags": _theirs(found.tags),
        "aliases": found.aliases,
        "versions": {
            str(each.number): {
                "source": each.source,
                "run": each.run,
                "stage": each.stage,
                "notes": each.notes,
                "tags": _theirs(each.tags),
            }
            for each in client.ask(registry.ListVersions(model=name))
        },
    }


def _files(client: Any, artefacts: tuple[runs.Artefact, ...], folder: Path) -> dict[str, str]:
    for each in artefacts:
        client.get(each.digest, folder / "fetched")
    return {each.path: each.digest for each in artefacts}


def _theirs(tags: dict[str, str]) -> dict[str, str]:
    return {key: value for key, value in tags.items() if key not in OURS}
