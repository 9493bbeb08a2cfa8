"""How a feature view is drawn: how it stands online, its columns, files, statistics, and what was read of entities."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.text import Text

from quarterdeck.tui.widgets.drawing import (
    MUTED,
    age,
    ago,
    clock,
    facts,
    fit,
    folded,
    grid,
    muted,
    number,
    right,
    safe,
    section,
    state,
    title,
)
from quarterdeck.units import counted, size
from quarterstore.records.base import Record
from quarterstore.records.feature_checks import FeatureStats, ParityResult, StatsResult
from quarterstore.records.features import FeatureView, ViewShown
from quarterstore.records.jobs import Job, Progress
from quarterstore.records.names import drawn
from quarterstore.records.online import Looked, OnlineStatus

FILES = 12


class Known(Record, frozen=True):
    """What was found of a view by its last jobs: parity and statistics, each with when; and the jobs that run."""

    parity: tuple[ParityResult, float] | None = None
    stats: tuple[StatsResult, float] | None = None
    running: tuple[tuple[Job, Progress | None], ...] = ()


def standing(status: OnlineStatus) -> str:
    """How a view stands, in a word."""
    if status.generation is None:
        return "OFFLINE"
    return "LATE" if status.late else "LAGS" if status.rows_waiting else "FRESH"


def lag_words(status: OnlineStatus) -> str:
    """For how long the oldest row waits, beside how long it may."""
    if status.generation is None:
        return "never made"
    return f"{age(status.lag) if status.rows_waiting else 'none'} of {age(status.max_lag)}"


def view_card(shown: ViewShown, status: OnlineStatus, known: Known, now: float, width: int) -> Text:
    """A view in full."""
    view = shown.view
    words = f"{', '.join(key.name for key in view.keys)} · {counted(shown.rows, 'row')}, {size(shown.size)}"
    text = title(view.id, [state(standing(status))], words, width)
    if view.description:
        text.append_text(_folded(view.description, width)).append("\n")
    for job, progress in known.running:
        said = f"{job.kind.replace('_', ' ')} {progress.words if progress else ''}"
        text.append_text(fit(Text.assemble(state(job.state), "  ", safe(said, 200)), width)).append("\n\n")
    text.append_text(section("online", _online(status, now, width), width))
    text.append_text(section("parity", _parity(known, now, width), width))
    text.append_text(section("columns", _columns(view, width), width))
    if known.stats is not None:
        text.append_text(_statistics(*known.stats, now, width))
    text.append_text(section("files, the newest", _files(shown, now, width), width))
    return text.append_text(section("definition", facts(_about(shown, now), 12, width), width))


def _online(status: OnlineStatus, now: float, width: int) -> Text:
    made = status.generation
    if made is None:
        return muted(f"nothing is read of it yet:  qd features materialise {status.view.partition('@')[0]}\n")
    verdict = state(standing(status))
    waits = counted(status.rows_waiting, "row") if status.rows_waiting else "nothing"
    rows: list[tuple[str, object]] = [
        ("lag", Text.assemble(verdict, f"  {lag_words(status)} allowed", no_wrap=True)),
        ("waits", waits + (f", newest {age(status.behind)} ahead" if status.behind else "")),
        ("newest", f"{clock(made.newest, now)}, {ago(made.newest, now)}" if made.newest is not None else "none"),
        ("entities", f"{made.entities:,}, {size(made.size)}"),
        ("generation", f"{made.id}, {ago(made.made, now)}"),
        ("pushed", f"{counted(status.pushed, 'row')} in no file yet"),
    ]
    return facts(rows, 12, width)


def _parity(known: Known, now: float, width: int) -> Text:
    if known.parity is None:
        return muted("not compared yet: c compares what is read online with what is kept\n")
    found, at = known.parity
    text = Text.assemble(state("DIFFERS" if found.mismatches else "SAME"), "  ", safe(ago(at, now), style=MUTED))
    text = fit(text, width).append("\n").append_text(_folded(found.words, width))
    for each in found.shown:
        entity = ", ".join(each.keys)
        pairs = zip(each.features, each.offline, each.online, strict=True)
        said = [f"{name} {kept} offline, {read} online" for name, kept, read in pairs if kept != read]
        said = said or [f"{each.statuses[0]} {number(each.ages[0])} s, {each.statuses[1]} {number(each.ages[1])} s"]
        text.append_text(fit(safe(f"  {entity}: {'; '.join(said)}", 400), width)).append("\n")
    return text


def _columns(view: FeatureView, width: int) -> Text:
    rows: list[tuple[str, str, str]] = [(key.name, key.kind, "key") for key in view.keys]
    rows.append((view.event_time, "time", "event time"))
    if view.created_time:
        rows.append((view.created_time, "time", "written at"))
    rows += [(each.name, each.kind, "feature") for each in view.features]
    rows += [(each.name, each.kind, "given by the request") for each in view.requests]
    rows += [(each.name, each.kind, f"= {each.formula}") for each in view.on_demand]
    longest = min(max(len(drawn(name)) for name, _, _ in rows), max(12, width // 3))
    cells = [(safe(name), safe(kind, style=MUTED), safe(what, 300)) for name, kind, what in rows]
    return grid(cells, (longest, 7, max(6, width - longest - 11)))


def _statistics(found: StatsResult, at: float, now: float, width: int) -> Text:
    against = f"against {found.against}, " if found.against else ""
    heads = ("feature", "nulls", "distinct", "lowest", "highest", "mean", "PSI", "verdict")
    figures = (0, 6, 8, 9, 9, 9, 6, 17)
    shown = (0, 1, 2, 3, 4, 5, *((6, 7) if found.against else ()))
    if width < 90:
        shown = tuple(each for each in shown if each not in (2, 6))
    if width < 60:
        shown = tuple(each for each in shown if each not in (3, 4) or not found.against)
    room = width - sum(figures[each] + 2 for each in shown if each)
    widths = [figures[each] or max(8, min(24, room)) for each in shown]
    table = [[muted(heads[each]) if each in (0, 7) else right(heads[each], MUTED) for each in shown]]
    table += [[_cells(each)[place] for place in shown] for each in found.features]
    body = _folded(found.words, width) if found.words else Text()
    body.append_text(_cut(grid(table, widths), width))
    for each in found.features:
        if each.note:
            body.append_text(_folded(f"{each.name}: {each.note}", width))
    return section(f"values, {against}{ago(at, now)}", body, width)


def _cells(found: FeatureStats) -> tuple[Text, ...]:
    share = f"{100 * found.nulls / found.rows:.0f} %" if found.rows else "-"
    ends = [
        number(end) if isinstance(end, int | float) else drawn(str(end or "-")) for end in (found.lowest, found.highest)
    ]
    return (
        safe(found.name),
        right(share),
        right(f"{found.distinct:,}"),
        right(ends[0]),
        right(ends[1]),
        right(number(found.mean)),
        right(number(found.effect, 3)),
        state(found.verdict) if found.verdict else muted("-"),
    )


def _files(shown: ViewShown, now: float, width: int) -> Text:
    files = sorted(shown.files, key=lambda each: -each.at)
    if not files:
        return muted(f"no rows yet:  qd features load {shown.view.name} FILE\n")
    rows = [(muted("known"), right("rows", MUTED), muted("from"), muted("to"), muted("came"), muted("by"))]
    for each in files[:FILES]:
        by = f"{each.by}, {each.late:,} late" if each.late else each.by
        first, last = clock(each.first_at, now), clock(each.last_at, now)
        rows.append(
            (safe(each.known), right(f"{each.rows:,}"), safe(first), safe(last), safe(ago(each.at, now)), safe(by))
        )
    widths = (6, 10, 12, 12, 10, width - 60)
    most = 6 if width >= 72 else 5  # a narrow card has no room for who
    text = _cut(grid([row[:most] for row in rows], widths[:most]), width)
    if len(files) > FILES:
        text.append_text(muted(f"and {len(files) - FILES:,} more; {len(shown.parts):,} parts on the disk\n"))
    return text


def _about(shown: ViewShown, now: float) -> list[tuple[str, object]]:
    view = shown.view
    of = ", ".join(f"{each.name} ({', '.join(key.name for key in each.keys)})" for each in view.entities)
    rows: list[tuple[str, object]] = [("of", of), ("holds for", "ever" if view.ttl is None else age(view.ttl))]
    for name, value in (("owner", view.owner), ("source", view.source)):
        rows += [(name, value)] if value else []
    if view.tags:
        rows.append(("tags", ", ".join(f"{name}={value}" for name, value in view.tags.items())))
    rows.append(("versions", ", ".join(map(str, shown.versions))))
    rows.append(("defined", f"by {view.created_by}, {clock(view.created, now)}"))
    return rows


def looked_lines(found: Looked, keys: Sequence[dict[str, Any]], width: int) -> Text:
    """What was read of entities: status and age, then each value."""
    text = Text()
    for key, values, status, old in zip(keys, found.values, found.statuses, found.ages, strict=True):
        named = ", ".join(f"{name}={value}" for name, value in key.items())
        told = "no row" if old is None else f"{age(old)} old"
        head = Text.assemble(safe(named, 100, "bold"), "  ", state(status), f"  {told}", no_wrap=True)
        text.append_text(fit(head, width)).append("\n")
        rows = [(name, "null" if value is None else value) for name, value in zip(found.features, values, strict=True)]
        text.append_text(facts(rows, min(24, width // 2), width))
    return text.append_text(fit(muted(f"of {found.view}, {found.generation or 'no generation'}"), width))


def _folded(words: str, width: int) -> Text:
    return Text("\n").join(folded(safe(words), width)).append("\n")


def _cut(table: Text, width: int) -> Text:
    """Each line within the width: the last columns give way."""
    return Text("\n").join(fit(line, width) for line in table.split("\n")).append("\n")
