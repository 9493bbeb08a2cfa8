"""Deployments: who answers, what is on trial and why it holds, live latency and errors, rollback."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from rich.text import Text
from textual import work
from textual.binding import Binding, BindingType

from quarterdeck.tui.messages import PulseArrived
from quarterdeck.tui.screens.base import NounScreen, section
from quarterdeck.tui.widgets.drawing import bar, clock, facts, number, safe, state
from quarterdeck.tui.widgets.plot import Series, plot
from quarterdeck.tui.widgets.traffic_bar import ladder, traffic_bar
from quarterstore.records.deployments import Deployment, LatencySummary, ListDeployments, RollBack


class DeploymentsScreen(NounScreen):
    """Every endpoint."""

    name_of_screen = "deployments"
    nouns = frozenset({"deployments", "registry"})
    columns = ("endpoint", "state", "live", "candidate", "share", "p95 ms", "errors", "since")
    keys = (("x", "roll back, after confirmation"),)
    BINDINGS: ClassVar[list[BindingType]] = [Binding("x", "roll_back", "roll back")]

    async def fetch(self) -> Sequence[tuple[str, Deployment]]:
        """Every endpoint."""
        return [(found.endpoint, found) for found in await self.deck_app.deck.ask(ListDeployments())]

    def _latest(self, deployment: Deployment) -> LatencySummary | None:
        kept = self.deck_app.snapshot.latency.get((deployment.endpoint, deployment.live or ""), ())
        return kept[-1] if kept else None

    def cells(self, record: Deployment) -> tuple[Text | str, ...]:
        """Live figures from the pulses."""
        latest = self._latest(record)
        canary = record.canary
        return (
            safe(record.endpoint, 20),
            state(record.state),
            safe(record.live or "-", 20),
            safe(canary.candidate if canary else record.pending or "-", 20),
            f"{canary.share} %" if canary else "-",
            number(latest.p95, 3) if latest else "-",
            f"{latest.errors}/{latest.requests}" if latest else "-",
            clock(record.changed),
        )

    async def detail(self, record: Deployment) -> Text:
        """Traffic, canary, then the last two minutes as charts."""
        width = max(40, self.size.width // (2 if self.size.width >= 110 else 1) - 6)
        canary = record.canary
        text = traffic_bar(
            record.live, canary.candidate if canary else None, canary.share if canary else 0, min(40, width - 30)
        )
        text.append("\n\n")
        text.append_text(
            facts(
                (
                    ("endpoint", f"{record.endpoint}  (epoch {record.epoch})"),
                    ("state", state(record.state)),
                    ("asked by", record.asked_by),
                    ("approved by", record.approved_by or (canary.approved_by if canary else None) or "-"),
                    ("behind it", ", ".join(reversed(record.previous)) or "nothing to go back to"),
                    ("note", record.why or "-"),
                )
            )
        )
        if canary is not None:
            steps = ladder(canary.ladder, canary.step)
            if canary.judged is not None:
                judged = canary.judged
                steps.append("\n")
                steps.append_text(state(judged.verdict))
                steps.append_text(safe(f"  {judged.why}\n"))
                steps.append(
                    f"{bar(judged.have / max(1, judged.need), 24)} {judged.have:,} of {judged.need:,} requests\n"
                )
            text.append_text(section(f"canary of {canary.candidate}", steps))
        for version in [each for each in (record.live, canary.candidate if canary else None) if each]:
            kept = self.deck_app.snapshot.latency.get((record.endpoint, version), ())
            if not kept:
                continue
            seconds = [each.at - kept[-1].at for each in kept]
            chart = plot(
                [Series(f"P{q}", seconds, [getattr(each, f"p{q}") for each in kept]) for q in (50, 95, 99)],
                width,
                8,
                "s, in ms",
            )
            total = sum(each.requests for each in kept)
            errors = sum(each.errors for each in kept)
            chart.append(
                f"{total:,} requests, {errors:,} errors ({errors / total:.2%})\n" if total else "no requests\n"
            )
            text.append_text(section(f"latency of {safe(version).plain}, last {len(kept)} s", chart))
        return text

    def on_pulse_arrived(self, message: PulseArrived) -> None:
        """A second of latency: redraw, at most four times a second."""
        if isinstance(message.pulse, LatencySummary) and not self.paused and self._due is None:
            import asyncio

            self._due = asyncio.get_running_loop().call_later(0.25, self._load_due)

    def subject(self) -> tuple[str, str] | None:
        """The endpoint under the cursor."""
        found = self.selected()
        return (found.endpoint, f"qd deployments show --endpoint {found.endpoint}") if found else None

    @work
    async def action_roll_back(self) -> None:
        """Confirmed by typing the endpoint's name: it moves live traffic."""
        found: Deployment | None = self.selected()
        if found is None:
            return
        back = (
            f"{found.canary.candidate} loses its share"
            if found.canary
            else f"to {found.previous[-1] if found.previous else 'nothing'}"
        )
        body = Text(f"All traffic of {found.endpoint} goes back: {back}.\n\nqd rollback {found.endpoint}\n")
        typed = await self.asked(
            f"roll back {found.endpoint}", body, f"type {found.endpoint} to do it", expected=found.endpoint
        )
        if typed is not None:
            await self.act(
                RollBack(endpoint=found.endpoint, reason="from the console"), f"{found.endpoint} is rolled back"
            )
