"""`qd import --from mlflow`: stores that MLflow itself wrote, a server, and what MLflow's client read of them."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from quarterstore.records import experiments, models, registry, runs
from tests.conftest import Daemon, _made
from tests.console.mlflow_stores.comparing import differences, expected, shown, unpacked

KINDS = ("files", "database")


def taken(done: Any, code: int = 0) -> dict[str, Any]:
    """The answer of an import."""
    assert done.returncode == code, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return told


@pytest.fixture
def other() -> Iterator[Daemon]:
    """A second daemon over an empty home."""
    made = _made()
    made.start()
    yield made
    made.end()


@pytest.mark.parametrize("kind", KINDS)
def test_a_store_of_mlflow_is_shown_here_as_mlflow_shows_it(kind: str, other: Any, tmp_path: Path) -> None:
    """Experiments, runs, every point, params, tags, files, datasets, logged models, versions, stages, aliases, and what
    was removed."""
    store = unpacked(kind, tmp_path)
    dry = taken(other.qd("--json", "import", "--from", "mlflow", "--dry-run", str(store)))
    with other.client() as client:
        assert client.ask(runs.ListRuns(removed=True)).total == 0
        assert client.ask(experiments.ListExperiments(removed=True)) == []
    first = taken(other.qd("--json", "import", "--from", "mlflow", str(store)))
    assert first == dry
    assert (first["runs"], first["points"], first["versions"], first["left"]) == (9, 15, 3, [])
    with other.client(timeout=30) as client:
        assert differences(shown(client, tmp_path), expected(kind)) == []
        child = client.ask(runs.ListRuns(text="grandchild")).runs[0]
        assert client.ask(runs.ShowRun(run=client.ask(runs.ShowRun(run=child.parent)).parent)).name == "first"
        gone = client.ask(registry.ShowVersion(version="churn@3"))
        assert gone.removed is not None, "a number that MLflow deleted is given to nobody"
        assert client.ask(registry.ListTenures(model="churn"))[0].version == "churn@2"
        first_run = client.ask(runs.ListRuns(text="first")).runs[0]
        assert first_run.notes.startswith("# Notes\nof *first*")


@pytest.mark.parametrize("kind", KINDS)
def test_a_second_import_changes_nothing(kind: str, other: Any, tmp_path: Path) -> None:
    store = unpacked(kind, tmp_path)
    taken(other.qd("--json", "import", "--from", "mlflow", str(store)))
    with other.client(timeout=30) as client:
        before, status = shown(client, tmp_path), client.status()
        again = taken(other.qd("--json", "import", "--from", "mlflow", str(store)))
        assert again["known"] == 9
        assert {again[name] for name in ("experiments", "runs", "points", "artefacts", "models", "versions")} == {0}
        assert differences(shown(client, tmp_path), before) == []
        assert client.status().seq == status.seq, "not one act"


def test_what_was_changed_here_is_left_by_a_second_import(other: Any, tmp_path: Path) -> None:
    store = unpacked("files", tmp_path)
    taken(other.qd("--json", "import", "--from", "mlflow", str(store)))
    with other.client() as client:
        removed = client.ask(runs.ListRuns(text="killed")).runs[0]
        client.ask(runs.RemoveRun(run=removed.id))
        client.ask(experiments.RestoreExperiment(experiment="old one"))
        client.ask(registry.MoveStage(version="churn@4", stage="Production"))
        client.ask(models.RemoveModel(model="empty model"))
        again = taken(other.qd("--json", "import", "--from", "mlflow", str(store)), 1)
        assert [line.partition(":")[0] for line in again["left"]] == ["model 'empty model'"]
        assert client.ask(runs.ShowRun(run=removed.id)).removed is not None
        assert client.ask(experiments.ShowExperiment(experiment="old one")).removed is None
        assert client.ask(registry.ShowVersion(version="churn@Production")).number == 4


def test_a_run_that_goes_on_in_mlflow_goes_on_here(other: Any, tmp_path: Path) -> None:
    """It is open here until it has ended there; what came since is added, nothing comes twice."""
    store = unpacked("files", tmp_path)
    taken(other.qd("--json", "import", "--from", "mlflow", str(store)))
    with other.client() as client:
        run = client.ask(runs.ListRuns(text="going")).runs[0]
        assert run.state == "RUNNING"
        (folder,) = store.glob(f"mlruns/*/{run.id}")
        with (folder / "metrics" / "loss").open("a") as file:
            file.write("1600000002000 2.5 8\n")
        (folder / "params").mkdir(exist_ok=True)
        (folder / "params" / "late").write_text("yes")
        (folder / "artifacts" / "late.txt").write_text("more")
        meta = (folder / "meta.yaml").read_text()
        (folder / "meta.yaml").write_text(
            meta.replace("end_time: null", "end_time: 1600000009000").replace("status: 1", "status: 3")
        )
        again = taken(other.qd("--json", "import", "--from", "mlflow", str(store)))
        assert (again["runs"], again["points"], again["artefacts"]) == (0, 1, 1)
        found = client.ask(runs.ShowRun(run=run.id))
        assert (found.state, found.params, found.metrics) == ("FINISHED", {"late": "yes"}, {"loss": 2.5})
        (curve,) = client.ask(runs.MetricHistory(run=run.id, points=0))
        assert curve.steps == [7, 8]


def test_a_server_is_taken_in_over_its_rest_interface(other: Any, tmp_path: Path) -> None:
    """Our own door holds the store of MLflow: what goes out there comes in here."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    door = _made()
    try:
        door.start("--mlflow", f"127.0.0.1:{port}")
        taken(door.qd("--json", "import", "--from", "mlflow", str(unpacked("database", tmp_path))))
        dry = taken(other.qd("--json", "import", "--from", "mlflow", "--dry-run", f"http://127.0.0.1:{port}"))
        first = taken(other.qd("--json", "import", "--from", "mlflow", f"http://127.0.0.1:{port}/"))
        assert first == dry and first["left"] == []
        with other.client(timeout=30) as client:
            assert differences(shown(client, tmp_path), expected("database")) == []
        again = taken(other.qd("--json", "import", "--from", "mlflow", f"http://127.0.0.1:{port}"))
        assert (again["runs"], again["known"], again["points"]) == (0, 9, 0)
    finally:
        door.end()


