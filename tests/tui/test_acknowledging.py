"""What the monitoring screen does about alerts; tables sorted by what is meant, not by the words that are drawn."""

from __future__ import annotations

import time
from typing import Any

from quarterdeck.client import Client
from quarterdeck.tui.widgets.ask_dialog import AskDialog
from quarterstore.records.compression import Optimise
from quarterstore.records.monitoring import Alert, ListAlerts
from quarterstore.records.registry import RegisterVersion


def alarmed(owner: Client, made: Any) -> Alert:
    """Golden rows that are no rows: the job that measures on them fails, and an alert says so."""
    golden, _ = owner.put(b"no rows")
    digest, size = owner.put(made.model_bytes(3.0))
    version = owner.ask(
        RegisterVersion(model="odd", digest=digest, size=size, format="onnx", signature=made.SIGNATURE, golden=golden)
    )
    owner.ask(Optimise(version=version.id))
    deadline = time.monotonic() + 30
    while not (found := [each for each in owner.ask(ListAlerts()) if each.subject == version.id]):
        assert time.monotonic() < deadline, owner.ask(ListAlerts())
        time.sleep(0.05)
    return found[0]


async def test_a_says_who_looks_after_an_alert(quiet: Any, made: Any, console: Any) -> None:
    """The note and the person are the daemon's afterwards, not only on the screen."""
    with quiet.client() as owner:
        alert = alarmed(owner, made)
    assert alert.acked_by is None
    async with console(quiet.home).run_test(notifications=True, size=(120, 30)) as pilot:
        screen = await made.gone_to(pilot, "6", "monitoring")
        await made.until(pilot, lambda: getattr(screen.selected(), "id", "") == alert.id, "the alert")
        await pilot.press("a")
        await made.until(pilot, lambda: isinstance(pilot.app.screen, AskDialog), "the dialog")
        await pilot.pause()
        await pilot.press(*"mine", "enter")
        await made.until(pilot, lambda: screen.selected().acked_by, "who looks after it")
    with quiet.client() as owner:
        (found,) = [each for each in owner.ask(ListAlerts()) if each.id == alert.id]
        assert found.acked_by and found.note == "mine" and found.resolved is None


async def test_times_are_sorted_by_the_clock_not_by_their_words(quiet: Any, made: Any, console: Any) -> None:
    """Two of "3 s ago" are not equal, and "10 h ago" is not before "2 min ago"."""
    async with console(quiet.home).run_test(notifications=True, size=(160, 30)) as pilot:
        screen = await made.versions_of(pilot, "churn")
        await pilot.press(*"s" * len(screen.columns))
        await made.shown(pilot, "created ▲")
        table = screen.query_one("RecordTable")
        await made.until(pilot, lambda: table._keys[:2] == ["churn@1", "churn@2"], "the oldest first")
        await pilot.press("S")
        await made.until(pilot, lambda: table._keys[-2:] == ["churn@2", "churn@1"], "the newest first")
