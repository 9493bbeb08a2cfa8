"""The screen of hooks: dead letters first, sent again by a key; the hook tried, paused, forgotten."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from quarterdeck.tui.screens.hooks import HooksScreen
from quarterdeck.tui.widgets.record_table import RecordTable
from quarterstore.records import hooks
from tests.tui.test_keys import typed


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """What a hook calls: it fails for as long as the file `broken` lies beside it."""
    path = tmp_path / "tell.sh"
    path.write_text(f'#!/bin/sh\n[ -e {tmp_path}/broken ] || exit 0\necho "no route to the pager" >&2\nexit 3\n')
    path.chmod(0o700)
    (tmp_path / "broken").touch()
    return path


async def test_a_dead_letter_stands_above_all_and_is_sent_again_by_d(
    quiet: Any, made: Any, console: Any, program: Path
) -> None:
    """The badge and the first row say that something was not told; the card says why; `d` tells it."""
    with quiet.client() as owner:
        hook = owner.ask(hooks.AddHook(event="promote", target=f"exec:{program}")).id
        letter = owner.ask(hooks.TestHook(hook=hook)).id

        def now() -> hooks.Delivery:
            found: hooks.Delivery = owner.ask(hooks.ShowDelivery(delivery=letter))
            return found

        try:
            async with console(quiet.home).run_test(size=(80, 24)) as pilot:
                await made.until(pilot, lambda: now().state == "FAILED", "the end of its tries")
                screen = await made.gone_to(pilot, "8", "hooks")
                assert isinstance(screen, HooksScreen)
                await made.shown(pilot, "8 hooks▲1")
                await made.until(pilot, lambda: screen.selected() and screen.selected().id == letter, "the letter")
                found = await made.shown(pilot, "no route to the pager")
                assert "✗ FAILED" in found and f"$ qd hooks show-delivery --delivery {letter}" in found
                (program.parent / "broken").unlink()
                await pilot.press("d")
                await made.shown(pilot, f"$ qd hook redeliver {letter}")
                await pilot.press("escape")
                assert now().rounds == 0, "escape leaves everything as it is"
                await pilot.press("d")
                await typed(pilot, made, "")
                await made.until(pilot, lambda: now().state == "MADE", "the delivery")
                found = await made.shown(pilot, "✓ MADE")
                await made.until(pilot, lambda: "8 hooks▲1" not in made.text(pilot), "no badge any more")
                assert next(iter(screen.records)) == hook, "nothing failed: hooks come first"
        finally:
            owner.ask(hooks.RemoveHook(hook=hook))


async def test_marked_letters_go_together_and_a_hook_is_paused_tried_and_forgotten(
    quiet: Any, made: Any, console: Any, program: Path
) -> None:
    with quiet.client() as owner:
        hook = owner.ask(hooks.AddHook(event="promote", target=f"exec:{program}")).id
        letters = [owner.ask(hooks.TestHook(hook=hook)).id for _ in range(2)]

        def states() -> list[str]:
            return [owner.ask(hooks.ShowDelivery(delivery=each)).state for each in letters]

        async with console(quiet.home).run_test(size=(160, 48)) as pilot:
            for count in (1, 2):  # one is tried after the other, three times each
                await made.until(pilot, lambda count=count: states().count("FAILED") >= count, f"dead letter {count}")
            screen = await made.gone_to(pilot, "8", "hooks")
            await made.until(pilot, lambda: len(screen.records) == 3, "all of them and the hook")
            (program.parent / "broken").unlink()
            await pilot.press("asterisk", "d")
            await made.shown(pilot, "send these 2 again")
            await typed(pilot, made, "")
            await made.until(pilot, lambda: states() == ["MADE"] * 2, "all of them told")
            await made.until(pilot, lambda: not screen.query_one(RecordTable).marked, "no mark is left")
            await pilot.press("g", "p")
            await made.shown(pilot, f"$ qd hook pause {hook}")
            await typed(pilot, made, "")
            await made.shown(pilot, "‖ paused")
            await pilot.press("t")
            await typed(pilot, made, "")
            await made.shown(pilot, "is paused")
            await pilot.press("x")
            await typed(pilot, made, "hook")
            await made.shown(pilot, f"got hook, expected {hook}")
            await pilot.press("escape", "x")
            await typed(pilot, made, hook)
            await made.shown(pilot, "no hook yet")
