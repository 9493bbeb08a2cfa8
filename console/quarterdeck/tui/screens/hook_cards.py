"""The hooks of a model as they are drawn: what is called when, what was told, what failed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.text import Text

from quarterdeck.tui.screens.version_cards import headed
from quarterdeck.tui.widgets.drawing import MUTED, ago, clock, facts, grid, muted, right, safe, section, state
from quarterstore.records.messages import BY_TAG
from quarterstore.records.registry import Version

HOOKS, DELIVERIES = BY_TAG.get("hooks.list"), BY_TAG.get("hooks.deliveries")
"""The two queries by their words: without them there is no pane."""
LISTED = 20
"""Deliveries of a hook that are asked for."""


def hooks_card(version: Version, hooks: Sequence[Any], deliveries: Sequence[Any], now: float, width: int) -> Text:
    """Each hook with its figures, then what they were told, the newest first."""
    text = headed(version, now, width)
    told = Text().join(_hook(each, now) for each in hooks)
    words = f"hooks that hear of {version.model}"
    text.append_text(section(words, told if hooks else muted("none: qd hook add --help\n"), width))
    rows: list[tuple[Text, ...]] = [
        (
            state(each.state),
            safe(clock(each.at, now)),
            safe(each.event, 20),
            safe(each.subject or "-", 60),
            right(f"{len(each.attempts)}"),
            safe(each.error or "", 200, "red"),
        )
        for each in sorted(deliveries, key=lambda each: each.at, reverse=True)
    ]
    head = [muted(word) for word in ("what came of it", "when", "event", "of")] + [right("tries", MUTED), muted("why")]
    room = max(20, width - 15 - 12 - 10 - 5 - 10)
    widths = (15, 12, 10, room // 2, 5, room - room // 2)
    body = grid([head, *rows], widths) if rows else muted("nothing was told yet\n")
    text.append_text(section("deliveries", body, width))
    return text


def _hook(each: Any, now: float) -> Text:
    """A hook, and how it fared."""
    where = f"{each.event}{f' into {each.stage}' if each.stage else ''} of {each.model or 'any model'}"
    asked = "asked before, its no refuses the move" if each.gate else "told afterwards"
    text = Text.assemble(state("paused" if each.paused else "on"), "  ", safe(where, 100, "bold"), f"  {asked}\n")
    counts = f"{each.made:,} made, {each.waiting:,} waiting, {each.failed:,} failed"
    rows: list[tuple[str, object]] = [("calls", safe(each.target, 300)), ("deliveries", counts)]
    rows += [("last", ago(each.last, now))] if each.last else []
    rows += [("last error", safe(each.last_error, 300, "red"))] if each.last_error else []
    return text.append_text(facts(rows)).append("\n")
