"""Writes the two stores beside it with MLflow itself, and what MLflow's client reads of them: needs an environment of
its own with `mlflow==3.17.2`, then `cd /tmp && python write.py FOLDER`."""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import sys
import tarfile
import tempfile
import warnings
from pathlib import Path
from typing import Any

os.environ["MLFLOW_ALLOW_FILE_STORE"] = "true"
warnings.simplefilter("ignore")

import mlflow  # noqa: E402
from mlflow.data.http_dataset_source import HTTPDatasetSource  # noqa: E402
from mlflow.data.meta_dataset import MetaDataset  # noqa: E402
from mlflow.entities import Metric, ViewType  # noqa: E402

MODEL = """
from mlflow import pyfunc
from mlflow.models import set_model

class Same(pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        return model_input

set_model(Same())
"""
NOTE = "# Notes\nof *first*: a long line that goes on for more than the eighty characters that a YAML writer likes\n"
PLACE = Path("/tmp/mlflow-store")
"""Where the stores are when MLflow writes them: they stand in its rows, and are moved afterwards."""


def write() -> None:
    """Everything that an import takes, in the store that is set."""
    client = mlflow.MlflowClient()
    room = Path(tempfile.mkdtemp())
    (room / "note.txt").write_text("hello\n")
    (room / "model.py").write_text(MODEL)
    (room / "weights.bin").write_bytes(bytes(range(256)))
    client.create_experiment("churn: é", tags={"team": "one", "quoted": 'a "b" \\ c'})
    mlflow.set_experiment("churn: é")
    with mlflow.start_run(run_name="first", tags={"empty": "", "lines": "a\nb\n", "mlflow.note.content": NOTE}) as run:
        mlflow.log_params({"lr": 0.1, "text": "  padded ", "deep/param": "x: y # z"})
        for step in range(5):
            client.log_metric(run.info.run_id, "loss", 1 / (step + 1), 1_700_000_000_000 + step, step)
        odd = [math.nan, math.inf, -math.inf, 1e308]
        points = [Metric("odd", value, 1_700_000_000_123 + at, at) for at, value in enumerate(odd)]
        twice = [Metric("val/acc", value, 1_700_000_000_000, -3) for value in (0.5, 0.25)]
        client.log_batch(run.info.run_id, metrics=[*points, *twice])
        mlflow.log_artifact(str(room / "note.txt"))
        mlflow.log_artifact(str(room / "weights.bin"), "deep/er")
        source = HTTPDatasetSource("https://example.org/rows.csv?" + "a=b&" * 30)
        mlflow.log_input(MetaDataset(source, name="rows", digest="abc123"), context="training")
        with mlflow.start_run(run_name="child", nested=True):
            mlflow.log_metric("acc", 0.9)
            with mlflow.start_run(run_name="grandchild", nested=True):
                mlflow.log_metric("acc", 0.95)
    with mlflow.start_run(run_name="model") as made:
        logged = mlflow.pyfunc.log_model(name="net", python_model=str(room / "model.py"), pip_requirements=[])
        mlflow.log_metric("acc", 0.8, model_id=logged.model_id)
        client.set_logged_model_tags(logged.model_id, {"k": "v"})
    failed = mlflow.initialize_logged_model(
        name="kept", source_run_id=made.info.run_id, params={"a": "b"}, model_type="agent"
    )
    mlflow.finalize_logged_model(failed.model_id, "FAILED")
    gone = mlflow.initialize_logged_model(name="gone", source_run_id=made.info.run_id)
    client.delete_logged_model(gone.model_id)
    number = run.info.experiment_id
    going = client.create_run(number, run_name="going", start_time=1_600_000_000_000)
    client.log_metric(going.info.run_id, "loss", 3.0, timestamp=1_600_000_001_000, step=7)
    for name, status in (("failed", "FAILED"), ("killed", "KILLED"), ("removed", "FINISHED")):
        other = client.create_run(number, run_name=name)
        client.set_terminated(other.info.run_id, status, 1_700_000_000_000)
    client.delete_run(other.info.run_id)
    old = client.create_experiment("old one")
    inside = client.create_run(old, run_name="in the old one")
    client.log_param(inside.info.run_id, "a", "b")
    client.set_terminated(inside.info.run_id)
    client.delete_experiment(old)
    _register(client, logged, run.info.run_id, made.info.run_id)


