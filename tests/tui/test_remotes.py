"""Endpoints of a remote on the deployments screen: with its figures while it answers, UNREACHABLE when it does not."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len

from quarterdeck.tui.screens.remote_rows import There, there_card, there_cells
from quarterstore.records import remotes
from quarterstore.records.names import drawn
from tests.decks import Pair, produced
from tests.tui.hostile import ODD


def there(state: str = "LIVE", **figures: Any) -> There:
    """`churn` of `prod`."""
    endpoint = remotes.EndpointThere(endpoint="churn", state=state, live="churn@2", epoch=9, **figures)
    reach: Any = "UNREACHABLE" if state == "UNREACHABLE" else "REACHABLE"
    status = remotes.RemoteStatus(
        remote="prod", url="https://deck.example", state=reach, heard=90.0, endpoints=(endpoint,)
    )
    return There(status, endpoint)


def test_what_is_not_known_is_a_dash_and_never_a_nought() -> None:
    known = [cell.plain for cell in there_cells(there(requests=0, errors=0, p95=1.5), 100.0)]
    assert known[0] == "churn on prod" and known[5:8] == ["0", "1.5", "0"]
    unknown = [cell.plain for cell in there_cells(there("UNREACHABLE"), 100.0)]
    assert unknown[1] == "UNREACHABLE" and unknown[5:8] == ["-", "-", "-"]
    assert "heard of 10 s ago" in there_card(there("UNREACHABLE"), 100.0)(78, 20).plain


@pytest.mark.parametrize("width", [40, 78, 120])
def test_what_a_remote_says_of_itself_moves_no_terminal(width: int) -> None:
    for odd in ODD:
        endpoint = remotes.EndpointThere(endpoint=odd, state=odd, live=odd, epoch=1, why=odd, bundle=odd)
        status = remotes.RemoteStatus(remote="prod", url="https://x", state="REFUSED", why=odd, deck=odd, version=odd)
        text = there_card(There(status, endpoint), 100.0)(width, 20)
        assert all(drawn(line) == line for line in text.plain.split("\n"))
        assert all(drawn(cell.plain) == cell.plain for cell in there_cells(There(status, endpoint), 100.0))


@pytest.mark.parametrize("size", [(80, 24), (160, 48)])
async def test_a_remote_that_died_is_shown_as_unreachable(made: Any, console: Any, size: tuple[int, int]) -> None:
    pair = Pair()
    try:
        pair.meet()
        with pair.ours.client() as ours:
            version = produced(ours, "one")
            sent = pair.ours.qd("deploy", version, "--to", "prod")
            assert sent.returncode == 0, sent.stderr
            app = console(pair.ours.home)
            async with app.run_test(size=size) as pilot:
                await made.gone_to(pilot, "4", "deployments")
                await made.shown(pilot, "m on prod")
                await made.shown(pilot, "● LIVE")
                pair.theirs.stop(signal.SIGKILL)
                found = await made.shown(pilot, "  UNREACHABLE")
                await made.shown(pilot, "does not answer")
                assert "qd remotes status --remote prod" in found
                assert {cell_len(line) for line in made.lines(pilot)} == {size[0]}
                if folder := os.environ.get("UPDATE_SCREENS"):
                    Path(folder).mkdir(exist_ok=True)
                    app.save_screenshot(f"remote-{size[0]}.svg", folder)
    finally:
        pair.end()
