"""One pipeline run, step by step: the graph beside what each step found, left and wrote."""

from __future__ import annotations

import time
from collections.abc import Sequence

from rich.text import Text
from textual.app import ComposeResult

from quarterdeck.tui.screens.pipeline_acts import RunActs
from quarterdeck.tui.screens.pipeline_cards import asks, brief, named, step_card, took
from quarterdeck.tui.widgets.card_view import Drawing
from quarterdeck.tui.widgets.drawing import right, safe, state
from quarterdeck.tui.widgets.frame import Line
from quarterdeck.tui.widgets.record_table import Column, RecordTable
from quarterdeck.wording import command_text
from quarterstore.records.jobs import Progress
from quarterstore.records.pipelines import PipelineLog, PipelineRun, ShowPipelineRun, Step

TAIL = 200
"""Lines of a log that are asked for."""
FIRST = ("ASKING", "FAILED", "LOST", "RUNNING")
"""On which step the cursor stands at first: what asks, else what went wrong, else what runs."""


class RunLine(Line):
    """How the run stands, on one line."""

    def __init__(self) -> None:
        super().__init__()
        self._text = Text()

    def tell(self, text: Text) -> None:
        """Another state."""
        self._text = text
        self.refresh()

    def line(self, width: int) -> Text:
        """State, how far, and what is needed of a person."""
        return self._text


class PipelineRunScreen(RunActs):
    """The steps of a run in the order that they can run in."""

    name_of_screen = "pipelines"
    nouns = frozenset({"pipelines"})
    pulses = (Progress,)
    empty = "it has no steps"
    columns = (
        Column("step", 12, flex=3),
        Column("state", 9),
        Column("from", 7, drop=2),
        Column("tries", 5, right=True, drop=4, value=lambda found: found.attempts or None),
        Column("took", 7, right=True, drop=1),
        Column("found", 12, flex=5, drop=3),
    )
    keys = (("enter", "the step with the whole screen: figures, files, log"), *RunActs.acts)

    def __init__(self, run: PipelineRun) -> None:
        super().__init__()
        self._run = run
        self._names: dict[str, Text] = {}
        self._placed = False

    def crumbs(self) -> tuple[str, ...]:
        """The pipeline and the run."""
        return ("pipelines", self._run.pipeline, self._run.id)

    def body(self) -> ComposeResult:
        """How it stands, then the steps."""
        yield RunLine()
        yield from super().body()

    async def fetch(self) -> Sequence[tuple[str, Step]]:
        """The steps as they stand now."""
        self._run = await self.deck_app.deck.ask(ShowPipelineRun(pipeline_run=self._run.id))
        self._names = named(self._run)
        self.query_one(RunLine).tell(_line(self._run, time.time()))
        return [(step.name, step) for step in self._run.steps]

    async def fill(self) -> None:
        """At first the cursor goes to the step that matters most."""
        await super().fill()
        if not self._placed and self._run.steps:
            self._placed = True
            states = [step.state for step in self._run.steps]
            place = next((states.index(each) for each in FIRST if each in states), 0)
            self.query_one(RecordTable).move_cursor(row=place)

    def cells(self, record: Step, now: float) -> tuple[Text, ...]:
        """A step on a line; where rows are left out or moved the lanes of the graph mean nothing."""
        whole = self.sorted_by < 0 and not self.text
        return (
            self._names[record.name] if whole else safe(record.name),
            state(record.state),
            safe(record.how or "-"),
            right(f"{record.attempts}" if record.attempts else "-", "yellow" if record.attempts > 1 else ""),
            right(took(record, now)),
            safe(record.words, 300),
        )

    async def card(self, record: Step, now: float) -> Drawing:
        """The step with the end of its log."""
        run = self._run
        lines = await self.deck_app.deck.ask(PipelineLog(pipeline_run=run.id, step=record.name, lines=TAIL))
        progress = self.deck_app.snapshot.progress.get(run.job)
        mine = progress if progress is not None and progress.step == record.name else None
        return lambda width, height: step_card(run, record, mine, lines, now, width, height)

    def concerns(self, pulse: object) -> bool:
        """Progress of this run."""
        return isinstance(pulse, Progress) and pulse.job == self._run.job

    def target(self) -> PipelineRun:
        """The run, wherever the cursor is."""
        return self._run

    def subject(self) -> tuple[str, str] | None:
        """The log of the step under the cursor."""
        found = self.selected()
        if found is None:
            return self._run.id, command_text(ShowPipelineRun(pipeline_run=self._run.id))
        return self._run.id, command_text(PipelineLog(pipeline_run=self._run.id, step=found.name))


def _line(run: PipelineRun, now: float) -> Text:
    text = Text.assemble(state(run.state), "  ", safe(brief(run, now)), no_wrap=True)
    step = asks(run)
    if step is not None:
        text.append("  a yes · R no", style="bold yellow").append("  ").append_text(safe(step.words, 200))
    elif run.version:
        text.append("  ").append_text(safe(run.version, 60, "bold"))
    elif run.error:
        text.append("  ").append_text(safe(run.error.strip().rpartition("\n")[2], 300))
    return text
