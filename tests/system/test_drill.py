"""A drill through a real daemon: nothing live is touched, the gate opens, and after kill -9 nothing is left."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import psutil

from quarterdeck.client import Client
from quarterstore.records import deployments, drills, jobs, registry
from tests.conftest import Daemon
from tests.system.test_canary_gates import register
from tests.system.test_trials import Beside, until

QUICK = ("--seconds", "0.7", "--rate", "30", "--within", "30")


def behind(daemon: Daemon, client: Client) -> Beside:
    """`m@2` live with `m@1` behind it."""
    beside = Beside(daemon, client, turned=False)
    client.ask(registry.MoveStage(version="m@2", stage="Production"))
    assert daemon.qd("deploy", "m@2", "--wait").returncode == 0
    beside.until_served(beside.shown().epoch)
    return beside


def test_a_rollback_is_drilled_beside_the_live_endpoint_and_opens_the_gate(absent: Daemon) -> None:
    absent.start()
    with absent.client() as client:
        first = Beside(absent, client, turned=False)
        nothing = absent.qd("drill", "rollback", "m")
        assert nothing.returncode == 4 and "no version to go back to" in nothing.stderr
        client.ask(registry.MoveStage(version="m@2", stage="Production"))
        assert absent.qd("deploy", "m@2", "--wait").returncode == 0
        first.ask(20)
        before, serving = first.shown(), client.ask(deployments.ShowServing())
        third = register(client, False, "three")
        client.ask(registry.MoveStage(version=third, stage="Staging"))
        assert absent.qd("gate", "m", "--drill-within", "7d").returncode == 0
        refused = absent.qd("promote", third, "Production")
        assert refused.returncode == 6 and "qd drill rollback m" in refused.stderr
        done = absent.qd("--json", "drill", "rollback", "m", *QUICK)
        assert done.returncode == 0, done.stderr
        told = json.loads(done.stdout)
        assert (told["live"], told["to"], told["found"]["ok"]) == ("m@2", "m@1", True)
        assert (told["found"]["source"], told["found"]["failed"]) == ("recorded", 0)
        after = client.ask(deployments.ShowServing())
        assert first.shown() == before
        assert (after.launcher, after.address, after.epoch) == (serving.launcher, serving.address, serving.epoch)
        assert [host.pid for host in after.hosts] == [host.pid for host in serving.hosts]
        assert absent.qd("promote", third, "Production").returncode == 0
        shown = absent.qd("gate", "m")
        assert shown.returncode == 0 and "rollback drill" in shown.stdout
        assert absent.qd("gate", "m", "--drill-within", "0d").returncode == 0
        assert absent.qd("gate", "m").returncode == 4
        harmed(absent, client)


def harmed(daemon: Daemon, client: Client) -> None:
    """The file of the version that a rollback would need is not what it was."""
    digest = client.ask(registry.ShowVersion(version="m@1")).digest
    path = daemon.home.artefacts / digest[:2] / digest
    os.chmod(path, 0o600)
    path.write_bytes(b"\x08" + path.read_bytes()[1:-1] + b"?")
    done = daemon.qd("drill", "rollback", "m", *QUICK)
    assert done.returncode == 1
    assert "m@1 cannot take over" in done.stderr
    assert not client.ask(drills.ListDrills(endpoint="m"))[0].found.ok


def test_a_drill_that_is_killed_leaves_no_process_and_no_file(absent: Daemon) -> None:
    """Worker and daemon by kill -9; the next daemon ends what is left."""
    absent.start()
    with absent.client() as client:
        behind(absent, client)
        job = client.ask(drills.DrillRollback(endpoint="m", seconds=60))
        folder = absent.home.jobs / job.id
        progress = folder / "progress.jsonl"
        until(lambda: progress.exists() and '"before"' in progress.read_text(), 60)
        assert len(left(folder)) == 2
        worker = client.ask(jobs.ShowJob(job=job.id)).pid
    assert worker is not None
    absent.send(signal.SIGKILL)
    assert absent.process is not None
    absent.process.wait(20)
    os.kill(worker, signal.SIGKILL)
    absent.start()
    with absent.client() as client:
        until(lambda: client.ask(jobs.ShowJob(job=job.id)).state == "LOST")
        until(lambda: not left(folder) and not (folder / "out").exists())
        assert client.ask(drills.ListDrills()) == []


def left(folder: Path) -> list[int]:
    """Processes of a sandbox in a job's folder."""
    return [
        each.pid for each in psutil.process_iter(["cmdline"]) if f"{folder}/out" in " ".join(each.info["cmdline"] or ())
    ]
