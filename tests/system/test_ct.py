"""Continuous training on a real daemon: drift leads to one retrain, a canary, and no loop; a kill begins none twice."""

from __future__ import annotations

import json
import signal
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from sklearn.datasets import load_iris

from quarterstore.records import (
    ct,
    datasets,
    deployments,
    governance,
    jobs,
    monitoring,
    outcomes,
    pipelines,
    predictions,
    registry,
)
from quarterstore.records.store import Replay
from quarterstore.records.wire import Published, decode
from tests.conftest import Daemon

QUICK = {"QUARTERDECK_JUDGE_EVERY": "0.05"}
ROWS, TRUTH = load_iris(return_X_y=True)
CANARY = ("--strategy", "canary", "--ladder", "50,100", "--effect", "0.5")


class Deck:
    """`flowers@1`, trained by the pipeline `flowers`, answers at `flowers`; its gate is an accuracy of 0.5."""

    def __init__(self, daemon: Daemon) -> None:
        self.daemon = daemon
        self.client = daemon.client(timeout=30)
        data = pipelines.DataSection(target="target", dataset=self.rows(len(ROWS)))
        run = self.client.ask(
            pipelines.RunPipeline(definition=pipelines.Definition(name="flowers", model="flowers", data=data))
        )
        assert self.ended(run.id).version == "flowers@1"
        rule = governance.GateRule(metric="accuracy", op=">=", limit=0.5)
        self.client.ask(governance.SetGate(model="flowers", rules=(rule,)))
        self.put_live("flowers@1")

    def rows(self, count: int) -> str:
        """The first so many flowers as a dataset of one name; its hash."""
        cells = ["a,b,c,d,target", *(",".join(map(str, (*row, truth))) for row, truth in zip(ROWS, TRUTH, strict=True))]
        digest, size = self.client.put("\n".join(cells[: count + 1]).encode())
        return self.client.ask(datasets.AddDataset(digest=digest, name="flowers.csv", format="csv", size=size)).id

    def again(self) -> None:
        """Once the daemon was started again."""
        self.client.close()
        self.client = self.daemon.client(timeout=30)

    def until(self, found: Callable[[], Any], what: str, seconds: float = 60) -> Any:
        """What is found, once there is something."""
        deadline = time.monotonic() + seconds
        while not (answer := found()):
            assert time.monotonic() < deadline, f"{what}: {self.status()}"
            time.sleep(0.05)
        return answer

    def ended(self, run: str) -> pipelines.PipelineRun:
        asked = pipelines.ShowPipelineRun(pipeline_run=run)
        self.until(lambda: self.client.ask(asked).state not in ("QUEUED", "RUNNING"), f"{run} to end")
        return self.client.ask(asked)

    def put_live(self, version: str) -> None:
        for stage in ("Staging", "Production"):
            if self.client.ask(registry.ShowVersion(version=version)).stage != stage:
                self.client.ask(registry.MoveStage(version=version, stage=stage, reason="a test"))
        self.client.ask(deployments.Deploy(version=version))
        self.until_live(version)

    def shown(self) -> deployments.Deployment:
        return self.client.ask(deployments.ShowDeployment(endpoint="flowers"))

    def until_live(self, version: str) -> None:
        self.until(lambda: self.shown().live == version, f"{version} live")
        epoch = self.shown().epoch
        self.until(
            lambda: (found := self.client.ask(deployments.ShowServing())).hosts and found.epoch >= epoch, "hosts"
        )

    def ask(self, count: int, factor: float) -> list[tuple[str, int]]:
        """Rows of the flowers, every value times a factor; the id of each answer and the true class."""
        address = self.client.ask(deployments.ShowServing()).address
        found = []
        for number in range(count):
            row = (ROWS[number % len(ROWS)] * factor).tolist()
            tensor = {"name": "x", "shape": [1, len(row)], "datatype": "FP32", "data": row}
            body = json.dumps({"inputs": [tensor]}).encode()
            with urllib.request.urlopen(f"{address}/v2/models/flowers/infer", body, timeout=10) as answer:
                found.append((str(answer.headers["quarterdeck-prediction"]), int(TRUTH[number % len(ROWS)])))
        return found

    def check(self, window: float = 3600.0) -> str:
        """A drift check of what was answered lately; its verdict."""
        job = self.client.ask(monitoring.CheckDrift(endpoint="flowers", window=window))
        asked = jobs.ShowJob(job=job.id)
        self.until(lambda: self.client.ask(asked).state not in ("QUEUED", "RUNNING"), "a drift check")
        return self.client.ask(monitoring.ListDrift(endpoint="flowers"))[0].verdict

    def drifted(self) -> str:
        """Shifted traffic of the live version; the verdict of a check right after it, which has to know all of it."""
        self.ask(260, 3.0)
        return self.check()

    def retrains(self) -> list[pipelines.PipelineRun]:
        """Pipeline runs that a trigger began."""
        return [run for run in self.client.ask(pipelines.ListPipelineRuns()) if run.cause]

    def status(self) -> ct.PolicyStatus:
        return self.client.ask(ct.ShowPolicy(model="flowers"))

    def trigger(self, name: str) -> ct.TriggerStatus:
        return next(each for each in self.status().triggers if each.trigger == name)

    def began(self) -> list[ct.RetrainBegan]:
        """Retrains as the journal has them."""
        from quarterstore.ledger.folding import events_of

        entries: list[Published] = [decode(raw, Published) for raw in self.client.ask(Replay(after=0))]
        found = [event for entry in entries for event in events_of(entry.events)]
        return [event for event in found if isinstance(event, ct.RetrainBegan)]

    def qd(self, *words: str) -> str:
        done = self.daemon.qd(*words)
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture
def deck(absent: Daemon) -> Iterator[Deck]:
    """Judged twenty times a second."""
    absent.start(**QUICK)
    found = Deck(absent)
    yield found
    found.client.close()


