"""F8, F27, F28, F30, V1, V2, V13: tampering, bit rot, four eyes, backup under writes, bad paths, pickles and
unknown keys."""

from __future__ import annotations

import os
import random
import shutil
import signal
import threading
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
import zmq

from quarterdeck import keys
from quarterstore.ledger import journal
from quarterstore.records import datasets, governance, models, people, pipelines, registry, runs, store
from quarterstore.records.faults import Corrupt, Fault, Forbidden, Invalid, NeedsApproval, Refused
from quarterstore.records.wire import PROTOCOL, Ask, encode
from tests.small import onnx_file

pytestmark = pytest.mark.fault


def shape() -> registry.Signature:
    """A signature of one input and one output."""
    tensor = registry.Tensor(name="x", datatype="FP32", shape=(-1, 2))
    return registry.Signature(inputs=(tensor,), outputs=(registry.Tensor(name="y", datatype="FP32", shape=(-1, 1)),))


def register(client: Any, model: str, mark: str = "") -> registry.Version:
    """A version of a small file."""
    digest, size = client.put(onnx_file(mark))
    version: registry.Version = client.ask(
        registry.RegisterVersion(model=model, digest=digest, size=size, format="onnx", signature=shape())
    )
    return version


def fill(client: Any, count: int = 20) -> governance.AuditHead:
    """Some entries, and the head after them."""
    for number in range(count):
        client.ask(runs.StartRun(experiment="audit", name=f"run {number}"))
    head: governance.AuditHead = client.ask(governance.ShowHead())
    return head


def frames_of(path: Path) -> list[tuple[int, int]]:
    """Offset and length of each frame of a segment."""
    segment = journal.segments_of(path.parent)[-1]
    return [(offset, 36 + len(payload)) for offset, _, payload in journal._frames(segment)]


def test_every_way_of_tampering_with_the_journal_is_found(absent: Any) -> None:
    """F27: edit, delete, swap, insert, cut the tail, recompute the chain, roll the store back; the last three need the
    head that was kept outside."""
    absent.start()
    with absent.client() as client:
        early = fill(client, 5)
        late = fill(client, 15)
    absent.stop()
    path = sorted(absent.home.journal.glob("*.journal"))[-1]
    whole = path.read_bytes()
    parts = frames_of(path)
    anchor = journal.Head(late.seq, bytes.fromhex(late.hash))

    def verdict(data: bytes, known: journal.Head | None = None) -> journal.Verdict:
        path.write_bytes(data)
        return journal.verify(path.parent, known)

    assert verdict(whole, anchor).first_bad is None
    (third, length), (fourth, other) = parts[2], parts[3]
    edited = bytearray(whole)
    edited[third + 60] ^= 1
    deleted = whole[:third] + whole[third + length :] + bytes(length)
    swapped = whole[:third] + whole[fourth : fourth + other] + whole[third : third + length] + whole[fourth + other :]
    inserted = whole[:fourth] + whole[third : third + length] + whole[fourth:]
    for name, data in (("edit", bytes(edited)), ("delete", deleted), ("swap", swapped), ("insert", inserted)):
        assert verdict(data).first_bad is not None, name
    last = parts[-1][0]
    cut = whole[:last] + bytes(len(whole) - last)
    assert verdict(cut).first_bad is None
    assert verdict(cut, anchor).first_bad == late.seq
    assert verdict(recomputed(whole, parts), anchor).first_bad is not None
    back = parts[early.seq][0]
    assert verdict(whole[:back] + bytes(len(whole) - back), anchor).first_bad is not None
    print("F27 N=7 failures=0")


def recomputed(whole: bytes, parts: list[tuple[int, int]]) -> bytes:
    """The journal with one entry changed and every hash after it made to fit again."""
    data = bytearray(whole)
    data[parts[3][0] + 90] ^= 1
    before = bytes(data[parts[2][0] + 4 : parts[2][0] + 36])
    for offset, length in parts[3:]:
        before = journal.chained(before, bytes(data[offset + 36 : offset + length]))
        data[offset + 4 : offset + 36] = before
    return bytes(data)


