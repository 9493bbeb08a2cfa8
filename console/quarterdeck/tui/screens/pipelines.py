"""Pipelines: runs with the graph of their steps, and the jobs that belong to none, with the log's tail."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from rich.text import Text
from textual.binding import Binding, BindingType

from quarterdeck.tui.screens.pipeline_acts import RunActs
from quarterdeck.tui.screens.pipeline_cards import LOG, asks, job_card, run_card
from quarterdeck.tui.screens.pipeline_run import PipelineRunScreen
from quarterdeck.tui.widgets.card_view import Drawing
from quarterdeck.tui.widgets.drawing import ago, right, safe, state
from quarterdeck.tui.widgets.record_table import Column
from quarterdeck.wording import command_text
from quarterstore.records.jobs import Job, JobLog, ListJobs, Progress, ShowJob
from quarterstore.records.pipelines import ListPipelineRuns, PipelineLog, PipelineRun, ShowPipelineRun
from quarterstore.records.streams import ListStreams, ShowStream, Stream
from quarterstore.records.studies import ListStudies


class PipelinesScreen(RunActs):
    """Pipeline runs and the jobs that belong to none, the newest first, above them what asks a person."""

    name_of_screen = "pipelines"
    nouns = frozenset({"pipelines", "jobs", "streams"})
    pulses = (Progress,)
    empty = "no pipeline ran yet\n\nqd quickstart TABLE.csv --target COLUMN\nqd pipeline run PIPELINE.toml"
    columns = (
        Column("run", 8, drop=4),
        Column("what", 12, flex=3),
        Column("state", 11),
        Column("step", 10, flex=1),
        Column("because of", 10, flex=2, drop=2),
        Column("version", 8, flex=1, drop=1),
        Column("asked", 10, right=True, drop=3, value=lambda found: found.created),
    )
    keys = (("enter l", "the run step by step, with the log of each; a job's card"), *RunActs.acts)
    BINDINGS: ClassVar[list[BindingType]] = [Binding("l", "log", "log", show=False)]

    def __init__(self) -> None:
        super().__init__()
        self.streams: dict[str, Stream] = {}
        """Streams that run, by the job of each."""
        self.names: dict[str, str] = {}
        """Studies by their id: a job knows that alone."""

    async def fetch(self) -> Sequence[tuple[str, PipelineRun | Job]]:
        """Pipeline runs and other jobs."""
        ask = self.deck_app.deck.ask
        self.streams = {found.job: found for found in await ask(ListStreams(live=True))}
        self.names = {found.id: found.name for found in await ask(ListStudies())}
        runs: list[PipelineRun] = await ask(ListPipelineRuns(limit=150))
        found: list[PipelineRun | Job] = [*runs, *of_no_run(await ask(ListJobs(limit=100)), runs)]
        return [(each.id, each) for each in sorted(found, key=lambda each: (each.state != "WAITING", -each.created))]

    def cells(self, record: PipelineRun | Job, now: float) -> tuple[Text, ...]:
        """Where it is now."""
        if isinstance(record, Job):
            stream = self.streams.get(record.id)
            step = f"{stream.counts.waiting:,} wait" if stream else "job"
            what, version = f"{record.kind} {self.names.get(record.subject, record.subject)}", "-"
        else:
            step, what, version = _where(record), record.pipeline, record.version or "-"
        return (
            safe(record.id[-8:]),
            safe(what, 80),
            state(record.state),
            safe(step, 40),
            safe(record.cause or record.actor, 40),
            safe(version, 60),
            right(ago(record.created, now)),
        )

    async def card(self, record: PipelineRun | Job, now: float) -> Drawing:
        """Each step with what it found; the last lines of the log."""
        ask = self.deck_app.deck.ask
        job = record.id if isinstance(record, Job) else record.job
        progress = self.deck_app.snapshot.progress.get(job) if record.state == "RUNNING" else None
        if isinstance(record, PipelineRun):
            run, lines = record, await ask(PipelineLog(pipeline_run=record.id, lines=LOG))
            return lambda width, height: run_card(run, progress, lines, now, width)
        lines = await ask(JobLog(job=job, lines=LOG))
        stream = self.streams.get(job)
        return lambda width, height: job_card(record, progress, lines, now, width, stream)

    def subject(self) -> tuple[str, str] | None:
        """The run under the cursor."""
        found = self.selected()
        if found is None:
            return None
        asked: Any = ShowJob(job=found.id) if isinstance(found, Job) else ShowPipelineRun(pipeline_run=found.id)
        if found.id in self.streams:
            asked = ShowStream(stream=self.streams[found.id].id)
        return found.id, command_text(asked)

    def target(self) -> PipelineRun | None:
        """The run under the cursor; a job is none."""
        found = self.selected()
        return found if isinstance(found, PipelineRun) else None

    def writes(self) -> bool:
        """A job's log grows too."""
        found = self.selected()
        return found is not None and found.state == "RUNNING"

    def open(self, record: Any) -> None:
        """A run step by step; a job's card with the whole screen to itself."""
        if isinstance(record, PipelineRun):
            self.app.push_screen(PipelineRunScreen(record))
        else:
            super().open(record)

    def action_log(self) -> None:
        """Where the logs are."""
        found = self.selected()
        if found is not None and self.is_current:
            self.open(found)


def of_no_run(jobs: Sequence[Job], runs: Sequence[PipelineRun]) -> list[Job]:
    """The jobs that stand for themselves: none of a run, nor one that a run had before it was gone on with."""
    known = {run.job for run in runs} | {step.job for run in runs for step in run.steps}
    ids = {run.id for run in runs}
    return [job for job in jobs if job.id not in known and not (job.kind == "pipeline" and job.subject in ids)]


def _where(run: PipelineRun) -> str:
    """What asks, else what went wrong or runs, else how many are done."""
    asking = asks(run)
    if asking is not None:
        return f"{asking.name} asks"
    told = [step.name for step in run.steps if step.state in ("RUNNING", "FAILED", "LOST")]
    done = sum(step.state in ("DONE", "SKIPPED") for step in run.steps)
    cached = sum(step.how == "cached" for step in run.steps)
    words = f"{done} of {len(run.steps)}" + (f", {cached} cached" if cached else "")
    return ", ".join(told) or words
