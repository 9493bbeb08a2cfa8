"""How replays and drills are drawn: agreement, the picture of the differences, worst slices, rows to look at."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.text import Text

from quarterdeck.tui.screens.version_cards import headed
from quarterdeck.tui.widgets.drawing import (
    age,
    ago,
    bar,
    clock,
    facts,
    folded,
    grid,
    muted,
    number,
    right,
    safe,
    section,
    state,
)
from quarterdeck.tui.widgets.histogram import histogram
from quarterstore.records.drills import Drill
from quarterstore.records.registry import Version
from quarterstore.records.replays import Replay, ReplayResult, Scored, Timing
from quarterstore.records.trials import Slice

LISTED = 5
TALL = 6


def replays_card(version: Version, replays: Sequence[Replay], now: float, width: int) -> Text:
    """The newest replay of a version in full, the others a line each."""
    text = headed(version, now, width)
    if not replays:
        return text.append_text(muted(f"no traffic was replayed against it\n\nqd replay {version.id} --window 24h\n"))
    newest, found = replays[0], replays[0].found
    head = f"{newest.endpoint}, {age(newest.until - newest.since)} until {clock(newest.until, now)}"
    words = Text("\n").join(folded(safe(found.words, 400), width)).append("\n")
    text.append_text(section(head, words.append_text(_figures(found, width)), width))
    if found.histogram is not None:
        title = "rows by difference, candidate less recorded (log scale)"
        body = histogram(found.histogram.counts, found.histogram.reach, width, TALL)
        text.append_text(section(title, body, width))
    for words_, body in _parts(found, width):
        text.append_text(section(words_, body, width))
    earlier = replays[1 : 1 + LISTED]
    if earlier:
        lines = [(right(ago(each.at, now)), safe(each.found.words, 300)) for each in earlier]
        text.append_text(section("earlier replays", grid(lines, (10, max(20, width - 12))), width))
    return text


def _figures(found: ReplayResult, width: int) -> Text:
    share = Text("-")
    if found.rate is not None:
        share = bar(found.rate, max(4, min(24, width - 62)))  # the words beside it on the same line
        share.append(f" {found.rate:.2%} of {found.rows:,} rows, 95 % {found.low:.2%} to {found.high:.2%}")
    apart = f"mean {number(found.mean_difference, 3)}, largest {number(found.largest_difference, 3)}"
    rows: list[tuple[str, object]] = [("agreement", share), ("scores apart", apart), ("PSI", number(found.psi, 3))]
    if found.checked:
        rows.append(("faithful", f"the live version gives {found.reproduced} of {found.checked} of its answers again"))
    left = [f"{rows:,} {reason}" for reason, rows in found.left_out.items()]
    left += [f"{found.older:,} beyond the limit"] if found.older else []
    rows += [("left out", "; ".join(left) or "nothing"), ("hash", found.hash)]
    return facts(rows, room=width)


def _parts(found: ReplayResult, width: int) -> Iterator[tuple[str, Text]]:
    """What there is to show beside the picture, in the order in which one looks at it."""
    if found.scored:
        yield "beside the labels: value, interval, rows", _scored(found.scored, width)
    if found.flips:
        flips = [
            (safe(each.recorded, 24), safe("→"), safe(each.candidate, 24), right(f"{each.rows:,}"))
            for each in found.flips[:LISTED]
        ]
        yield "changed class", grid(flips, (16, 1, 16, 8))
    if found.slices:
        yield "worst slices: agreement, interval, rows", _slices(found.slices[:LISTED], width)
    if found.timings:
        yield "milliseconds: P50, P95, rows", _timings(found.timings, width)
    if found.differences:
        rows = [
            (
                safe(each.prediction, 40),
                safe(_said(each.recorded, each.recorded_score), 24),
                safe("→"),
                safe(_said(each.candidate, each.candidate_score), 24),
            )
            for each in found.differences
        ]
        yield "differ most: qd predictions show --prediction ID", grid(rows, (max(20, min(40, width - 44)), 18, 1, 18))


def _scored(scored: Sequence[Scored], width: int) -> Text:
    rows = [
        (
            safe(each.metric, 24),
            safe(who),
            right(number(value)),
            safe(f"{number(low, 3)} to {number(high, 3)}"),
            right(f"{each.n:,}"),
        )
        for each in scored
        for who, value, low, high in (
            ("recorded", each.recorded, each.recorded_low, each.recorded_high),
            ("candidate", each.candidate, each.candidate_low, each.candidate_high),
        )
    ]
    return grid(rows, (max(12, min(19, width - 45)), 9, 8, 14, 6))


def _slices(slices: Sequence[Slice], width: int) -> Text:
    rows = [
        (
            safe(f"{each.field}: {each.value}", 60),
            right(f"{each.rate:.1%}"),
            safe(f"{each.low:.1%} to {each.high:.1%}"),
            right(f"{each.pairs:,}"),
        )
        for each in slices
    ]
    return grid(rows, (max(16, min(40, width - 42)), 7, 17, 8))


def _timings(timings: Sequence[Timing], width: int) -> Text:
    rows = [
        (
            safe(each.version, 40),
            safe("a request" if each.recorded else "the run alone"),
            right(number(each.p50, 3)),
            right(number(each.p95, 3)),
            right(f"{each.rows:,}"),
        )
        for each in timings
    ]
    return grid(rows, (max(12, min(40, width - 48)), 14, 8, 8, 7))


def _said(label: str | None, score: float | None) -> str:
    return f"{label if label is not None else '-'} {f'({number(score, 3)})' if score is not None else ''}".strip()


def drill_words(drills: Sequence[Drill], endpoint: str, now: float) -> Text:
    """The last drill of an endpoint's rollback on a line: how it went, when, and the figures or what went wrong."""
    last = max((each for each in drills if each.endpoint == endpoint), key=lambda each: each.at, default=None)
    if last is None:
        return muted(f"never drilled: qd drill rollback {endpoint}")
    found = last.found
    text = Text.assemble(state("PASS" if found.ok else "FAIL"), f" {ago(last.at, now)}, ")
    if not found.ok:
        return text.append_text(safe(found.wrong[0] if found.wrong else found.words, 300))
    times = f"first new answer {number(found.first_new, 3)} ms, last old one {number(found.last_old, 3)} ms"
    return text.append_text(safe(f"to {last.to}, {found.failed} of {found.requests:,} failed, {times}", 300))