def test_a_cut_journal_is_said_at_the_start_not_passed_over(absent: Any) -> None:
    """F8: the projection remembers how far the journal had come."""
    absent.start()
    with absent.client() as client:
        fill(client, 10)
    absent.stop()
    path = sorted(absent.home.journal.glob("*.journal"))[-1]
    last = frames_of(path)[-2][0]
    data = path.read_bytes()
    path.write_bytes(data[:last] + bytes(len(data) - last))
    absent.start(wait=False)
    assert absent.process is not None and absent.process.wait(20) == 1
    assert "acknowledged changes missing" in absent.log()


def test_a_damaged_projection_is_made_again_from_the_journal(absent: Any) -> None:
    """F8: one bit of each 80 places in the projection; every answered run is there again, and it is said."""
    chance = random.Random(11)
    absent.start()
    with absent.client() as client:
        fill(client, 30)
        before = [run.id for run in client.ask(runs.ListRuns(limit=1000, sort="id")).runs]
    absent.stop()
    kept = absent.home.database.read_bytes()
    flips = 6
    for _ in range(flips):
        data = bytearray(kept)
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        absent.home.database.write_bytes(bytes(data))
        absent.start()
        with absent.client() as client:
            assert [run.id for run in client.ask(runs.ListRuns(limit=1000, sort="id")).runs] == before
            assert client.ask(governance.VerifyAudit()).ok
        absent.stop()
    print(f"F8 projection N={flips} failures=0 seed=11")


def test_a_flipped_bit_in_an_artefact_is_found_before_it_is_used(absent: Any) -> None:
    """F8: the name of a kept file is its hash; the fault names both."""
    absent.start()
    chance = random.Random(5)
    flips = 20
    with absent.client() as client:
        digest, size = client.put(os.urandom(50_000))
        path = absent.home.artefacts / digest[:2] / digest
        whole = path.read_bytes()
        for _ in range(flips):
            data = bytearray(whole)
            data[chance.randrange(size)] ^= 1
            path.chmod(0o600)
            path.write_bytes(bytes(data))
            with pytest.raises(Corrupt, match=digest):
                client.ask(store.GetBlob(digest=digest))
        path.write_bytes(whole)
        assert client.ask(store.GetBlob(digest=digest)).data == whole
    print(f"F8 artefact N={flips} failures=0 seed=5")


def test_nobody_passes_the_four_eyes_alone(team: Any) -> None:
    """F28: same key, a second key of the same person, another version, changed evidence, a viewer, after a restart."""
    with team.client() as owner:
        first, second = register(owner, "m", "one"), register(owner, "m", "two")
        person = owner.ask(people.WhoAmI()).person
        owner.ask(people.AddKey(public=keys.make(team.home, "second"), person=person))
        for version in (first, second):
            owner.ask(registry.MoveStage(version=version.id, stage="Staging"))
        act = registry.MoveStage(version=first.id, stage="Production")
        with pytest.raises(NeedsApproval):
            owner.ask(act)
        asked = owner.ask(governance.Propose(act=msgspec.to_builtins(act)))
        yes = governance.Approve(approval=asked.id, evidence=asked.evidence)
        with pytest.raises(Refused):
            owner.ask(yes)
        with team.client("second") as same, pytest.raises(Refused):
            same.ask(yes)
        with team.client("carl") as viewer, pytest.raises(Forbidden):
            viewer.ask(yes)
        with team.client("ana") as ana, pytest.raises(Refused):
            ana.ask(governance.Approve(approval=asked.id, evidence="0" * 64))
        rule = governance.GateRule(metric="accuracy", op=">=", limit=0.5)
        with team.client("bob") as bob:
            bob.ask(governance.SetGate(model="m", rules=(rule,)))
        with team.client("ana") as ana, pytest.raises(Refused):
            ana.ask(yes)
        with team.client("bob") as bob:
            bob.ask(governance.SetGate(model="m", rules=()))
    team.stop(signal.SIGKILL)
    team.start("--profile", "team")
    with team.client() as owner, team.client("ana") as ana:
        with pytest.raises(Refused):
            owner.ask(yes)
        assert owner.ask(registry.ShowVersion(version=first.id)).stage == "Staging"
        done = ana.ask(yes)
        assert done.state == "APPROVED" and done.decided_by == "ana"
        assert owner.ask(registry.ProductionAt(model="m", at=time.time())).approved_by == "ana"
        with pytest.raises(Fault):
            ana.ask(yes)
        with pytest.raises(NeedsApproval):
            owner.ask(registry.MoveStage(version=second.id, stage="Production"))
    print("F28 N=7 failures=0")


