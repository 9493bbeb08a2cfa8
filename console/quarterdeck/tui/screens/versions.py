"""The versions of one model: number, semantic version with its reason, stage, how good, who and when."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from rich.text import Text
from textual.binding import Binding, BindingType

from quarterdeck.tui.screens.noun import NounScreen
from quarterdeck.tui.screens.version import VersionScreen
from quarterdeck.tui.screens.version_acts import RemovedKey, VersionActs
from quarterdeck.tui.screens.version_cards import aliases_of, environments_of, first_metric, overview_card
from quarterdeck.tui.widgets.card_view import Drawing
from quarterdeck.tui.widgets.drawing import ago, faded, right, safe, state
from quarterdeck.tui.widgets.record_table import Column, RecordTable
from quarterdeck.units import size
from quarterdeck.wording import command_text
from quarterstore.records.models import ShowModel
from quarterstore.records.registry import ListVersions, Model, ShowVersion, Version


class VersionsScreen(VersionActs, RemovedKey, NounScreen):
    """Every version of a model, the newest first; those that were removed when they are asked for."""

    name_of_screen = "registry"
    nouns = frozenset({"registry", "models", "deployments", "governance"})
    marks = True
    empty = "no version of it yet\n\nqd register MODEL.onnx --name NAME"
    columns = (
        Column("no", 4, right=True, value=lambda found: found.number),
        Column("semver", 8),
        Column("stage", 12),
        Column("environment", 11, flex=1, drop=7),
        Column("aliases", 9, flex=2, drop=2),
        Column("metric", 18, flex=2),
        Column("why", 16, flex=4, drop=4),
        Column("format", 6, drop=5),
        Column("size", 8, right=True, drop=6, value=lambda found: found.size),
        Column("run", 8, drop=8),
        Column("by", 8, flex=1, drop=3),
        Column("created", 10, right=True, drop=1, value=lambda found: found.created),
    )
    keys = (
        ("enter", "the version, pane by pane"),
        ("c", "what differs: marked and under the cursor, or two marked"),
        ("v", "its lineage"),
        ("space u", "mark, forget the marks"),
        RemovedKey.removed,
        *VersionActs.acts,
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("space", "mark", "mark"),
        Binding("c", "compare", "compare"),
        Binding("v", "lineage", "lineage", show=False),
        Binding("u", "unmark", show=False),
    ]

    def __init__(self, model: str, with_removed: bool = False) -> None:
        super().__init__()
        self.with_removed = with_removed
        self._called = model
        self._model: Model | None = None

    def crumbs(self) -> tuple[str, ...]:
        """The model."""
        return ("registry", self._called)

    async def fetch(self) -> Sequence[tuple[str, Version]]:
        """Its versions, and the words that name them."""
        self._model = await self.deck_app.deck.ask(ShowModel(model=self._called))
        wanted = ListVersions(model=self._called, removed=self.with_removed)
        return [(each.id, each) for each in await self.deck_app.deck.ask(wanted)]

    def cells(self, record: Version, now: float) -> tuple[Text, ...]:
        """The first metric stands for the others; a removed one says so in the place of its stage."""
        cells = (
            right(f"{record.number}"),
            safe(record.semver, 20),
            state(record.stage if record.removed is None else "removed"),
            safe(", ".join(environments_of(self._model, record)) or "-", 80),
            safe(", ".join(aliases_of(self._model, record)) or "-", 80),
            safe(first_metric(record), 60),
            safe(record.reason, 200),
            safe(record.format, 20),
            right(size(record.size)),
            safe(record.run[-8:] if record.run else "-"),
            safe(record.created_by, 40),
            right(ago(record.created, now)),
        )
        return cells if record.removed is None else faded(cells)

    async def card(self, record: Version, now: float) -> Drawing:
        """What it is, how good it is, what it is made of."""
        model = self._model
        return lambda width, height: overview_card(record, model, now, width)

    def target(self) -> Version | None:
        """The version under the cursor."""
        found: Version | None = self.selected()
        return found

    def subject(self) -> tuple[str, str] | None:
        """The version under the cursor."""
        version = self.target()
        return (version.id, command_text(ShowVersion(version=version.id))) if version else None

    def open(self, record: Any) -> None:
        """The version with the whole terminal to itself."""
        self.app.push_screen(VersionScreen(record.id, self.crumbs()))

    def action_mark(self) -> None:
        """Mark or unmark."""
        self.query_one(RecordTable).mark()

    def action_unmark(self) -> None:
        """Forget every mark."""
        self.query_one(RecordTable).unmark()

    def action_lineage(self) -> None:
        """Where it came from and what came of it."""
        version = self.target()
        if version is not None:
            self.app.push_screen(VersionScreen(version.id, self.crumbs(), pane="lineage"))

    def action_compare(self) -> None:
        """The marked version before, the one under the cursor after; of two marked ones the older before."""
        marked = sorted(
            (self.records[key] for key in self.query_one(RecordTable).marked if key in self.records),
            key=lambda version: version.number,
        )
        here = self.target()
        if len(marked) == 1 and here is not None and marked[0].id != here.id:
            before, after = marked[0], here
        elif len(marked) == 2:
            before, after = marked
        else:
            self.notify(
                f"{len(marked)} versions are marked, expected one and the cursor on another, or two; space marks"
            )
            return
        self.app.push_screen(VersionScreen(after.id, self.crumbs(), pane="changes", against=before.id))
