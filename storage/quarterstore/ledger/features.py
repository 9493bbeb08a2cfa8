"""The books of feature views, their rows, and training sets; the rows themselves are artefacts."""

from __future__ import annotations

import math

from quarterstore.ledger.state import Fold, State
from quarterstore.records import features
from quarterstore.records.faults import Refused, missing


def view_of(state: State, text: str, until: float = math.inf) -> features.FeatureView:
    """The newest version of a view by its name (as it was at an instant), or one version by `name@2`; `NotFound` names
    the nearest."""
    name, _, number = text.partition("@")
    found = [each for each in state.feature_views if each.name == name and each.created <= until]
    if number:
        found = [each for each in found if str(each.version) == number]
    if not found:
        raise missing("view", text, sorted({each.name for each in state.feature_views}))
    return max(found, key=lambda each: each.version)


def rows_of(state: State, view: str) -> list[features.FeatureRows]:
    """The files of a view, in the order in which they were kept."""
    return [each for each in state.feature_rows if each.view == view]


def lumps_of(state: State, view: str) -> list[features.Lump]:
    """The files of a view as they lie on the disk: parts by time, then single files in the order in which they came."""
    place = {each.digest: number for number, each in enumerate(rows_of(state, view))}
    parts = [each for each in state.feature_parts if each.view == view]
    whole = sorted((each for each in parts if each.span), key=lambda each: each.span)
    single = [(place[each.of[0]], features.Lump(file=each.digest, of=each.of)) for each in parts if not each.span]
    loose = [
        (place[each.digest], features.Lump(file=each.digest, of=(each.digest,), known=known_at(each)))
        for each in rows_of(state, view)
        if not each.folded
    ]
    later = [lump for _, lump in sorted([*single, *loose], key=lambda each: each[0])]
    return [*(features.Lump(file=each.digest, of=each.of) for each in whole), *later]


def known_at(rows: features.FeatureRows) -> float | None:
    """When the rows of a file were known, where they do not say it themselves."""
    return rows.at if rows.known == "now" else None


def known_from(rows: features.FeatureRows) -> float | None:
    """From when on a row of a file was known, as far as that is noted: until then none of it can be in a set."""
    return rows.at if rows.known == "now" else rows.known_from


def check_unforgotten(state: State, join: features.JoinSpec) -> None:
    """`Refused` where rows of somebody were taken out of a view since a join was asked for: it read them, and nothing
    that is kept says of whom they were. One that is made again names what it is without, and is not kept."""
    for view in join.views if join.again is None else ():
        name = view.view.partition("@")[0]
        since = [each.id for each in state.forgettings if name in each.touched and each.id not in view.forgotten]
        if since:
            raise Refused(
                f"{view.view} was joined with rows that {since[-1]} took out meanwhile", field="set", next="ask again"
            )


def _defined(state: State, event: features.ViewDefined) -> None:
    state.feature_views.put(event.view)


def _added(state: State, event: features.RowsAdded) -> None:
    state.feature_rows.put(event.rows)


def _made(state: State, event: features.TrainingSetMade) -> None:
    state.training_sets.put(event.set)


FOLDS: dict[type, Fold] = {
    features.ViewDefined: _defined,
    features.RowsAdded: _added,
    features.TrainingSetMade: _made,
}
