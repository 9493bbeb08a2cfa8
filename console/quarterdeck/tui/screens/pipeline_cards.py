"""How pipeline runs, their steps and jobs are drawn: the graph of the steps, what is asked, what was written last."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any

from rich.text import Text

from quarterdeck.tui.widgets.drawing import (
    MUTED,
    age,
    bar,
    clock,
    facts,
    fit,
    folded,
    glyph,
    grid,
    muted,
    right,
    safe,
    section,
    state,
    title,
)
from quarterdeck.tui.widgets.graph import gutters
from quarterdeck.tui.widgets.stream_lines import stream_lines
from quarterstore.records.jobs import Job, Progress
from quarterstore.records.pipelines import CACHED, PipelineRun, Step
from quarterstore.records.streams import Stream

MICROSECONDS = {"newest"}
"""Figures that are a time, in microseconds since 1970."""

LOG = 12
"""Lines of a log's tail that are drawn at least; more where the card has room."""
SHORT = 4
"""Lines of it where a card is low."""
FIGURES = 40
OVER = ("DONE", "SKIPPED")


def run_card(found: PipelineRun, progress: Progress | None, lines: Sequence[str], now: float, width: int) -> Text:
    """A pipeline run: its steps as a graph, what it asks, why it failed, what it wrote last."""
    cause = f"because of {found.cause}" if found.cause else f"by {found.actor}"
    words = f"{found.id} · {cause} · {clock(found.created, now)}"
    text = title(found.pipeline, [state(found.state)], words, width)
    text.append_text(_progress(progress, width))
    asking = asks(found)
    if asking is not None:
        text.append_text(section(f"{asking.name} asks", _question(asking, now, width), width))
    text.append_text(section(f"steps: {brief(found, now)}", _steps(found, now, width), width))
    if found.error:
        text.append_text(section("error", _error(found.error), width))
    if found.version:
        text.append_text(facts((("version", found.version),)).append("\n"))
    return text.append_text(_log(lines, LOG, width))


def job_card(
    found: Job,
    progress: Progress | None,
    lines: Sequence[str],
    now: float,
    width: int,
    stream: Stream | None = None,
) -> Text:
    """A job in full; that of a stream with how the stream stands."""
    cause = f"because of {found.cause}" if found.cause else f"by {found.actor}"
    words = f"{found.id} · {cause} · {clock(found.created, now)}"
    text = title(f"{found.kind} {found.subject}", [state(found.state)], words, width)
    if stream is not None:
        text.append_text(section(stream.id, stream_lines(stream, width), width))
    else:
        text.append_text(_progress(progress, width))
    ended = age(found.ended - (found.started or found.created)) if found.ended else "-"
    text.append_text(facts((("took", ended), ("process", found.pid or "-")))).append("\n")
    rows = [
        (name.replace("_", " "), _figure(name, value))
        for name, value in sorted((found.result or {}).items())
        if isinstance(value, str | int | float)
    ]
    text.append_text(section("result", facts(rows, 20, width) if rows else muted("none\n"), width))
    if found.error:
        text.append_text(section("error", _error(found.error), width))
    return text.append_text(_log(lines, LOG, width))


def step_card(
    run: PipelineRun, step: Step, progress: Progress | None, lines: Sequence[str], now: float, width: int, height: int
) -> Text:
    """One step of a run: what it asks or found, what it wrote, what it left. Of one that runs or went wrong the log
    stands first, as much of it as there is room for; of others what they found."""
    text = title(step.name, [state(step.state)], _in_a_line(step, now), width)
    if step.state == "RUNNING":
        text.append_text(_progress(progress, width))
    if step.state == "ASKING":
        text.append_text(section("asks", _question(step, now, width), width))
    elif step.words:
        text.append_text(_folded(step.words, width)).append("\n")
    if "evidence" in step.figures:
        text.append_text(section("evidence", _evidence(step, width), width))
    went_wrong = step.state in ("FAILED", "LOST")
    if run.error and went_wrong and run.error != step.words:
        text.append_text(section("error", _error(run.error), width))
    if went_wrong or step.state == "RUNNING":
        text.append_text(_log(lines, max(SHORT, height - text.plain.count("\n") - 2), width))
        return text.append_text(_left(step, width))
    return text.append_text(_left(step, width)).append_text(_log(lines, LOG, width))


def _in_a_line(step: Step, now: float) -> str:
    """Its kind, what it is behind, how often and how long."""
    words = [step.uses or step.name, f"after {', '.join(step.after)}" if step.after else "first"]
    words += [f"{step.attempts} tries" if step.attempts > 1 else "1 try"] if step.attempts else []
    words += [took(step, now)] if spent(step, now) is not None else []
    words += [FROM[step.how]] if step.how else []
    return " · ".join(words)


