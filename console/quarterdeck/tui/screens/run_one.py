"""One run with the whole screen to itself: curves live, artefacts, environment, family, the tail of its log."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType

from quarterdeck import finding
from quarterdeck.tui.screens.looking import LOOK_KEYS, LookingScreen
from quarterdeck.tui.screens.run_card import (
    POINTS,
    artefacts_card,
    environment_card,
    family_card,
    log_card,
    run_card,
)
from quarterdeck.tui.widgets.card_view import CardView, Drawing
from quarterdeck.tui.widgets.pane_line import PaneLine
from quarterdeck.wording import command_text
from quarterstore.records.base import Pulse
from quarterstore.records.faults import Invalid
from quarterstore.records.jobs import JobLog, Progress
from quarterstore.records.runs import Curve, CurvePoint, MetricHistory, Run, RunPage, ShowRun
from quarterstore.records.search import SearchRuns

PANES = ("curves", "artefacts", "environment", "family", "log")
CHARTED = 60
"""Metrics of one run of which curves are drawn."""
CHILDREN = 50
"""Children that are drawn below one run, and below all of its children."""
HIGHEST = 20
"""Runs above it that are drawn."""
LOG = 200
THEIRS = "mlflow.parentRunId"


class RunScreen(LookingScreen):
    """A run by its id; `[` and `]` turn its panes."""

    AUTO_FOCUS = "CardView"
    name_of_screen = "runs"
    nouns = frozenset({"runs", "jobs"})
    pulses = (CurvePoint, Progress)
    keys = (
        ("[ ]", "curves, artefacts, environment, family, log"),
        ("l / v", "the log / the family"),
        *LOOK_KEYS,
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left_square_bracket", "turn(-1)", "panes", key_display="[ ]"),
        Binding("right_square_bracket", "turn(1)", "next pane", show=False),
        Binding("l", "pane('log')", "log"),
        Binding("v", "pane('family')", "family", show=False),
    ]

    def __init__(self, run: str, pane: str = PANES[0]) -> None:
        super().__init__()
        self._asked = run
        self._pane = pane
        self._run: Run | None = None
        self._tagged = False
        """Whether MLflow's clients made it: they name the parent in a tag."""
        self._drawing: Callable[[Run], Drawing] | None = None

    def crumbs(self) -> tuple[str, ...]:
        """The run, and its pane."""
        return ("runs", self._asked, self._pane)

    def body(self) -> ComposeResult:
        """The panes by name, and the one in sight."""
        yield PaneLine(PANES, self._pane)
        yield CardView(focus=True, id="full")

    def concerns(self, pulse: Pulse) -> bool:
        """Points of this run; progress of its job, for the log."""
        if isinstance(pulse, CurvePoint):
            return pulse.run == self._asked and self._pane == "curves"
        return isinstance(pulse, Progress) and self._run is not None and pulse.job == self._run.job

    async def fill(self) -> None:
        """The run, and what its pane needs beside it."""
        pane = self._pane
        run: Run = await self.deck_app.deck.ask(ShowRun(run=self._asked))
        drawing = await getattr(self, f"_{pane}")(run)
        if pane == self._pane:
            self._run, self._drawing = run, drawing
            self.redraw()

    def redraw(self) -> None:
        """What is known, as it is looked at now."""
        if self._run is not None and self._drawing is not None:
            self.query_one(CardView).show(self._drawing(self._run))

    async def _curves(self, run: Run) -> Callable[[Run], Drawing]:
        keys = tuple(sorted(run.metrics))[:CHARTED]
        curves: list[Curve] = []
        if keys:
            curves = await self.deck_app.deck.ask(MetricHistory(run=run.id, keys=keys, points=POINTS))

        def drawing(found: Run) -> Drawing:
            look = self.look
            return lambda width, height: run_card(found, curves, time.time(), width, height, look)

        return drawing

    async def _artefacts(self, run: Run) -> Callable[[Run], Drawing]:
        return lambda found: lambda width, height: artefacts_card(found, time.time(), width)

    async def _environment(self, run: Run) -> Callable[[Run], Drawing]:
        return lambda found: lambda width, height: environment_card(found, time.time(), width)

    async def _family(self, run: Run) -> Callable[[Run], Drawing]:
        self._tagged = any(name.startswith("mlflow.") for name in run.tags)
        above, below, more = await self._relatives(run)
        return lambda found: lambda width, height: family_card(found, above, below, more, time.time(), width)

    async def _log(self, run: Run) -> Callable[[Run], Drawing]:
        lines: list[str] = await self.deck_app.deck.ask(JobLog(job=run.job, lines=LOG)) if run.job else []
        return lambda found: lambda width, height: log_card(found, lines, time.time(), width)

    async def _relatives(self, run: Run) -> tuple[Sequence[Run], dict[str, list[Run]], set[str]]:
        """Those above, the first of the line first; children by whose they are; whose children are not all there."""
        ask, seen = self.deck_app.deck.ask, {run.id}
        above: list[Run] = []
        upper = parent_of(run)
        while upper and upper not in seen and len(above) < HIGHEST:
            seen.add(upper)
            above.insert(0, await ask(ShowRun(run=upper)))
            upper = parent_of(above[0])
        below: dict[str, list[Run]] = {}
        more: set[str] = set()
        parents = [run.id]
        for _ in range(2):
            if parents:
                page = await self._children(parents)
                for child in page.runs:
                    below.setdefault(parent_of(child) or "", []).append(child)
                if page.next:
                    more.update(parents[-1:])
                parents = [child.id for child in page.runs if child.id not in seen]
        return above, below, more

    async def _children(self, parents: Sequence[str]) -> RunPage:
        """Those below; that no run at all has MLflow's tag is no mistake."""
        try:
            found: RunPage = await self.deck_app.deck.ask(children(parents, self._tagged))
        except Invalid:
            self._tagged = False
            found = await self.deck_app.deck.ask(children(parents, False))
        return found

    def action_turn(self, by: int) -> None:
        """The next pane, or the one before."""
        self.action_pane(self.query_one(PaneLine).turn(by))

    def action_pane(self, pane: str) -> None:
        """A pane by name."""
        self._pane = pane
        self.query_one(PaneLine).tell(pane)
        self.query_one(CardView).scroll_home(animate=False)
        self.tell()
        self.load()

    def shown_keys(self) -> list[tuple[str, str]]:
        """How to leave, then its own."""
        return [("esc", "back"), *super().shown_keys()]

    def subject(self) -> tuple[str, str] | None:
        """The command of the pane."""
        if self._pane == "family":
            return self._asked, command_text(children([self._asked], self._tagged))
        if self._pane == "log" and self._run is not None and self._run.job:
            return self._asked, command_text(JobLog(job=self._run.job, lines=LOG))
        return self._asked, command_text(ShowRun(run=self._asked))


def parent_of(run: Run) -> str | None:
    """The run above it."""
    return run.parent or run.tags.get(THEIRS)


def children(parents: Sequence[str], tagged: bool) -> SearchRuns:
    """The search for the runs below these, the first that was started first; with `tagged` also by MLflow's tag."""
    named = ", ".join(map(finding.quoted, parents))
    test = f"= {named}" if len(parents) == 1 else f"in ({named})"
    where = f"parent {test}" + (f" or {finding.column('tags', THEIRS)} {test}" if tagged else "")
    return SearchRuns(where=where, order=("started",), limit=CHILDREN)
