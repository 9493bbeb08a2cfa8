"""Monitoring: drift feature by feature, alerts and who looks after them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from rich.text import Text
from textual import work
from textual.binding import Binding, BindingType

from quarterdeck.tui.screens.base import NounScreen, section
from quarterdeck.tui.widgets.drawing import bar, clock, facts, number, safe, state
from quarterstore.records.monitoring import AckAlert, Alert, Drift, ListAlerts, ListDrift, ListReactions


class MonitoringScreen(NounScreen):
    """Open alerts first, then drift checks, the newest first."""

    name_of_screen = "monitoring"
    nouns = frozenset({"monitoring"})
    columns = ("kind", "subject", "verdict", "what", "when")
    keys = (("a", "look after an alert, with a note"),)
    BINDINGS: ClassVar[list[BindingType]] = [Binding("a", "ack", "acknowledge")]

    async def fetch(self) -> Sequence[tuple[str, Any]]:
        """Alerts and drift checks in one list."""
        alerts = await self.deck_app.deck.ask(ListAlerts())
        drifts = await self.deck_app.deck.ask(ListDrift(limit=100))
        return [(found.id, found) for found in (*alerts, *drifts)]

    def cells(self, record: Any) -> tuple[Text | str, ...]:
        """An alert or a drift check on a line."""
        if isinstance(record, Alert):
            words = f"{record.words}" + (f" (x{record.count})" if record.count > 1 else "")
            who = f"seen by {record.acked_by}" if record.acked_by else ""
            return (
                safe(f"! {record.kind}", 20),
                safe(record.subject, 20),
                state(record.severity),
                safe(f"{who} {words}".strip(), 60),
                clock(record.opened),
            )
        return (
            "drift check",
            safe(record.endpoint, 20),
            state(record.verdict),
            safe(record.words, 60),
            clock(record.at),
        )

    async def detail(self, record: Any) -> Text:
        """An alert with what to do next; a drift check as a table with bars."""
        if isinstance(record, Alert):
            return facts(
                (
                    ("alert", record.id),
                    ("severity", state(record.severity)),
                    ("subject", record.subject),
                    ("what", record.words),
                    ("since", clock(record.opened)),
                    ("times", record.count),
                    ("looked after", f"{record.acked_by or 'by nobody'} {record.note}"),
                    ("next", record.next or "-"),
                )
            )
        drift: Drift = record
        text = facts(
            (
                ("endpoint", drift.endpoint),
                ("version", drift.version),
                ("verdict", state(drift.verdict)),
                ("rows", f"{drift.n_current:,} against {drift.n_reference:,}"),
            )
        )
        text.append_text(safe(drift.words))
        text.append("\n")
        rows = Text(f"{'':<12} {'feature':<24} {'PSI':>7}              {'q':>9}\n", style="grey62")
        worst = sorted(drift.features, key=lambda each: -(each.effect or 0.0))
        for each in worst:
            effect = each.effect or 0.0
            shown = state(each.verdict)
            shown.pad_right(max(0, 13 - len(shown.plain)))
            rows.append_text(shown)
            rows.append(
                f"{safe(each.feature, 24).plain:<24} {number(each.effect, 3):>7} {bar(min(1.0, effect / 0.5), 12)} {number(each.q, 2):>9}\n"
            )
        text.append_text(section("features, the largest effect first (bar ends at PSI 0.5)", rows))
        reactions = await self.deck_app.deck.ask(ListReactions())
        lines = [
            (each.endpoint, f"{'on' if each.enabled else 'off'}: drift runs {each.pipeline}") for each in reactions
        ]
        text.append_text(section("reactions", facts(lines) if lines else Text("none is set\n", style="grey62")))
        return text

    def subject(self) -> tuple[str, str] | None:
        """What is under the cursor."""
        found = self.selected()
        if found is None:
            return None
        return (
            found.id,
            "qd monitoring alerts" if isinstance(found, Alert) else f"qd monitoring show-drift --drift {found.id}",
        )

    @work
    async def action_ack(self) -> None:
        """Say that you look after it."""
        found = self.selected()
        if not isinstance(found, Alert):
            self.notify("alerts are looked after, drift checks are kept")
            return
        note = await self.asked(f"look after {found.kind}", safe(found.words), "note", needed=False)
        if note is not None:
            await self.act(AckAlert(alert=found.id, note=note), "you look after it")
