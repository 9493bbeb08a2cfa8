"""The best runs by a metric, in parallel: their parameters and the metric, each value with its place among them."""

from __future__ import annotations

import math
from typing import ClassVar

from rich.text import Text
from textual.binding import Binding, BindingType

from quarterdeck import finding
from quarterdeck.tui.screens.matrix import MatrixScreen
from quarterdeck.tui.screens.run_compare import label
from quarterdeck.tui.widgets.card_view import CardView
from quarterdeck.tui.widgets.drawing import muted, safe, section
from quarterdeck.tui.widgets.parallel import axis_of, parallel, valued
from quarterdeck.tui.widgets.record_table import Column, Row
from quarterdeck.wording import command_text
from quarterstore.records.runs import Run, RunPage, Value
from quarterstore.records.search import SearchRuns

COUNTS = (5, 10, 20, 50, 100, 200)
LOWER = ("loss", "err", "mae", "mse", "rmse", "perplexity", "latency", "ms", "seconds")
"""Parts of a metric's name that say that less is better, until `S` says otherwise."""
CELL, BAR = 18, 9


class BestScreen(MatrixScreen):
    """A row a run, the best first; the same below as one line an axis."""

    name_of_screen = "runs"
    nouns = frozenset({"runs"})
    keys = (
        ("m / M", "the next metric / the one before"),
        ("/", "find a metric by a part of its name"),
        ("S", "the lowest are the best, or the highest"),
        ("+ / -", "more runs / fewer"),
        ("← →", "columns beyond the edge"),
        ("enter", "the run of the row"),
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("S", "other_way", "lowest or highest"),
        Binding("plus", "count(1)", "more", key_display="+"),
        Binding("minus", "count(-1)", "fewer", key_display="-"),
    ]

    def __init__(self, where: str, metrics: tuple[str, ...]) -> None:
        super().__init__()
        self._where = where
        self.metrics = metrics
        self.metric = metrics[0]
        self._count = 10
        self._lowest: dict[str, bool] = {}
        self._runs: list[Run] = []
        self._names: list[str] = []
        self._endless = 0
        """Runs whose value of the metric is NaN or infinite."""

    @property
    def lowest(self) -> bool:
        """Whether less is better."""
        name = self.metric.lower()
        return self._lowest.get(self.metric, any(part in name for part in LOWER))

    def crumbs(self) -> tuple[str, ...]:
        """What is the best here."""
        words = f"best {self._count} by {self.metric}, {'lowest' if self.lowest else 'highest'} first"
        return ("runs", words, *self.crumbs_of_columns())

    def _asked(self) -> SearchRuns:
        column = finding.column("metrics", self.metric)
        order = (column if self.lowest else f"-{column}",)
        return SearchRuns(where=self._which(f"{column} is not null"), order=order, limit=self._count)

    def _asked_endless(self) -> SearchRuns:
        column = finding.column("metrics", self.metric)
        return SearchRuns(where=self._which(f"({column} = nan or {column} = inf or {column} = -inf)"), limit=1)

    def _which(self, condition: str) -> str:
        return f"({self._where}) and {condition}" if self._where.strip() else condition

    async def fill(self) -> None:
        """The daemon sorts; what is NaN or infinite is never the best: it is left out here, and how many that are is
        said."""
        page: RunPage = await self.deck_app.deck.ask(self._asked())
        self._runs = [run for run in page.runs if math.isfinite(run.metrics.get(self.metric, math.nan))]
        self._endless = (await self.deck_app.deck.ask(self._asked_endless())).total
        names = dict.fromkeys(name for run in self._runs for name in run.params)
        differing = [name for name in names if len({repr(run.params.get(name)) for run in self._runs}) > 1]
        self._names = differing or list(names)
        self._tabulate()
        self.draw_card()

    def _values(self, run: Run) -> list[Value]:
        return [run.metrics.get(self.metric), *(run.params.get(name) for name in self._names)]

    def _tabulate(self) -> None:
        table = [self._values(run) for run in self._runs]
        self._axes = [
            axis_of(name, [row[index] for row in table]) for index, name in enumerate((self.metric, *self._names))
        ]
        self.columns = (Column("run", 16, 1), *(Column(safe(axis.name, 40).plain, CELL) for axis in self._axes))
        self.rows = tuple(
            Row(
                run.id,
                (
                    safe(label(run), 40),
                    *(valued(axis, value, CELL, BAR) for axis, value in zip(self._axes, row, strict=True)),
                ),
            )
            for run, row in zip(self._runs, table, strict=True)
        )
        self.ranks = {run.id: (label(run), *row) for run, row in zip(self._runs, table, strict=True)}
        self.lay_rows()

    def draw_card(self) -> None:
        """Every axis on one line, all runs on it, the one under the cursor apart."""
        key = self.here()
        here = next((place for place, run in enumerate(self._runs) if run.id == key), None)
        rows, axes, runs = [self._values(run) for run in self._runs], self._axes, self._runs

        left = f", {self._endless} without a finite value left out" if self._endless else ""

        def drawing(width: int, height: int) -> Text:
            if not runs:
                return muted(f"no run has {self.metric}; m takes another metric\n")
            name = label(runs[here]) if here is not None else ""
            text = section(f"in parallel{left}", parallel(axes, rows, here, width), width)
            words = f"◆ {name}   • a run   2-9 so many at one place"
            text.append_text(muted(words + "\n"))
            return text

        self.query_one(CardView).show(drawing)

    def draw_metric(self, name: str) -> None:
        """The best by another metric."""
        super().draw_metric(name)
        self.sorted_by = -1
        self.load()

    def action_other_way(self) -> None:
        """Lowest first, or highest."""
        self._lowest[self.metric] = not self.lowest
        self.load()

    def action_count(self, by: int) -> None:
        """More, or fewer."""
        place = COUNTS.index(self._count) + by
        self._count = COUNTS[max(0, min(len(COUNTS) - 1, place))]
        self.load()

    def subject(self) -> tuple[str, str] | None:
        """The run of the row, and the search that finds them all."""
        return self.here() or "", command_text(self._asked())
