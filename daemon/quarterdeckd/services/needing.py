"""What a version needs of feature views: what it takes, as the views have it."""

from __future__ import annotations

from collections.abc import Sequence

from quarterstore.ledger.features import view_of
from quarterstore.ledger.state import State
from quarterstore.records.faults import Conflict, Refused, got, missing
from quarterstore.records.online import Needed
from quarterstore.records.registry import Signature


def needed(state: State, asked: Sequence[str], signature: Signature) -> tuple[Needed, ...]:
    """What `usage` (all of it that the model takes) or `usage:minutes` mean for a model; a fault where a view has no
    such feature, the model does not take it, takes it as another kind, or two views would give it."""
    takes: dict[str, str] = {each.name: each.kind for each in signature.features}
    if not takes:
        takes = {each.name: "category" if each.datatype == "BYTES" else "number" for each in signature.inputs}
    found: dict[str, Needed] = {}
    given_by: dict[str, str] = {}
    for name, wanted in _by_view(asked).items():
        view = view_of(state, name)
        kinds = view.kinds
        for each in wanted:
            if each not in kinds:
                raise missing("views", f"{view.name}:{each}", [f"{view.name}:{one}" for one in kinds])
            if each not in takes:
                raise got(
                    "views", f"{view.name}:{each}", f"what the model takes: {', '.join(takes) or 'it names nothing'}"
                )
        names = wanted or [each for each in kinds if each in takes]
        if not names:
            raise Refused(f"the model takes none of the features of {view.id}", field="views")
        for each in names:
            if (kinds[each] == "text") != (takes[each] == "category"):
                raise got("views", f"{view.name}:{each} is {kinds[each]}", f"a {takes[each]}, as the model takes it")
            if each in given_by:
                raise Conflict(f"{each} is in {given_by[each]} and in {view.id}", field="views")
            given_by[each] = view.id
        found[view.name] = Needed(name=view.name, version=view.version, features=tuple(names))
    return tuple(found.values())


def _by_view(asked: Sequence[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for text in asked:
        view, _, feature = text.partition(":")
        names = found.setdefault(view, [])
        if feature and feature not in names:
            names.append(feature)
    return found
