"""What is wanted of feature views, by name: with the files they lie in, as a job that joins them is given it."""

from __future__ import annotations

import math
from collections.abc import Sequence

from quarterstore.ledger.features import known_from, lumps_of, rows_of, view_of
from quarterstore.ledger.state import State
from quarterstore.records import features, formulas
from quarterstore.records.faults import Conflict, Refused, got, missing


def wanted_views(state: State, asked: Sequence[str], until: float = math.inf) -> tuple[features.Wanted, ...]:
    """`view` or `view:feature`, each view once with all that is wanted of it, and with the rows that had come by an
    instant; refused by the field `views`."""
    if not asked:
        raise got("views", "none", "at least one view")
    wanted = tuple(_wanted(state, view_of(state, name, until), names, until) for name, names in _by_view(asked).items())
    _distinct(wanted)
    return wanted


def _by_view(asked: Sequence[str]) -> dict[str, list[str]]:
    """The features that are wanted of each view, in the order asked; none for all of them."""
    found: dict[str, list[str]] = {}
    for text in asked:
        view, _, feature = text.partition(":")
        names = found.setdefault(view, [])
        if feature:
            names.append(feature)
    return found


def _wanted(state: State, view: features.FeatureView, names: Sequence[str], until: float) -> features.Wanted:
    known = {each.name: each for each in view.features}
    computed = {each.name: each for each in view.on_demand}
    for name in names:
        if name not in known and name not in computed:
            raise missing("views", f"{view.name}:{name}", [f"{view.name}:{each}" for each in (*known, *computed)])
    files = [each for each in rows_of(state, view.name) if each.at <= until]
    if not files:
        raise Refused(f"{view.name} has no rows", field="views", next=f"qd features load {view.name} FILE")
    stored = tuple(known[name] for name in dict.fromkeys(names) if name in known) if names else view.features
    on_demand = tuple(computed[name] for name in dict.fromkeys(names) if name in computed) if names else view.on_demand
    read = {name for each in on_demand for name in formulas.names(formulas.parsed(each.formula))}
    return features.Wanted(
        view=view.id,
        keys=view.keys,
        features=stored,
        ttl=view.ttl,
        files=tuple(each.digest for each in files),
        known=tuple(known_from(each) for each in files),
        lumps=tuple(lumps_of(state, view.name)),
        inputs=tuple(each for each in view.features if each.name in read and each not in stored),
        requests=tuple(each for each in view.requests if each.name in read),
        on_demand=on_demand,
        forgotten=tuple(sorted(each.id for each in state.forgettings if view.name in each.touched)),
    )


def _distinct(wanted: Sequence[features.Wanted]) -> None:
    """Two views may have features of one name; in one set they would be one column."""
    seen: dict[str, str] = {}
    for each in wanted:
        for name in each.columns:
            if name in seen:
                raise Conflict(f"{name} is in {seen[name]} and in {each.view}", field="views")
            seen[name] = each.view
