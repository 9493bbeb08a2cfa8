"""Pipelines: runs with their steps, the log's tail, schedules."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import ClassVar

from rich.text import Text
from textual.binding import Binding, BindingType

from quarterdeck.tui.messages import PulseArrived
from quarterdeck.tui.screens.base import NounScreen, section
from quarterdeck.tui.widgets.drawing import age, bar, clock, facts, safe, safe_lines, state
from quarterstore.records.jobs import JobLog, Progress
from quarterstore.records.pipelines import ListPipelineRuns, PipelineRun
from quarterstore.records.schedules import ListSchedules


class PipelinesScreen(NounScreen):
    """Pipeline runs, the newest first."""

    name_of_screen = "pipelines"
    nouns = frozenset({"pipelines", "jobs", "schedules"})
    columns = ("run", "pipeline", "state", "step", "because of", "version", "asked")
    keys = (("enter", "steps, log and schedules"),)
    BINDINGS: ClassVar[list[BindingType]] = [Binding("l", "log", "log")]

    async def fetch(self) -> Sequence[tuple[str, PipelineRun]]:
        """The newest 200."""
        return [(run.id, run) for run in await self.deck_app.deck.ask(ListPipelineRuns(limit=200))]

    def cells(self, record: PipelineRun) -> tuple[Text | str, ...]:
        """Where it is now."""
        running = next((step.name for step in record.steps if step.state == "RUNNING"), "")
        done = sum(step.state == "DONE" for step in record.steps)
        return (
            safe(record.id[-8:]),
            safe(record.pipeline, 22),
            state(record.state),
            safe(running or f"{done} of {len(record.steps)}"),
            safe(record.cause or record.actor, 20),
            safe(record.version or "-", 18),
            clock(record.created),
        )

    async def detail(self, record: PipelineRun) -> Text:
        """Each step with what it found; the last lines of the log; the schedules."""
        steps = Text()
        for step in record.steps:
            took = age(step.ended - step.started) if step.ended and step.started else ""
            steps.append_text(state(step.state))
            steps.append(f"  {step.name:<9} {took:>6}  ")
            steps.append_text(safe(step.words, 400))
            steps.append("\n")
        text = facts((("run", record.id), ("job", record.job), ("because of", record.cause or record.actor)))
        progress = self.deck_app.snapshot.progress.get(record.job)
        if progress is not None and record.state == "RUNNING":
            text.append_text(safe(f"{bar(progress.fraction or 0, 24)} {progress.step} {progress.words}\n"))
        text.append_text(section("steps", steps))
        if record.error:
            text.append_text(section("error", safe(record.error)))
        lines = await self.deck_app.deck.ask(JobLog(job=record.job, lines=8))
        if lines:
            text.append_text(section("log, its last lines", safe_lines(lines)))
        schedules = await self.deck_app.deck.ask(ListSchedules())
        rows = [
            (
                each.name,
                f"{each.cron or f'every {each.every:g} s'} {each.zone}, "
                + ("paused" if each.paused else f"next in {age(max(0, (each.next or 0) - time.time()))}")
                + f", fired {each.fired}, missed {each.missed_count}"
                + (f", {each.last_error}" if each.last_error else ""),
            )
            for each in schedules
        ]
        text.append_text(section("schedules", facts(rows) if rows else Text("none\n", style="grey62")))
        return text

    def on_pulse_arrived(self, message: PulseArrived) -> None:
        """Progress of a job: redraw, at most four times a second."""
        if isinstance(message.pulse, Progress) and not self.paused and self._due is None:
            import asyncio

            self._due = asyncio.get_running_loop().call_later(0.25, self._load_due)

    def subject(self) -> tuple[str, str] | None:
        """The run under the cursor."""
        run = self.selected()
        return (run.id, f"qd pipelines show --pipeline-run {run.id}") if run else None

    def action_log(self) -> None:
        """The detail has the log."""
        run = self.selected()
        if run is not None:
            self.open(run)
