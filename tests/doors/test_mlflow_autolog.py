"""Autologging: a scikit-learn script that says `mlflow.autolog()` and nothing else of MLflow's."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.conftest import Daemon
from tests.doors.test_mlflow import free_port

SCRIPT = """
import mlflow
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

mlflow.sklearn.autolog(log_input_examples=False, silent=True)
x, y = load_iris(return_X_y=True)
trained = LogisticRegression(max_iter=500, C=0.5).fit(x, y)
trained.score(x, y)
(run,) = mlflow.search_runs(output_format="list")
assert run.info.status == "FINISHED" and run.data.params["C"] == "0.5", run
assert run.data.metrics["training_accuracy_score"] > 0.9, run.data.metrics
assert run.inputs.dataset_inputs[0].tags[0].value == "train"
(model,) = mlflow.search_logged_models(output_format="list")
assert model.source_run_id == run.info.run_id and str(model.status) == "READY", model
assert {each.key for each in model.metrics} >= {"training_accuracy_score", "training_f1_score"}, model.metrics
loaded = mlflow.sklearn.load_model(f"models:/{model.model_id}")
assert (loaded.predict(x) == trained.predict(x)).all()
version = mlflow.register_model(f"models:/{model.model_id}", "iris")
assert str(version.version) == "1" and version.run_id == run.info.run_id, version
tags = mlflow.get_logged_model(model.model_id).tags
assert tags["mlflow.modelVersions"] == '[{"name": "iris", "version": 1}]', tags
mlflow.MlflowClient().set_registered_model_alias("iris", "champion", "1")
assert (mlflow.sklearn.load_model("models:/iris@champion").predict(x) == trained.predict(x)).all()
best = mlflow.search_logged_models(
    filter_string="metrics.training_accuracy_score > 0.5", order_by=[{"field_name": "metrics.training_accuracy_score"}],
    output_format="list",
)
assert [each.model_id for each in best] == [model.model_id]
print("all of it")
"""


def test_a_script_that_logs_by_itself_leaves_run_data_model_and_version() -> None:
    daemon, port = Daemon(Path(tempfile.mkdtemp(prefix="qd", dir="/tmp"))), free_port()
    try:
        daemon.start("--mlflow", f"127.0.0.1:{port}")
        environ = {
            **os.environ,
            "MLFLOW_TRACKING_URI": f"http://127.0.0.1:{port}",
            "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
            "HOME": str(daemon.folder),
        }
        done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=150, env=environ)
        assert done.returncode == 0, done.stderr[-3000:]
        assert done.stdout.rstrip().endswith("all of it")
    finally:
        daemon.end()
