"""A store whose keys are lost: whoever may start a daemon over it lets the owner in again."""

from __future__ import annotations

import shutil
from typing import Any

from quarterstore.records.governance import ListAudit
from quarterstore.records.people import AddKey, ListKeys, RevokeKey
from quarterstore.records.runs import ListRuns, StartRun


def test_a_store_without_its_keys_lets_the_owner_in_again_and_the_journal_says_so(absent: Any) -> None:
    absent.start()
    with absent.client() as client:
        run = client.ask(StartRun(experiment="kept")).id
    absent.stop()
    shutil.rmtree(absent.home.root / "keys")
    absent.start("--enrol")
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
