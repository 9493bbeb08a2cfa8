"""F8: the files of a model, of features, of training sets and of datasets are flipped, cut, zeroed, deleted or swapped:
found before they are used, named with both hashes, and what is whole is used on; a journal that ends before what was
acknowledged says how many changes are missing."""

from __future__ import annotations

import random
import re
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from quarterstore.ledger import journal
from quarterstore.ledger.anchor import Anchor
from quarterstore.ledger.opening import open_ledger
from quarterstore.records import batches, features, jobs, pipelines, runs, store
from quarterstore.records.faults import Corrupt, Fault
from quarterstore.records.places import Home
from tests.faults.test_bit_rot import Damage, blank, cut, flip
from tests.faults.test_jobs import ended, until
from tests.pipeline.test_run import rows
from tests.small import onnx_file

pytestmark = pytest.mark.fault
SEED = 8
ROWS = "user,at,spent\n" + "".join(f"u{number},2026-01-01T00:00Z,{number}.5\n" for number in range(200))
OTHER = "user,at,visits\n" + "".join(f"u{number},2026-01-01T00:00Z,{number}\n" for number in range(200))
ENTITIES = "user,event_time\n" + "".join(f"u{number},2026-02-01T00:00Z\n" for number in range(200))
BATCH = "x0,x1\n" + "".join(f"{number},1\n" for number in range(200))


class Kept(NamedTuple):
    """A store with one of each file, by its hash, and what whole files give."""

    daemon: Any
    files: dict[str, str]
    entities: str
    joined: str
    answered: str
    model: str


def over(client: Any, job: str) -> jobs.Job:
    """A job at its end."""
    found: jobs.Job = until(lambda: ended(client, job), 60, f"end of {job}")
    return found


def joined(client: Any, view: str, entities: str) -> jobs.Job:
    """A training set of one view."""
    return over(client, client.ask(features.JoinFeatures(entities, (view,), "event_time", "csv")).id)


def view_of(client: Any, name: str, feature: str, text: str) -> str:
    """A view of rows that came; answers the hash of its file."""
    client.ask(
        features.DefineView(
            name=name,
            entities=(features.Entity("user", (features.Key("user"),)),),
            features=(features.Feature(feature, "number"),),
            event_time="at",
        )
    )
    digest, _ = client.put(text.encode())
    job = over(client, client.ask(features.AddRows(view=name, digest=digest, format="csv")).id)
    assert job.result, job.error
    return str(job.result["output"])


@pytest.fixture(scope="module")
def kept(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kept]:
    """Filled once; each test leaves every file whole."""
    daemon = request.getfixturevalue("daemon")
    with daemon.client(timeout=60) as client:
        spent = view_of(client, "spending", "spent", ROWS)
        view_of(client, "visiting", "visits", OTHER)
        entities, _ = client.put(ENTITIES.encode())
        set_ = joined(client, "spending", entities).result["output"]
        learnt, _ = client.put(rows(tmp_path_factory.mktemp("rows") / "rows.csv"))
        model, size = client.put(onnx_file("rot", outputs=1))
        version = client.ask(registered(model, size)).id
        data, _ = client.put(BATCH.encode())
        answered = over(client, client.ask(batches.StartBatch(version=version, digest=data, format="csv")).id)
        assert answered.result, answered.error
        files = {"features": spent, "training set": set_, "dataset": learnt, "model": model}
        yield Kept(daemon, files, entities, set_, answered.result["output"], version)


def registered(digest: str, size: int) -> Any:
    """A version that adds two numbers up, halved."""
    from quarterstore.records import registry

    x = registry.Tensor(name="x", datatype="FP32", shape=(-1, 2))
    columns = tuple(registry.Feature(f"x{place}", "number", "x", place) for place in range(2))
    shape = registry.Signature(
        inputs=(x,), outputs=(registry.Tensor(name="y", datatype="FP32", shape=(-1, 1)),), features=columns
    )
    return registry.RegisterVersion(model="rot", digest=digest, size=size, format="onnx", signature=shape)


def path_of(kept: Kept, digest: str) -> Path:
    """Where a file lies."""
    return Path(kept.daemon.home.artefacts / digest[:2] / digest)


