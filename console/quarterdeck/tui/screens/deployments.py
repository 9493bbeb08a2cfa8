"""Deployments: who answers, what is on trial and why it holds, live latency and errors, rollback."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from rich.text import Text
from textual import work
from textual.binding import Binding, BindingType

from quarterdeck.tui.screens.noun import NounScreen
from quarterdeck.tui.screens.remote_rows import There, remote_rows, there_card, there_cells
from quarterdeck.tui.screens.replay_cards import drill_words
from quarterdeck.tui.snapshot import Snapshot, judged
from quarterdeck.tui.widgets.card_view import Drawing
from quarterdeck.tui.widgets.drawing import age, ago, beside, facts, muted, number, right, safe, section, state, title
from quarterdeck.tui.widgets.latency_chart import error_chart, latency_chart
from quarterdeck.tui.widgets.record_table import Column
from quarterdeck.tui.widgets.traffic_bar import canary_lines, traffic_bar
from quarterdeck.tui.widgets.trial_lines import kind, trial_lines
from quarterdeck.wording import command_text
from quarterstore.records.base import Pulse
from quarterstore.records.deployments import (
    CanaryReading,
    Deployment,
    LatencySummary,
    ListDeployments,
    RollBack,
    ShowDeployment,
)
from quarterstore.records.drills import Drill, ListDrills
from quarterstore.records.remotes import RemoteReading
from quarterstore.records.trials import ListTrials, Trial, TrialReading


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
    keys = (("x", "roll back, after typing the endpoint's name"),)
    BINDINGS: ClassVar[list[BindingType]] = [Binding("x", "roll_back", "roll back")]

    def __init__(self) -> None:
        super().__init__()
        self.trials: dict[str, Trial] = {}
        """What is tried, by endpoint."""
        self.drills: list[Drill] = []

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
        """Traffic, canary, then the last two minutes as charts."""
        if isinstance(record, There):
            return there_card(record, now)
        snapshot, trial = self.deck_app.snapshot, self.trials.get(record.endpoint)
        drill = drill_words(self.drills, record.endpoint, now)

        def drawn(width: int, height: int) -> Text:
            card = deployment_card(record, trial, snapshot, now, width, height)
            return card.append_text(facts((("rollback", drill),), room=width))

        return drawn

    def concerns(self, pulse: Pulse) -> bool:
        """Every endpoint is in the table."""
        return True

    def subject(self) -> tuple[str, str] | None:
        """The endpoint under the cursor."""
        found = self.selected()
        if isinstance(found, There):
            return found.name, found.command
        return (found.endpoint, command_text(ShowDeployment(endpoint=found.endpoint))) if found else None

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


def _beside(found: Deployment, trial: Trial | None) -> tuple[str | None, int]:
    """Who answers beside the live version, and how much of the traffic that is."""
    if found.canary is not None:
        return found.canary.candidate, found.canary.share
    if trial is not None and trial.state == "RUNNING" and trial.kind != "shadow":
        return ", ".join(trial.versions[1:]), round(100 - trial.shares[0])
    return None, 0


def deployment_card(
    found: Deployment, trial: Trial | None, snapshot: Snapshot, now: float, width: int, height: int
) -> Text:
    """An endpoint in full."""
    canary = found.canary
    text = title(found.endpoint, [state(found.state)], f"epoch {found.epoch} · {ago(found.changed, now)}", width)
    text.append_text(traffic_bar(found.live, *_beside(found, trial), width))
    text.append("\n")
    if trial is not None:
        lines = trial_lines(trial, snapshot.trials.get(trial.id), width)
        text.append_text(section(f"{trial.words()}, for {age(now - trial.since)}", lines, width))
    if canary is not None:
        text.append_text(
            section(f"canary of {canary.candidate}", canary_lines(canary, judged(snapshot, found), width), width)
        )
    tried = trial.versions[1:] if trial else ()
    arms = [version for version in (found.live, canary.candidate if canary else None, *tried) if version]
    kept = [(version, snapshot.latency.get((found.endpoint, version), ())) for version in arms]
    heard = [(version, readings) for version, readings in kept if any(each.requests for each in readings)]
    tall = max(4, min(10, (height - 16) // 2))
    for version, readings in heard:
        chart = latency_chart(readings, width, tall)
        text.append_text(section(f"latency of {version}", chart, width))
    if heard:
        total = sum(each.requests for _, readings in heard for each in readings)
        errors = sum(each.errors for _, readings in heard for each in readings)
        rate = f"{errors:,} of {total:,} failed, {errors / total:.2%}" if total else "nobody asked"
        if wrong := max(readings[-1].total_refused for _, readings in heard):
            rate += f"; {wrong:,} wrong requests refused"
        if shed := max(readings[-1].total_shed for _, readings in heard):
            rate += f"; {shed:,} turned away for want of room"
        text.append_text(section(f"error rate: {rate}", error_chart(heard, width, max(3, tall // 2)), width))
    else:
        text.append_text(section("latency", muted("no request was heard of since this console opened\n"), width))
    approved = found.approved_by or (canary.approved_by if canary else None)
    people = facts(
        (("asked by", found.asked_by), ("approved by", approved or "nobody had to"), ("note", found.why or "-"))
    )
    behind = ", ".join(reversed(found.previous)) or "nothing to go back to"
    things = facts((("model", found.model), ("environment", found.environment), ("behind it", behind)))
    text.append_text(beside(people, things, width))
    return text
