"""Pipelines: runs with their steps, jobs, the log's tail, schedules."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from rich.text import Text
from textual.binding import Binding, BindingType

from quarterdeck.tui.screens.noun import NounScreen
from quarterdeck.tui.widgets.card_view import Drawing
from quarterdeck.tui.widgets.drawing import (
    age,
    ago,
    bar,
    clock,
    facts,
    fit,
    glyph,
    grid,
    muted,
    right,
    safe,
    section,
    state,
    title,
)
from quarterdeck.tui.widgets.record_table import Column
from quarterdeck.tui.widgets.stream_lines import stream_lines
from quarterdeck.wording import command_text
from quarterstore.records.jobs import Job, JobLog, ListJobs, Progress, ShowJob
from quarterstore.records.pipelines import ListPipelineRuns, PipelineRun, ShowPipelineRun
from quarterstore.records.schedules import ListSchedules, Schedule, when_words
from quarterstore.records.streams import ListStreams, ShowStream, Stream

LOG = 12
"""Lines of a log's tail."""


class PipelinesScreen(NounScreen):
    """Pipeline runs and the jobs that belong to none, the newest first; schedules in every card."""

    name_of_screen = "pipelines"
    nouns = frozenset({"pipelines", "jobs", "schedules", "streams"})
    pulses = (Progress,)
    empty = "no pipeline ran yet\n\nqd train TABLE.csv --target COLUMN"
    columns = (
        Column("run", 8, drop=4),
        Column("what", 12, flex=3),
        Column("state", 11),
        Column("step", 10, flex=1),
        Column("because of", 10, flex=2, drop=2),
        Column("version", 8, flex=1, drop=1),
        Column("asked", 10, right=True, drop=3, value=lambda found: found.created),
    )
    keys = (("enter l", "steps, log and schedules"),)
    BINDINGS: ClassVar[list[BindingType]] = [Binding("l", "log", "log")]

    def __init__(self) -> None:
        super().__init__()
        self.streams: dict[str, Stream] = {}
        """Streams that run, by the job of each."""

    async def fetch(self) -> Sequence[tuple[str, PipelineRun | Job]]:
        """Pipeline runs and other jobs."""
        ask = self.deck_app.deck.ask
        self.streams = {found.job: found for found in await ask(ListStreams(live=True))}
        runs: list[PipelineRun] = await ask(ListPipelineRuns(limit=150))
        known = {run.job for run in runs}
        jobs = [job for job in await ask(ListJobs(limit=100)) if job.id not in known]
        found: list[PipelineRun | Job] = [*runs, *jobs]
        return [(each.id, each) for each in sorted(found, key=lambda each: -each.created)]

    def cells(self, record: PipelineRun | Job, now: float) -> tuple[Text, ...]:
        """Where it is now."""
        if isinstance(record, Job):
            stream = self.streams.get(record.id)
            step = f"{stream.counts.waiting:,} wait" if stream else "job"
            what, version = f"{record.kind} {record.subject}", "-"
        else:
            running = next((each.name for each in record.steps if each.state == "RUNNING"), "")
            done = sum(each.state in ("DONE", "SKIPPED") for each in record.steps)
            step = running or f"{done} of {len(record.steps)}"
            what, version = record.pipeline, record.version or "-"
        return (
            safe(record.id[-8:]),
            safe(what, 80),
            state(record.state),
            safe(step, 30),
            safe(record.cause or record.actor, 40),
            safe(version, 60),
            right(ago(record.created, now)),
        )

    async def card(self, record: PipelineRun | Job, now: float) -> Drawing:
        """Each step with what it found; the last lines of the log; the schedules."""
        ask = self.deck_app.deck.ask
        job = record.id if isinstance(record, Job) else record.job
        lines = await ask(JobLog(job=job, lines=LOG))
        schedules = await ask(ListSchedules())
        progress = self.deck_app.snapshot.progress.get(job) if record.state == "RUNNING" else None
        stream = self.streams.get(job)
        return lambda width, height: pipeline_card(record, progress, lines, schedules, now, width, stream)

    def subject(self) -> tuple[str, str] | None:
        """The run under the cursor."""
        found = self.selected()
        if found is None:
            return None
        asked: Any = ShowJob(job=found.id) if isinstance(found, Job) else ShowPipelineRun(pipeline_run=found.id)
        if found.id in self.streams:
            asked = ShowStream(stream=self.streams[found.id].id)
        return found.id, command_text(asked)

    def action_log(self) -> None:
        """The card has the log."""
        found = self.selected()
        if found is not None and self.is_current:
            self.open(found)


def pipeline_card(
    found: PipelineRun | Job,
    progress: Progress | None,
    lines: Sequence[str],
    schedules: Sequence[Schedule],
    now: float,
    width: int,
    stream: Stream | None = None,
) -> Text:
    """A pipeline run, or a job, in full; that of a stream with how the stream stands."""
    name = f"{found.kind} {found.subject}" if isinstance(found, Job) else found.pipeline
    cause = f"because of {found.cause}" if found.cause else f"by {found.actor}"
    text = title(name, [state(found.state)], f"{found.id} · {cause} · {clock(found.created, now)}", width)
    if stream is not None:
        text.append_text(section(stream.id, stream_lines(stream, width), width))
    elif progress is not None:
        done = bar(progress.fraction, 24).append(" ") if progress.fraction is not None else Text(no_wrap=True)
        done.append_text(safe(f"{progress.step} {progress.words}"))
        text.append_text(fit(done, width))
        text.append("\n\n")
    if isinstance(found, Job):
        ended = age(found.ended - (found.started or found.created)) if found.ended else "-"
        text.append_text(facts((("took", ended), ("process", found.pid or "-")))).append("\n")
        rows = [
            (key, value) for key, value in sorted((found.result or {}).items()) if isinstance(value, str | int | float)
        ]
        text.append_text(section("result", facts(rows, 20) if rows else muted("none\n"), width))
    else:
        text.append_text(section("steps", _steps(found, now, width), width))
    if found.error:
        last = Text("\n").join(safe(line) for line in found.error[-1500:].splitlines())
        text.append_text(section("error", last, width))
    tail = Text("\n").join(fit(safe(line, 400), width) for line in lines) if lines else muted("it said nothing\n")
    text.append_text(section("log, its last lines", tail, width))
    text.append_text(section("schedules", _schedules(schedules, now, width), width))
    return text


def _steps(run: PipelineRun, now: float, width: int) -> Text:
    rows = []
    for step in run.steps:
        took = age((step.ended or now) - step.started) if step.started else ""
        rows.append(
            (glyph(step.state), safe(step.name), safe(step.state, style="grey62"), right(took), safe(step.words, 400))
        )
    return grid(rows, (1, 10, 8, 7, max(10, width - 34)))


def _schedules(schedules: Sequence[Schedule], now: float, width: int) -> Text:
    if not schedules:
        return muted("none:  qd schedule add --help\n")
    rows = []
    for each in schedules:
        following = "paused" if each.paused else f"next {ago(each.next, now)}"
        missed = f", {each.missed_count} missed" if each.missed_count else ""
        words = f"{following}, fired {each.fired}{missed}" + (f", {each.last_error}" if each.last_error else "")
        rows.append(
            (
                state("paused" if each.paused else "on"),
                safe(each.name),
                safe(f"{when_words(each)} {each.zone}"),
                safe(words),
            )
        )
    return grid(rows, (8, 16, 18, max(10, width - 48)))
