"""The registry: versions with stage and metrics, lineage, and the proposal of a promotion."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import msgspec
from rich.text import Text
from textual import work
from textual.binding import Binding, BindingType

from quarterdeck.tui.screens.base import NounScreen
from quarterdeck.tui.widgets.card_view import Drawing
from quarterdeck.tui.widgets.drawing import (
    ago,
    clock,
    facts,
    fit,
    grid,
    muted,
    number,
    right,
    safe,
    section,
    size,
    state,
    title,
)
from quarterdeck.tui.widgets.record_table import Column
from quarterdeck.wording import command_text
from quarterstore.records.faults import Fault, NeedsApproval
from quarterstore.records.governance import GateOutcome, JudgeGate, Propose
from quarterstore.records.registry import Lineage, ListVersions, MoveStage, ShowLineage, ShowVersion, Stage, Version

NEXT: dict[str, Stage] = {"None": "Staging", "Staging": "Production", "Archived": "Staging", "Production": "Archived"}


class RegistryScreen(NounScreen):
    """Every version, the newest first."""

    name_of_screen = "registry"
    nouns = frozenset({"registry", "deployments", "governance"})
    empty = "no version yet\n\nqd register NAME MODEL.onnx"
    columns = (
        Column("version", 12, flex=3),
        Column("stage", 12),
        Column("metric", 16, flex=2),
        Column("semver", 7, drop=2),
        Column("size", 8, right=True, drop=3, value=lambda found: found.size),
        Column("by", 8, flex=1, drop=4),
        Column("created", 10, right=True, drop=1, value=lambda found: found.created),
    )
    keys = (("p", "propose the next stage: shows what the gate says, asks for a reason"),)
    BINDINGS: ClassVar[list[BindingType]] = [Binding("p", "propose", "propose")]

    async def fetch(self) -> Sequence[tuple[str, Version]]:
        """Every version that was not removed."""
        return [(version.id, version) for version in await self.deck_app.deck.ask(ListVersions())]

    def cells(self, record: Version, now: float) -> tuple[Text, ...]:
        """The first metric stands for the others."""
        metric = record.metrics[0] if record.metrics else None
        return (
            safe(record.id, 80),
            state(record.stage),
            safe(f"{metric.name} {number(metric.value, 3)}" if metric else "-", 40),
            safe(record.semver, 20),
            right(size(record.size)),
            safe(record.created_by, 40),
            right(ago(record.created, now)),
        )

    async def card(self, record: Version, now: float) -> Drawing:
        """What it is, how good it is, where it came from, what came of it."""
        lineage = await self.deck_app.deck.ask(ShowLineage(version=record.id))
        return lambda width, height: version_card(record, lineage, now, width)

    def subject(self) -> tuple[str, str] | None:
        """The version under the cursor."""
        version = self.selected()
        return (version.id, command_text(ShowVersion(version=version.id))) if version else None

    @work
    async def action_propose(self) -> None:
        """Show what the gate says, ask for a reason, then move, or ask for approval where one is needed."""
        version: Version | None = self.selected()
        if version is None:
            return
        outcome = await self.answered(JudgeGate(version=version.id))
        if outcome is None:
            return
        after = NEXT[version.stage]
        body = proposal(version, after, outcome)
        needed = "Production" in (after, version.stage)
        prompt = "reason (kept in the audit trail)" if needed else "reason (kept in the audit trail, may stay empty)"
        reason = await self.asked(f"promote {version.id} to {after}", body, prompt, needed=needed)
        if reason is None:
            return
        act = MoveStage(version=version.id, stage=after, reason=reason)
        try:
            await self.deck_app.deck.ask(act)
            self.notify(safe(f"{version.id} is in {after}", 120).plain, markup=False)
        except NeedsApproval:
            await self.act(
                Propose(act=msgspec.to_builtins(act), reason=reason), "asked: another person has to approve it"
            )
        except Fault as fault:
            self.notify(safe(fault.line(), 300).plain, severity="error", markup=False)
        self.load()


def checks(outcome: GateOutcome | None) -> Text:
    """What a gate said, rule by rule."""
    text = Text()
    for check in outcome.checks if outcome else ():
        text.append_text(state("PASS" if check.ok else "FAIL"))
        text.append("  ")
        text.append_text(safe(f"{check.rule.metric}: {check.why}", 400))
        text.append("\n")
    return text if text.plain else muted("no gate is set for this model\n")


def proposal(version: Version, after: Stage, outcome: GateOutcome) -> Text:
    """What a promotion will do, and what the gate says of it."""
    text = Text.assemble(state(version.stage), "  →  ", state(after), "\n\n")
    text.append_text(checks(outcome))
    text.append("\n")
    text.append_text(safe("$ " + command_text(MoveStage(version=version.id, stage=after)), 300, "grey62"))
    return text


def version_card(version: Version, lineage: Lineage, now: float, width: int) -> Text:
    """A version in full."""
    words = f"{version.environment} · {version.semver} · by {version.created_by} · {clock(version.created, now)}"
    text = title(version.id, [state(version.stage)], words, width)
    rows: list[tuple[Text, ...]] = [
        (
            safe(metric.name, 40),
            right(number(metric.value)),
            safe(f"{number(metric.low, 3)} to {number(metric.high, 3)}" if metric.low is not None else "-"),
            right(f"{metric.n:,}" if metric.n else "-"),
        )
        for metric in version.metrics
    ]
    head = [(muted("metric"), right("value", "grey62"), muted("95 % interval"), right("rows", "grey62"))]
    widths = (min(24, max(12, width - 44)), 9, 18, 7)
    text.append_text(section("metrics", grid([*head, *rows], widths) if rows else muted("none were given\n"), width))
    up = [Text.assemble("▲ ", muted(f"{kind:<11} "), safe(f"{name}  {said}")) for kind, name, said in lineage.up]
    down = [Text.assemble("▼ ", muted(f"{kind:<11} "), safe(f"{name}  {said}")) for kind, name, said in lineage.down]
    here = Text.assemble("◆ ", safe(version.id, 60, "bold"))
    text.append_text(section("lineage", Text("\n").join(fit(each, width) for each in (*up, here, *down)), width))
    shape = version.signature
    fields = [(f"in  {each.name}", f"{each.datatype} {list(each.shape)}") for each in shape.inputs]
    fields += [(f"out {each.name}", f"{each.datatype} {list(each.shape)}") for each in shape.outputs]
    text.append_text(section("signature", facts(fields, 20), width))
    about = [
        ("why this semver", version.reason),
        ("file", f"{version.format}, {size(version.size)}"),
        ("sha256", version.digest[:32]),
    ]
    if version.allow_code:
        about.append(("runs code", ", ".join(version.code) or "a pickle that names nothing"))
    text.append_text(section("file", facts(about, 16), width))
    return text
