"""Features on demand while a model is served: a version answers with the formula that it was made with."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from pathlib import Path
from typing import Any

from quarterstore.records import deployments
from tests.conftest import Daemon
from tests.decks import until
from tests.system.test_online import asked, model_file, posted

DEFINED = """
[entities.customer]
keys = {{ customer = "integer" }}
[views.usage]
entities = ["customer"]
event_time = "at"
[views.usage.features]
minutes = "number"
[views.usage.requests]
amount = "number"
[views.usage.on_demand]
score = "{formula}"
"""


def defined(daemon: Daemon, folder: Path, formula: str) -> None:
    (folder / "f.toml").write_text(DEFINED.format(formula=formula))
    asked(daemon, "apply", folder / "f.toml")


def registered(daemon: Daemon, folder: Path, number: int) -> str:
    """A version of `m` in Production whose y is half of score and age together."""
    (folder / "m.onnx").write_bytes(model_file(str(number)))
    columns = [
        {"name": name, "kind": "number", "input": "x", "index": index} for index, name in enumerate(("score", "age"))
    ]
    schema = {
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 2]}],
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 1]}],
        "features": columns,
    }
    (folder / "schema.json").write_text(json.dumps(schema))
    words = ("--schema", str(folder / "schema.json"), "--features", "usage")
    ran = daemon.qd("--json", "register", str(folder / "m.onnx"), "--name", "m", *words)
    assert ran.returncode == 0, ran.stderr
    version = json.loads(ran.stdout)
    assert version["views"] == [{"name": "usage", "version": number, "features": ["score"]}]
    done = daemon.qd("promote", version["id"], "Production", "--reason", "a test", "--skip-stage")
    assert done.returncode == 0, done.stderr
    return str(version["id"])


def test_a_formula_that_changes_is_that_of_versions_made_afterwards_alone_also_after_restarts(
    absent: Daemon, tmp_path: Path
) -> None:
    absent.start()
    defined(absent, tmp_path, "minutes + amount")
    (tmp_path / "rows.csv").write_text("customer,at,minutes\n1,2026-01-01,4\n")
    asked(absent, "load", "usage", tmp_path / "rows.csv")
    asked(absent, "materialise", "usage")
    served = [deploy(absent, registered(absent, tmp_path, 1), "old")]

    def scores(address: str, endpoint: str) -> Any:
        """By rows and by tensors, with the key, a request of the formula and a plain feature in one object."""
        row = {"customer": 1, "amount": 2, "age": 10}
        with contextlib.suppress(OSError):
            plain = posted(f"{address}/v1/predict/{endpoint}", {"rows": [row]})
            body = {"inputs": [], "parameters": {"keys": [row]}}
            tensors = posted(f"{address}/v2/models/{endpoint}/infer", body)
            if "rows" in plain and "outputs" in tensors:
                return plain["rows"][0]["y"], *tensors["outputs"][0]["data"], *plain["features"]
        return None

    assert until(lambda: scores(served[0], "old")) == (8.0, 8.0, "usage@1")
    defined(absent, tmp_path, "minutes * amount * 10")
    served.append(deploy(absent, registered(absent, tmp_path, 2), "new"))

    def both() -> Any:
        return [scores(address, name) for address, name in zip(served, ("old", "new"), strict=True)]

    expected = [(8.0, 8.0, "usage@1"), (45.0, 45.0, "usage@2")]
    assert until(lambda: both()[1]) and both() == expected
    with absent.client() as client:
        hosts = client.ask(deployments.ShowServing()).hosts
    absent.stop(signal.SIGKILL)
    for host in hosts:
        os.kill(host.pid, signal.SIGKILL)
    assert until(lambda: all(both())) and both() == expected, "hosts begin anew without the daemon"
    absent.start()
    (tmp_path / "rows.csv").write_text("customer,at,minutes\n1,2026-02-01,6\n")
    asked(absent, "load", "usage", tmp_path / "rows.csv")
    asked(absent, "materialise", "usage")
    assert until(lambda: both() == [(9.0, 9.0, "usage@1"), (65.0, 65.0, "usage@2")]), both()

    (tmp_path / "batch.csv").write_text("customer,amount,age\n1,2,10\n")
    done = absent.qd("batch", "m@1", str(tmp_path / "batch.csv"), str(tmp_path / "out.parquet"))
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1
    assert "a batch takes no keys: qd features get --entities FILE --view usage@1" in done.stderr


def deploy(daemon: Daemon, version: str, endpoint: str) -> str:
    """The address at which a version answers under a name."""
    ran = daemon.qd("deploy", version, "--endpoint", endpoint, "--wait")
    assert ran.returncode == 0, ran.stderr
    with daemon.client() as client:
        return str(client.ask(deployments.ShowServing()).address)
