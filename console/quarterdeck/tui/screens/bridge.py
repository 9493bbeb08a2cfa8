"""The bridge: what runs, what serves, what burns, on one screen."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import ClassVar

from rich.console import Console
from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical

from quarterdeck.tui.screens.base import DeckScreen
from quarterdeck.tui.screens.pipeline_cards import asks
from quarterdeck.tui.snapshot import Snapshot, judged, worst_first
from quarterdeck.tui.widgets.canary_lines import canary_lines, ladder
from quarterdeck.tui.widgets.card_view import CardView, Drawing
from quarterdeck.tui.widgets.drawing import (
    age,
    ago,
    bar,
    facts,
    fit,
    glyph,
    grid,
    muted,
    number,
    right,
    safe,
    spark,
    state,
)
from quarterdeck.tui.widgets.traffic_bar import shares_of, traffic_bar
from quarterdeck.tui.widgets.trial_lines import kind, trial_brief
from quarterdeck.units import size
from quarterstore.records.deployments import CanaryReading, Deployment, LatencySummary, ListDeployments
from quarterstore.records.governance import Approval, ListApprovals
from quarterstore.records.jobs import Job, ListJobs, Progress
from quarterstore.records.monitoring import Alert, ListAlerts
from quarterstore.records.pipelines import ListPipelineRuns, PipelineRun
from quarterstore.records.runs import ListRuns, Run
from quarterstore.records.store import ShowStatus, Status
from quarterstore.records.studies import ListStudies
from quarterstore.records.trials import ListTrials, Trial, TrialReading

LISTED = 50
"""Pipeline runs that are looked through for what asks."""
BRIEF = 2
"""Lines of an endpoint in brief."""
_PLAIN = Console(width=200, color_system=None)
"""What lines are wrapped with to be counted."""
PANELS = (
    (("runs", "what runs", "runs"), ("serves", "what serves", "deployments")),
    (("burns", "what burns", "monitoring"), ("daemon", "the daemon", "governance")),
)
"""Panel, its title, the screen behind it."""


class Panel(CardView):
    """A part of the bridge; enter goes to the screen that has more of it."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("enter", "more", "open")]

    def __init__(self, name: str, title: str, target: str) -> None:
        super().__init__(focus=True, id=name, classes="panel")
        self.border_title = title
        self._target = target

    async def action_more(self) -> None:
        """Go there."""
        await self.app.run_action(f"go('{self._target}')")


class BridgeScreen(DeckScreen):
    """Four panels."""

    AUTO_FOCUS = "#runs"
    name_of_screen = "bridge"
    pulses = (CanaryReading, LatencySummary, Progress, TrialReading)
    keys = (("tab", "the next panel"), ("enter", "open the screen behind a panel"))

    def body(self) -> ComposeResult:
        """Runs and serves above, burns and the daemon below."""
        with Vertical(id="bridge"):
            for pair in PANELS:
                with Horizontal():
                    for name, title, target in pair:
                        yield Panel(name, title, target)

    async def fill(self) -> None:
        """Every panel anew."""
        ask = self.deck_app.deck.ask
        jobs = await ask(ListJobs(live=True, limit=20))
        runs = (await ask(ListRuns(limit=30))).runs
        deployments = await ask(ListDeployments())
        trials = {found.endpoint: found for found in await ask(ListTrials())}
        alerts, approvals = await ask(ListAlerts()), await ask(ListApprovals())
        flows: list[PipelineRun] = await ask(ListPipelineRuns(limit=LISTED))
        names = {found.job: found.pipeline for found in flows}
        names |= {found.job: found.name for found in await ask(ListStudies())}
        status = await ask(ShowStatus())
        now, snapshot = time.time(), self.deck_app.snapshot
        self._show("runs", running(jobs, names, runs, snapshot, now))
        self._show("serves", serving(deployments, trials, snapshot, now))
        self._show("burns", burning(alerts, approvals, flows, now))
        self._show("daemon", daemon(status, now))

    def shown_keys(self) -> list[tuple[str, str]]:
        """A panel opens the screen behind it."""
        return [("enter", "open"), ("tab", "next panel"), *super().shown_keys()]

    def _show(self, panel: str, drawing: Drawing) -> None:
        self.query_one(f"#{panel}", Panel).show(drawing)

    def subject(self) -> tuple[str, str] | None:
        """The daemon."""
        return "status", "qd status"


