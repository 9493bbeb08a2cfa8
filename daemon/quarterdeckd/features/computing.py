"""Features on demand for a caller's rows: what has to be read for them, and what comes of it and of the row itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from quarterdeckd.features.derived import column_of, derived, plain
from quarterdeckd.features.entities import cell
from quarterstore.records import formulas
from quarterstore.records.online import OnlineView


def read_for(view: OnlineView, wanted: Sequence[str]) -> Sequence[str]:
    """The kept features that have to be read for those that are wanted: the same where none is on demand."""
    if {each.name for each in view.on_demand}.isdisjoint(wanted):
        return wanted
    kept = {each.name for each in view.features}
    return [name for name in formulas.read_for(wanted, view.on_demand) if name in kept]


def completed(
    view: OnlineView,
    wanted: Sequence[str],
    values: Sequence[list[Any]],
    rows: Sequence[Mapping[str, Any]],
    fields: Sequence[str],
) -> Sequence[list[Any]]:
    """What is wanted of each row, from the `values` of `read_for` and the requests that the `rows` give (nothing where
    they do not); raises `Invalid` by the row's field for one that is not of its kind."""
    on_demand = [each for each in view.on_demand if each.name in wanted]
    if not on_demand:
        return values
    read = read_for(view, wanted)
    kinds = {each.name: each.kind for each in view.features}
    columns = {name: column_of([row[place] for row in values], kinds[name]) for place, name in enumerate(read)}
    for each in view.requests:
        cells = [
            cell(each.kind, row.get(each.name), f"{field}.{each.name}") for row, field in zip(rows, fields, strict=True)
        ]
        columns[each.name] = column_of(cells, each.kind)
    made = {name: plain(column) for name, column in derived(on_demand, columns, len(rows)).items()}
    place = {name: at for at, name in enumerate(read)}
    return [
        [made[name][number] if name in made else row[place[name]] for name in wanted]
        for number, row in enumerate(values)
    ]
