"""The columns of the runs table: what runs have by themselves; the metrics, parameters and tags that were chosen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from rich.text import Text

from quarterdeck import finding
from quarterdeck.tui.widgets.drawing import age, ago, number, right, safe, state
from quarterdeck.tui.widgets.record_table import Column
from quarterstore.records.runs import Run
from quarterstore.records.search import RunColumns

KINDS = ("metrics", "params", "tags")
FEW = 2
"""Metrics, and parameters, that are columns before somebody chose: the first that most runs have."""
Cell = Callable[[Run, float], Text]


class Attribute(NamedTuple):
    """What a run has by itself: heading, least width, share of what is left, when it gives way, how it is drawn."""

    title: str
    width: int
    flex: int
    drop: int
    right: bool
    cell: Cell


ATTRIBUTES: dict[str, Attribute] = {
    "id": Attribute("run", 8, 0, 60, False, lambda run, now: safe(run.id[-8:])),
    "experiment": Attribute("experiment", 10, 2, 30, False, lambda run, now: safe(run.experiment, 60)),
    "name": Attribute("name", 10, 3, 0, False, lambda run, now: safe(run.name, 60)),
    "state": Attribute("state", 10, 0, 0, False, lambda run, now: state(run.state)),
    "started": Attribute("started", 10, 0, 20, True, lambda run, now: right(ago(run.started, now))),
    "ended": Attribute("ended", 10, 0, 61, True, lambda run, now: right(ago(run.ended, now))),
    "duration": Attribute("took", 7, 0, 62, True, lambda run, now: right(age((run.ended or now) - run.started))),
    "actor": Attribute("by", 8, 1, 63, False, lambda run, now: safe(run.actor, 40)),
    "parent": Attribute("parent", 8, 0, 64, False, lambda run, now: safe((run.parent or "-")[-8:])),
    "job": Attribute("job", 8, 0, 65, False, lambda run, now: safe((run.job or "-")[-8:])),
    "notes": Attribute("notes", 10, 2, 66, False, lambda run, now: safe(run.notes.partition("\n")[0] or "-", 200)),
}
"""By the names of the search."""


class RunColumn(NamedTuple):
    """A column by the name of the search: `metrics` and `acc`, or `attributes` and `state`."""

    kind: str
    name: str

    def words(self) -> str:
        """As it is kept: `metrics.acc`, `attributes.state`."""
        return f"{self.kind}.{self.name}"

    def sort(self) -> str:
        """As a search is told of it."""
        return self.name if self.kind == "attributes" else finding.column(self.kind, self.name)

    def column(self, place: int, chosen: bool) -> Column:
        """As a column of the table; where it is narrow, what was chosen gives way from the last on."""
        if self.kind == "attributes":
            title, width, flex, drop, is_right, _ = ATTRIBUTES[self.name]
            return Column(title, width, flex, place if chosen else drop, is_right, self.sort())
        drop = place if chosen else {"metrics": 1, "params": 31, "tags": 50}[self.kind] + min(place, 9)
        return Column(safe(self.name, 40).plain, 10, 1, drop, self.kind == "metrics", self.sort())

    def cell(self, run: Run, now: float) -> Text:
        """What a run has there."""
        if self.kind == "attributes":
            return ATTRIBUTES[self.name].cell(run, now)
        if self.kind == "metrics":
            return right(number(run.metrics.get(self.name), 6))
        found: Mapping[str, object] = run.params if self.kind == "params" else run.tags
        value = found.get(self.name)
        return safe("-" if value is None else number(value, 6) if isinstance(value, float) else value, 60)


def read(words: Iterable[str]) -> tuple[RunColumn, ...]:
    """Columns as they were kept; what is none is passed over."""
    found = [RunColumn(*word.partition(".")[::2]) for word in words if "." in word]
    known = [each for each in found if each.kind in KINDS or (each.kind == "attributes" and each.name in ATTRIBUTES)]
    return tuple(dict.fromkeys(each for each in known if each.name))


def automatic(runs: Sequence[Run]) -> tuple[RunColumn, ...]:
    """What is shown before somebody chose: the metrics and parameters that most of these runs have."""
    metrics = Counter(name for run in runs for name in run.metrics)
    params = Counter(name for run in runs for name in run.params)
    return (
        *(RunColumn("attributes", name) for name in ("id", "experiment", "name", "state")),
        *(RunColumn("metrics", name) for name in _most(metrics)),
        *(RunColumn("params", name) for name in _most(params)),
        RunColumn("attributes", "started"),
    )


def _most(names: Counter[str]) -> list[str]:
    return sorted(names, key=lambda name: (-names[name], name))[:FEW]


def offered(known: RunColumns, chosen: Sequence[RunColumn]) -> list[RunColumn]:
    """What there is to choose: the chosen first, in their order, then the rest by kind and name."""
    found = dict.fromkeys(chosen)
    found.update(dict.fromkeys(RunColumn("attributes", name) for name in ATTRIBUTES))
    found.update(dict.fromkeys(RunColumn(kind, name) for kind in KINDS for name in getattr(known, kind)))
    return list(found)
