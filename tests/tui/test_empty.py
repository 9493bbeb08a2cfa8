"""A home with nothing in it: no key does harm on any screen."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from quarterdeck.tui.keymap import SCREENS

MOVES = (
    "j",
    "k",
    "g",
    "G",
    "ctrl+d",
    "ctrl+u",
    "pageup",
    "pagedown",
    "home",
    "end",
    "left",
    "right",
    "enter",
    "y",
    "Y",
    "s",
)
LEAVING = {"q", "question_mark", "f1", "colon", "slash", "escape", *(key for key, _ in SCREENS)}


@pytest.fixture(scope="module")
def bare(daemon: Any) -> Iterator[Any]:
    """A home in which nothing was ever done."""
    found = type(daemon)(Path(tempfile.mkdtemp(prefix="qdt", dir="/tmp")))
    try:
        found.start()
        yield found
    finally:
        found.end()


@pytest.mark.parametrize(("key", "name"), SCREENS)
async def test_no_key_ends_the_console_where_there_is_no_row(
    bare: Any, made: Any, console: Any, key: str, name: str
) -> None:
    async with console(bare.home).run_test(size=(120, 30)) as pilot:
        screen = await made.gone_to(pilot, key, name)
        own = [each.key for each in screen.bound() if each.key not in LEAVING]
        for press in (*MOVES, *own):
            await pilot.press(press)
            if pilot.app.screen is not screen:
                await pilot.press("escape", key)
            await made.until(pilot, lambda: pilot.app.screen is screen, f"{name} after {press}")
