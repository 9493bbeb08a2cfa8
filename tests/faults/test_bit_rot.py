"""F8: one bit of a kept file is another; it is found before it is used, or made again, and never served as if nothing
had happened."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest

from quarterdeckd.serving.recorder import Frame, Recorder, read_segment
from quarterstore.ledger import journal
from quarterstore.ledger.opening import open_ledger
from quarterstore.records import governance, predictions, runs, schedules, store
from quarterstore.records.faults import Corrupt, Fault
from quarterstore.records.places import Home
from tests.decks import until

pytestmark = pytest.mark.fault
SEED = 19
ENDPOINT = "churn"


class Truth(NamedTuple):
    """What the store served before anything was damaged, by question."""

    answers: dict[str, Any]
    state: dict[str, dict[str, Any]]
    digest: str
    runs: list[str]


def points(run: str, name: str, count: int = 40) -> runs.LogMetrics:
    """A batch of a curve."""
    return runs.LogMetrics(
        run=run,
        batch=f"{run}-{name}",
        keys=("loss",),
        key=array("H", [0] * count).tobytes(),
        step=array("q", range(count)).tobytes(),
        time=array("d", [1.0] * count).tobytes(),
        value=array("d", [number / 7 for number in range(count)]).tobytes(),
    )


def questions(digest: str, found: list[str]) -> dict[str, Any]:
    """What is asked of the store, by a name for it."""
    asked: dict[str, Any] = {f"run {run}": runs.ShowRun(run=run) for run in found}
    asked |= {f"curve {run}": runs.MetricHistory(run=run, points=1000) for run in found[:3]}
    asked["audit"] = governance.ListAudit(limit=40, before=40)
    asked["replay"] = store.Replay(after=0, limit=20)
    asked["file"] = store.GetBlob(digest=digest)
    asked["predictions"] = predictions.ListPredictions(endpoint=ENDPOINT, limit=1000)
    return asked


def answers(client: Any, digest: str, found: list[str]) -> dict[str, Any]:
    """The answer to each question, or its fault."""
    got: dict[str, Any] = {}
    for name, question in questions(digest, found).items():
        try:
            got[name] = client.ask(question)
        except Fault as fault:
            got[name] = fault
    return got


def frame(number: int) -> Frame:
    """A recorded prediction."""
    return Frame(
        id=f"prediction-{number:04d}",
        at=1_700_000_000.0 + number,
        endpoint=ENDPOINT,
        version="churn-1",
        role="live",
        epoch=1,
        status=200,
        latency=0.001,
        features={"age": [float(number)]},
        predictions=["yes" if number % 2 else "no"],
        scores=[number / 100],
    )


def record(home: Home, first: int, count: int) -> None:
    """Predictions in a closed segment, written as a host writes them."""
    recorder = Recorder(home.serving / "predictions", os.getpid())
    for number in range(first, first + count):
        recorder.write(frame(number))
    recorder.tend(close=True)


def fill(daemon: Any) -> Truth:
    """One of everything: folded and unfolded points, a file, folded and waiting predictions, a trail."""
    with daemon.client() as client:
        found = [client.ask(runs.StartRun(experiment="rot", params={"lr": n / 10})).id for n in range(20)]
        client.ask(points(found[0], "folded"))
        record(daemon.home, 0, 60)
        client.ask(predictions.ListPredictions(endpoint=ENDPOINT, limit=10))
        client.ask(store.Backup())
        for run in found[:3]:
            client.ask(points(run, "log"))
        client.ask(runs.EndRun(run=found[0]))
        digest, _ = client.put(random.Random(SEED).randbytes(30_000))
        told = answers(client, digest, found)
        assert not [name for name, each in told.items() if isinstance(each, Fault)], told
    return Truth(told, {}, digest, found)


def state_of(home: Home) -> dict[str, dict[str, Any]]:
    """Every book of a store, opened in this process."""
    ledger = open_ledger(home)
    try:
        return {name: dict(book.rows) for name, book in ledger.state.books().items()}
    finally:
        ledger.close()


@pytest.fixture(scope="module")
def filled(request: pytest.FixtureRequest) -> Iterator[tuple[Any, Truth]]:
    """A filled store whose daemon was killed, so that its write-ahead log is there too; tests damage copies of it."""
    daemon = request.getfixturevalue("daemon")
    truth = fill(daemon)
    daemon.stop(signal.SIGKILL)
    whole = daemon.folder / "whole"
    shutil.copytree(daemon.home.root, whole)
    (whole / "reserve").unlink()
    state = state_of(copied(daemon, "first"))
    yield daemon, truth._replace(state=state)


def copied(daemon: Any, name: str) -> Home:
    """A fresh copy of the whole store."""
    target = daemon.folder / name
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(daemon.folder / "whole", target)
    return Home(target, daemon.environ)


Damage = Callable[[bytearray, random.Random], None]


def flip(data: bytearray, chance: random.Random) -> None:
    """One bit, anywhere in what is not the zeros written ahead."""
    used = len(bytes(data).rstrip(b"\0"))
    data[chance.randrange(used)] ^= 1 << chance.randrange(8)


def cut(data: bytearray, chance: random.Random) -> None:
    """The end is gone."""
    used = len(bytes(data).rstrip(b"\0"))
    del data[chance.randrange(1, used) :]


def blank(data: bytearray, chance: random.Random) -> None:
    """A sector of zeros."""
    used = len(bytes(data).rstrip(b"\0"))
    start = chance.randrange(used)
    end = min(used, start + 512)
    data[start:end] = bytes(end - start)


def damaged(path: Path, how: Damage, chance: random.Random) -> bool:
    """Damage a file in place; False when that changed nothing."""
    data = bytearray(path.read_bytes())
    before = bytes(data)
    how(data, chance)
    if bytes(data) == before:
        return False
    path.chmod(0o600)
    path.write_bytes(bytes(data))
    return True


LEDGER = {
    "journal": lambda home: sorted(home.journal.glob("*.journal"))[0],
    "projection": lambda home: home.database,
    "wal": lambda home: home.database.with_name(home.database.name + ".wal"),
}


@pytest.mark.parametrize("count", [10, pytest.param(100, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", sorted(LEDGER))
def test_a_damaged_ledger_is_refused_or_made_again_and_never_read_wrong(
    filled: tuple[Any, Truth], report: Any, kind: str, count: int
) -> None:
    """Every book of the state is as it was, or the store says what is damaged and where; a damaged journal is also
    found by reading the trail."""
    daemon, truth = filled
    chance = random.Random(SEED)
    wrong, refused, made = [], 0, 0
    for number in range(count):
        home = copied(daemon, "copy")
        how = (flip, flip, flip, cut, blank)[number % 5]
        path = LEDGER[kind](home)
        while not damaged(path, how, chance):
            pass
        offset_only = kind == "journal" and differs_in_padding(daemon, path)
        try:
            found = state_of(home)
        except Corrupt as fault:
            assert "got" in fault.line() and "expected" in fault.line()
            refused += 1
            continue
        made += bool(list(home.root.glob("*.damaged-*")))
        if found != truth.state:
            wrong.append(f"{how.__name__} {number}: another state")
        if kind == "journal" and not offset_only and journal.verify(home.journal).first_bad is None:
            wrong.append(f"{how.__name__} {number}: the trail is said to be whole")
    report("F8", count, len(wrong), SEED, kind=kind, refused=refused, made_again=made)
    assert wrong == []


@pytest.mark.parametrize("lost", ["deleted", "of another version", "unreadable"])
def test_a_damaged_journal_is_not_cut_when_the_projection_is_lost_too(
    filled: tuple[Any, Truth], report: Any, lost: str
) -> None:
    """Without the projection's head an entry damaged in the middle would look like one that was never finished, and
    all behind it would go; the noted head tells."""
    daemon, _ = filled
    chance = random.Random(SEED)
    count, wrong = 6, []
    for number in range(count):
        home = copied(daemon, "copy")
        path = LEDGER["journal"](home)
        places = list(journal._frames(journal.segments_of(home.journal)[0]))
        offset, _, payload = chance.choice(places[3:-1])
        data = bytearray(path.read_bytes())
        data[offset + 36 + chance.randrange(len(payload))] ^= 1
        path.write_bytes(bytes(data))
        for part in (home.database, LEDGER["wal"](home)):
            if lost == "deleted":
                part.unlink(missing_ok=True)
            elif part.exists():
                part.write_bytes(b"DUCK" + part.read_bytes()[4:] if lost == "unreadable" else b"another version")
        try:
            state_of(home)
            wrong.append(f"{number}: it was opened")
        except Corrupt as fault:
            wrong += [] if "missing" in fault.line() else [fault.line()]
        if path.read_bytes() != bytes(data):
            wrong.append(f"{number}: the journal was cut")
    report("F8-both", count, len(wrong), SEED, lost=lost.replace(" ", "_"))
    assert wrong == []


def differs_in_padding(daemon: Any, path: Path) -> bool:
    """Whether only bytes that nobody reads differ: the 20 behind a segment's header."""
    whole = (daemon.folder / "whole" / "journal" / path.name).read_bytes()
    now = path.read_bytes()
    return len(whole) == len(now) and all(44 <= at < 64 for at in range(len(whole)) if whole[at] != now[at])


