"""A replay through a real daemon: what callers sent is folded, answered again in a job's process, and kept."""

from __future__ import annotations

import json

import pytest

from quarterdeck.client import Client
from quarterstore.records import deployments, predictions, replays
from quarterstore.records.faults import Invalid, NotFound
from tests.conftest import Daemon
from tests.system.test_trials import Beside, until


def test_recorded_traffic_is_replayed_against_a_candidate_twice_with_one_hash(absent: Daemon) -> None:
    absent.start()
    with absent.client() as client:
        beside = Beside(absent, client, turned=True)
        names = {name for name, _ in beside.ask(40)}
        done = [absent.qd("--json", "replay", "m@2", "--window", "1h") for _ in range(2)]
        assert [each.returncode for each in done] == [0, 0], done[0].stderr
        first, again = (json.loads(each.stdout) for each in done)
        assert first["found"]["hash"] == again["found"]["hash"]
        assert (first["found"]["rows"], first["found"]["agreed"]) == (40, 0)  # the other class each time
        assert {each["prediction"] for each in first["found"]["differences"]} <= names
        assert len(first["found"]["differences"]) == 20
        assert (first["found"]["checked"], first["found"]["reproduced"]) == (40, 40)
        itself = absent.qd("replay", "m@1", "--window", "1h", "--limit", "10")
        assert itself.returncode == 0, itself.stderr
        assert "m@1 agrees with what was answered on 100.00%" in itself.stderr
        kept = client.ask(replays.ListReplays())
        assert [each.version for each in kept] == ["m@1", "m@2", "m@2"]
        assert client.ask(replays.ShowReplay(replay=kept[0].id)) == kept[0]
        assert (kept[0].found.rows, kept[0].found.older) == (10, 30)
        labelled(absent, client, beside)
        bad_inputs(client)


def labelled(daemon: Daemon, client: Client, beside: Beside) -> None:
    beside.label(beside.ask(20))
    assert daemon.qd("replay", "m@2", "--window", "1h").returncode == 0
    [scored] = client.ask(replays.ListReplays())[0].found.scored
    assert (scored.metric, scored.n, scored.recorded, scored.candidate) == ("accuracy", 20, 1.0, 0.0)


def bad_inputs(client: Client) -> None:
    before = client.status().seq
    for act, kind in (
        (replays.StartReplay(version="m@9"), NotFound),
        (replays.StartReplay(version="m@2", endpoint="nowhere"), NotFound),
        (replays.StartReplay(version="m@2", window=0), Invalid),
        (replays.StartReplay(version="m@2", limit=0), Invalid),
        (replays.StartReplay(version="m@2", tolerance=1.0), Invalid),
        (replays.StartReplay(version="m@2", top=-1), Invalid),
    ):
        with pytest.raises(kind):
            client.ask(act)
    assert client.status().seq == before


def test_a_field_that_is_kept_as_a_hash_is_not_replayed_and_says_so(absent: Daemon) -> None:
    absent.start()
    with absent.client() as client:
        beside = Beside(absent, client, turned=False)
        client.ask(deployments.SetRecording(endpoint="m", fields={"sex": "hash"}))

        def hashed() -> bool:
            """Whether the rule is in force: it reaches the hosts with the next table."""
            beside.ask(1)
            kept = client.ask(predictions.ListPredictions(endpoint="m", limit=1000))
            return any(isinstance(each.inputs["sex"], str) for each in kept)

        until(hashed)
        beside.ask(5)
        done = absent.qd("replay", "m@2", "--window", "1h")
        assert done.returncode == 0, done.stderr
        found = client.ask(replays.ListReplays())[0].found
        assert found.left_out["sex was kept as a hash"] >= 5
        assert "could not be replayed" in done.stderr and "sex was kept as a hash" in done.stdout
