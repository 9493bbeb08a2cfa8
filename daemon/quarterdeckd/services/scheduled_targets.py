"""What a scheduled act goes to, by the fields that name it: looked at when the schedule is added."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

import msgspec

from quarterdeckd.services.definitions import checked
from quarterdeckd.services.spaces import check_search
from quarterstore.ledger.features import view_of
from quarterstore.ledger.finding import deployment_of, experiment_of, model_of, one_of, run_of, study_of, version_of
from quarterstore.ledger.state import State
from quarterstore.records.faults import Fault, missing
from quarterstore.records.pipelines import Definition
from quarterstore.records.registry import STAGES
from quarterstore.records.studies import StudyDefinition

Look = Callable[[State, Any], object]


def checked_target(state: State, act: dict[str, Any]) -> None:
    """Refuse an act on what is not there, by the field that names it and with the nearest; what is gone when it fires
    fails that firing, which says so. A stage, or `@latest`, is whatever it is then: of those the model has to be
    there."""
    for field, look in _looks(str(act["type"])):
        if act.get(field) in (None, "", (), []):
            continue
        try:
            look(state, act[field])
        except Fault as fault:
            # a definition says itself which of its fields it is
            place = f"{field}.{fault.field}" if field == "definition" and fault.field else field
            kind: Any = type(fault)
            raise kind(fault.message, field=f"act.{place}", nearest=fault.nearest, next=fault.next) from fault


def _looks(tag: str) -> Iterator[tuple[str, Look]]:
    """The fields of an act that name what has to be there, and how each is looked up."""
    own = OF_ONE.get(tag, {})
    noun = OF_NOUN.get(tag.partition(".")[0], {})
    for field, look in {**FIELDS, **noun, **own}.items():
        if look is not None:
            yield field, look


def _key_of(book: str, field: str) -> Look:
    """In a book by its whole name."""

    def look(state: State, name: str) -> None:
        rows = state.books()[book].rows
        if name not in rows:
            raise missing(field, name, rows)

    return look


def _id_of(book: str) -> Look:
    """In a book by its id, or a start of it."""
    return lambda state, text: one_of(state.books()[book], book, text)


def _version(state: State, text: str) -> object:
    model, _, which = text.partition("@")
    return model_of(state, model) if which in (*STAGES, "latest") else version_of(state, text)


def _versions(state: State, texts: list[str]) -> None:
    for text in texts:
        _version(state, text)


def _answering(state: State, text: str) -> object:
    return _version(state, text) if "@" in text else deployment_of(state, text)


def _views(state: State, texts: list[str]) -> None:
    for text in texts:
        view_of(state, text.partition(":")[0])


def _study(state: State, given: dict[str, Any]) -> None:
    data = check_search(msgspec.convert(given, StudyDefinition)).data
    if data is not None and data.dataset is not None:
        one_of(state.datasets, "data.dataset", data.dataset)


def _keys(state: State, names: list[str]) -> None:
    known = {key.name for view in state.feature_views for key in view.keys}
    for name in names:
        if name not in known:
            raise missing("keys", name, sorted(known))


FIELDS: Final[dict[str, Look | None]] = {
    "pipeline": _key_of("pipelines", "pipeline"),
    "pipeline_run": _id_of("pipeline_runs"),
    "definition": lambda state, given: checked(state, msgspec.convert(given, Definition)),
    "dataset": _id_of("datasets"),
    "endpoint": deployment_of,
    "version": _version,
    "others": _versions,
    "model": model_of,
    "view": view_of,
    "views": _views,
    "set": _id_of("training_sets"),
    "keys": _keys,
    "experiment": experiment_of,
    "run": run_of,
    "parent": run_of,
    "study": study_of,
    "job": _id_of("jobs"),
    "stream": _id_of("streams"),
    "hook": _id_of("hooks"),
    "delivery": _id_of("deliveries"),
    "remote": _key_of("remotes", "remote"),
    "alert": _id_of("alerts"),
    "approval": _id_of("approvals"),
    "hold": _id_of("holds"),
    "person": _key_of("people", "person"),
}
"""Fields of acts that name what has to be there, whatever the act."""
OF_NOUN: Final[dict[str, dict[str, Look | None]]] = {
    "trials": {"against": _version, "trial": _id_of("trials")},
    "logged_models": {"model": _id_of("logged_models")},
    "ct": {"model": _key_of("policies", "model")},
}
"""Where a field means another thing in the acts of one noun."""
OF_ONE: Final[dict[str, dict[str, Look | None]]] = {
    "deployments.deploy": {"endpoint": None},
    "ct.set": {"endpoint": None, "model": model_of},
    "remotes.roll_back": {"endpoint": None},
    "streams.start": {"model": _answering},
    "registry.register_source": {"run": None},
    "models.create": {"model": None},
    "logged_models.create": {"model": None},
    "governance.set_gate": {"model": None},
    "runs.start": {"experiment": None, "run": None},
    "people.add_key": {"person": None},
    "studies.start": {"definition": _study},
    "schedules.pause": {"name": _key_of("schedules", "name")},
    "schedules.remove": {"name": _key_of("schedules", "name")},
    "search.remove": {"name": _key_of("searches", "name")},
    "remotes.distrust": {"name": _key_of("senders", "name")},
    "registry.restore": {"version": lambda state, text: version_of(state, text, removed=True)},
    "models.restore": {"model": lambda state, text: model_of(state, text, removed=True)},
    "runs.restore": {"run": lambda state, text: run_of(state, text, removed=True)},
    "experiments.restore": {"experiment": lambda state, text: experiment_of(state, text, removed=True)},
}
"""Where the act makes what it names, or means a place of another deck, or something that was removed (None: not looked
at)."""
