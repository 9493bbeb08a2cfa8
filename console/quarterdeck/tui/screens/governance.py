"""Governance: approvals that wait, with their evidence, and the audit trail."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from rich.text import Text
from textual import work
from textual.binding import Binding, BindingType

from quarterdeck.tui.screens.base import NounScreen, section
from quarterdeck.tui.widgets.drawing import clock, facts, safe, state
from quarterstore.records.governance import Approval, Approve, AuditEntry, ListApprovals, ListAudit, Reject, ShowHead


class GovernanceScreen(NounScreen):
    """Approvals first, then what was done, the newest first."""

    name_of_screen = "governance"
    columns = ("when", "who", "what", "state")
    keys = (("a", "approve, on the evidence shown"), ("R", "reject, with a reason"))
    BINDINGS: ClassVar[list[BindingType]] = [Binding("a", "approve", "approve"), Binding("R", "reject", "reject")]

    async def fetch(self) -> Sequence[tuple[str, Any]]:
        """What waits, then the trail."""
        waiting = await self.deck_app.deck.ask(ListApprovals())
        trail = await self.deck_app.deck.ask(ListAudit(limit=150, text=self.text))
        return [*((found.id, found) for found in waiting), *((f"{entry.seq}", entry) for entry in trail)]

    def cells(self, record: Any) -> tuple[Text | str, ...]:
        """An approval or an entry on a line."""
        if isinstance(record, Approval):
            return (
                clock(record.asked),
                safe(record.asked_by, 14),
                safe(f"asks to {record.words}", 48),
                state(record.state),
            )
        return (clock(record.at), safe(record.actor, 14), safe(record.words, 48), safe(f"{record.seq}"))

    async def detail(self, record: Any) -> Text:
        """The evidence an approval is bound to; or an entry with its hash."""
        if isinstance(record, AuditEntry):
            head = await self.deck_app.deck.ask(ShowHead())
            return facts(
                (
                    ("entry", record.seq),
                    ("who", record.actor),
                    ("act", record.act),
                    ("words", record.words),
                    ("events", ", ".join(record.events)),
                    ("hash", record.hash),
                    ("head now", f"{head.seq} {head.hash[:32]}"),
                )
            )
        approval: Approval = record
        text = facts(
            (
                ("approval", approval.id),
                ("state", state(approval.state)),
                ("asked by", approval.asked_by),
                ("to", approval.words),
                ("reason", approval.reason or "-"),
                ("expires", clock(approval.expires)),
            )
        )
        checks = Text()
        for check in approval.outcome.checks if approval.outcome else ():
            checks.append_text(state("PASS" if check.ok else "FAIL"))
            checks.append_text(safe(f"  {check.rule.metric}: {check.why}\n"))
        text.append_text(
            section("evidence", checks if checks.plain else Text("no gate is set for this model\n", style="grey62"))
        )
        text.append("\n")
        text.append_text(safe(f"bound to {approval.evidence}\n"))
        return text

    def subject(self) -> tuple[str, str] | None:
        """What is under the cursor."""
        found = self.selected()
        if found is None:
            return None
        if isinstance(found, Approval):
            return found.id, f"qd approve {found.id}"
        return str(found.seq), f"qd governance audit --before {found.seq + 1} --limit 1"

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
        body = await self.detail(found)
        note = await self.asked(f"approve: {found.words}", body, "note (may stay empty)", needed=False)
        if note is not None:
            await self.act(Approve(approval=found.id, evidence=found.evidence, note=note), f"approved: {found.words}")

    @work
    async def action_reject(self) -> None:
        """Reject; a reason is required."""
        found = self._waiting()
        if found is None:
            return
        reason = await self.asked(f"reject: {found.words}", Text(f"asked by {found.asked_by}\n"), "reason (required)")
        if reason:
            await self.act(Reject(approval=found.id, reason=reason), f"rejected: {found.words}")
