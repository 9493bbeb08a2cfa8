"""V15: Parquet, CSV and JSON files that were damaged or made to harm, as rows of a pipeline, of a feature view, of a
dataset: read in a child, refused in one line or read as what they say, and the daemon goes on."""

from __future__ import annotations

import datetime
import io
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from quarterstore.records import datasets, features, governance, jobs, pipelines
from quarterstore.records.faults import Fault
from tests.faults.test_jobs import ended, until

pytestmark = pytest.mark.fault
SEED = 15
KINDS = ("zstd", "snappy", "uncompressed", "csv", "json")
AT_THE_DAEMON = len(KINDS)
READER = """
import os, sys
from pathlib import Path
from quarterdeckd.features import rows as feature_rows
from quarterdeckd.pipeline import check, rows
from quarterstore.records.faults import Fault
from quarterstore.records.features import Entity, Feature, FeatureView, Key, RowsSpec
from quarterstore.records.pipelines import CheckSpec, DataSection, Definition

class Told:
    def progress(self, *words, **more): pass

some = (Feature("a", "number"), Feature("b", "integer"), Feature("c", "text"))
view = FeatureView("v", 1, (Entity("user", (Key("id"),)),), some, "at", None, None, "", "", {}, 0.0, "me")
folder = Path(sys.argv[1])
os.chdir(sys.argv[2])

def tried(what, path, work):
    try:
        work()
        print("read", what, path.name)
    except Fault as fault:
        print("refused", what, path.name, fault.line())
    except BaseException as error:
        print("raised", what, path.name, type(error).__name__, str(error)[:200])

for path in sorted(folder.iterdir()):
    kind = "parquet" if path.suffix == ".parquet" else "csv"
    definition = Definition("d", "d", DataSection(target="y", file=path.name))
    tried("pipeline", path, lambda: check.check(CheckSpec(definition), str(path)))
    tried("features", path, lambda: feature_rows.run(RowsSpec(view, str(path), kind, "event", "x"), Told()))
    tried("dataset", path, lambda: rows.difference((path, kind), (path, kind)))
"""


def whole(kind: str, chance: random.Random) -> bytes:
    """Rows that a pipeline learns from and a view takes."""
    count = 60
    first = datetime.datetime(2026, 1, 1)
    frame = pl.DataFrame(
        {
            "id": [f"u{number % 20}" for number in range(count)],
            "at": [first + datetime.timedelta(hours=number) for number in range(count)],
            "a": [chance.random() for _ in range(count)],
            "b": [chance.randrange(9) for _ in range(count)],
            "c": [chance.choice(["x", "y", None]) for _ in range(count)],
            "y": [chance.choice(["yes", "no"]) for _ in range(count)],
        }
    )
    if kind == "json":
        return frame.write_json().encode()
    out = io.BytesIO()
    if kind == "csv":
        frame.write_csv(out)
    else:
        frame.write_parquet(out, compression=kind)  # type: ignore[arg-type]
    return out.getvalue()


def mutated(data: bytes, chance: random.Random, *, footer: bool) -> bytes:
    """Bits, bytes, lengths, cuts, doubles; in the footer of a Parquet file, where its sizes and offsets are."""
    out = bytearray(data)
    for _ in range(chance.choice((1, 1, 1, 3, 20))):
        if not out:
            break
        at = len(out) - 1 - chance.randrange(min(900, len(out))) if footer else chance.randrange(len(out))
        match chance.randrange(1 if footer else 6):
            case 0:
                out[at] = chance.randrange(256)
            case 1:
                out[at] ^= 1 << chance.randrange(8)
            case 2:
                del out[at : at + chance.choice((1, 40, len(out)))]
            case 3:
                out[at:at] = chance.randbytes(chance.randrange(1, 40))
            case 4:
                out[at : at + 8] = chance.choice((b"\xff" * 8, b"\0" * 8, (2**63 - 1).to_bytes(8, "little")))
            case 5:
                out[at:at] = out[at : at + chance.randrange(1, 200)]
    return bytes(out)