def test_a_place_that_holds_no_mlflow_is_said(other: Any, tmp_path: Path) -> None:
    (tmp_path / "text.db").write_text("no database")
    for place, code in (
        (str(tmp_path), 2),
        (str(tmp_path / "none"), 2),
        (str(tmp_path / "text.db"), 2),
        ("ftp://127.0.0.1/x", 2),
        ("http://ana:secret@127.0.0.1/", 2),
        ("http://127.0.0.1:9", 3),
    ):
        done = other.qd("import", "--from", "mlflow", place)
        assert done.returncode == code, (place, done.stderr)
        assert done.stderr.startswith("error: ") and "secret" not in done.stderr and not done.stdout


def test_the_command_line_loads_nothing_of_mlflow_until_it_is_asked(other: Any) -> None:
    done = other.python(
        "import sys, quarterdeck.cli.main; print('sqlite3' in sys.modules, 'quarterdeck.mlflow' in sys.modules)"
    )
    assert done.communicate(timeout=60)[0].split() == ["False", "False"]


def test_artefacts_that_a_server_kept_beside_its_store_are_found(other: Any, tmp_path: Path) -> None:
    """`mlflow server` over a store of files: the runs are in `mlruns`, what they left in `mlartifacts`."""
    store = unpacked("files", tmp_path)
    moved = 0
    for path in (store / "mlruns").glob("*/*/meta.yaml"):
        inside = path.parent.relative_to(store / "mlruns") / "artifacts"
        text = path.read_text()
        uri = f"artifact_uri: file:///tmp/mlflow-store/mlruns/{inside}"
        if uri in text and any((path.parent / "artifacts").iterdir()):
            path.write_text(text.replace(uri, f"artifact_uri: mlflow-artifacts:/{inside}"))
            (store / "mlartifacts" / inside).parent.mkdir(parents=True)
            (path.parent / "artifacts").rename(store / "mlartifacts" / inside)
            moved += 1
    assert moved == 1
    assert taken(other.qd("--json", "import", "--from", "mlflow", str(store)))["left"] == []
    with other.client(timeout=30) as client:
        assert differences(shown(client, tmp_path), expected("files")) == []