def zero_tail(data: bytearray, chance: random.Random) -> None:
    """The last quarter is zeros, as a file system leaves what it never wrote."""
    data[-max(1, len(data) // 4) :] = bytes(max(1, len(data) // 4))


BYTES: dict[str, Damage] = {"flip": flip, "cut": cut, "zeros": zero_tail, "sector": blank}
DAMAGE = (*BYTES, "deleted", "swapped")


def damage(kept: Kept, kind: str, how: str, chance: random.Random) -> dict[Path, bytes]:
    """Damage the file of a kind; answers what was whole, to be put back."""
    path = path_of(kept, kept.files[kind])
    whole = {path: path.read_bytes()}
    path.chmod(0o600)
    if how == "deleted":
        path.unlink()
    elif how == "swapped":
        other = path_of(kept, kept.files["dataset" if kind != "dataset" else "training set"])
        whole[other] = other.read_bytes()
        other.chmod(0o600)
        path.write_bytes(whole[other])
        other.write_bytes(whole[path])
    else:
        data = bytearray(whole[path])
        while bytes(data) == whole[path]:
            BYTES[how](data, chance)
        path.write_bytes(bytes(data))
    return whole


def used(client: Any, kept: Kept, kind: str) -> str | None:
    """What uses a file says: the line of its fault, or None where it gave what whole files give."""
    digest = kept.files[kind]
    data = pipelines.DataSection(target="y", dataset=digest, ignore=("day", "house"))
    try:
        match kind:
            case "features":
                job = joined(client, "spending", kept.entities)
                return job.error if job.error else wrong_unless(job.result["output"] == kept.joined)
            case "model":
                again, _ = client.put((BATCH + f"{random.random()},1\n").encode())
                job = over(client, client.ask(batches.StartBatch(version=kept.model, digest=again, format="csv")).id)
                return job.error if job.error else wrong_unless(job.result["output"] != kept.answered)
            case "dataset":
                client.ask(pipelines.CheckPipeline(pipelines.Definition("rot", "rot", data)))
                return None
        return wrong_unless(client.ask(store.GetBlob(digest=digest)).size > 0)
    except Fault as fault:
        return fault.line()


def wrong_unless(right: bool) -> str | None:
    """Where a damaged file was used after all."""
    return None if right else "another answer"


@pytest.mark.parametrize("kind", ["model", "features", "training set", "dataset"])
@pytest.mark.parametrize("count", [6, pytest.param(50, marks=pytest.mark.slow)])
def test_a_damaged_file_is_found_before_it_is_used_and_the_others_are_used(
    kept: Kept, report: Any, kind: str, count: int
) -> None:
    """The fault names the file with both hashes; a file that is not there is named; whole again, it is used again."""
    chance = random.Random(SEED)
    wrong, served = [], 0
    digest = kept.files[kind]
    with kept.daemon.client(timeout=60) as client:
        for number in range(count):
            how = DAMAGE[number % len(DAMAGE)]
            whole = damage(kept, kind, how, chance)
            said = used(client, kept, kind)
            if how == "deleted":
                right = said is not None and digest[:16] in said and "expected a kept file" in said
            else:
                right = said is not None and bool(
                    re.search(rf"{digest[:16]}: got [0-9a-f]{{64}}, expected {digest}", said)
                )
            if not right:
                wrong.append(f"{how} {number}: {said}")
            if number == 0:  # what is whole is served meanwhile
                others = [joined(client, "visiting", kept.entities).error]
                wrong += [f"{number}: the other view: {each}" for each in others if each]
                served += len(others)
            for other in set(kept.files.values()) - {digest}:
                if path_of(kept, other) not in whole:
                    served += client.ask(store.GetBlob(digest=other)).size > 0
            for path, data in whole.items():
                path.write_bytes(data)
        said = used(client, kept, kind)
        wrong += [f"whole again: {said}"] * (said is not None)
    report("F8", count, len(wrong), SEED, kind=kind.replace(" ", "_"), served=served)
    assert wrong == []


@pytest.mark.parametrize("lost", ["nothing", "the projection"])
@pytest.mark.parametrize("count", [3, pytest.param(20, marks=pytest.mark.slow)])
def test_a_journal_that_ends_before_what_was_acknowledged_says_how_many_are_missing(
    absent: Any, report: Any, count: int, lost: str
) -> None:
    """Cut between two entries, so that each of those left is whole: the heads beside it tell."""
    absent.start()
    with absent.client() as client:
        for number in range(12):
            client.ask(runs.StartRun(experiment=f"e{number}"))
    anchor, folder = Anchor(absent.home.anchor), absent.home.journal
    until(lambda: anchor.read().seq == journal.newest(folder).seq, 20, "note of the newest entry")
    absent.stop(signal.SIGKILL)
    whole = absent.folder / "whole"
    shutil.copytree(absent.home.root, whole)
    chance, wrong = random.Random(SEED), []
    head = journal.newest(whole / "journal").seq
    for number in range(count):
        shutil.rmtree(absent.home.root)
        shutil.copytree(whole, absent.home.root)
        home = Home(absent.home.root, absent.environ)
        [path] = home.journal.glob("*.journal")
        frames = list(journal._frames(journal.segments_of(home.journal)[0]))
        gone = chance.randrange(1, 8)
        start = frames[-gone][0]
        data = bytearray(path.read_bytes())
        data[start:] = bytes(len(data) - start)
        path.write_bytes(bytes(data))
        if lost == "the projection":
            for part in home.root.glob("projection.duckdb*"):
                part.unlink()
        try:
            open_ledger(home).close()
            wrong.append(f"{number}: it was opened without {gone} entries")
        except Corrupt as fault:
            told = re.search(r"got entry (\d+) as .*, expected (\d+): (\d+) acknowledged changes missing", fault.line())
            if told is None or tuple(map(int, told.groups())) != (head - gone, head, gone):
                wrong.append(f"{gone} are gone: {fault.line()}")
        if path.read_bytes() != bytes(data):
            wrong.append(f"{number}: the journal was changed")
    report("F8-head", count, len(wrong), SEED, lost=lost.replace(" ", "_"))
    assert wrong == []