def test_drift_leads_to_one_retrain_and_a_canary_and_where_that_did_not_help_to_an_alert(deck: Deck) -> None:
    """The pipeline learns rows of the same kind again, so that the traffic is as far from them as before."""
    refused = deck.daemon.qd("ct", "on", "flowers")
    assert refused.returncode == 4 and "expected a model with a policy" in refused.stderr
    deck.qd("ct", "set", "flowers", "--pipeline", "flowers", "--drift", "flowers", "--cooldown", "0m", *CANARY)
    deck.qd("ct", "on", "flowers")
    newest = deck.rows(149)
    assert deck.drifted() == "DRIFT"
    [run] = deck.until(deck.retrains, "a retrain")
    assert run.actor == deck.status().policy.set_by and "1 of 1 checks in a row found drift" in str(run.cause)
    assert deck.ended(run.id).version == "flowers@2"
    assert deck.client.ask(registry.ShowVersion(version="flowers@2")).dataset == newest
    deck.until(lambda: deck.shown().canary, "a canary")
    assert "on its way" in deck.trigger("drift").why
    assert deck.check() == "DRIFT" and len(deck.retrains()) == 1, "one at a time"

    def asked_until_live() -> bool:
        deck.ask(40, 3.0)
        return deck.shown().live == "flowers@2"

    deck.until(asked_until_live, "the canary to end")
    deck.until_live("flowers@2")
    assert deck.drifted() == "DRIFT"
    deck.until(lambda: deck.trigger("drift").state == "SUPPRESSED", "to be suppressed")
    assert deck.check() == "DRIFT" and len(deck.retrains()) == 1
    [alert] = [each for each in deck.client.ask(monitoring.ListAlerts()) if each.kind == "retraining suppressed"]
    assert alert.subject == "flowers" and "unchanged with flowers@2" in alert.words
    said = deck.qd("ct", "status", "flowers")
    assert "SUPPRESSED" in said and "qd ct resume flowers" in said
    why = deck.qd("ct", "why", "flowers")
    assert f"set by {run.actor}" in why and "qd ct off flowers" in why and "UNCHANGED: it did not help" in why
    deck.qd("ct", "resume", "flowers")
    assert deck.trigger("drift").state == "WAITING"
    assert deck.check() == "DRIFT"
    deck.until(lambda: len(deck.retrains()) == 2, "a person let it go on")


def test_labels_that_fell_and_labels_that_came_are_counted_and_begin_a_retrain(deck: Deck) -> None:
    words = ("--accuracy-drop", "5", "--labels-least", "100", "--new-rows", "200", "--cooldown", "6h")
    deck.qd("ct", "set", "flowers", "--pipeline", "flowers", *words)
    deck.qd("ct", "on", "flowers")
    assert deck.trigger("accuracy").why == "no labels yet: 0 of 100"
    answers = deck.ask(150, 1.0)

    def label(some: list[tuple[str, int]], turned: int) -> None:
        text = "id,value\n" + "".join(f"{name},{(truth + turned) % 3}\n" for name, truth in some)
        digest, _ = deck.client.put(text.encode())
        assert deck.client.ask(outcomes.AddOutcomes(digest=digest)).joined == len(some)

    label(answers[:99], 0)
    deck.until(lambda: deck.trigger("accuracy").why == "too few labels yet: 99 of 100", "labels")
    assert (deck.trigger("rows").value, deck.trigger("rows").limit) == (99, 200)
    assert not deck.retrains()
    deck.rows(149)
    label(answers[99:], 1)  # none of them right
    [run] = deck.until(deck.retrains, "a retrain")
    assert "points below" in str(run.cause)
    assert deck.ended(run.id).version == "flowers@2"
    assert "a person decides" in deck.trigger("accuracy").why
    assert deck.trigger("rows").value == 0