def test_a_backup_under_writes_restores_to_one_entry(absent: Any, tmp_path: Path) -> None:
    """F30: writes go on while it is made; the restored store has exactly the entries until its head."""
    absent.start()
    stopping = threading.Event()

    def write() -> None:
        with absent.client() as own:
            while not stopping.is_set():
                own.ask(runs.StartRun(experiment="busy"))

    with absent.client() as client:
        fill(client, 10)
        register(client, "kept")
        writer = threading.Thread(target=write)
        writer.start()
        made = client.ask(store.Backup(), timeout=60)
        stopping.set()
        writer.join()
        file = tmp_path / "backup.tar"
        client.get(made.digest, file)
    restored = absent.folder / "restored"
    done = absent.qd("restore", str(file))
    assert done.returncode == 5  # this home is not empty
    shutil.rmtree(restored, ignore_errors=True)
    done = absent.qd("--home", str(restored), "restore", str(file))
    assert done.returncode == 0, done.stderr
    verdict = journal.verify(restored / "journal", journal.Head(made.seq, bytes.fromhex(made.hash)))
    assert verdict.first_bad is None and verdict.head.seq == made.seq
    damaged = tmp_path / "damaged.tar"
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    damaged.write_bytes(bytes(data))
    done = absent.qd("--home", str(absent.folder / "other"), "restore", str(damaged))
    assert done.returncode != 0 and not (absent.folder / "other").exists()
    print(f"F30 seq={made.seq} failures=0")


PATHS = (
    "../x",
    "..%252fx",
    "/etc/passwd",
    "a/../../x",
    "..\\..\\x",
    "a\x00b",
    "file:///x",
    "a/./b",
    "x" * 5000,
    "~/x/..",
    "",
)


@pytest.mark.parametrize("path", PATHS)
def test_a_path_that_leaves_the_store_is_refused(daemon: Any, path: str) -> None:
    """V1: artefact paths and digests are names, never places."""
    with daemon.client() as client:
        digest, size = client.put(b"x")
        run = client.ask(runs.StartRun(experiment="paths")).id
        if path in ("..%252fx", "file:///x"):
            # harmless as names: they are never decoded, and never become a place
            with pytest.raises(Fault):
                client.ask(store.GetBlob(digest=path))
            return
        with pytest.raises(Invalid):
            client.ask(runs.LogArtefact(run=run, path=path, digest=digest, size=size))
        with pytest.raises(Invalid):
            client.ask(store.PutBlob(upload=path, offset=0, data=b"x"))
        with pytest.raises(Fault):
            client.ask(store.GetBlob(digest=path))


def spellings(place: Path) -> list[str]:
    """Forty ways of writing one place outside the store (the records of MLflow's CVE-2023-1177 and its followers)."""
    name, whole = place.name, str(place)
    up = [f"{dots}{name}" for dots in ("../", "../../", "./../", "a/../../", "..//", "..;/", ".../", "x/../../../../")]
    coded = [
        f"{dots}{name}" for dots in ("..%2f", "..%252f", "%2e%2e/", "%2e%2e%2f", "..%c0%af", "..%5c", "%252e%252e/")
    ]
    back = [f"{dots}{name}" for dots in ("..\\", "..\\..\\", "\\", "\\\\host\\", "C:\\", "a\\..\\..\\")]
    address = [
        f"{scheme}{whole}" for scheme in ("file://", "file:", "file:///..", "http:///#/..", "http://#", "FILE://", "//")
    ]
    odd = [
        f"{whole}\x00",
        f"../{name}\x00.onnx",
        f"~/../{name}",
        f"$HOME/{name}",
        f"../{name}#x",
        f"../{name}?x",
        f"./{name}/..",
    ]
    return [whole, f"{whole}/", *up, *coded, *back, *address, *odd, f"../{name}{'/.' * 300}", ".", ".."]


