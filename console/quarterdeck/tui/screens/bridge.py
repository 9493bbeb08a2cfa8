"""The bridge: what runs, what serves, what burns, on one screen."""

from __future__ import annotations

import time
from typing import Any

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.widgets import Static

from quarterdeck.tui.messages import PulseArrived
from quarterdeck.tui.screens.base import DeckScreen
from quarterdeck.tui.widgets.drawing import age, bar, number, safe, size, state
from quarterdeck.tui.widgets.traffic_bar import traffic_bar
from quarterstore.records.deployments import ListDeployments
from quarterstore.records.governance import ListApprovals
from quarterstore.records.jobs import ListJobs
from quarterstore.records.monitoring import ListAlerts
from quarterstore.records.runs import ListRuns
from quarterstore.records.store import ShowStatus


class BridgeScreen(DeckScreen):
    """Four panels and the daemon's own line."""

    name_of_screen = "bridge"

    def body(self) -> ComposeResult:
        """Runs and serves above, burns and the daemon below."""
        with Vertical(id="body"):
            for pair in (("runs", "serves"), ("burns", "daemon")):
                with Horizontal():
                    for name in pair:
                        panel = Static(Text("…", style="grey62"), id=name, classes="panel")
                        panel.border_title = {
                            "runs": "what runs",
                            "serves": "what serves",
                            "burns": "what burns",
                            "daemon": "the daemon",
                        }[name]
                        yield panel

    async def fill(self) -> None:
        """Every panel anew."""
        ask = self.deck_app.deck.ask
        self._show("runs", _running(await ask(ListJobs(limit=8)), await ask(ListRuns(limit=6)), self.deck_app.snapshot))
        self._show("serves", self._serving(await ask(ListDeployments())))
        self._show("burns", _burning(await ask(ListAlerts()), await ask(ListApprovals())))
        self._show("daemon", _daemon(await ask(ShowStatus())))

    def _show(self, panel: str, text: Text) -> None:
        self.query_one(f"#{panel}", Static).update(text)

    def _serving(self, found: list[Any]) -> Text:
        text = Text()
        width = max(8, self.size.width // 2 - 44)
        for each in found:
            canary = each.canary
            text.append_text(state(each.state))
            text.append_text(safe(f" {each.endpoint}\n", 40))
            text.append_text(
                traffic_bar(each.live, canary.candidate if canary else None, canary.share if canary else 0, width)
            )
            text.append("\n")
            if canary is not None and canary.judged is not None:
                text.append_text(state(canary.judged.verdict))
                text.append_text(safe(f" {canary.judged.why}\n", 100))
            kept = self.deck_app.snapshot.latency.get((each.endpoint, each.live or ""), ())
            if kept:
                last = kept[-1]
                text.append(
                    f"{last.requests}/s  P50 {number(last.p50, 3)}  P95 {number(last.p95, 3)}  P99 {number(last.p99, 3)} ms  errors {last.errors}\n",
                    style="grey62",
                )
        return text if found else Text("nothing is deployed\nqd deploy MODEL@VERSION", style="grey62")

    def on_pulse_arrived(self, message: PulseArrived) -> None:
        """Redraw, at most four times a second."""
        if not self.paused and self._due is None:
            import asyncio

            self._due = asyncio.get_running_loop().call_later(0.25, self._load_due)

    def subject(self) -> tuple[str, str] | None:
        """The daemon."""
        return "status", "qd status"


def _running(jobs: list[Any], page: Any, snapshot: Any) -> Text:
    text = Text()
    for job in jobs:
        if job.state in ("QUEUED", "RUNNING"):
            progress = snapshot.progress.get(job.id)
            text.append_text(state(job.state))
            text.append_text(safe(f" {job.kind} {job.subject}\n", 44))
            if progress is not None:
                text.append_text(safe(f"  {bar(progress.fraction or 0, 12)} {progress.step} {progress.words}\n", 60))
    if not text.plain:
        text.append("no job runs\n", style="grey62")
    text.append("\nlast runs\n", style="bold")
    for run in page.runs:
        text.append_text(state(run.state))
        text.append_text(safe(f" {run.experiment} {run.name}  {age(max(0, time.time() - run.started))} ago\n", 60))
    return text


def _burning(alerts: list[Any], approvals: list[Any]) -> Text:
    text = Text()
    for alert in alerts[:6]:
        text.append_text(state(alert.severity))
        text.append_text(safe(f" {alert.kind}: {alert.words}\n", 120))
    for approval in approvals[:6]:
        text.append_text(state("WAITING"))
        text.append_text(safe(f" {approval.asked_by} asks to {approval.words}\n", 100))
    return text if text.plain else Text("✓ nothing burns, nobody waits", style="green")


def _daemon(status: Any) -> Text:
    text = Text()
    rows = (
        ("home", status.home),
        ("profile", status.profile),
        ("up for", age(max(0, time.time() - status.started))),
        ("journal", f"entry {status.seq:,}, posted {status.posted:,}"),
        ("serving", status.serving),
        ("disk", f"{size(status.disk_free)} free"),
        ("store", status.read_only or "read and write"),
        ("recovered", status.recovered or "nothing had to be"),
    )
    for name, value in rows:
        text.append(f"{name:<10} ", style="grey62")
        text.append_text(safe(value, 70))
        text.append("\n")
    return text
