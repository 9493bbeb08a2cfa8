"""Retention on real files: segments and points within their limits, said once, ended after a kill."""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
import subprocess
import sys
import tempfile
import time
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quarterdeckd.api.intake import Intake
from quarterdeckd.serving.recorder import Frame, Recorder
from quarterdeckd.work import retaining as work
from quarterdeckd.work.predictions import Predictions
from quarterdeckd.work.retaining import Retaining
from quarterstore.records import retention, runs
from quarterstore.records.faults import Full
from quarterstore.records.places import Home
from tests.ruling import Ruling

DAY = 86_400.0
NUMBERS = itertools.count()


class Store:
    """A store without a daemon: its samples on the disk, its acts decided and folded at once."""

    def __init__(self, folder: Path) -> None:
        self.home = Home(folder)
        (self.home.serving / "predictions").mkdir(parents=True, exist_ok=True)
        self.deck = Ruling(now=time.time())
        self.full = False
        self.open()

    def open(self) -> None:
        """As a start does."""
        self.intake = Intake(self.home.samples / "metrics", lambda run: None)
        self.predictions = Predictions(self.home, self.deck.state)
        args: Any = (self.home, self.deck.state, self.intake, self.predictions, self)
        self.retaining = Retaining(*args)

    async def speak(self, act: Any, answer: Any = None, *, request: str = "") -> Any:
        """In place of the dispatch: the same rules, the same fold."""
        if self.full:
            raise Full("no room", field="store")
        return self.deck.act(act, "daemon")

    async def fold_points(self) -> None:
        self.intake.fold(self.intake.roll())

    def keep(self) -> None:
        """One round."""
        asyncio.run(self.retaining.keep())

    def predict(self, count: int, endpoint: str = "e", at: float | None = None, role: str = "live") -> None:
        """A segment of so many rows, folded."""
        recorder = Recorder(self.home.serving / "predictions", os.getpid())
        when = self.deck.now if at is None else at
        for number in (next(NUMBERS) for _ in range(count)):
            frame = Frame(f"p{number:08d}", when, endpoint, "m@1", role, 1, 200, 0.5, {"a": [float(number)]}, [1], [])
            assert recorder.write(frame)
        recorder.tend(close=True)
        self.predictions.fold()

    def log(self, count: int, ended: bool = True) -> str:
        """A run of so many points, folded."""
        run: str = self.deck.act(runs.StartRun(experiment="e")).id
        self.intake.take(batch(run, count))
        if ended:
            self.deck.act(runs.EndRun(run=run, metrics=dict(self.intake.latest[run])))
        asyncio.run(self.fold_points())
        return run

    def limit(self, kind: Any, **limits: Any) -> None:
        """Set limits."""
        self.deck.act(retention.SetRetention(kind=kind, **limits))

    def said(self) -> list[str]:
        """The words of every purge."""
        return [entry.words for entry in self.deck.entries if entry.act == "retention.note_purge"]

    def rows(self, kind: Any = "predictions") -> int:
        """As a person is shown."""
        return next(each.rows for each in self.retaining.shown() if each.kind == kind)


