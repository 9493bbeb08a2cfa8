"""Leaving with all data and coming back: an export that plain DuckDB reads, an import with equal hashes."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest

from quarterstore.records import experiments, logged_models, models, registry, runs
from tests.conftest import Daemon, _made
from tests.small import onnx_file

SHAPE = registry.Signature(
    inputs=(registry.Tensor(name="x", datatype="FP32", shape=(-1, 2)),),
    outputs=(registry.Tensor(name="y", datatype="FP32", shape=(-1, 1)),),
)


@pytest.fixture
def other() -> Iterator[Daemon]:
    """A second daemon over an empty home."""
    made = _made()
    made.start()
    yield made
    made.end()


@pytest.fixture(scope="module")
def exported(daemon: Any) -> Path:
    """A store with runs (NaN, infinity, nested, removed), files, a logged model, a model with versions that were in
    Production one after the other, an alias, and what was removed."""
    weights = daemon.folder / "weights.bin"
    for index in range(3):
        weights.write_bytes(os.urandom(20_000))
        params = {"lr": 0.1 * index, "optimiser": "adam", "wide": 2**40, "blank": None}
        with daemon.client() as client, client.run("leaving", params=params, tags={"é": "ü"}) as run:
            run.log_artefact(weights)
            for step in range(200):
                run.log(loss=1 / (1 + step), odd=math.nan if step % 2 else math.inf)
    with daemon.client() as client:
        digest, size = client.put(onnx_file())
        for _ in range(2):
            client.ask(
                registry.RegisterVersion(
                    model="m", digest=digest, size=size, format="onnx", signature=SHAPE, run=run.id
                )
            )
        for version in ("m@1", "m@2"):
            client.ask(registry.MoveStage(version=version, stage="Staging"))
            client.ask(registry.MoveStage(version=version, stage="Production", reason="it is better"))
        client.ask(registry.RegisterSource(model="m", source="s3://bucket/m", tags={"a": "b"}))
        client.ask(registry.RemoveVersion(version="m@3"))
        client.ask(experiments.TagExperiment(experiment="leaving", tags={"team": "one"}))
        client.ask(runs.StartRun(experiment="old", run="inside", parent=run.id, beats=False))
        client.ask(experiments.RemoveExperiment(experiment="old"))
        client.ask(logged_models.CreateLoggedModel(experiment="leaving", name="net", model="m-1", run=run.id))
        only, length = client.put(b"only in the logged model")
        client.ask(logged_models.LogModelArtefact(model="m-1", path="a/b", digest=only, size=length))
        client.ask(logged_models.FinishLoggedModel(model="m-1"))
        client.ask(models.SetAlias(version="m@2", alias="champion"))
        first = client.ask(runs.ListRuns(experiment="leaving", sort="started")).runs[0]
        client.ask(runs.RemoveRun(run=first.id))
    folder: Path = daemon.folder / "out"
    done = daemon.qd("export", "--all", str(folder))
    assert done.returncode == 0, done.stderr
    return folder


def seen(daemon: Any) -> dict[str, Any]:
    """Everything a person reads of the store, and the bytes of every file."""
    with daemon.client(timeout=30) as client:
        found = client.ask(runs.ListRuns(removed=True, sort="id")).runs
        curves = {run.id: client.ask(runs.MetricHistory(run=run.id, points=0)) for run in found}
        versions = client.ask(registry.ListVersions(removed=True))
        logged = client.ask(logged_models.ListLoggedModels())
        kept = {each.digest for holder in (*found, *logged) for each in holder.artefacts}
        for digest in kept | {each.digest for each in versions if each.digest}:
            client.get(digest, daemon.folder / "fetched")  # checked against its hash as it arrives
        shown = client.ask(registry.ShowVersion(version="m@champion"))
        return {
            "experiments": client.ask(experiments.ListExperiments(removed=True)),
            "runs": repr(found),
            "curves": repr(curves),
            "logged": logged,
            "models": client.ask(registry.ListModels()),
            "versions": versions,
            "alias": shown,
            "tenures": client.ask(registry.ListTenures(model="m")),
        }


def test_an_import_into_an_empty_store_shows_what_was_exported(daemon: Any, exported: Path, other: Any) -> None:
    first = other.qd("--json", "import", str(exported))
    assert first.returncode == 0, first.stderr
    taken = json.loads(first.stdout)
    assert taken["taken"]["runs"] == 4 and taken["points"] == 1200
    assert seen(other) == seen(daemon)
    with other.client() as client:
        first, second = client.ask(registry.ListTenures(model="m"))
        assert (first.version, second.version, second.until) == ("m@1", "m@2", None) and first.until == second.since
    again = json.loads(other.qd("--json", "import", str(exported)).stdout)
    assert again["taken"]["runs"] == 0 and again["known"]["runs"] == 4
    back = other.folder / "back"
    assert other.qd("export", str(back)).returncode == 0
    books = ("experiments", "runs", "logged_models", "models", "versions", "tenures")
    names = tuple(f"records/{book}.parquet" for book in books)
    assert [(back / name).read_bytes() for name in names] == [(exported / name).read_bytes() for name in names]


def test_plain_duckdb_reads_an_export(exported: Path) -> None:
    query = duckdb.connect().execute
    counted = f"SELECT experiment, count(*) FROM '{exported}/records/runs.parquet' GROUP BY 1 ORDER BY 1"
    assert query(counted).fetchall() == [("leaving", 3), ("old", 1)]
    history = f"SELECT version, stage, run FROM '{exported}/records/tenures.parquet' JOIN "
    history += f"'{exported}/records/versions.parquet' ON id = version ORDER BY since"
    (first, second), lives = (
        query(history).fetchall(),
        query(f"FROM '{exported}/records/runs.parquet' SELECT id").fetchall(),
    )
    assert (first[:2], second[:2]) == (("m@1", "Archived"), ("m@2", "Production"))
    assert (first[2],) in lives
    aliases = query(f"SELECT aliases.champion FROM '{exported}/records/models.jsonl'").fetchone()
    assert aliases == (2,)
    rows = query(f"SELECT key, count(*) FROM '{exported}/points/*.parquet' GROUP BY key ORDER BY key").fetchall()
    assert rows == [("loss", 600), ("odd", 600)]
    assert query(f"SELECT params.optimiser FROM '{exported}/records/runs.jsonl' LIMIT 1").fetchone() == ("adam",)


def test_an_export_that_was_tampered_with_changes_nothing(exported: Path, other: Any) -> None:
    path = next(exported.glob("artefacts/*/*"))
    kept = path.read_bytes()
    path.chmod(0o600)
    path.write_bytes(kept[:-1] + bytes([kept[-1] ^ 1]))
    done = other.qd("import", str(exported))
    path.write_bytes(kept)
    assert done.returncode != 0 and path.name in done.stderr and "expected" in done.stderr
    with other.client() as client:
        assert client.ask(runs.ListRuns()).total == 0
    nothing = other.qd("import", str(exported / "records"))
    assert nothing.returncode == 2 and "manifest.json" in nothing.stderr


def test_a_model_that_is_here_otherwise_is_a_conflict_before_anything_is_taken(exported: Path, other: Any) -> None:
    with other.client() as client:
        client.ask(models.CreateModel(model="m"))
    done = other.qd("import", str(exported))
    assert done.returncode == 5 and "m is here already" in done.stderr
    with other.client() as client:
        assert client.ask(runs.ListRuns()).total == 0


def test_kill_9_amid_an_import_is_mended_by_asking_again(exported: Path, other: Any, daemon: Any) -> None:
    other.stop(signal.SIGTERM)
    other.start(QD_CRASH_AT="journal.synced:3")
    command = [sys.executable, "-m", "quarterdeck.cli.main", "--home", str(other.home.root), "import", str(exported)]
    asking = subprocess.Popen(command, env=other.environ, stderr=subprocess.DEVNULL)
    assert other.process is not None and other.process.wait(30) == 137
    asking.kill()
    asking.wait()
    other.start()
    done = other.qd("import", str(exported))
    assert done.returncode == 0, done.stderr
    assert seen(other) == seen(daemon)