def test_rows_that_the_command_line_keeps_are_counted_and_begin_a_retrain(deck: Deck, tmp_path: Path) -> None:
    """CSV and Parquet; a file that cannot be read is kept uncounted, and said."""
    deck.qd("ct", "set", "flowers", "--pipeline", "flowers", "--new-rows", "10", "--rows-of", "dataset")
    deck.qd("ct", "on", "flowers")
    frame = pl.DataFrame(ROWS.tolist(), schema=list("abcd"), orient="row").with_columns(target=pl.Series(TRUTH))
    more = pl.concat([frame, frame])
    more.head(159).write_csv(tmp_path / "flowers.csv")
    more.head(160).write_parquet(tmp_path / "more.parquet")
    (tmp_path / "torn.parquet").write_bytes(b"PAR1 and nothing PAR1")
    assert "159" in deck.qd("data", "add", str(tmp_path / "flowers.csv"))
    deck.until(lambda: deck.trigger("rows").value == 9, "nine new rows")
    torn = deck.daemon.qd("data", "add", str(tmp_path / "torn.parquet"))
    assert "counts for no retrain" in torn.stderr and not deck.retrains()
    deck.qd("data", "add", str(tmp_path / "more.parquet"), "--name", "flowers.csv")
    [run] = deck.until(deck.retrains, "a retrain")
    assert "10 rows more in flowers.csv" in str(run.cause)


def test_the_clock_retrains_and_says_why_it_does_not_when_it_is_due_again(deck: Deck) -> None:
    deck.qd("ct", "set", "flowers", "--pipeline", "flowers", "--every", "1s")
    assert not deck.retrains() and deck.trigger("schedule").state == "OFF"
    deck.qd("ct", "on", "flowers")
    [run] = deck.until(deck.retrains, "a retrain")
    assert "the schedule was due" in str(run.cause)
    deck.until(lambda: "last time: " in deck.trigger("schedule").why, "a firing that is held")
    assert deck.ended(run.id).version == "flowers@1", "the same rows again make the same version"
    assert [each.id for each in deck.client.ask(registry.ListVersions(model="flowers"))] == ["flowers@1"]
    deck.until(lambda: "last time: cooling down" in deck.trigger("schedule").why, "a firing in cool-down")
    assert len(deck.retrains()) == 1
    deck.qd("ct", "remove", "flowers")
    assert [each["name"] for each in map(json.loads, deck.qd("schedules", "list", "--json").splitlines())] == []


def test_what_is_asked_wrongly_is_one_line_and_changes_nothing(deck: Deck) -> None:
    before = deck.client.status().seq
    for words, said in (
        (("--drift", "nowhere"), "endpoint: got nowhere"),
        (("--every", "soon"), "every: got soon, expected a span"),
        (("--every", "1d", "--cron", "0 3 * * *"), "schedule: got both"),
        (("--new-rows", "5", "--rows-of", "tears"), "rows_of: got tears, expected labels, dataset or features:VIEW"),
        (("--new-rows", "5", "--rows-of", "features:tears"), "rows.view: got tears"),
        (("--accuracy-drop", "-5"), "accuracy.drop: got -5.0"),
        (("--drift", "flowers", "--ladder", "50,5"), "ladder: got 50>5"),
        (("--drift", "flowers", "--gate", "luck:1"), "gate: got luck"),
        ((), "trigger: got none"),
    ):
        done = deck.daemon.qd("ct", "set", "flowers", "--pipeline", "flowers", *words)
        assert done.returncode in (2, 4) and done.stderr.startswith(f"error: {said}"), done.stderr
        assert done.stderr.count("\n") == 1 and done.stdout == ""
    assert deck.daemon.qd("ct", "status", "flowers").returncode == 4
    assert deck.client.status().seq == before


@pytest.mark.parametrize("point", ["ct.due", "ct.spoken"])
def test_a_daemon_killed_as_a_trigger_fires_begins_its_retrain_once(deck: Deck, point: str) -> None:
    """Before the entry nothing began, and the signal is still there; after it the run is queued, whole."""
    deck.qd("ct", "set", "flowers", "--pipeline", "flowers", "--drift", "flowers", "--cooldown", "0m")
    deck.qd("ct", "on", "flowers")
    deck.ask(260, 3.0)
    counted = predictions.CountPredictions(endpoint="flowers")
    deck.until(lambda: sum(deck.client.ask(counted).versions.values()) >= 260, "260 that are kept")
    deck.daemon.stop(signal.SIGTERM)
    deck.daemon.start(QD_CRASH_AT=point, **QUICK)
    deck.again()
    deck.client.ask(monitoring.CheckDrift(endpoint="flowers", window=3600))
    assert deck.daemon.process is not None
    assert deck.daemon.process.wait(60) == 137
    deck.daemon.start(**QUICK)
    deck.again()
    deck.until(deck.retrains, "a retrain")
    [run] = deck.retrains()
    assert deck.ended(run.id).state == "SUCCEEDED"
    deck.daemon.stop(signal.SIGKILL)
    deck.daemon.start(**QUICK)
    deck.again()
    assert deck.check() == "DRIFT"
    assert len(deck.retrains()) == len(deck.began()) == 1
