"""The registry: versions with stage and metrics, lineage, and the proposal of a promotion."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import msgspec
from rich.text import Text
from textual import work
from textual.binding import Binding, BindingType

from quarterdeck.tui.screens.base import NounScreen, section
from quarterdeck.tui.widgets.drawing import clock, facts, number, safe, size, state
from quarterstore.records.faults import Fault, NeedsApproval
from quarterstore.records.governance import JudgeGate, Propose
from quarterstore.records.registry import ListVersions, MoveStage, ShowLineage, Stage, Version

NEXT: dict[str, Stage] = {"None": "Staging", "Staging": "Production", "Archived": "Staging", "Production": "Archived"}


class RegistryScreen(NounScreen):
    """Every version, the newest first."""

    name_of_screen = "registry"
    nouns = frozenset({"registry", "deployments", "governance"})
    columns = ("version", "semver", "stage", "metric", "size", "by", "created")
    keys = (("p", "propose the next stage"),)
    BINDINGS: ClassVar[list[BindingType]] = [Binding("p", "propose", "propose")]

    async def fetch(self) -> Sequence[tuple[str, Version]]:
        """Every version that was not removed."""
        return [(version.id, version) for version in await self.deck_app.deck.ask(ListVersions())]

    def cells(self, record: Version) -> tuple[Text | str, ...]:
        """The first metric with its interval stands for the others."""
        metric = record.metrics[0] if record.metrics else None
        shown = f"{metric.name} {number(metric.value, 3)}" if metric else "-"
        return (
            safe(record.id, 26),
            safe(record.semver),
            state(record.stage),
            safe(shown, 22),
            size(record.size),
            safe(record.created_by, 14),
            clock(record.created),
        )

    async def detail(self, record: Version) -> Text:
        """What it is, how good it is, where it came from, what came of it."""
        lineage = await self.deck_app.deck.ask(ShowLineage(version=record.id))
        text = facts(
            (
                ("version", record.id),
                ("semver", f"{record.semver}  ({record.reason})"),
                ("stage", state(record.stage)),
                ("environment", record.environment),
                ("file", f"{record.format}, {size(record.size)}, sha256 {record.digest[:16]}"),
            )
        )
        rows = [
            (
                metric.name,
                number(metric.value)
                + (f"  ({number(metric.low, 3)} to {number(metric.high, 3)})" if metric.low is not None else "")
                + (f"  n {metric.n}" if metric.n else ""),
            )
            for metric in record.metrics
        ]
        text.append_text(section("metrics, with 95 % intervals", facts(rows, 18)))
        shape = record.signature
        text.append_text(
            section(
                "signature",
                facts(
                    [(f"in  {each.name}", f"{each.datatype} {list(each.shape)}") for each in shape.inputs]
                    + [(f"out {each.name}", f"{each.datatype} {list(each.shape)}") for each in shape.outputs],
                    18,
                ),
            )
        )
        tree = Text()
        for kind, name, words in lineage.up:
            tree.append_text(safe(f"  ▲ {kind:<11} {name}  {words}\n"))
        tree.append(f"  ◆ {record.id}\n", style="bold")
        for kind, name, words in lineage.down:
            tree.append_text(safe(f"  ▼ {kind:<11} {name}  {words}\n"))
        text.append_text(section("lineage", tree))
        return text

    def subject(self) -> tuple[str, str] | None:
        """The version under the cursor."""
        version = self.selected()
        return (version.id, f"qd registry show --version {version.id}") if version else None

    @work
    async def action_propose(self) -> None:
        """Show what the gate says, ask for a reason, then move, or ask for approval where one is needed."""
        version: Version | None = self.selected()
        if version is None:
            return
        after = NEXT[version.stage]
        outcome = await self.deck_app.deck.ask(JudgeGate(version=version.id))
        body = Text(f"{version.id} is in {version.stage} and goes to {after}.\n\n")
        for check in outcome.checks:
            body.append_text(state("PASS" if check.ok else "FAIL"))
            body.append_text(safe(f" {check.rule.metric}: {check.why}\n"))
        if not outcome.checks:
            body.append("no gate is set for this model\n", style="grey62")
        body.append(f"\nqd promote {version.id} {after}\n", style="grey62")
        reason = await self.asked(
            f"promote {version.id}", body, "reason (kept in the audit trail)", needed=after == "Production"
        )
        if reason is None:
            return
        act = MoveStage(version=version.id, stage=after, reason=reason)
        try:
            await self.deck_app.deck.ask(act)
            self.notify(f"{version.id} is in {after}", markup=False)
        except NeedsApproval:
            await self.act(
                Propose(act=msgspec.to_builtins(act), reason=reason), "asked: another person has to approve it"
            )
        except Fault as fault:
            self.notify(safe(fault.line(), 300).plain, severity="error", markup=False)
        self.load()