def test_forty_spellings_of_a_place_outside_lead_nowhere(daemon: Any) -> None:
    """V1: refused, or a name and no place: nothing outside is read, written or removed."""
    canary = daemon.folder / "canary"
    canary.write_bytes(b"a canary, which nobody may read")
    beside = sorted(path.name for path in daemon.folder.iterdir())
    refused = 0
    words = spellings(canary)
    with daemon.client() as client:
        digest, size = client.put(b"rows")
        run = client.ask(runs.StartRun(experiment="places")).id
        client.ask(models.CreateModel(model="places"))
        for word in words:
            asked: tuple[Any, ...] = (
                store.GetBlob(digest=word),
                store.PutBlob(upload=word, offset=0, data=b"x"),
                registry.RegisterVersion(model="places", digest=word, size=1, format="auto", signature=shape()),
                datasets.AddDataset(digest=word, name="rows", format="csv"),
                pipelines.CheckPipeline(
                    definition=pipelines.Definition("p", "p", pipelines.DataSection(target="y", dataset=word))
                ),
                runs.StartRun(experiment="places", run=word),
                pipelines.RunPipeline(
                    definition=pipelines.Definition("p", "p", pipelines.DataSection(target="y", builtin=word))
                ),
            )
            for act in asked:
                with pytest.raises(Fault):
                    client.ask(act)
                refused += 1
            for act in (
                runs.LogArtefact(run=run, path=word, digest=digest, size=size),
                registry.RegisterSource(model="places", source=word),
            ):
                try:
                    client.ask(act)
                except Invalid:
                    refused += 1
        for kept in client.ask(runs.ShowRun(run=run)).artefacts:
            assert kept.digest == digest and not {"", ".", ".."} & set(kept.path.split("/")), kept.path
        assert client.ask(governance.VerifyAudit()).ok
    assert canary.read_bytes() == b"a canary, which nobody may read"
    assert sorted(path.name for path in daemon.folder.iterdir()) == beside
    print(f"V1 N={len(words)} spellings, {refused} refusals, failures=0")


def test_a_pickle_is_refused_by_its_bytes_whatever_its_name(daemon: Any, tmp_path: Path) -> None:
    """V2: `__reduce__` of a registered file never runs; the canary stays absent."""
    import pickle

    canary = tmp_path / "canary"

    class Evil:
        def __reduce__(self) -> Any:
            return (os.system, (f"touch {canary}",))

    with daemon.client() as client:
        for protocol in range(2, 6):
            digest, size = client.put(pickle.dumps(Evil(), protocol=protocol))
            with pytest.raises(Refused):
                client.ask(
                    registry.RegisterVersion(model="evil", digest=digest, size=size, format="onnx", signature=shape())
                )
    assert not canary.exists()


def test_an_unknown_key_gets_nothing_and_a_known_one_passes(daemon: Any) -> None:
    """V13: both ways, because a broken handler looks secure; the socket's modes too."""
    context: zmq.Context[Any] = zmq.Context()
    frame = encode(Ask(PROTOCOL, "x", msgspec.Raw(encode(people.WhoAmI()))))
    server = daemon.home.server_public.read_bytes()

    def answered(secret: bytes | None, to: bytes | None) -> bool:
        socket = context.socket(zmq.DEALER)
        socket.setsockopt(zmq.LINGER, 0)
        if secret is not None and to is not None:
            socket.curve_secretkey, socket.curve_publickey, socket.curve_serverkey = (
                secret,
                zmq.curve_public(secret),
                to,
            )
        socket.connect(daemon.home.ask_address)
        socket.send(frame)
        found = bool(socket.poll(1000))
        socket.close(0)
        return found

    assert answered(daemon.home.secret_key("owner").read_bytes(), server)
    assert not answered(zmq.curve_keypair()[1], server)
    assert not answered(None, None)
    assert not answered(daemon.home.secret_key("owner").read_bytes(), zmq.curve_keypair()[0])
    context.term()
    assert daemon.home.ask_socket.stat().st_mode & 0o777 == 0o600
    assert daemon.home.runtime.stat().st_mode & 0o777 == 0o700
    assert all(path.stat().st_mode & 0o077 == 0 for path in daemon.home.keys.glob("*.secret"))