def files(folder: Path, count: int) -> list[Path]:
    """So many damaged files of every kind."""
    chance = random.Random(SEED)
    folder.mkdir()
    sound = {kind: whole(kind, chance) for kind in KINDS}
    for number in range(count):
        kind = KINDS[number % len(KINDS)]
        text = kind in ("csv", "json")
        data = mutated(sound[kind], chance, footer=not text and number % 2 == 0)
        (folder / f"{number:04d}.{'csv' if text else 'parquet'}").write_bytes(data)
    return sorted(folder.iterdir())


@pytest.mark.parametrize("count", [150, pytest.param(1000, marks=pytest.mark.slow)])
def test_a_damaged_file_of_rows_is_refused_in_one_line_or_read(tmp_path: Path, report: Any, count: int) -> None:
    """No panic of a reader, no crash of the child, no bare error of a library."""
    files(tmp_path / "files", count)
    words = [sys.executable, "-c", READER, str(tmp_path / "files"), str(tmp_path)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=500, check=False)
    lines = done.stdout.splitlines()
    wrong = [line for line in lines if line.startswith("raised")]
    wrong += [line for line in lines if line.startswith("refused") and "expected" not in line]
    refused = sum(line.startswith("refused") for line in lines)
    report("V15", count, len(wrong), SEED, refused=refused, read=len(lines) - refused)
    assert done.returncode == 0, done.stderr[-500:]
    assert wrong == [] and len(lines) == 3 * count
    assert refused > count


def test_the_daemon_reads_none_of_them_itself_and_goes_on(daemon: Any, tmp_path: Path, report: Any) -> None:
    """As a dataset, as rows of a pipeline, as rows of a view, and by the command."""
    found = files(tmp_path / "files", AT_THE_DAEMON)
    wrong: list[str] = []
    with daemon.client(timeout=60) as client:
        view = client.ask(
            features.DefineView(
                name="v",
                entities=(features.Entity("user", (features.Key("id"),)),),
                features=(features.Feature("a", "number"), features.Feature("c", "text")),
                event_time="at",
            )
        )
        waiting: dict[str, Path] = {}
        for path in found:
            kind: Any = "parquet" if path.suffix == ".parquet" else "csv"
            digest, size = client.put(path)
            client.ask(datasets.AddDataset(digest=digest, name=path.name, format=kind, size=size))
            data = pipelines.DataSection(target="y", dataset=digest)
            wrong += refusal(client, pipelines.CheckPipeline(pipelines.Definition("d", "d", data)))
            wrong += refusal(client, datasets.CompareDatasets(before=digest, after=digest))
            waiting[client.ask(features.AddRows(view=view.name, digest=digest, format=kind)).id] = path
        for job, path in waiting.items():
            over = until(lambda job=job: ended(client, job), 60, f"end of {job}")
            if over.state == "FAILED" and ("expected" not in over.error or "\n" in over.error):
                wrong.append(f"{path.name}: {over.error}")
            wrong += [f"{path.name}: {over.state} {over.error}"] * (over.state not in ("SUCCEEDED", "FAILED"))
        before = len(client.ask(pipelines.ListPipelineRuns()))
    for path in (found[0], found[-1]):
        done = daemon.qd("quickstart", str(path), "--target", "gone", "--out", str(tmp_path / "out.toml"))
        if done.returncode not in (1, 2, 4) or "Traceback" in done.stderr or not done.stderr.startswith("error: "):
            wrong.append(f"{path.name}: {done.returncode} {done.stderr}")
    with daemon.client() as client:
        assert len(client.ask(pipelines.ListPipelineRuns())) == before
        assert client.ask(governance.VerifyAudit()).ok
        assert client.ask(jobs.ListJobs(live=True)) == []
    assert daemon.process.poll() is None and "Traceback" not in daemon.log(), daemon.log()
    report("V15-daemon", AT_THE_DAEMON, len(wrong), SEED)
    assert wrong == []


def refusal(client: Any, question: Any) -> list[str]:
    """What is wrong with how a question is refused, if it is."""
    try:
        client.ask(question)
    except Fault as fault:
        return [fault.line()] * ("expected" not in fault.line() or "\n" in fault.line())
    return []
