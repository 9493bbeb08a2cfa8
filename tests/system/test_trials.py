"""Trials through a real daemon by what callers sent: outcomes end an A/B test, a shadow's pairs stop a canary."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from quarterdeck.client import Client
from quarterstore.records import predictions, trials
from tests.conftest import Daemon
from tests.system.test_canary_gates import Trial


class Beside(Trial):
    """`m@1` live, and `m@2` in Staging."""

    def __init__(self, daemon: Daemon, client: Client, *, turned: bool) -> None:
        self.daemon, self.client = daemon, client
        self.beside(turned)
        self.until_served(self.shown().epoch)


def until(true: Callable[[], Any], seconds: float = 60) -> Any:
    """What it is, once it is so."""
    deadline = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(0.05)
    return found


def bought(names: list[str], kept: dict[str, predictions.Prediction]) -> Iterator[str]:
    """A line of each caller: one in ten of those of `m@1` buys, nine in ten of the others, counted in each arm by
    itself so that chance never deals one too few of a kind."""
    for version in ("m@1", "m@2"):
        for number, name in enumerate(name for name in names if kept[name].version == version):
            yield f"{name},{int((number % 10 == 0) == (version == 'm@1'))}\n"


def test_outcomes_that_are_sent_end_an_ab_test(absent: Daemon, tmp_path: Path) -> None:
    """By prediction id: nine of ten callers of the second version buy, one of ten of the first. Those who named their
    version were not dealt: what came of them decides nothing."""
    absent.start(QUARTERDECK_JUDGE_EVERY="0.05")
    with absent.client() as client:
        beside = Beside(absent, client, turned=False)
        done = absent.qd("ab", "m@1", "m@2", "--metric", "bought", "--effect", "0.2")
        assert done.returncode == 0, done.stderr
        until(lambda: client.ask(trials.ShowTrial(endpoint="m")).state == "RUNNING")
        beside.until_served(beside.shown().epoch)
        named = [name for name, _ in beside.ask(60, "2")]
        names = [name for name, _ in beside.ask(300)]
        until(lambda: sum(client.ask(predictions.CountPredictions(endpoint="m")).versions.values()) == 360)
        kept = {each.id: each for each in client.ask(predictions.ListPredictions(endpoint="m", limit=300))}
        assert {each.version for each in kept.values()} == {"m@1", "m@2"}
        assert {each.propensity for each in kept.values()} == {0.5}
        file = tmp_path / "bought.csv"
        file.write_text("id,value\n" + "".join(f"{name},0\n" for name in named) + "".join(bought(names, kept)))
        added = absent.qd("outcome", "add", str(file), "--metric", "bought")
        assert added.returncode == 0, added.stderr
        ended = until(lambda: (found := client.ask(trials.ShowTrial(endpoint="m"))).state == "ENDED" and found)
        assert ended.why.startswith("WIN: bought 0.") and beside.shown().live == "m@1"
        counts = [int(each) for each in re.findall(r"\((\d+)\)", ended.why)]
        assert len(counts) == 2 and sum(counts) == 300


def test_what_a_shadow_said_holds_a_canary_to_its_limit_of_disagreement(absent: Daemon) -> None:
    """The shadow said the other class each time; the canary that follows has the pairs already."""
    absent.start(QUARTERDECK_JUDGE_EVERY="0.05")
    with absent.client() as client:
        beside = Beside(absent, client, turned=True)
        assert absent.qd("shadow", "m@2").returncode == 0
        until(lambda: client.ask(trials.ShowTrial(endpoint="m")).state == "RUNNING")
        beside.until_served(beside.shown().epoch)

        def pairs() -> int:
            beside.ask(20)
            return int(json.loads(absent.qd("--json", "shadow", "report", "m").stdout)["pairs"])

        until(lambda: pairs() >= 100)
        assert absent.qd("shadow", "stop", "m").returncode == 0
        words = ("--ladder", "50,100", "--effect", "0.5", "--gate", "disagreement:0.2")
        done = absent.qd("canary", "m@2", *words)
        assert done.returncode == 0, done.stderr
        beside.until_served(beside.until(lambda found: found.canary is not None).epoch)
        beside.ask(240)
        found = beside.until(lambda found: found.canary is None)
        assert found.live == "m@1"
        assert found.why.startswith("disagreement: disagrees with the live version in 100.00%, limit 20.00%, ")


def test_a_bandit_is_shown_as_it_stands_now_also_where_its_shares_stay(absent: Daemon, tmp_path: Path) -> None:
    """At a floor of half each no outcome changes a share, so no entry is kept of what came in."""
    absent.start(QUARTERDECK_JUDGE_EVERY="0.05")
    with absent.client() as client:
        beside = Beside(absent, client, turned=False)
        done = absent.qd("bandit", "m@1", "m@2", "--metric", "bought", "--floor", "0.5")
        assert done.returncode == 0, done.stderr
        until(lambda: client.ask(trials.ShowTrial(endpoint="m")).state == "RUNNING")
        beside.until_served(beside.shown().epoch)
        names = [name for name, _ in beside.ask(60)]
        until(lambda: sum(client.ask(predictions.CountPredictions(endpoint="m")).versions.values()) == 60)
        file = tmp_path / "bought.csv"
        file.write_text("id,value\n" + "".join(f"{name},1\n" for name in names))
        assert absent.qd("outcome", "add", str(file), "--metric", "bought").returncode == 0
        shown = until(
            lambda: (found := client.ask(trials.ShowTrial(endpoint="m"))).judged and found.judged.have and found
        )
        counts = [int(each) for each in re.findall(r"1 of (\d+)", shown.judged.why)]
        assert sum(counts) == 60 and shown.judged.have == min(counts) and len(shown.history) == 1
        assert f"bought 1 of {counts[0]}" in absent.qd("bandit", "report", "m").stdout
