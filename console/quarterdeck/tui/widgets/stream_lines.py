"""A stream in a card: how full it is, what came and went, what holds it up."""

from __future__ import annotations

from rich.text import Text

from quarterdeck.tui.widgets.drawing import bar, facts, fit, safe
from quarterstore.records.streams import Stream


def stream_lines(found: Stream, width: int) -> Text:
    """Queue, counts and addresses; yellow where it is held up."""
    counts = found.counts
    full = counts.waiting / found.waiting
    room = max(4, min(24, width - 36))
    said = f" {counts.waiting:,} of {found.waiting:,}"
    queue = Text.assemble(bar(full, room, "yellow" if counts.note else "cyan"), said)
    rows: list[tuple[str, object]] = [
        ("waiting", fit(queue, width - 11)),
        ("in, out", f"{counts.taken:,} in, {counts.answered:,} out, lag {counts.lag:.1f} s"),
        ("besides", f"{counts.duplicates:,} doubles, {counts.errors:,} errors, {counts.refused:,} refused"),
        ("from", found.input),
        ("to", found.output),
    ]
    if counts.note:
        rows.insert(1, ("held up", safe(counts.note, 200, "yellow")))
    if found.restarts:
        rows.append(("restarts", f"{len(found.restarts)}, the last: {found.why}"))
    if counts.last_error:
        rows.append(("last error", safe(counts.last_error, 300)))
    return facts(rows, 10, width)