def _left(step: Step, width: int) -> Text:
    """Figures, files, and the key that they are kept under."""
    text = Text()
    figures = list(_flat(step.figures))[:FIGURES] if "evidence" not in step.figures else []
    if figures:
        text.append_text(section("figures", facts(figures, min(30, width // 2), width), width))
    if step.outputs:
        left = [(name, digest[:16]) for name, digest in step.outputs.items()]
        text.append_text(section("files it left", facts(left, min(40, width - 20), width), width))
    if step.key:
        text.append_text(section("key", _folded(step.key, width), width))
    return text


FROM = {"cached": "cached: an earlier run's", "reused": "reused: from before it was gone on with"}


def asks(run: PipelineRun) -> Step | None:
    """The step that asks a person, while the run waits for it."""
    return next((step for step in run.steps if step.state == "ASKING"), None) if run.state == "WAITING" else None


def brief(run: PipelineRun, now: float) -> str:
    """How far it is in words: steps done, how many of them were cached or reused, tries beyond the first, time."""
    over = sum(step.state in OVER for step in run.steps)
    words = [f"{over} of {len(run.steps)} done"]
    words += [f"{count} {how}" for how in FROM if (count := sum(step.how == how for step in run.steps))]
    again = sum(max(0, step.attempts - 1) for step in run.steps)
    words += [f"{again} tried again"] if again else []
    return ", ".join([*words, age(sum(spent(step, now) or 0.0 for step in run.steps if step.uses != "approve"))])


def spent(step: Step, now: float) -> float | None:
    """Seconds that a step took, or takes so far; none where its outputs are from another time, or a person thinks."""
    if step.started is None or step.how or (step.ended is None and step.state != "RUNNING"):
        return None
    return (step.ended or now) - step.started


def took(step: Step, now: float) -> str:
    """How long a step took, or takes so far; a dash where its outputs are from another time."""
    seconds = spent(step, now)
    return "-" if seconds is None else age(seconds)


def how(step: Step) -> str:
    """Where its outputs are from, else how often it was tried where that is more than once."""
    return step.how or (f"{step.attempts} tries" if step.attempts > 1 else "")


def named(run: PipelineRun) -> dict[str, Text]:
    """Step -> its name behind its node in the graph; the glyph of the node is that of its state."""
    lanes = gutters({step.name: step.after for step in run.steps})
    found = {}
    for step in run.steps:
        before, behind = lanes[step.name]
        text = Text.assemble((before, MUTED), glyph(step.state), (f"{behind} ", MUTED), safe(step.name))
        text.no_wrap = True
        found[step.name] = text
    return found


def _steps(run: PipelineRun, now: float, width: int) -> Text:
    names = named(run)
    longest = min(max((name.cell_len for name in names.values()), default=8), max(12, width // 3))
    rows = []
    for step in run.steps:
        words = {"": step.words, "cached": step.words.removeprefix(CACHED).removeprefix("; ")}.get(step.how, "")
        rows.append(
            (names[step.name], safe(step.state, style=MUTED), safe(how(step)), right(took(step, now)), safe(words, 400))
        )
    hows = max((len(how(step)) for step in run.steps), default=0)
    fixed = (longest, 7, hows, 6)
    return grid(rows, (*fixed, max(6, width - sum(fixed) - 8))) if rows else muted("none\n")


def _question(step: Step, now: float, width: int) -> Text:
    """What a person is asked, till when, and what there is to go by."""
    text = _folded(step.words or "may it go on?", width)
    until = step.figures.get("until")
    return text.append_text(
        muted(f"until {clock(until, now) if isinstance(until, int | float) else '-'} · a yes · R no\n")
    )


def _evidence(step: Step, width: int) -> Text:
    """What there is to go by: figures of the steps before, hashes of their files."""
    rows = list(_flat(step.figures.get("evidence", {})))[:FIGURES]
    rows += [(name, digest[:16]) for name, digest in list(step.figures.get("files", {}).items())[:FIGURES]]
    return facts(rows, min(30, width // 2), width) if rows else muted("nothing\n")


def _flat(figures: Any, before: str = "") -> Iterator[tuple[str, object]]:
    """Figures within figures as `evaluate.accuracy`, each as people read it."""
    for name, value in figures.items() if isinstance(figures, dict) else ():
        if isinstance(value, dict):
            yield from _flat(value, f"{before}{name}.")
        else:
            yield f"{before}{name}", _figure(name, value)


def _figure(name: str, value: Any) -> object:
    if name in MICROSECONDS and isinstance(value, int):
        return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(value / 1e6))
    if isinstance(value, list):
        return ", ".join(str(_figure("", each)) for each in value)
    return f"{value:.4g}" if isinstance(value, float) else value


def _progress(progress: Progress | None, width: int) -> Text:
    if progress is None:
        return Text()
    done = bar(progress.fraction, 24).append(" ") if progress.fraction is not None else Text(no_wrap=True)
    return fit(done.append_text(safe(f"{progress.step} {progress.words}")), width).append("\n\n")


def _folded(words: str, width: int) -> Text:
    return Text("\n").join(folded(safe(words), width)).append("\n")


def _error(words: str) -> Text:
    return Text("\n").join(safe(line) for line in words[-1500:].splitlines())


def _log(lines: Sequence[str], most: int, width: int) -> Text:
    shown = lines[-most:]
    tail = Text("\n").join(fit(safe(line, 400), width) for line in shown) if shown else muted("it said nothing\n")
    return section("log, its last lines", tail, width)