@pytest.mark.parametrize("kind", ["journal", "projection", "wal"])
def test_a_daemon_on_a_damaged_ledger_serves_what_was_or_says_what_is_damaged(
    filled: tuple[Any, Truth], report: Any, kind: str
) -> None:
    """The same through the socket: audit, replay, runs, curves, files, predictions."""
    daemon, truth = filled
    chance = random.Random(SEED + 1)
    count, wrong, refused = 3, [], 0
    for number in range(count):
        install(daemon)
        while not damaged(LEDGER[kind](daemon.home), flip, chance):
            pass
        mark = len(daemon.log())
        daemon.start(wait=False)
        try:
            daemon.answer()
        except AssertionError:
            refused += 1
            said = daemon.log()[mark:] if mark < 3000 else daemon.log()
            assert "Traceback" not in said and "expected" in said, said
            continue
        wrong += differences(daemon, truth, number)
        assert daemon.process.poll() is None, daemon.log()
        daemon.stop(signal.SIGKILL)
    report("F8-daemon", count, len(wrong), SEED + 1, kind=kind, refused=refused)
    assert wrong == []


def test_a_damaged_entry_is_not_read_out_of_the_journal_by_a_running_daemon(
    filled: tuple[Any, Truth], report: Any
) -> None:
    """What was verified at the start can be damaged later: audit and replay check each entry they read."""
    daemon, truth = filled
    install(daemon)
    daemon.start()
    chance = random.Random(SEED)
    path = LEDGER["journal"](daemon.home)
    whole = path.read_bytes()
    count, wrong = 12, []
    for number in range(count):
        found = list(journal._frames(journal.segments_of(path.parent)[0]))[5:25]
        offset, _, payload = chance.choice(found)
        data = bytearray(whole)
        data[offset + 36 + chance.randrange(len(payload))] ^= 1 << chance.randrange(8)
        path.write_bytes(bytes(data))
        wrong += differences(daemon, truth, number)
        with daemon.client() as client:
            told = answers(client, truth.digest, truth.runs)
            assert isinstance(told["audit"], Corrupt) or isinstance(told["replay"], Corrupt), told
        path.write_bytes(whole)
    wrong += differences(daemon, truth, -1, faults=False)
    daemon.stop(signal.SIGKILL)
    report("F8-entries", count, len(wrong), SEED)
    assert wrong == []


