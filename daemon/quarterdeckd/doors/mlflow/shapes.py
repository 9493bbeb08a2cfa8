"""Records of the deck as MLflow's JSON (mlflow/protos/service.proto, 3.17): milliseconds, lists of keys and values."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from quarterstore.records.experiments import Experiment
from quarterstore.records.runs import DatasetInput, Run

STATES = {"LOST": "FAILED"}
"""MLflow has no word for a run that was not heard of any more."""

USER, NOBODY = "mlflow.user", "unknown"
"""Where MLflow's clients say who runs, and what they say where they do not."""


def milliseconds(seconds: float | None) -> int | None:
    """A moment as MLflow counts it."""
    return None if seconds is None else round(seconds * 1000)


def value_of(value: float) -> float | str:
    """A number as proto3's JSON has it: NaN and the infinities are texts."""
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def listed(table: Mapping[str, Any]) -> list[dict[str, str]]:
    """A table as keys and values, both texts."""
    return [{"key": key, "value": value if isinstance(value, str) else str(value)} for key, value in table.items()]


def experiment(found: Experiment) -> dict[str, Any]:
    """An experiment."""
    return {
        "experiment_id": found.id,
        "name": found.name,
        "artifact_location": f"mlflow-artifacts:/{found.id}",
        "lifecycle_stage": "active" if found.removed is None else "deleted",
        "creation_time": milliseconds(found.created),
        "last_update_time": milliseconds(found.updated or found.created),
        "tags": listed(found.tags),
    }


def metric(key: str, value: float, moment: float, step: int) -> dict[str, Any]:
    """One point."""
    return {"key": key, "value": value_of(value), "timestamp": milliseconds(moment), "step": step}


def dataset_input(found: DatasetInput) -> dict[str, Any]:
    """A dataset that a run used."""
    return {
        "tags": listed(found.tags),
        "dataset": {
            "name": found.name,
            "digest": found.digest,
            "source_type": found.source_type,
            "source": found.source,
            **({"schema": found.schema} if found.schema else {}),
            **({"profile": found.profile} if found.profile else {}),
        },
    }


def info(found: Run, number: str) -> dict[str, Any]:
    """What a run is by itself, in the experiment of that number."""
    told = {
        "run_id": found.id,
        "run_uuid": found.id,
        "run_name": found.name,
        "experiment_id": number,
        "user_id": found.tags.get(USER, found.actor if found.beats else NOBODY),
        "status": STATES.get(found.state, found.state),
        "start_time": milliseconds(found.started),
        "artifact_uri": f"mlflow-artifacts:/{number}/{found.id}/artifacts",
        "lifecycle_stage": "active" if found.removed is None else "deleted",
    }
    return told if found.ended is None else {**told, "end_time": milliseconds(found.ended)}


def run(found: Run, number: str, points: Mapping[str, tuple[int, float, float]]) -> dict[str, Any]:
    """A run with its newest points; one whose step and time are not in memory any more stands at its end."""
    end = found.ended or found.started
    metrics = []
    for key, value in found.metrics.items():
        step, moment, newest = points.get(key, (0, end, value))
        metrics.append(metric(key, newest, moment, step))
    tags = {"mlflow.runName": found.name, **found.tags}
    return {
        "info": info(found, number),
        "data": {"metrics": metrics, "params": listed(found.params), "tags": listed(tags)},
        "inputs": {
            "dataset_inputs": [dataset_input(each) for each in found.inputs],
            "model_inputs": [{"model_id": each} for each in found.models],
        },
        "outputs": {"model_outputs": [{"model_id": each.model, "step": each.step} for each in found.outputs]},
    }
