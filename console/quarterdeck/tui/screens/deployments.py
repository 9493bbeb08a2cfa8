"""Deployments: who answers, what is on trial and why it holds, live latency and errors, rollback."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import ClassVar

from rich.text import Text
from textual import work
from textual.binding import Binding, BindingType

from quarterdeck.tui.screens.deployment_cards import Shown, deployment_card
from quarterdeck.tui.screens.disagreements import DisagreementsScreen
from quarterdeck.tui.screens.noun import NounScreen
from quarterdeck.tui.screens.remote_rows import There, remote_rows, there_card, there_cells
from quarterdeck.tui.screens.replay_cards import drill_words
from quarterdeck.tui.widgets.card_view import CardView, Drawing
from quarterdeck.tui.widgets.drawing import ago, number, right, safe, state
from quarterdeck.tui.widgets.latency_chart import Look
from quarterdeck.tui.widgets.record_table import Column
from quarterdeck.tui.widgets.trial_lines import kind
from quarterdeck.wording import command_text
from quarterstore.records.base import Pulse
from quarterstore.records.deployments import (
    CanaryReading,
    Deployment,
    LatencySummary,
    ListDeployments,
    RollBack,
    ShowDeployment,
    ShowTraffic,
)
from quarterstore.records.drills import Drill, ListDrills
from quarterstore.records.faults import Fault, NotFound
from quarterstore.records.remotes import RemoteReading
from quarterstore.records.trials import ListTrials, ReportShadow, ShadowReport, ShowTrial, Trial, TrialReading

REPORTED_EVERY = 10.0
"""Seconds between two reports of a shadow: each reads what is kept of it."""


class DeploymentsScreen(NounScreen):
    """Every endpoint, ours first, then those of remotes."""

    name_of_screen = "deployments"
    nouns = frozenset({"deployments", "registry", "remotes", "trials", "drills"})
    pulses = (CanaryReading, LatencySummary, RemoteReading, TrialReading)
    empty = "nothing is deployed\n\nqd deploy MODEL@VERSION"
    columns = (
        Column("endpoint", 10, flex=2),
        Column("state", 11),
        Column("live", 10, flex=1),
        Column("candidate", 10, flex=1, drop=2),
        Column("share", 5, right=True, drop=1),
        Column("/s", 5, right=True, drop=4),
        Column("P95 ms", 6, right=True, drop=3),
        Column("errors", 6, right=True, drop=3),
        Column("since", 10, right=True, drop=5, value=lambda found: found.changed),
    )
    keys = (
        ("m", "the chart: P50, P95, P99, rate, errors"),
        ("w", "how far it reaches back: 2 min, 10 min, 1 h, 6 h, a day"),
        ("d", "what a shadow would have answered otherwise"),
        ("x", "roll back, after typing the endpoint's name"),
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("x", "roll_back", "roll back"),
        Binding("m", "measure", "measure"),
        Binding("w", "window", "window"),
        Binding("d", "disagreements", "disagreements", show=False),
    ]

    def __init__(self) -> None:
        super().__init__()
        self.trials: dict[str, Trial] = {}
        """What is tried, by endpoint."""
        self.drills: list[Drill] = []
        self.look = Look()
        self._reports: dict[str, tuple[float, ShadowReport | None]] = {}
        """When a shadow was reported on last, and how; by trial."""

    async def fetch(self) -> Sequence[tuple[str, Deployment | There]]:
        """Every endpoint, and what is tried there; those of remotes as they were last."""
        self.drills = await self.deck_app.deck.ask(ListDrills())
        self.trials = {found.endpoint: found for found in await self.deck_app.deck.ask(ListTrials())}
        ours = [(found.endpoint, found) for found in await self.deck_app.deck.ask(ListDeployments())]
        return [*ours, *await remote_rows(self.deck_app.deck)]

    def cells(self, record: Deployment | There, now: float) -> tuple[Text, ...]:
        """Live figures from the pulses."""
        if isinstance(record, There):
            return there_cells(record, now)
        kept = self.deck_app.snapshot.latency.get((record.endpoint, record.live or ""), ())
        latest = kept[-1] if kept and now - kept[-1].at < 3.0 else None
        canary, trial = record.canary, self.trials.get(record.endpoint)
        tried = ", ".join(trial.versions[1:]) if trial else record.pending or "-"
        share = f"{100 - trial.shares[0] if trial.kind != 'shadow' else trial.shares[1]:.0f} %" if trial else "-"
        return (
            safe(record.endpoint, 60),
            state(kind(trial) if trial else record.state),
            safe(record.live or "-", 60),
            safe(canary.candidate if canary else tried, 60),
            right(f"{canary.share} %" if canary else share),
            right(f"{latest.requests:,}" if latest else "-"),
            right(number(latest.p95, 3) if latest else "-"),
            right(f"{latest.errors:,}" if latest else "-", "bold red" if latest and latest.errors else ""),
            right(ago(record.changed, now)),
        )

    async def card(self, record: Deployment | There, now: float) -> Drawing:
        """Traffic, what is tried, then what every version did."""
        if isinstance(record, There):
            return there_card(record, now)
        ask = self.deck_app.deck.ask
        history = await ask(ShowTraffic(endpoint=record.endpoint, window=self.look.window))
        try:
            trial: Trial | None = await ask(ShowTrial(endpoint=record.endpoint))
        except NotFound:
            trial = None  # nothing was ever tried there
        drill = drill_words(self.drills, record.endpoint, now)
        shown = Shown(record, self.deck_app.snapshot, trial, history, self._report(trial, now), self.look, drill)
        return lambda width, height: deployment_card(shown, now, width, height)

    def _report(self, trial: Trial | None, now: float) -> ShadowReport | None:
        """The last report on a shadow; a newer one is asked for behind the drawing."""
        if trial is None or trial.kind != "shadow" or trial.state == "ADMITTING":
            return None
        at, report = self._reports.get(trial.id, (0.0, None))
        if now - at > REPORTED_EVERY and (trial.ended is None or report is None):
            self._reports[trial.id] = (now, report)
            self._ask_for_report(trial)
        return report

    @work(exclusive=True, group="report")
    async def _ask_for_report(self, trial: Trial) -> None:
        try:
            report = await self.deck_app.deck.ask(ReportShadow(endpoint=trial.endpoint))
        except Fault:
            return  # asked again with the next look; what the screen itself asks says the fault
        self._reports = {trial.id: (time.time(), report)}
        self.soon()

    def concerns(self, pulse: Pulse) -> bool:
        """Every endpoint is in the table."""
        return True

    def subject(self) -> tuple[str, str] | None:
        """The endpoint under the cursor."""
        found = self.selected()
        if isinstance(found, There):
            return found.name, found.command
        return (found.endpoint, command_text(ShowDeployment(endpoint=found.endpoint))) if found else None

    def action_measure(self) -> None:
        """Draw the next measure."""
        self.look = self.look.next_measure()
        self._draw_chart()

    def action_window(self) -> None:
        """Reach further back."""
        self.look = self.look.next_window()
        self._draw_chart()

    def _draw_chart(self) -> None:
        for card in self.app.screen.query(CardView):  # ours, or the one that has the whole screen
            card.reveal(" by version ")
        self.load()

    def action_disagreements(self) -> None:
        """Those of the shadow at the endpoint under the cursor."""
        found: Deployment | There | None = self.selected()
        if found is None or isinstance(found, There):
            return
        self.app.push_screen(DisagreementsScreen(found.endpoint))

    @work
    async def action_roll_back(self) -> None:
        """Confirmed by typing the endpoint's name: it moves live traffic."""
        found: Deployment | There | None = self.selected()
        if found is None:
            return
        if isinstance(found, There):
            await self._roll_back_there(found)
            return
        trial = self.trials.get(found.endpoint)
        if trial is not None:
            words = f"{trial.words()} ends, {found.live} answers everything"
        elif found.canary is not None:
            words = f"{found.canary.candidate} loses its {found.canary.share} %, {found.live} answers everything"
        elif found.previous:
            words = f"{found.live} is taken out, {found.previous[-1]} answers everything"
        else:
            self.notify("nothing is behind the live version to go back to", severity="warning")
            return
        act = RollBack(endpoint=found.endpoint, reason="from the console")
        body = safe(words, 400)
        body.append("\n\n")
        body.append_text(safe("$ " + command_text(act), 300, "grey62"))
        typed = await self.asked(
            f"roll back {found.endpoint}", body, f"type {found.endpoint} to do it", expected=found.endpoint
        )
        if typed is not None:
            await self.act(act, f"{found.endpoint} is rolled back")

    async def _roll_back_there(self, found: There) -> None:
        """Confirmed by typing the endpoint's name with that of its remote."""
        act = found.way_back
        body = safe(f"{found.endpoint.live or 'what answers'} is taken out there, the one before answers", 400)
        body.append("\n\n")
        body.append_text(safe("$ " + command_text(act), 300, "grey62"))
        typed = await self.asked(f"roll back {found.name}", body, f"type {found.name} to do it", expected=found.name)
        if typed is not None:
            await self.act(act, f"{found.name} shall be rolled back: qd remote changes {found.status.remote}")
