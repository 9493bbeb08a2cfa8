"""F11, F13, V21, V22: clocks that jump, a daemon that is away or killed over and over, pickles and shell words where
schedules lie; each due firing happens once."""

from __future__ import annotations

import ast
import itertools
import os
import pickle
import signal
import statistics
import threading
import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import libfaketime
import msgspec
import pytest

from quarterstore.ledger import journal
from quarterstore.ledger.folding import events_of
from quarterstore.records import governance, jobs, monitoring, pipelines, registry, runs, schedules
from quarterstore.records.faults import Fault
from tests.decks import until
from tests.faults.test_jobs import CODE, ask_for, lives, marks

pytestmark = pytest.mark.fault
FAKER = Path(libfaketime.__file__).parent / "vendor/libfaketime/src/libfaketime.so.1"
HOUR, DAY = 3600, 86_400
START = msgspec.to_builtins(runs.StartRun(experiment="clock", beats=False))
"""An act that leaves one thing that can be counted each time it is done."""


class Clock:
    """The wall clock of whatever is started with its environment; the monotonic one goes on as it does."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "clock"
        self.put(0)
        self.environ = {
            "LD_PRELOAD": str(FAKER),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    def put(self, seconds: float) -> None:
        """Ahead of the true time by so much, all at once."""
        self.ahead = seconds
        aside = self._file.with_suffix(".new")
        aside.write_text(f"{seconds:+f}\n")
        aside.rename(self._file)

    def at(self, moment: str) -> None:
        """Put it to a time in UTC."""
        self.put(datetime.fromisoformat(moment).replace(tzinfo=UTC).timestamp() - time.time())


def firings(daemon: Any) -> list[schedules.Firing]:
    """Every firing that was ever decided, in the order of the journal: no bound, no projection."""
    found = []
    for read in journal.read(daemon.home.journal, 0, 10**9):
        found += [e.firing for e in events_of(read.entry.events) if isinstance(e, schedules.FiringDecided)]
    return found


def shown(client: Any, name: str) -> schedules.Schedule:
    """A schedule as it is now."""
    return next(each for each in client.ask(schedules.ListSchedules()) if each.name == name)


@pytest.mark.alone
def test_clocks_that_jump_fire_what_is_due_and_nothing_twice(absent: Any, tmp_path: Path) -> None:
    """F11: an hour, a day, 1970, 2038 and a leap day, there and back; a job that runs meanwhile is not ended."""
    clock = Clock(tmp_path)
    clock.at("2026-11-26T12:00:00")
    base = clock.ahead
    absent.start(**clock.environ)
    with absent.client() as client:
        digest, _ = client.put(CODE)
        job = ask_for(client, digest, tmp_path, "wait").job
        until(lambda: marks(tmp_path, "wait"))
        client.ask(schedules.AddSchedule(name="often", act=START, every=1.0))
        client.ask(schedules.AddSchedule(name="daily", act=START, cron="30 2 * * *"))
        client.ask(schedules.AddSchedule(name="leap", act=START, cron="0 12 29 2 *"))
        until(lambda: shown(client, "often").fired)
        for move, waited in (
            (lambda: clock.put(clock.ahead + HOUR), None),
            (lambda: clock.put(clock.ahead - HOUR), None),
            (lambda: clock.at("2026-11-27T02:29:59"), ("daily", 1)),
            (lambda: clock.put(clock.ahead - DAY), None),
            (lambda: clock.put(clock.ahead + DAY), ("daily", 1)),
            (lambda: clock.at("2028-02-29T11:59:59"), ("leap", 1)),
            (lambda: clock.at("1970-01-02T00:00:00"), None),
            (lambda: clock.at("2038-01-19T03:14:06"), ("leap", 2)),
            (lambda: clock.put(base), None),
        ):
            before = shown(client, "often").fired
            move()
            moved = time.monotonic()
            until(lambda before=before: shown(client, "often").fired > before)
            assert time.monotonic() - moved < 30
            if waited is not None:
                until(lambda waited=waited: shown(client, waited[0]).fired == waited[1])
        leaps = [each.due for each in client.ask(schedules.ListFirings(name="leap"))]
        assert [datetime.fromtimestamp(due, UTC).isoformat()[:16] for due in leaps] == [
            "2036-02-29T12:00",  # made up for in 2038
            "2028-02-29T12:00",
        ]
        # tomorrow's was fired when the clock showed it; the one after it is next, not one of 2038
        following = datetime(2026, 11, 28, 2, 30, tzinfo=UTC).timestamp()
        until(lambda: shown(client, "daily").next == following)
        assert client.ask(jobs.ShowJob(job=job)).state == "RUNNING"
        seqs = [entry.seq for entry in client.ask(governance.ListAudit(limit=1000))]
        assert seqs == sorted(seqs, reverse=True) and client.ask(governance.VerifyAudit()).ok
        (tmp_path / "go").touch()
        until(lambda: client.ask(jobs.ShowJob(job=job)).ended)
    absent.stop()
    found = firings(absent)
    assert max(Counter(firing.id for firing in found).values()) == 1
    assert "it was silent" not in absent.log()


def test_three_hours_away_are_made_up_for_by_policy_and_said(absent: Any, tmp_path: Path) -> None:
    """F13: an hourly schedule of each policy, the daemon away from noon until half past three."""
    clock = Clock(tmp_path)
    clock.at("2027-05-03T12:00:00")
    absent.start(**clock.environ)
    with absent.client() as client:
        for name, about in (
            ("once", {}),
            ("skip", {"missed": "skip", "grace": 60.0}),
            ("grace", {"missed": "skip"}),
            ("all", {"missed": "all"}),
        ):
            client.ask(schedules.AddSchedule(name=name, act=START, cron="30 * * * *", **about))
    absent.stop()
    clock.put(clock.ahead + 3 * HOUR + 2400)
    absent.start(**clock.environ)
    with absent.client() as client:
        until(lambda: len(client.ask(schedules.ListFirings())) >= 7)
        found = {each.name: each for each in client.ask(schedules.ListSchedules())}
        fired = {name: (each.fired, each.missed_count) for name, each in found.items()}
        assert fired == {"once": (1, 3), "skip": (0, 4), "grace": (1, 3), "all": (4, 0)}
        words = [entry.words for entry in client.ask(governance.ListAudit(text="schedule once"))]
        assert any("3 missed before it" in each for each in words), words
    listed = absent.qd("jobs").stdout
    assert "schedule once" in listed and "made up for once" in listed
    assert "schedule skip" in listed and "what is missed is skipped" in listed


def restarted(daemon: Any, times: int) -> None:
    """Killed with -9 so often, after a seventh of a second to a whole one; one schedule makes up for each due time, one
    for all of them once."""
    daemon.start()
    with daemon.client() as client:
        client.ask(schedules.AddSchedule(name="each", act=START, every=1.0, missed="all"))
        client.ask(schedules.AddSchedule(name="one", act=START, every=1.0))
    begun, away = time.monotonic(), []
    for turn in range(times):
        threading.Event().wait((turn % 7 + 1) / 7)
        killed = time.monotonic()
        daemon.stop(signal.SIGKILL)
        daemon.start()
        away.append(time.monotonic() - killed)
    took = time.monotonic() - begun
    with daemon.client() as client:
        last = time.time()
        until(lambda: all((shown(client, name).last or 0) >= last for name in ("each", "one")))
        for name in ("each", "one"):
            client.ask(schedules.PauseSchedule(name=name))
        made = len(client.ask(runs.ListRuns(experiment="clock", limit=10_000)).runs)
        counted = {name: shown(client, name) for name in ("each", "one")}
    daemon.stop()
    found = firings(daemon)
    assert made == len(found) == sum(each.fired for each in counted.values())
    for name, schedule in counted.items():
        due = [round(each.due - schedule.created) for each in found if each.schedule == name]
        assert due == sorted(set(due)), "no due time comes twice"
        assert due[-1] == len(due) + schedule.missed_count, "each was fired or counted as missed"
    assert counted["each"].missed_count == 0
    print(
        f"{times} restarts in {took:.0f} s, away for {statistics.median(away):.2f} s, at most {max(away):.2f} s: "
        f"{made} firings, {counted['one'].missed_count} missed, all in {time.monotonic() - begun:.0f} s"
    )


def test_over_restarts_each_due_time_is_fired_exactly_once(absent: Any) -> None:
    restarted(absent, 4)


@pytest.mark.slow
def test_over_twenty_restarts_in_a_minute_each_due_time_is_fired_exactly_once(absent: Any) -> None:
    restarted(absent, 20)


def test_an_event_sets_off_its_schedule_once_though_the_daemon_dies_in_between(absent: Any) -> None:
    absent.start()
    on = schedules.Happening(event="runs.experiment_added", where={"experiment.name": "wanted"})
    with absent.client() as client:
        client.ask(runs.StartRun(experiment="before", beats=False))
        client.ask(schedules.AddSchedule(name="told", act=START, on=on))
        client.ask(runs.StartRun(experiment="other", beats=False))
        client.ask(runs.StartRun(experiment="wanted", beats=False))
        absent.stop(signal.SIGKILL)
    for _ in range(2):
        absent.start()
        with absent.client() as client:
            until(lambda: shown(client, "told").fired)
            own = schedules.Happening(event="runs.started")
            client.ask(schedules.AddSchedule(name="itself", act=START, on=own))
        absent.stop(signal.SIGKILL)
    absent.start()
    with absent.client() as client:
        for _ in range(2):
            client.ask(runs.StartRun(experiment="clock", beats=False))
        until(lambda: shown(client, "itself").fired >= 2)
        client.ask(governance.ShowHead())
        assert shown(client, "itself").fired == 2, "what it did itself does not set it off"
        assert shown(client, "told").fired == 1
        assert len(client.ask(runs.ListRuns(experiment="clock")).runs) == 5


def test_maintenance_holds_schedules_and_reactions_and_both_go_on_after_it(absent: Any) -> None:
    absent.start()
    with absent.client() as client:
        client.ask(schedules.AddSchedule(name="often", act=START, every=1.0))
        on = schedules.Happening(event="runs.experiment_added")
        client.ask(schedules.AddSchedule(name="told", act=START, on=on))
        until(lambda: shown(client, "often").fired)
        client.ask(schedules.PauseAll(until=time.time() + 600, reason="a new disk"))
        held = shown(client, "often").fired
        client.ask(runs.StartRun(experiment="meanwhile", beats=False))
    absent.stop(signal.SIGKILL)
    absent.start()
    with absent.client() as client:
        assert client.status().maintenance == "a new disk"
        due = shown(client, "often").next
        until(lambda: time.time() > due + 1.5)
        assert (shown(client, "often").fired, shown(client, "told").fired) == (held, 0)
        client.ask(schedules.PauseAll(until=time.time() + 0.5, reason="nearly done"))
        until(lambda: shown(client, "told").fired == 1)
        until(lambda: shown(client, "often").fired > held + 1)
        assert client.ask(schedules.ShowMaintenance()) is None
        made_up = [each for each in client.ask(schedules.ListFirings(name="often")) if each.missed]
        assert made_up and made_up[0].state == "RAN"


def test_a_lost_job_of_a_schedule_is_done_again_and_what_waited_follows(absent: Any, tmp_path: Path) -> None:
    """Its worker is killed; with `lost = again` the same firing starts a second job, the queued one waits for it."""
    absent.start()
    with absent.client() as client:
        digest, _ = client.put(CODE)
        run = ask_for(client, digest, tmp_path, "wait")
        until(lambda: marks(tmp_path, "wait"))
        client.ask(jobs.CancelJob(job=run.job))
        act = msgspec.to_builtins(pipelines.RerunPipeline(pipeline=run.pipeline))
        client.ask(schedules.AddSchedule(name="s", act=act, every=2.0, overlap="queue", lost="again"))
        until(lambda: len(marks(tmp_path, "wait")) == 2)
        until(lambda: any(each.state == "WAITING" for each in client.ask(schedules.ListFirings(name="s"))))
        client.ask(schedules.PauseSchedule(name="s"))
        client.ask(schedules.PauseSchedule(name="s", paused=False))
        os.kill(marks(tmp_path, "wait")[1][0], signal.SIGKILL)
        until(lambda: len(marks(tmp_path, "wait")) == 3)
        first = client.ask(schedules.ListFirings(name="s"))[-1]
        assert not lives(marks(tmp_path, "wait")[1][0])
        waited = [each for each in client.ask(schedules.ListFirings(name="s")) if each.state == "WAITING"]
        assert client.ask(jobs.ShowJob(job=first.jobs[0])).state == "LOST"
        assert waited
        client.ask(schedules.RemoveSchedule(name="s"))


class Boom:
    """A pickle of it makes a file when it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (open, (str(self.path), "w"))