def batch(run: str, count: int) -> runs.LogMetrics:
    """Points of one metric."""
    return runs.LogMetrics(
        run=run,
        batch=f"b{next(NUMBERS)}",
        keys=("loss",),
        key=array("H", [0] * count).tobytes(),
        step=array("q", range(count)).tobytes(),
        time=array("d", [1.7e9] * count).tobytes(),
        value=array("d", [0.25] * count).tobytes(),
    )


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every purge is said by itself, and every round looks for what is old."""
    monkeypatch.setattr(work, "SAY_EVERY", 0.0)
    monkeypatch.setattr(work, "LOOK_FOR_OLD_EVERY", 0.0)
    monkeypatch.setattr(work, "STUCK_FOR", 0.0)
    yield


def test_the_oldest_predictions_go_and_the_audit_says_what_and_why(store: Store) -> None:
    for _ in range(8):
        store.predict(200)
    first = min(each.at for each in store.predictions.newest("e", 10_000, None))
    store.limit("predictions", rows=1000)
    store.keep()
    left = {int(each.id[1:]) for each in store.predictions.newest("e", 10_000, None)}
    assert store.rows() == len(left) == 600 and max(left) - min(left) == 599, first
    (words,) = store.said()
    assert words.startswith("purged 1,000 predictions (") and words.endswith(" by rows")
    store.keep()
    assert len(store.said()) == 1


def test_what_shadows_said_counts_and_goes_with_the_predictions(store: Store) -> None:
    store.predict(10, at=store.deck.now - 8 * DAY, role="shadow")
    for _ in range(4):
        store.predict(200)
        store.predict(200, role="shadow")
    assert store.rows() == 1610 and store.predictions.count("e") == {"m@1": 800}
    store.limit("predictions", days=7)
    store.keep()
    assert store.rows() == 1600
    store.limit("predictions", rows=1000)
    store.keep()
    assert store.rows() == 600 and store.predictions.count("e")["m@1"] in (200, 400)
    store.open()
    assert store.rows() == 600


def test_segments_that_wait_count_and_make_files_go(store: Store) -> None:
    store.predict(700)
    store.limit("predictions", rows=1000)
    store.keep()
    assert store.rows() == 700
    recorder = Recorder(store.home.serving / "predictions", os.getpid())
    for number in range(200):
        recorder.write(Frame(f"w{number:08d}", store.deck.now, "e", "m@1", "live", 1, 200, 0.5, {"a": [1.0]}, [1], []))
    assert 880 <= store.rows() <= 920
    store.keep()
    assert 180 <= store.rows() <= 220


def test_predictions_older_than_their_days_go_and_held_ones_stay(store: Store) -> None:
    from quarterstore.records.deployments import Deployment

    for endpoint in ("e", "o"):
        store.deck.state.deployments.rows[endpoint] = Deployment(
            id=endpoint, endpoint=endpoint, model="m", environment="default", state="LIVE", live=None, epoch=1,
            created=1.0, changed=1.0, asked_by="ana",
        )  # fmt: skip
        store.predict(10, endpoint, at=store.deck.now - 8 * DAY)
        store.predict(10, endpoint)
    store.deck.act(retention.HoldSamples(on="endpoint", name="o", reason="a dispute"))
    store.limit("predictions", days=7)
    store.keep()
    assert store.predictions.count("e") == {"m@1": 10} and store.predictions.count("o") == {"m@1": 20}
    assert store.said() and store.said()[0].endswith(" by days")


def test_a_limit_that_a_hold_exceeds_is_an_alert_until_the_hold_is_released(store: Store) -> None:
    held = store.log(1200)
    hold = store.deck.act(retention.HoldSamples(on="run", name=held, reason="a dispute"))
    store.limit("points", rows=1000)
    store.keep()
    store.keep()
    (alert,) = store.deck.state.alerts
    assert "1,200 rows, the limit is 1,000" in alert.words and "are held (qd hold list)" in alert.words
    assert alert.count == 1 and store.retaining.unmet() == alert.words and store.rows("points") == 1200
    store.deck.act(retention.ReleaseHold(hold=hold.id))
    store.keep()
    store.keep()
    (alert,) = store.deck.state.alerts
    assert alert.resolved and store.rows("points") == 0 and not store.retaining.unmet()


def test_points_of_the_run_that_ended_first_go_and_it_says_so(store: Store) -> None:
    first, still, second = store.log(400), store.log(400, ended=False), store.log(400)
    store.limit("points", rows=1000)
    store.keep()
    found = store.deck.state.runs
    assert found[first].points_purged_at and found[first].metrics == {"loss": 0.25}
    assert not found[still].points_purged_at
    assert store.intake.history(first, (), 0) == []
    assert [len(curve.steps) for curve in store.intake.history(still, (), 0)] == [400]
    assert store.rows("points") <= 1000
    assert found[second].points_purged_at is None or store.intake.history(second, (), 0) == []


def test_a_run_among_others_in_a_file_goes_alone(store: Store) -> None:
    first: str = store.deck.act(runs.StartRun(experiment="e")).id
    second: str = store.deck.act(runs.StartRun(experiment="e")).id
    for run in (first, second):
        store.intake.take(batch(run, 600))
        store.deck.act(runs.EndRun(run=run))
    asyncio.run(store.fold_points())
    store.limit("points", rows=1000)
    store.keep()
    assert store.intake.history(first, (), 0) == []
    assert [len(curve.steps) for curve in store.intake.history(second, (), 0)] == [600]
    assert store.rows("points") == 600


def test_a_plan_changes_nothing_and_says_what_would_go(store: Store) -> None:
    for _ in range(4):
        store.predict(400)
    limit = msgspec.structs.replace(retention.DEFAULTS["predictions"], rows=1000)
    assert sum(lot.rows for lot in store.retaining.plan(limit).lots) == 1200
    assert store.rows() == 1600 and store.said() == []


def test_purges_within_seconds_are_said_in_one_entry(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.limit("predictions", rows=1000)
    store.predict(800)
    store.keep()
    monkeypatch.setattr(work, "SAY_EVERY", 3600.0)
    for _ in range(5):
        store.predict(800)
        store.keep()
    assert store.said() == ["purged 800 predictions" + store.said()[0].removeprefix("purged 800 predictions")]
    monkeypatch.setattr(work, "SAY_EVERY", 0.0)
    store.keep()
    assert [words.partition(" (")[0] for words in store.said()] == [
        "purged 800 predictions",
        "purged 4,000 predictions",
    ]


def test_a_purge_that_cannot_be_said_on_a_full_disk_is_said_later(store: Store) -> None:
    store.limit("predictions", rows=1000)
    store.predict(900)
    store.full = True
    store.keep()
    assert store.rows() == 0 and store.said() == []
    store.full = False
    store.open()
    store.keep()
    assert len(store.said()) == 1 and store.retaining.recovered == []


@pytest.mark.fault
@pytest.mark.parametrize(
    "point", ["purge.noted", "predictions.purging", "samples.dropping", "samples.rewritten", "purge.done", "purge.said"]
)
def test_a_purge_that_was_killed_is_ended_by_the_next_start_and_said_once(tmp_path: Path, point: str) -> None:
    """At each place: the note is there, a file is gone without its hash, it is done and not said."""
    made = Store(tmp_path)
    both = [made.deck.act(runs.StartRun(experiment="e")).id for _ in range(2)]
    for run in both:
        made.intake.take(batch(run, 10))
    made.deck.act(runs.EndRun(run=both[0]))
    asyncio.run(made.fold_points())
    kept, gone = made.log(500, ended=False), made.log(900)
    made.predict(900)
    made.intake.close()
    state = tmp_path / "state"
    state.write_bytes(msgspec.msgpack.encode({name: list(rows.values()) for name, rows in made.deck.kept().items()}))
    code = (
        "import sys; from pathlib import Path; sys.path.insert(0, sys.argv[1]); "
        "from tests.work.test_retaining import killed; killed(Path(sys.argv[2]), sys.argv[3])"
    )
    kind = "points" if point.startswith("samples") else "predictions"
    words = [sys.executable, "-c", code, str(Path(__file__).parents[2]), str(tmp_path), kind]
    done = subprocess.run(words, env={**os.environ, "QD_CRASH_AT": point}, timeout=60, capture_output=True, text=True)
    assert done.returncode == 137, done.stderr
    if point == "purge.said":
        made.deck.act(retention.NotePurge("predictions", 900, 1, "", "", ("rows",)))  # it was in the journal already
    else:
        made.limit(kind, rows=1000)
    made.open()
    cut_short = point != "purge.said"
    assert bool(made.retaining.recovered) == cut_short, made.retaining.recovered
    made.keep()
    if kind == "predictions":
        assert made.predictions.count("e") == {} and made.rows() == 0
        assert not [path for path in made.predictions.folder.rglob("*") if path.is_file()]
    else:
        assert made.intake.history(gone, (), 0) == [] and made.intake.history(both[0], (), 0) == []
        assert [len(curve.steps) for curve in made.intake.history(kept, (), 0)] == [500]
        assert [len(curve.steps) for curve in made.intake.history(both[1], (), 0)] == [10]
        assert made.rows("points") == 510 and made.deck.state.runs[gone].points_purged_at
        sides = {path.stem for path in made.intake.folder.rglob("*.sha256")}
        assert sides == {path.stem for path in made.intake.folder.rglob("*.parquet")}
    if cut_short:
        assert len(made.said()) == 1 and made.said()[0].endswith("cut short by a stop and ended after it")
    assert not list(made.home.samples.glob("purge-*"))


def killed(home: Path, kind: str) -> None:
    """In a process that dies at a named point: the same store, over its limit."""
    store = Store(home)
    for name, records in msgspec.msgpack.decode((home / "state").read_bytes()).items():
        book = store.deck.state.books()[name]
        for fields in records:
            record = msgspec.convert(fields, book.kind)
            book.rows[book.key(record)] = record
    store.limit(kind, rows=1000)
    store.keep()


STEPS = st.lists(st.tuples(st.sampled_from(["e", "held"]), st.integers(1, 300), st.booleans()), min_size=1, max_size=12)


@settings(max_examples=12, deadline=None)
@given(STEPS)
def test_files_of_any_sequence_of_folds_and_purges_stay_within_the_limit(steps: list[tuple[str, int, bool]]) -> None:
    """Held rows all stay; of the others the newest stay."""
    folder = Path(tempfile.mkdtemp(prefix="retention-", dir="/tmp"))
    try:
        store = Store(folder)
        hold = retention.Hold(id="h", on="endpoint", name="held", reason="a dispute", by="ana", at=1.0)
        store.deck.state.holds.rows["h"] = hold
        store.limit("predictions", rows=1000)
        written: dict[str, list[int]] = {"e": [], "held": []}
        for endpoint, count, again in steps:
            began = next(NUMBERS)
            store.predict(count, endpoint)
            written[endpoint] += range(began + 1, began + 1 + count)
            free = store.rows() - len(written["held"])
            assert free <= 1.1 * 1000
            store.keep()
            if again:
                store.intake.close()
                store.open()
            left = sorted(int(each.id[1:]) for each in store.predictions.newest("e", 10_000, None))
            assert left == written["e"][len(written["e"]) - len(left) :]
            assert sum(store.predictions.count("held").values()) == len(written["held"])
            assert len(left) + len(written["held"]) <= 1000 or not left
    finally:
        shutil.rmtree(folder)
