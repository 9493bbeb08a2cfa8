"""A store whose keys are lost: whoever may start a daemon over it lets the owner in again."""

from __future__ import annotations

import shutil
from typing import Any

from quarterstore.records.governance import ListAudit
from quarterstore.records.people import AddKey, ListKeys, RevokeKey
from quarterstore.records.runs import ListRuns, StartRun
from tests.faults.test_serving import until


def test_a_store_without_its_keys_lets_the_owner_in_again_and_the_journal_says_so(absent: Any) -> None:
    absent.start()
    with absent.client() as client:
        run = client.ask(StartRun(experiment="kept")).id
    absent.stop()
    shutil.rmtree(absent.home.root / "keys")
    (absent.folder / "log").unlink()
    absent.start(wait=False)
    advice = f"quarterdeckd --home {absent.home.root} --enrol"
    until(lambda: "answering at" in absent.log())
    assert advice in absent.log()  # after a restart that was asked for no more than a start
    done = absent.qd_process("runs")
    assert (done.returncode, done.stdout) == (4, "")
    assert done.stderr.endswith(f"let the owner in again with: {advice}\n") and "keys add" not in done.stderr
    absent.stop()
    (absent.folder / "log").unlink()
    absent.start("--enrol")
    assert "--enrol" not in absent.log()
    absent.stop()
    absent.start()
    assert "--enrol" not in absent.log()
    with absent.client() as client:
        assert [found.id for found in client.ask(ListRuns()).runs] == [run]
        assert client.ask(ListAudit(limit=3))[0].words.startswith("let a key speak for")


def test_an_owners_key_that_was_revoked_is_not_let_in_again(absent: Any) -> None:
    absent.start()
    with absent.client() as client:
        (mine,) = client.ask(ListKeys())
        client.ask(AddKey(public="A" * 40, person="ana", roles=("admin",)))
        client.ask(RevokeKey(public=mine.public))
    absent.stop()
    absent.start("--enrol", wait=False)
    assert absent.process.wait(20) != 0
    assert "error: enrol: the owner's key was revoked" in absent.log()
