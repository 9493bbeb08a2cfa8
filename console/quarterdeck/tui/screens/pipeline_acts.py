"""What can be done to a pipeline run from any screen that has one: answer what it asks, end it, go on with it."""

from __future__ import annotations

from typing import Any, ClassVar

from rich.text import Text
from textual import work
from textual.binding import Binding, BindingType

from quarterdeck.tui.screens.noun import NounScreen
from quarterdeck.tui.screens.pipeline_cards import asks
from quarterdeck.tui.screens.version_acts import command
from quarterdeck.tui.widgets.drawing import safe
from quarterstore.records.pipelines import ApproveStep, CancelPipeline, PipelineRun, RejectStep, ResumePipeline, Step

LOOK = 1.0
"""Seconds between two looks at the log of a run that goes on: what it writes is no event."""
LIVE = ("QUEUED", "RUNNING", "WAITING")


class RunActs(NounScreen):
    """The keys of a pipeline run; `target` says of which."""

    acts: ClassVar[tuple[tuple[str, str], ...]] = (
        ("a R", "a step that asks: yes, no"),
        ("x", "end the run"),
        ("c", "go on with one that failed, at the step that did"),
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("a", "approve", "approve"),
        Binding("R", "reject", "reject"),
        Binding("c", "resume", "go on"),
        Binding("x", "cancel", "cancel"),
    ]

    def target(self) -> PipelineRun | None:
        """The run that is acted on."""
        return None

    def on_mount(self) -> None:
        """Look at what is written as long as it is written."""
        self.set_interval(LOOK, self._look)

    def _look(self) -> None:
        screen = next(reversed(self.app.screen_stack), None)  # there is none while the console is being closed
        if screen is not None and (screen is self or getattr(screen, "origin", None) is self) and self.writes():
            screen.soon()

    def writes(self) -> bool:
        """Whether what is under the cursor may write to its log."""
        found = self.target()
        return found is not None and found.state == "RUNNING"

    @work
    async def action_approve(self) -> None:
        """Yes, with a note."""
        found, step = self._asking()
        if found is not None and step is not None:
            act = ApproveStep(pipeline_run=found.id, note="…")
            note = await self.asked(f"yes to {step.name}", _body(step, act), "note (may stay empty)", needed=False)
            if note is not None:
                await self.act(ApproveStep(pipeline_run=found.id, note=note), f"{found.pipeline} goes on")

    @work
    async def action_reject(self) -> None:
        """No; a reason is required."""
        found, step = self._asking()
        if found is not None and step is not None:
            act = RejectStep(pipeline_run=found.id, note="…")
            note = await self.asked(f"no to {step.name}", _body(step, act), "reason (required)")
            if note:
                await self.act(RejectStep(pipeline_run=found.id, note=note), f"{found.pipeline} ends there")

    @work
    async def action_cancel(self) -> None:
        """End it, with a reason."""
        found = self.target()
        if found is None or found.state not in LIVE:
            self.notify("no run that goes on is under the cursor", severity="warning")
            return
        act = CancelPipeline(pipeline_run=found.id, reason="…")
        reason = await self.asked(f"end {found.pipeline}", command(act), "reason (may stay empty)", needed=False)
        if reason is not None:
            await self.act(CancelPipeline(pipeline_run=found.id, reason=reason), f"{found.pipeline} is ended")

    @work
    async def action_resume(self) -> None:
        """Go on as it was: a mended file is read by `qd pipeline resume RUN` alone."""
        found = self.target()
        if found is None or found.state not in ("FAILED", "CANCELLED", "LOST"):
            self.notify("no run that ended badly is under the cursor", severity="warning")
            return
        words = "At the step that did not end well, with code and definition as they were; what was done is reused. "
        words += "With mended files: the same command without --as-it-was."
        body = Text("\n").join([safe(words), Text(), resuming(found)])
        if await self.asked(f"go on with {found.pipeline}", body, "enter goes on", needed=False) is not None:
            await self.act(ResumePipeline(pipeline_run=found.id), f"{found.pipeline} goes on")

    def _asking(self) -> tuple[PipelineRun | None, Step | None]:
        found = self.target()
        step = asks(found) if found is not None else None
        if step is None:
            self.notify("no step that asks is under the cursor", severity="warning")
        return found, step


def resuming(run: PipelineRun) -> Text:
    """The command that does the same as the key."""
    return command(ResumePipeline(pipeline_run=run.id))


def _body(step: Step, act: Any) -> Text:
    return Text("\n").join([safe(step.words or "may it go on?", 400), Text(), command(act)])
