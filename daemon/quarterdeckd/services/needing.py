"""What a version needs of feature views: what it takes, as the views have it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from quarterstore.ledger.features import view_of
from quarterstore.ledger.state import State
from quarterstore.records.faults import Conflict, Refused, got, missing
from quarterstore.records.online import Needed
from quarterstore.records.registry import RegisterVersion


def needed(state: State, act: RegisterVersion) -> tuple[Needed, ...]:
    """What a version needs: as it is said, else what it takes of the training set that it was fitted on."""
    takes: dict[str, str] = {each.name: each.kind for each in act.signature.features}
    if not takes:
        takes = {each.name: "category" if each.datatype == "BYTES" else "number" for each in act.signature.inputs}
    return _said(state, act.views, takes) if act.views else tuple(_of_set(state, act.dataset, takes))


def _said(state: State, asked: Sequence[str], takes: Mapping[str, str]) -> tuple[Needed, ...]:
    """What `usage` (all of it that the model takes) or `usage:minutes` mean for a model; a fault where a view has no
    such feature, the model does not take it, takes it as another kind, or two views would give it."""
    found: dict[str, Needed] = {}
    given_by: dict[str, str] = {}
    for name, wanted in _by_view(asked).items():
        view = view_of(state, name)
        kinds = view.kinds
        for each in wanted:
            if each not in kinds:
                raise missing("views", f"{view.name}:{each}", [f"{view.name}:{one}" for one in kinds])
            if each not in takes:
                raise got("views", f"{view.name}:{each}", f"what the model takes: {', '.join(takes)}")
        names = wanted or [each for each in kinds if each in takes]
        if not names:
            raise Refused(f"the model takes none of the features of {view.id}", field="views")
        for each in names:
            if not _fits(kinds[each], takes[each]):
                raise got("views", f"{view.name}:{each} is {kinds[each]}", f"a {takes[each]}, as the model takes it")
            if each in given_by:
                raise Conflict(f"{each} is in {given_by[each]} and in {view.id}", field="views")
            given_by[each] = view.id
        found[view.name] = Needed(name=view.name, version=view.version, features=tuple(names))
    return tuple(found.values())


def _of_set(state: State, dataset: str | None, takes: Mapping[str, str]) -> Iterator[Needed]:
    """The views of the training set with these bytes, as far as the model takes what they have."""
    made = next((each for each in state.training_sets if each.digest == dataset), None)
    for view in made.views if made is not None else ():
        name, _, version = view.view.partition("@")
        kinds: dict[str, str] = {each.name: each.kind for each in view.features}
        kinds |= {each.name: each.kind for each in view.on_demand}
        names = tuple(each for each, kind in kinds.items() if each in takes and _fits(kind, takes[each]))
        if names:
            yield Needed(name=name, version=int(version), features=names)


def _fits(kind: str, taken: str) -> bool:
    return (kind == "text") == (taken == "category")


def _by_view(asked: Sequence[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for text in asked:
        view, _, feature = text.partition(":")
        names = found.setdefault(view, [])
        if feature and feature not in names:
            names.append(feature)
    return found