def _register(client: Any, logged: Any, run: str, made: str) -> None:
    client.create_registered_model("churn", tags={"owner": "ana"}, description="Who leaves: 'soon'.\n" + NOTE)
    client.create_model_version("churn", logged.model_uri, run_id=made, model_id=logged.model_id)
    for number in (2, 3, 4):
        words = f"version {number}: fine"
        client.create_model_version("churn", f"runs:/{run}/deep", run_id=run, tags={"i": "j"}, description=words)
    client.delete_model_version("churn", "3")
    for number, stage in (("1", "Archived"), ("2", "Production"), ("4", "Staging")):
        client.transition_model_version_stage("churn", number, stage)
    client.set_registered_model_alias("churn", "champion", "2")
    client.set_registered_model_alias("churn", "challenger-1", "4")
    client.create_registered_model("empty model")


def read() -> dict[str, Any]:
    """What MLflow's client reads of it; numbers as texts, since JSON has no NaN."""
    client = mlflow.MlflowClient()
    told: dict[str, Any] = {"experiments": {}, "runs": {}, "logged_models": {}, "models": {}}
    for experiment in client.search_experiments(ViewType.ALL):
        removed = experiment.lifecycle_stage == "deleted"
        told["experiments"][experiment.name] = {"tags": dict(experiment.tags), "removed": removed}
        for run in client.search_runs([experiment.experiment_id], run_view_type=ViewType.ALL):
            told["runs"][run.info.run_id] = {"experiment": experiment.name, **_run(client, run)}
        for model in [] if removed else client.search_logged_models([experiment.experiment_id]):
            told["logged_models"][model.model_id] = _logged_model(model)
    for found in client.search_registered_models():
        model = client.get_registered_model(found.name)
        told["models"][model.name] = {
            "description": model.description or "",
            "tags": dict(model.tags),
            "aliases": {alias: int(number) for alias, number in model.aliases.items()},
            "versions": {
                str(each.version): {
                    "source": each.source,
                    "run": each.run_id or None,
                    "stage": each.current_stage,
                    "notes": each.description or "",
                    "tags": dict(each.tags),
                }
                for each in client.search_model_versions(f"name='{model.name}'")
            },
        }
    return told


def _run(client: Any, run: Any) -> dict[str, Any]:
    points = {
        key: sorted(
            [each.step, each.timestamp, repr(float(each.value))]
            for each in client.get_metric_history(run.info.run_id, key)
        )
        for key in run.data.metrics
    }
    return {
        "name": run.info.run_name,
        "state": run.info.status,
        "started": run.info.start_time,
        "ended": run.info.end_time,
        "removed": run.info.lifecycle_stage == "deleted",
        "parent": run.data.tags.get("mlflow.parentRunId"),
        "params": dict(run.data.params),
        "tags": {key: value for key, value in run.data.tags.items() if key != "mlflow.runName"},
        "metrics": {key: repr(float(value)) for key, value in run.data.metrics.items()},
        "points": points,
        "inputs": [
            [each.dataset.name, each.dataset.digest, each.dataset.source, {tag.key: tag.value for tag in each.tags}]
            for each in run.inputs.dataset_inputs
        ],
        "outputs": [[each.model_id, each.step] for each in run.outputs.model_outputs],
        "files": _files(run.info.artifact_uri),
    }


def _logged_model(model: Any) -> dict[str, Any]:
    return {
        "name": model.name,
        "status": str(model.status).rpartition(".")[2],
        "created": model.creation_timestamp,
        "run": model.source_run_id,
        "kind": model.model_type or "",
        "params": dict(model.params),
        "tags": dict(model.tags),
        "files": _files(model.artifact_location),
    }


def _files(uri: str) -> dict[str, str]:
    """The SHA-256 of every file below a URI of this disk."""
    root = Path(uri.removeprefix("file://"))
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def main(folder: Path) -> None:
    for kind in ("files", "database"):
        shutil.rmtree(PLACE, ignore_errors=True)
        PLACE.mkdir()
        os.chdir(PLACE)
        mlflow.set_tracking_uri(f"file://{PLACE}/mlruns" if kind == "files" else f"sqlite:///{PLACE}/mlflow.db")
        write()
        (folder / f"{kind}.json").write_text(json.dumps(read(), indent=1, sort_keys=True) + "\n")
        with tarfile.open(folder / f"{kind}.tar.gz", "w:gz") as tar:
            tar.add(PLACE, ".", filter=_of_nobody)


def _of_nobody(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member


if __name__ == "__main__":
    main(Path(sys.argv[1]).absolute())