def running(jobs: Sequence[Job], names: dict[str, str], runs: Sequence[Run], snapshot: Snapshot, now: float) -> Drawing:
    """Jobs with their progress, then the newest runs, as many as there is room for; `names` are of what a job works at,
    by its id."""

    def draw(width: int, height: int) -> Text:
        text = Text()
        lines = 0
        for job in jobs[: max(1, height // 3)]:
            text.append_text(
                fit(Text.assemble(state(job.state), "  ", safe(f"{job.kind} {names.get(job.id, job.subject)}")), width)
            )
            text.append("\n")
            progress = snapshot.progress.get(job.id)
            if progress is not None:
                done = bar(progress.fraction, 12).append(" ") if progress.fraction is not None else ""
                text.append_text(fit(Text.assemble("  ", done, safe(f"{progress.step} {progress.words}")), width))
                text.append("\n")
            lines += 2
        if not jobs:
            text.append_text(muted("no job runs\n"))
            lines = 1
        room = height - lines - 1
        if room > 1 and runs:
            text.append("last runs\n", style="bold")
            rows = [_run(run, now) for run in runs[:room]]
            if width >= 60:
                text.append_text(grid(rows, (1, width - 34, 16, 10)))
            else:
                text.append_text(grid([(row[0], row[1], row[3]) for row in rows], (1, width - 15, 10)))
        elif not runs:
            text.append_text(muted('no run yet:  with deck.run("churn") as run: run.log(loss=0.1)\n'))
        return text

    return draw


def _run(run: Run, now: float) -> tuple[Text, ...]:
    name, value = next(iter(sorted(run.metrics.items())), ("", None))
    shown = f"{name} {number(value, 3)}" if name else ""
    named = run.name if run.name == run.experiment else f"{run.experiment} {run.name}"
    return glyph(run.state), safe(named, 80), safe(shown, 40), right(ago(run.started, now))


def serving(found: Sequence[Deployment], trials: dict[str, Trial], snapshot: Snapshot, now: float) -> Drawing:
    """Each endpoint: its traffic, what is tried there and how it stands, latency of the last seconds."""

    def draw(width: int, height: int) -> Text:
        if not found:
            return muted("nothing is deployed:  qd deploy MODEL@VERSION\n")
        blocks = [_endpoint(each, trials.get(each.endpoint), snapshot, now, width) for each in found]
        briefs = [_in_brief(each, trials.get(each.endpoint), snapshot, width) for each in found]
        lines = [len(block.wrap(_PLAIN, width)) for block in blocks]
        shown = list(briefs) if len(found) > 1 else blocks
        room = height - BRIEF * len(found)
        for index, block in enumerate(blocks):
            if lines[index] - BRIEF <= room:
                room -= lines[index] - BRIEF
                shown[index] = block
        return Text().join(shown)

    return draw


def _endpoint(each: Deployment, trial: Trial | None, snapshot: Snapshot, now: float, width: int) -> Text:
    canary = each.canary
    word = state(kind(trial) if trial else each.state)
    head = Text.assemble(safe(each.endpoint, 60, "bold"), "  ", word, "  ")
    text = fit(head + muted(f"since {age(now - each.changed)}"), width)
    text.append("\n")
    text.append_text(traffic_bar(shares_of(each, trial), width))
    if canary is not None:
        text.append_text(fit(ladder(canary.ladder, canary.step), width)).append("\n")
        text.append_text(canary_lines(judged(snapshot, each), width))
    if trial is not None:
        text.append_text(fit(safe(trial.words(), 200, "grey62"), width)).append("\n")
        text.append_text(trial_brief(trial, snapshot.trials.get(trial.id)))
    tried = (canary.candidate,) if canary else trial.versions[1:] if trial else ()
    for version in (each.live, *tried):
        kept = snapshot.latency.get((each.endpoint, version or ""), ())
        if version and kept:
            text.append_text(_latency(version, kept, width))
    return text.append("\n")


def _in_brief(each: Deployment, trial: Trial | None, snapshot: Snapshot, width: int) -> Text:
    """`BRIEF` lines, where there is no room for more of every endpoint: what is tried and its verdict, who answers."""
    verdict = judged(snapshot, each) if each.canary else trial.judged if trial else None
    head = Text.assemble(safe(each.endpoint, 60, "bold"), "  ", state(kind(trial) if trial else each.state))
    if verdict is not None:
        head.append("  ").append_text(state(verdict.verdict))
    text = fit(head, width).append("\n")
    shares = [f"{version} {share:.0f} %" for version, share in shares_of(each, trial)]
    shares += [f"shadow {trial.versions[1]}"] if trial and trial.kind == "shadow" else []
    return text.append_text(fit(safe("  " + " · ".join(shares), 300, "grey62"), width)).append("\n")


def _latency(version: str, kept: Sequence[LatencySummary], width: int) -> Text:
    last = kept[-1]
    words = f"{last.requests}/s  P50 {number(last.p50, 3)}  P95 {number(last.p95, 3)}  P99 {number(last.p99, 3)} ms"
    text = Text.assemble(safe(version, 24), f"  {words}")
    text.append(f"  {last.errors} errors", style="bold red" if last.errors else "grey62")
    room = width - text.cell_len - 2
    if room > 8:
        text.append("  " + spark([each.p95 for each in kept], min(room, 40)), style="cyan")
    text = fit(text, width)
    text.append("\n")
    return text


def burning(
    alerts: Sequence[Alert], approvals: Sequence[Approval], flows: Sequence[PipelineRun], now: float
) -> Drawing:
    """Open alerts, the gravest first, then approvals and steps of pipelines that wait for somebody."""

    def draw(width: int, height: int) -> Text:
        text = Text()
        for alert in worst_first(alerts):
            seen = f"  seen by {alert.acked_by}" if alert.acked_by else ""
            words = safe(f"{alert.kind} {alert.subject}  {ago(alert.opened, now)}{seen}", 120, "bold")
            text.append_text(fit(Text.assemble(state(alert.severity), "  ", words), width))
            text.append("\n")
            text.append_text(fit(Text.assemble("  ", safe(alert.words)), width))
            text.append("\n")
        for approval in approvals:
            words = safe(f"{approval.asked_by} asks to {approval.words}, {ago(approval.asked, now)}")
            text.append_text(fit(Text.assemble(state("WAITING"), "  ", words), width))
            text.append("\n")
        for flow in flows:
            step = asks(flow)
            if step is not None:
                words = safe(f"{flow.pipeline} asks at {step.name}: {step.words}")
                text.append_text(fit(Text.assemble(state("WAITING"), "  ", words), width))
                text.append("\n")
        return text if text.plain else Text("✓ nothing burns, nobody waits\n", style="green")

    return draw


def daemon(status: Status, now: float) -> Drawing:
    """The daemon's own state."""
    rows = (
        ("home", status.home),
        ("profile", status.profile),
        ("up for", age(now - status.started)),
        ("journal", f"entry {status.seq:,}, posted {status.posted:,}"),
        ("serving", status.serving),
        ("disk", f"{size(status.disk_free)} free"),
        ("store", status.read_only or "read and write"),
        ("recovered", status.recovered or "nothing had to be"),
    )
    return lambda width, height: facts([(name, fit(safe(value), width - 11)) for name, value in rows], 10)
