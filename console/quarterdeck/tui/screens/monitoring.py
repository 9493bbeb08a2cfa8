"""Monitoring: drift feature by feature, alerts and who looks after them, models that are retrained by themselves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from rich.text import Text
from textual import work
from textual.binding import Binding, BindingType

from quarterdeck.tui.screens.noun import NounScreen
from quarterdeck.tui.screens.policy_card import policy_card, policy_lines, policy_words, standing
from quarterdeck.tui.snapshot import worst_first
from quarterdeck.tui.widgets.card_view import Drawing
from quarterdeck.tui.widgets.drawing import (
    MUTED,
    ago,
    bar,
    clock,
    facts,
    grid,
    muted,
    number,
    right,
    safe,
    section,
    state,
    title,
)
from quarterdeck.tui.widgets.record_table import Column
from quarterdeck.wording import command_text
from quarterstore.records.ct import ListPolicies, PolicyStatus, ShowPolicy
from quarterstore.records.monitoring import AckAlert, Alert, Drift, ListAlerts, ListDrift, ShowDrift

Shown = Alert | PolicyStatus | Drift

LARGE = 0.5
"""PSI at which a bar is full: twice the 0.25 that the literature calls a major shift."""


class MonitoringScreen(NounScreen):
    """Open alerts first, the gravest above all, then continuous training by model, then drift checks, the newest
    first."""

    name_of_screen = "monitoring"
    nouns = frozenset({"monitoring", "ct"})
    _policies: Sequence[PolicyStatus] = ()
    empty = (
        "nothing was measured yet and nothing burns\n\n"
        "qd drift ENDPOINT          compare what it is asked with what it was trained on\n"
        "qd schedule add --help     do it every hour"
    )
    columns = (
        Column("kind", 10, flex=1),
        Column("subject", 10, flex=1),
        Column("verdict", 17),
        Column("what", 16, flex=4),
        Column("when", 10, right=True, drop=1, value=lambda found: _since(found)),
    )
    keys = (("a", "look after an alert, with a note"),)
    BINDINGS: ClassVar[list[BindingType]] = [Binding("a", "ack", "acknowledge")]

    async def fetch(self) -> Sequence[tuple[str, Shown]]:
        """Alerts, policies and drift checks in one list."""
        alerts = worst_first(await self.deck_app.deck.ask(ListAlerts()))
        drifts = await self.deck_app.deck.ask(ListDrift(limit=100))
        self._policies = await self.deck_app.deck.ask(ListPolicies())
        policies = [(f"ct/{found.model}", found) for found in self._policies]
        return [*((each.id, each) for each in alerts), *policies, *((each.id, each) for each in drifts)]

    def cells(self, record: Shown, now: float) -> tuple[Text, ...]:
        """One of them on a line."""
        if isinstance(record, Alert):
            words = f"{record.words}" + (f" (x{record.count})" if record.count > 1 else "")
            seen = f"seen by {record.acked_by}: " if record.acked_by else ""
            return (
                safe(record.kind, 40, "bold"),
                safe(record.subject, 60),
                state(record.severity),
                safe(seen + words, 200),
                right(ago(record.opened, now)),
            )
        if isinstance(record, PolicyStatus):
            return (
                safe("training", 40),
                safe(record.model, 60),
                state(standing(record)),
                safe(policy_words(record), 200),
                right(ago(_since(record), now)),
            )
        return (
            safe("drift check"),
            safe(record.endpoint, 60),
            state(record.verdict),
            safe(record.words, 200),
            right(ago(record.at, now)),
        )

    async def card(self, record: Shown, now: float) -> Drawing:
        """An alert with what to do next; a policy trigger by trigger; a drift check as a table with bars."""
        if isinstance(record, Alert):
            alert = record
            return lambda width, height: alert_card(alert, now, width)
        if isinstance(record, PolicyStatus):
            policy = record
            return lambda width, height: policy_card(policy, now, width)
        drift, policies = record, self._policies
        return lambda width, height: drift_card(drift, policies, now, width)

    def subject(self) -> tuple[str, str] | None:
        """What is under the cursor."""
        found = self.selected()
        if found is None:
            return None
        if isinstance(found, PolicyStatus):
            return found.model, command_text(ShowPolicy(model=found.model))
        return found.id, command_text(ListAlerts() if isinstance(found, Alert) else ShowDrift(drift=found.id))

    @work
    async def action_ack(self) -> None:
        """Say that you look after it."""
        found = self.selected()
        if not isinstance(found, Alert):
            self.notify("only alerts are looked after")
            return
        note = await self.asked(
            f"look after {found.kind} of {found.subject}", safe(found.words), "note (may stay empty)", needed=False
        )
        if note is not None:
            await self.act(AckAlert(alert=found.id, note=note), "you look after it")


def _since(found: Shown) -> float:
    if isinstance(found, PolicyStatus):
        return found.policy.last or found.policy.at
    return found.opened if isinstance(found, Alert) else found.at


def alert_card(alert: Alert, now: float, width: int) -> Text:
    """An alert: what it says, who looks after it, what to do next."""
    words = f"{alert.id} · since {clock(alert.opened, now)}, {alert.count:,} {'time' if alert.count == 1 else 'times'}"
    text = title(f"{alert.kind} {alert.subject}", [state(alert.severity)], words, width)
    text.append_text(safe(alert.words))
    text.append("\n\n")
    after = f"{alert.acked_by}  {alert.note}" if alert.acked_by else "nobody; a does"
    text.append_text(
        facts((("looked after by", after), ("because of", alert.cause or "-"), ("next", alert.next or "-")), 16)
    )
    return text


def drift_card(drift: Drift, policies: Sequence[PolicyStatus], now: float, width: int) -> Text:
    """A drift check, the largest effect first."""
    rows = f"{drift.n_current:,} rows against {drift.n_reference:,}"
    words = f"{drift.version} · {rows} · {clock(drift.at, now)}"
    text = title(drift.endpoint, [state(drift.verdict)], words, width)
    text.append_text(safe(drift.words))
    text.append("\n\n")
    wide = width >= 90
    long = max(4, min(24, (width - 44) // 3))
    name = max(8, min(40, width - long - 40 - (12 if wide else 0)))
    widths = (name, 7, long, *((10,) if wide else ()), 8, 17)
    names = (
        muted("feature"),
        right("PSI", MUTED),
        muted(f"0–{LARGE}"),
        muted("test"),
        right("q", MUTED),
        muted("verdict"),
    )
    table = [names if wide else (*names[:3], *names[4:])]
    for each in sorted(drift.features, key=lambda each: -(each.effect or 0.0)):
        colour = {"DRIFT": "red", "NEGLIGIBLE": "yellow"}.get(each.verdict, "cyan")
        cells = (
            safe(each.feature, 60),
            right(number(each.effect, 3)),
            bar((each.effect or 0.0) / LARGE, long, colour),
            safe(each.test, 10, MUTED),
            right(number(each.q, 2)),
            state(each.verdict),
        )
        table.append(cells if wide else (*cells[:3], *cells[4:]))
    text.append_text(section("features, the largest effect first", grid(table, widths), width))
    notes = [(each.feature, each.note) for each in drift.features if each.note]
    if notes:
        text.append_text(section("notes", facts(notes, 20), width))
    text.append_text(section("continuous training", policy_lines(policies, drift.endpoint, width), width))
    return text
