"""Governance: approvals that wait, with their evidence, and the audit trail."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, ClassVar

from rich.text import Text
from textual import work
from textual.binding import Binding, BindingType

from quarterdeck.tui.screens.noun import NounScreen
from quarterdeck.tui.screens.version_cards import checks
from quarterdeck.tui.widgets.card_view import Drawing
from quarterdeck.tui.widgets.drawing import ago, clock, facts, muted, safe, section, state, title
from quarterdeck.tui.widgets.record_table import Column
from quarterdeck.wording import act_words, command_text
from quarterstore.records.governance import (
    Approval,
    Approve,
    AuditEntry,
    AuditHead,
    ListApprovals,
    ListAudit,
    Reject,
    ShowApproval,
    ShowHead,
)

TRAIL = 100
"""Entries of the audit trail below what waits; the filter searches all of them."""


class GovernanceScreen(NounScreen):
    """Approvals first, then what was done, the newest first."""

    name_of_screen = "governance"
    empty = "nothing was done yet"
    columns = (
        Column("entry", 10),
        Column("when", 12, drop=1, value=lambda found: found.asked if isinstance(found, Approval) else found.at),
        Column("who", 10, flex=1),
        Column("what", 24, flex=6),
    )
    keys = (("a", "approve, on the evidence shown"), ("R", "reject, with a reason"))
    BINDINGS: ClassVar[list[BindingType]] = [Binding("a", "approve", "approve"), Binding("R", "reject", "reject")]

    async def fetch(self) -> Sequence[tuple[str, Approval | AuditEntry]]:
        """What waits, then the trail."""
        waiting = await self.deck_app.deck.ask(ListApprovals())
        trail = await self.deck_app.deck.ask(ListAudit(limit=TRAIL, text=self.text))
        return [*((found.id, found) for found in waiting), *((f"{entry.seq}", entry) for entry in trail)]

    def cells(self, record: Approval | AuditEntry, now: float) -> tuple[Text, ...]:
        """An approval or an entry on a line."""
        if isinstance(record, Approval):
            return (
                state(record.state),
                safe(clock(record.asked, now)),
                safe(record.asked_by, 40),
                safe(f"asks to {record.words}", 200, "bold"),
            )
        return (
            safe(f"{record.seq:,}", style="grey62"),
            safe(clock(record.at, now)),
            safe(record.actor, 40),
            safe(record.words, 200),
        )

    async def card(self, record: Approval | AuditEntry, now: float) -> Drawing:
        """The evidence an approval is bound to; or an entry with its hash."""
        if isinstance(record, AuditEntry):
            entry = record
            head = await self.deck_app.deck.ask(ShowHead())
            return lambda width, height: entry_card(entry, head, now, width)
        approval = record
        return lambda width, height: approval_card(approval, now, width)

    def subject(self) -> tuple[str, str] | None:
        """What is under the cursor."""
        found = self.selected()
        if found is None:
            return None
        if isinstance(found, Approval):
            return found.id, command_text(ShowApproval(approval=found.id))
        return str(found.seq), command_text(ListAudit(before=found.seq + 1, limit=1))

    def _waiting(self) -> Approval | None:
        found = self.selected()
        if isinstance(found, Approval):
            return found
        self.notify("move the cursor to an approval that waits")
        return None

    @work
    async def action_approve(self) -> None:
        """Approve with the evidence hash that is on the screen."""
        found = self._waiting()
        if found is None:
            return
        body = Text.assemble(
            checks(found.outcome), "\n", safe(f"asked by {found.asked_by}: {found.reason or 'no reason given'}", 300)
        )
        note = await self.asked(f"approve: {found.words}", body, "note (may stay empty)", needed=False)
        if note is not None:
            await self.act(Approve(approval=found.id, evidence=found.evidence, note=note), f"approved: {found.words}")

    @work
    async def action_reject(self) -> None:
        """Reject; a reason is required."""
        found = self._waiting()
        if found is None:
            return
        reason = await self.asked(
            f"reject: {found.words}", safe(f"asked by {found.asked_by}", 100), "reason (required)"
        )
        if reason:
            await self.act(Reject(approval=found.id, reason=reason), f"rejected: {found.words}")


def entry_card(entry: AuditEntry, head: AuditHead, now: float, width: int) -> Text:
    """An entry of the journal, and where the chain ends now."""
    text = title(entry.words, [], f"entry {entry.seq} · {entry.actor} · {clock(entry.at, now)}", width)
    events = [f"{name} ×{count}" if count > 1 else name for name, count in Counter(entry.events).items()]
    text.append_text(facts((("act", entry.act), ("events", ", ".join(events) or "-")), room=width))
    text.append("\n")
    chain = facts((("this entry", entry.hash), ("head now", head.hash), ("head entry", head.seq)))
    chain.append_text(muted("qd audit verify checks every link\n"))
    text.append_text(section("hash chain", chain, width))
    return text


def approval_card(approval: Approval, now: float, width: int) -> Text:
    """A request with its evidence."""
    words = f"asked by {approval.asked_by}, {ago(approval.asked, now)}"
    text = title(approval.id, [state(approval.state)], words, width)
    rows: list[tuple[str, Any]] = [
        ("asks to", approval.words),
        ("reason", approval.reason or "-"),
        ("expires", clock(approval.expires, now)),
    ]
    text.append_text(facts(rows, room=width))
    text.append("\n")
    text.append_text(section("evidence", checks(approval.outcome), width))
    doing = [("act", approval.act.get("type", "")), *act_words(approval.act)]
    text.append_text(section("what will be done", facts(doing, 14, width), width))
    text.append_text(section("bound to", safe(approval.evidence), width))
    text.append_text(muted("a approves · R rejects\n"))
    return text
