"""One version in panes: what it is, its signature, what changed, its lineage, its history, on what evidence."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import ClassVar

from rich.text import Text
from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container
from textual.widgets import DataTable

from quarterdeck.branches import Branch, branches, counted, endpoints
from quarterdeck.tui.screens import version_cards as cards
from quarterdeck.tui.screens.base import CardScreen
from quarterdeck.tui.screens.hook_cards import LISTED, hooks_card
from quarterdeck.tui.screens.relative import RelativeScreen, below, relative_card, relative_command
from quarterdeck.tui.screens.replay_cards import replays_card
from quarterdeck.tui.screens.version_acts import VersionActs
from quarterdeck.tui.widgets.card_view import CardView, Drawing
from quarterdeck.tui.widgets.drawing import MUTED, muted, safe, state
from quarterdeck.tui.widgets.pane_line import PaneLine
from quarterdeck.tui.widgets.record_table import Column, RecordTable, Row
from quarterdeck.wording import command_text
from quarterstore.records.governance import JudgeGate, ListApprovals
from quarterstore.records.hooks import ListDeliveries, ListHooks
from quarterstore.records.models import ShowModel
from quarterstore.records.predictions import CountPredictions
from quarterstore.records.registry import (
    DiffVersions,
    Lineage,
    ListStageMoves,
    ListTenures,
    ShowLineage,
    ShowVersion,
    Version,
)
from quarterstore.records.replays import ListReplays

VERSIONS = ("parent", "child", "version")
"""Kinds of a lineage that are versions themselves."""
GLYPHS = {
    "run": "▶",
    "code": "⌥",
    "dataset": "▤",
    "parent": "◇",
    "child": "◇",
    "version": "◇",
    "production": "●",
    "deployment": "⇄",
    "predictions": "∑",
    "drift": "△",
    "alert": "▲",
}
COUNT_EVERY = 5.0
"""Seconds between two counts of predictions."""
TREE = (Column("what", 24, flex=1), Column("id", 12, flex=2), Column("words", 12, flex=3, drop=1))


class LineageScreen(CardScreen):
    """A lineage as a tree whose nodes are rows: enter opens one, the card tells of the one under the cursor."""

    name_of_screen = "registry"
    nouns = frozenset({"registry", "models", "deployments", "monitoring", "runs", "governance", "hooks", "replays"})

    def __init__(self, path: tuple[str, ...]) -> None:
        super().__init__()
        self._path = path
        self._lines: dict[str, Branch] = {}
        self._lineage: Lineage | None = None
        self._counts: dict[str, dict[str, int]] = {}
        self._counted = 0.0

    def crumbs(self) -> tuple[str, ...]:
        """The way here."""
        return self._path

    def body(self) -> ComposeResult:
        """The tree, and the card of what is under the cursor."""
        with Container(id="body"):
            yield RecordTable()
            yield CardView(focus=True, id="card")

    async def grow(self, of: str, stands: Text) -> None:
        """Ask for a lineage with its predictions counted, and draw it; `stands` is the line of what it is of."""
        ask = self.deck_app.deck.ask
        found: Lineage = await ask(ShowLineage(version=of))
        await self._count(endpoints(found))
        self._lineage = counted(found, self._counts)
        self._lines = {f"{index}": branch for index, branch in enumerate(branches(self._lineage))}
        rows = [Row(key, self._cells(branch, stands)) for key, branch in self._lines.items()]
        table = self.query_one(RecordTable)
        first = next(key for key, branch in self._lines.items() if branch.node is None)
        table.show(TREE, [column.title for column in TREE], rows, marks=False, cursor=self._at(table, first))
        await self.show_card()

    async def _count(self, places: list[str]) -> None:
        """How many predictions are kept: files are read for it, so not at every event."""
        if time.monotonic() - self._counted >= COUNT_EVERY or not set(places) <= set(self._counts):
            ask = self.deck_app.deck.ask
            self._counts = {each: (await ask(CountPredictions(endpoint=each))).versions for each in places}
            self._counted = time.monotonic()

    def _at(self, table: RecordTable, first: str) -> str | None:
        """The cursor begins at the version itself, and stays where it is afterwards."""
        return None if table.row_count else first

    def _cells(self, branch: Branch, stands: Text) -> tuple[Text, ...]:
        node = branch.node
        if node is None:
            return (Text.assemble("◆ ", stands), safe(self._lineage.version if self._lineage else "", 80), Text())
        what = Text.assemble((branch.guides, MUTED), GLYPHS.get(node.kind, "·"), " ", safe(node.kind, 20))
        return (what, safe(node.id, 80), safe(node.words, 200, MUTED))

    def branch(self) -> Branch | None:
        """What is under the cursor."""
        return self._lines.get(self.query_one(RecordTable).selected() or "")

    async def show_card(self) -> None:
        """The card of the node under the cursor."""
        found = self.branch()
        if found is None or found.node is None:
            words = "▲ above: what it came from\n▼ below: what came of it\n\nenter opens the line under the cursor\n"
            drawing: Drawing = lambda width, height: muted(words)  # noqa: E731
        else:
            drawing = await relative_card(self.deck_app, found.node, time.time())
        self.query_one("#card", CardView).show(drawing)

    def on_data_table_row_selected(self, event: DataTable.RowSelected) -> None:
        """Open the node under the cursor."""
        found = self.branch()
        if found is None or found.node is None:
            return
        node = found.node
        if node.kind in VERSIONS:
            self.app.push_screen(VersionScreen(node.id, self.crumbs()))
        elif node.kind == "dataset":
            self.app.push_screen(DataScreen(f"data:{node.id}", self.crumbs()))
        elif node.kind == "production":
            self.app.push_screen(VersionScreen(node.of, self.crumbs(), pane="history"))
        else:
            self.app.push_screen(RelativeScreen(node, self.crumbs()))


class DataScreen(LineageScreen):
    """Every run and model that rows of data reached."""

    AUTO_FOCUS = "RecordTable"
    keys = (("enter", "open the line under the cursor"),)

    def __init__(self, data: str, path: tuple[str, ...]) -> None:
        super().__init__(below(path, data[:21]))
        self._data = data

    async def fill(self) -> None:
        """The tree below the data."""
        await self.grow(self._data, Text("data"))

    def subject(self) -> tuple[str, str] | None:
        """What is under the cursor, and the command for the tree."""
        found = self.branch()
        id_ = found.node.id if found and found.node else self._data
        return id_, command_text(ShowLineage(version=self._data))


class VersionScreen(LineageScreen, VersionActs):
    """A version; `[` and `]` go from pane to pane."""

    AUTO_FOCUS = None
    keys = (
        ("[ ]", "the pane before, the next pane"),
        ("c", "compare with another version than the former one"),
        ("v", "lineage; enter opens the line under the cursor"),
        *VersionActs.acts,
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left_square_bracket", "pane(-1)", "before", key_display="["),
        Binding("right_square_bracket", "pane(1)", "next pane", key_display="]"),
        Binding("c", "compare", "compare"),
        Binding("v", "lineage", "lineage"),
    ]

    def __init__(self, version: str, path: tuple[str, ...], pane: str = "overview", against: str | None = None) -> None:
        super().__init__(below(path, version))
        self._asked = version
        self._pane = pane
        self._against = against
        self._version: Version | None = None
        self._panes: dict[str, Callable[[Version], Awaitable[Drawing]]] = {
            "overview": self._overview,
            "signature": self._signature,
            "changes": self._changes,
            "lineage": self._tree,
            "history": self._history,
            "evidence": self._evidence,
            "hooks": self._hooks,
            "replays": self._replays,
        }

    def body(self) -> ComposeResult:
        """The names of the panes, then the one in view."""
        yield PaneLine(tuple(self._panes), self._pane)
        yield from super().body()

    def on_mount(self) -> None:
        """Show the pane it was opened at."""
        with self.unless_left():
            self._turn(self._pane)

    def _turn(self, pane: str) -> None:
        self._pane = pane
        self.query_one(PaneLine).tell(pane)
        table = self.query_one(RecordTable)
        table.display = pane == "lineage"
        card = self.query_one("#card", CardView)
        card.set_class(pane != "lineage", "alone")
        (table if pane == "lineage" else card).focus()

    async def fill(self) -> None:
        """The version as it is now, and the pane that is in view."""
        self._version = await self.deck_app.deck.ask(ShowVersion(version=self._asked))
        pane = self._pane
        if pane == "lineage":
            await self._tree(self._version)
            return
        drawing = await self._panes[pane](self._version)
        if pane == self._pane:
            self.query_one("#card", CardView).show(drawing)

    async def _overview(self, version: Version) -> Drawing:
        model = await self.deck_app.deck.ask(ShowModel(model=version.model))
        now = time.time()
        return lambda width, height: cards.overview_card(version, model, now, width)

    async def _signature(self, version: Version) -> Drawing:
        now = time.time()
        return lambda width, height: cards.signature_card(version, now, width)

    async def _changes(self, version: Version) -> Drawing:
        found = await self.deck_app.deck.ask(self._diff())
        now = time.time()
        return lambda width, height: cards.changes_card(version, found, now, width)

    async def _tree(self, version: Version) -> Drawing:
        await self.grow(version.id, state(version.stage))
        return lambda width, height: Text()

    async def _history(self, version: Version) -> Drawing:
        ask = self.deck_app.deck.ask
        tenures = await ask(ListTenures(model=version.model))
        moves = await ask(ListStageMoves(model=version.model, version=version.id))
        now = time.time()
        return lambda width, height: cards.history_card(version, tenures, moves, now, width)

    async def _evidence(self, version: Version) -> Drawing:
        ask = self.deck_app.deck.ask
        outcome = await ask(JudgeGate(version=version.id))
        approvals = [each for each in await ask(ListApprovals(all=True)) if each.act.get("version") == version.id]
        now = time.time()
        return lambda width, height: cards.evidence_card(version, outcome, approvals, now, width)

    async def _hooks(self, version: Version) -> Drawing:
        ask = self.deck_app.deck.ask
        hooks = await ask(ListHooks(model=version.model))
        deliveries = [each for hook in hooks for each in await ask(ListDeliveries(hook=hook.id, limit=LISTED))]
        now = time.time()
        return lambda width, height: hooks_card(version, hooks, deliveries, now, width)

    async def _replays(self, version: Version) -> Drawing:
        found = await self.deck_app.deck.ask(ListReplays(version=version.id))
        now = time.time()
        return lambda width, height: replays_card(version, found, now, width)

    def _diff(self) -> DiffVersions:
        return DiffVersions(after=self._asked, before=self._against)

    def target(self) -> Version | None:
        """The version of this screen."""
        return self._version

    def subject(self) -> tuple[str, str] | None:
        """The version and the command for the pane; in the lineage the id of what is under the cursor."""
        model = self._version.model if self._version else self._asked.partition("@")[0]
        if self._pane == "lineage":
            found = self.branch()
            id_ = found.node.id if found and found.node else self._asked
            if found and found.node:
                return id_, relative_command(found.node)
            return id_, command_text(ShowLineage(version=self._asked))
        commands = {
            "changes": self._diff(),
            "history": ListStageMoves(model=model, version=self._asked),
            "evidence": JudgeGate(version=self._asked),
            "hooks": ListHooks(model=model),
            "replays": ListReplays(version=self._asked),
        }
        return self._asked, command_text(commands.get(self._pane) or ShowVersion(version=self._asked))

    def action_pane(self, step: int) -> None:
        """The next pane, or the one before."""
        self._turn(self.query_one(PaneLine).turn(step))
        self.load()

    def action_lineage(self) -> None:
        """Its lineage."""
        self._turn("lineage")
        self.load()

    @work
    async def action_compare(self) -> None:
        """What it is compared with: any version of any model."""
        body = safe("$ " + command_text(DiffVersions(after=self._asked, before="NAME@2")), 300, "grey62")
        prompt = "a version such as 2, 1.0.0 or NAME@champion; empty for the one registered before it"
        typed = await self.asked(f"compare {self._asked} with", body, prompt, needed=False)
        if typed is None:
            return
        model = self._version.model if self._version else self._asked.partition("@")[0]
        wanted = typed if "@" in typed or not typed else f"{model}@{typed}"
        found = await self.answered(ShowVersion(version=wanted)) if wanted else None
        if wanted and found is None:
            return
        self._against = found.id if found else None
        with self.unless_left():
            self._turn("changes")
        self.load()
