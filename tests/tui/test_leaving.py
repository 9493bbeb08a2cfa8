"""Screens that are left before they are there, keys that come between two of them, and at the end of the console."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from rich.text import Text
from textual import events
from textual.screen import Screen
from textual.widgets import Input

from quarterdeck.tui.screens.run_compare import CompareScreen
from quarterdeck.tui.screens.studies import StudiesScreen
from quarterdeck.tui.screens.version import VersionScreen
from quarterdeck.tui.screens.versions import VersionsScreen
from quarterdeck.tui.widgets.ask_dialog import AskDialog


@pytest.mark.parametrize(
    "opened",
    [
        lambda: VersionsScreen("churn"),
        lambda: VersionScreen("churn@1", ("registry",)),
        lambda: CompareScreen(("run-a", "run-b")),
        lambda: StudiesScreen(),
    ],
)
async def test_a_screen_that_is_left_before_it_has_its_widgets_ends_nothing(
    quiet: Any, made: Any, console: Any, opened: Callable[[], Screen[None]]
) -> None:
    """Enter and a digit in one go: what was opened is taken down before it is made, and has no widget at all."""
    async with console(quiet.home).run_test(size=(120, 30)) as pilot:
        await made.gone_to(pilot, "3", "registry")
        left = opened()
        pilot.app.push_screen(left)
        pilot.app.push_screen(VersionsScreen("churn"))  # what lies below it is in sight for a moment, too
        pilot.app.action_go("runs")
        pilot.app._link(True)
        await made.until(pilot, lambda: not left.is_running, "the end of what was left")
        await made.until(pilot, lambda: made._filled(pilot.app.screen), "the records of runs")
        assert pilot.app.screen.name_of_screen == "runs" and pilot.app._exception is None


async def test_a_key_that_comes_back_from_a_screen_that_was_left_waits_for_the_next(
    quiet: Any, made: Any, console: Any
) -> None:
    """Enter and escape in one go: the screen that enter opens has no widgets yet when escape reaches the console."""
    async with console(quiet.home).run_test(size=(120, 30)) as pilot:
        models = await made.gone_to(pilot, "3", "registry")
        opened = VersionsScreen("churn")
        pilot.app.push_screen(opened)
        key = events.Key("escape", None)
        key._set_forwarded()
        await pilot.app.on_event(key)
        assert pilot.app.screen is opened, "not before it is there"
        await made.until(pilot, lambda: pilot.app.screen is models, "the way back")


async def test_keys_and_looks_at_a_console_that_is_being_closed_end_in_nothing(
    quiet: Any, made: Any, console: Any
) -> None:
    """Its screens go one after the other, timers and keys come to the last moment."""
    async with console(quiet.home).run_test(size=(120, 30)) as pilot:
        flows = await made.gone_to(pilot, "5", "pipelines")
        there = list(pilot.app._screen_stack)
        pilot.app._screen_stack.clear()
        try:
            flows._look()
            for key in ("j", "escape", "colon"):
                await pilot.app.on_event(events.Key(key, None))
        finally:
            pilot.app._screen_stack.extend(there)


async def test_an_answer_that_is_given_twice_in_one_go_is_one(quiet: Any, made: Any, console: Any) -> None:
    """The second enter is with the dialog before the first has closed it: it took away the screen below."""
    async with console(quiet.home).run_test(size=(120, 30)) as pilot:
        screen = await made.gone_to(pilot, "3", "registry")
        answers: list[str | None] = []
        dialog = AskDialog("sure?", Text("of it"), "a word", value="yes")
        await pilot.app.push_screen(dialog, answers.append)
        for _ in range(2):
            await dialog.query_one(Input).action_submit()
        await made.until(pilot, lambda: not dialog.is_running, "the end of the dialog")
        assert answers == ["yes"] and pilot.app.screen is screen