def test_a_pickle_where_schedules_lie_is_never_read(absent: Any, tmp_path: Path) -> None:
    """V22: schedules are rows of the journal; beside it there is no store of jobs that anything would be read from."""
    canary = tmp_path / "canary"
    evil = pickle.dumps(Boom(canary))
    pickle.loads(evil).close()
    assert canary.exists(), "the pickle works"
    canary.unlink()
    absent.start()
    with absent.client() as client:
        client.ask(schedules.AddSchedule(name="often", act=START, every=1.0))
        for act in ({**START, "experiment": evil}, {"type": "runs.start", "experiment": "e", "tags": {"a": evil}}):
            with pytest.raises(Fault):
                client.ask(schedules.AddSchedule(name="evil", act=act, every=1.0))
    absent.stop()
    for name in ("jobs.sqlite", "apscheduler.pickle", "schedules", "schedules.json", "jobs/schedules"):
        (absent.home.root / name).write_bytes(evil)
    newest = max(absent.home.journal.iterdir())
    with newest.open("ab") as file:
        file.write(evil)
    absent.start()
    with absent.client() as client:
        assert shown(client, "often").every == 1.0
        until(lambda: shown(client, "often").fired)
    assert not canary.exists()


HOSTILE = ("$(touch canary)", "`touch canary`", "a\ntouch canary", "-rf", "--help", ";touch canary", "|touch canary")