def test_an_entry_that_was_damaged_before_the_newest_segment_ends_no_daemon(filled: tuple[Any, Truth]) -> None:
    """A start verifies the newest segment alone, and then reads the thousand newest entries, to react to them again:
    under load the test above met that reading, and the daemon was gone before the first question."""
    daemon, truth = filled
    install(daemon)
    daemon.start()
    with daemon.client() as client:
        act = msgspec.to_builtins(runs.StartRun(experiment="rot"))
        # a daemon without any of these reads nothing again
        on = schedules.Happening(event="registry.version_registered")
        client.ask(schedules.AddSchedule(name="again", act=act, on=on))
    daemon.stop(signal.SIGKILL)
    ledger = open_ledger(daemon.home)
    ledger.journal.roll()
    ledger.close()
    path, _ = sorted(daemon.home.journal.glob("*.journal"))
    offset, _, payload = list(journal._frames(journal.segments_of(path.parent)[0]))[9]
    data = bytearray(path.read_bytes())
    data[offset + 36 + len(payload) // 2] ^= 1
    path.write_bytes(bytes(data))
    daemon.start()
    with daemon.client() as client:
        told = answers(client, truth.digest, truth.runs)
        assert isinstance(told["audit"], Corrupt) and isinstance(told["replay"], Corrupt), told
        verdict = client.ask(governance.VerifyAudit())
        assert (verdict.ok, verdict.first_bad) == (False, 10)
        run = client.ask(runs.StartRun(experiment="rot")).id
        assert client.ask(runs.ShowRun(run=run)).id == run
    until(lambda: "are not reacted to again: journal: entry 10" in daemon.log())
    assert daemon.process.poll() is None
    daemon.stop(signal.SIGKILL)


def test_what_a_running_daemon_may_be_writing_is_no_tampering(filled: tuple[Any, Truth]) -> None:
    """Two of 78 verdicts under writes named an entry of which a half was there."""
    daemon, _ = filled
    install(daemon)
    daemon.start()
    with daemon.client() as client:
        assert (before := client.ask(governance.VerifyAudit())).ok
        path = LEDGER["journal"](daemon.home)
        whole = path.read_bytes()
        end = len(whole.rstrip(b"\0")) + 8
        path.write_bytes(whole[:end] + b"half an entry" + whole[end + 13 :])
        assert client.ask(governance.VerifyAudit()) == before
        path.write_bytes(whole)
    daemon.stop(signal.SIGKILL)


def install(daemon: Any) -> None:
    """Put a whole copy in the home's place."""
    shutil.rmtree(daemon.home.root)
    shutil.copytree(daemon.folder / "whole", daemon.home.root)


def differences(daemon: Any, truth: Truth, number: int, *, faults: bool = True) -> list[str]:
    """Questions whose answer is neither what it was nor (where `faults`) a fault that says what is damaged."""
    with daemon.client() as client:
        now = answers(client, truth.digest, truth.runs)
    wrong = []
    for name, before in truth.answers.items():
        after = now[name]
        if isinstance(after, Corrupt) and faults:
            assert "got" in after.line() and "expected" in after.line(), after.line()
        elif after != before:
            wrong.append(f"{number} {name}: got {str(after)[:200]}, was {str(before)[:200]}")
    return wrong


SHELF: dict[str, tuple[Callable[[Home], list[Path]], tuple[str, ...]]] = {
    "points": (lambda home: sorted((home.samples / "metrics").glob("day=*/*.parquet")), ("curve",)),
    "points' hash": (lambda home: sorted((home.samples / "metrics").glob("day=*/*.sha256")), ("curve",)),
    "predictions": (lambda home: sorted((home.samples / "predictions").rglob("*.parquet")), ("predictions",)),
    "artefact": (lambda home: [path for path in home.artefacts.rglob("*") if path.is_file()], ("file",)),
}


def gone(data: bytearray, chance: random.Random) -> None:
    """Nothing is left of it."""
    data.clear()


@pytest.mark.parametrize("kind", sorted(SHELF))
@pytest.mark.parametrize("count", [8, pytest.param(80, marks=pytest.mark.slow)])
def test_a_damaged_file_on_the_shelf_is_found_before_it_is_used_and_the_others_are_served(
    filled: tuple[Any, Truth], report: Any, kind: str, count: int
) -> None:
    """Parquet itself reads a flipped bit as another number in four of ten cases; only the stored hash tells."""
    daemon, truth = filled
    chance = random.Random(SEED)
    files, touched = SHELF[kind]
    install(daemon)
    daemon.start()
    wrong, served = [], 0
    for number in range(count):
        how = (flip, flip, cut, blank, gone)[number % 5]
        [path] = [path for path in files(daemon.home) if kind != "artefact" or path.name == truth.digest]
        whole = path.read_bytes()
        while not damaged(path, how, chance):
            pass
        with daemon.client() as client:
            now = answers(client, truth.digest, truth.runs)
        for name, before in truth.answers.items():
            if name.startswith(touched):
                if not isinstance(now[name], Corrupt) or path.stem[:16] not in now[name].line():
                    wrong.append(f"{how.__name__} {number} {name}: {str(now[name])[:200]}")
            else:
                served += 1
                wrong += [f"{number} {name} is not served: {now[name]}"] * (now[name] != before)
        path.write_bytes(whole)
    wrong += differences(daemon, truth, -1, faults=False)
    daemon.stop(signal.SIGKILL)
    report("F8", count, len(wrong), SEED, kind=kind, served=served)
    assert wrong == []


def test_files_of_points_that_were_swapped_or_deleted_are_missed(filled: tuple[Any, Truth], report: Any) -> None:
    """A curve with a hole in it would be a wrong curve."""
    daemon, truth = filled
    install(daemon)
    daemon.start()
    with daemon.client() as client:
        client.ask(store.Backup())  # folds the log: two files of points now
        paths = sorted((daemon.home.samples / "metrics").glob("day=*/*.parquet"))
        assert len(paths) == 2
        first, second = (path.read_bytes() for path in paths)
        paths[0].write_bytes(second)
        paths[1].write_bytes(first)
        question = runs.MetricHistory(run=truth.runs[0], points=1000)
        with pytest.raises(Corrupt):
            client.ask(question)
        paths[0].write_bytes(first)
        paths[1].unlink()
        with pytest.raises(Corrupt, match="got no file"):
            client.ask(question)
        paths[1].write_bytes(second)
        assert client.ask(question) == truth.answers[f"curve {truth.runs[0]}"]
    daemon.stop(signal.SIGKILL)
    report("F8-swapped", 2, 0)


@pytest.mark.parametrize("count", [4, pytest.param(40, marks=pytest.mark.slow)])
def test_a_damaged_batch_of_points_is_left_out_said_and_put_aside(
    filled: tuple[Any, Truth], report: Any, count: int
) -> None:
    """Each batch has a checksum: one that is damaged takes no other with it, and no number of it is shown."""
    daemon, truth = filled
    chance = random.Random(SEED)
    wrong = []
    for number in range(count):
        install(daemon)
        [path] = [path for path in (daemon.home.samples / "metrics").glob("*.log") if path.stat().st_size]
        damaged(path, flip, chance)
        daemon.start()
        with daemon.client() as client:
            assert path.name in client.status().recovered
            for run in truth.runs[:3]:
                before = truth.answers[f"curve {run}"]
                after = client.ask(runs.MetricHistory(run=run, points=1000))
                numbers = {value for curve in after for value in curve.values}
                if not numbers <= {value for curve in before for value in curve.values}:
                    wrong.append(f"{number} {run}: {after}")
            client.ask(store.Backup())
        assert path.with_suffix(".damaged").exists()
        daemon.stop(signal.SIGKILL)
    report("F8-log", count, len(wrong), SEED)
    assert wrong == []


@pytest.mark.parametrize("count", [12, pytest.param(300, marks=pytest.mark.slow)])
def test_a_damaged_segment_of_predictions_gives_only_true_predictions(tmp_path: Path, report: Any, count: int) -> None:
    """What a host wrote and the daemon has not folded yet."""
    home = Home(tmp_path)
    record(home, 0, 30)
    [path] = list((home.serving / "predictions").iterdir())
    whole = path.read_bytes()
    true = [frame(number) for number in range(30)]
    chance = random.Random(SEED)
    wrong = 0
    for number in range(count):
        path.write_bytes(whole)
        damaged(path, (flip, cut, blank)[number % 3], chance)
        found = list(read_segment(path))
        wrong += any(each not in true for each in found) or len(found) >= 30
    report("F8-segment", count, wrong, SEED)
    assert wrong == 0


KEYS = ("server.secret", "server.public", "owner.secret")


@pytest.mark.parametrize("name", [*KEYS, "store.json"])
def test_a_damaged_key_or_version_is_refused_in_one_line(filled: tuple[Any, Truth], report: Any, name: str) -> None:
    """Every 40 characters are some key: only the other half of the pair tells that one is damaged."""
    daemon, _ = filled
    chance = random.Random(SEED)
    count = 2
    for how in (flip, cut):
        install(daemon)
        path = daemon.home.root / name if name == "store.json" else daemon.home.keys / name
        damaged(path, how, chance)
        before = len((daemon.folder / "log").read_text())
        daemon.start(wait=False)
        if name == "owner.secret":
            done = wait_for_refusal(daemon)
            assert "key" in done, done
        else:
            assert daemon.process.wait(20) != 0
            said = (daemon.folder / "log").read_text()[before:]
            assert "Traceback" not in said and name.partition(".")[0] in said and "expected" in said, said
        daemon.stop(signal.SIGKILL)
    report("F8-keys", count, 0, SEED, name=name)


def wait_for_refusal(daemon: Any) -> str:
    """What the command line says of a key that the daemon does not know; asked again until the daemon is up."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        done = daemon.qd("status")
        assert done.returncode != 0
        assert "Traceback" not in done.stderr
        if "no daemon" not in done.stderr:
            return str(done.stderr)
        time.sleep(0.1)
    raise AssertionError("the daemon did not come up")