def test_shell_words_in_schedules_jobs_and_remotes_stay_words(absent: Any, tmp_path: Path) -> None:
    """V21: in names, acts, reasons and addresses; what is taken stays as it is, and nothing is run for it."""
    absent.start()
    tried = refused = 0
    with absent.client() as client:
        for index, word in enumerate(HOSTILE):
            act = {**START, "experiment": word, "name": word, "tags": {"note": word}}
            rerun = msgspec.to_builtins(pipelines.RerunPipeline(pipeline=word, cause=word))
            for asked in (
                schedules.AddSchedule(name=word, act=START, every=1.0),
                schedules.AddSchedule(name=f"act-{index}", act=act, every=1.0),
                schedules.AddSchedule(name=f"rerun-{index}", act=rerun, every=1.0),
                schedules.AddSchedule(name="zone", act=START, cron="0 3 * * *", zone=word),
                schedules.AddSchedule(name="cron", act=START, cron=word),
                schedules.PauseAll(until=time.time() + 0.2, reason=word),
                jobs.CancelJob(job=word, reason=word),
                registry.TagVersion(version=word, tags={"a": word}),
                monitoring.CheckDrift(endpoint=word),
            ):
                tried += 1
                try:
                    client.ask(asked)
                except Fault:
                    refused += 1
        kept = [each.name for each in client.ask(schedules.ListSchedules())]
        until(lambda: len(client.ask(schedules.ListFirings(limit=100))) >= len(kept))
    for words in (
        ("remote", "add", HOSTILE[0], f"http://127.0.0.1/{HOSTILE[0]}"),
        ("schedule", "add", HOSTILE[1], "--every", "1h", "--act", "runs.start", "--set", f"experiment={HOSTILE[0]}"),
        ("pause", HOSTILE[1]),
        ("schedule", "history", HOSTILE[2]),
    ):
        assert absent.qd(*words).returncode != 0
    places = (Path("/"), Path.cwd(), absent.folder, absent.home.root, absent.home.jobs, tmp_path)
    assert not [place for place in places if (place / "canary").exists()]
    print(f"shell words: {tried} tried, {refused} refused")


SHELLS = {"system", "popen", "getoutput", "getstatusoutput", "create_subprocess_shell"}


def test_no_line_of_ours_hands_a_text_to_a_shell() -> None:
    """V21: every program is started from a list of its words."""
    root, calls = Path(__file__).parents[2], 0
    for path in itertools.chain.from_iterable((root / part).rglob("*.py") for part in ("console", "daemon", "storage")):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call):
                continue
            calls += 1
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            assert name not in SHELLS, f"{path}:{node.lineno}"
            assert not [word for word in node.keywords if word.arg == "shell"], f"{path}:{node.lineno}"
    assert calls > 1000
