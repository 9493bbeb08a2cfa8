"""The rules of logged models."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from quarterdeckd.services.deciding import Answerers, Asking, Decision, Rules
from quarterdeckd.services.labels import checked_params, checked_path, checked_tags, checked_time
from quarterstore.ledger.finding import experiment_of, one_of
from quarterstore.ledger.logged_models import MOST_POINTS
from quarterstore.ledger.state import State, tagged
from quarterstore.records import logged_models
from quarterstore.records.faults import Conflict, got, missing
from quarterstore.records.logged_models import LoggedModel, ModelPoint
from quarterstore.records.names import LONGEST_KEY, checked_text, checked_word
from quarterstore.records.runs import Artefact

LONGEST_DATASET = 500


def _of(state: State, name: str) -> LoggedModel:
    found: LoggedModel = one_of(state.logged_models, "model", name)
    if found.removed is not None:
        raise missing("model", name, [])
    return found


def _changed(former: LoggedModel, asking: Asking, words: str, *, undo: bool = False, **changes: Any) -> Decision:
    now = replace(former, updated=asking.now, **changes)
    event = logged_models.LoggedModelChanged(model=now, undo=undo)
    return Decision([event], words, lambda after: after.logged_models[now.id])


def _create(state: State, act: logged_models.CreateLoggedModel, asking: Asking) -> Decision:
    experiment = experiment_of(state, act.experiment)
    id_ = checked_word("model", act.model or asking.id("m"))
    if id_ in state.logged_models:
        raise Conflict(f"{id_} is there already", field="model")
    made = LoggedModel(
        id=id_,
        name=checked_text("name", act.name) if act.name else id_[-8:],
        experiment=experiment.id,
        status="PENDING",
        created=checked_time("created", act.created) if act.created else asking.now,
        updated=asking.now,
        actor=asking.actor,
        run=act.run and checked_text("run", act.run),
        flavour=checked_text("flavour", act.flavour) if act.flavour else "",
        params=checked_params(act.params),
        tags=checked_tags(act.tags),
    )
    event = logged_models.LoggedModelChanged(model=made)
    return Decision([event], f"began logged model {id_}", lambda after: after.logged_models[id_])


def _finish(state: State, act: logged_models.FinishLoggedModel, asking: Asking) -> Decision:
    found: LoggedModel = one_of(state.logged_models, "model", act.model)  # a removed one can end too
    return _changed(found, asking, f"{found.id} is {act.status}", status=act.status)


def _tag(state: State, act: logged_models.TagLoggedModel, asking: Asking) -> Decision:
    found = _of(state, act.model)
    tags = tagged(found.tags, checked_tags(act.tags))
    return _changed(found, asking, f"tagged {found.id}", undo=True, tags=tags)


def _params(state: State, act: logged_models.LogModelParams, asking: Asking) -> Decision:
    found = _of(state, act.model)
    params = {**found.params, **checked_params(act.params)}
    return _changed(found, asking, f"added {len(act.params)} parameters to {found.id}", params=params)


def _measure(state: State, act: logged_models.MeasureModel, asking: Asking) -> Decision:
    found = _of(state, act.model)
    if len(act.points) > MOST_POINTS:
        raise got("points", f"{len(act.points)} of them", f"at most {MOST_POINTS}")
    for point in act.points:
        checked_text("points.key", point.key, longest=LONGEST_KEY)
        for field, text in (("run", point.run), ("dataset", point.dataset), ("digest", point.digest)):
            if text:
                checked_text(f"points.{field}", text, longest=LONGEST_DATASET)
    known = {_told(point) for point in found.points}
    new = tuple({_told(point): point for point in act.points if _told(point) not in known}.values())
    event = logged_models.LoggedModelMeasured(model=found.id, points=new, at=asking.now)
    words = f"kept {len(new)} measurements of {found.id}"
    return Decision([event] if new else [], words, lambda after: after.logged_models[found.id])


def _told(point: ModelPoint) -> tuple[object, ...]:
    """A measurement in a form in which two NaN are one."""
    return (point.key, repr(point.value), point.time, point.step, point.run, point.dataset, point.digest)


def _artefact(state: State, act: logged_models.LogModelArtefact, asking: Asking) -> Decision:
    found = _of(state, act.model)
    others = tuple(each for each in found.artefacts if each.path != checked_path(act.path))
    kept = Artefact(path=act.path, digest=act.digest, size=act.size)
    return _changed(found, asking, f"kept {act.path} with {found.id}", artefacts=(*others, kept))


def _remove(state: State, act: logged_models.RemoveLoggedModel, asking: Asking) -> Decision:
    found = _of(state, act.model)
    return _changed(found, asking, f"removed {found.id}", undo=True, removed=asking.now)


def _listed(state: State, query: logged_models.ListLoggedModels, asking: Asking) -> list[LoggedModel]:
    numbers = {experiment_of(state, name, removed=True).id for name in query.experiments}
    found = [each for each in state.logged_models if each.removed is None]
    return sorted(
        (each for each in found if not numbers or each.experiment in numbers),
        key=lambda each: (-each.created, each.id),
    )


RULES: Rules = {
    logged_models.CreateLoggedModel: _create,
    logged_models.FinishLoggedModel: _finish,
    logged_models.TagLoggedModel: _tag,
    logged_models.LogModelParams: _params,
    logged_models.MeasureModel: _measure,
    logged_models.LogModelArtefact: _artefact,
    logged_models.RemoveLoggedModel: _remove,
}
ANSWERS: Answerers = {
    logged_models.ListLoggedModels: _listed,
    logged_models.ShowLoggedModel: lambda state, query, asking: one_of(state.logged_models, "model", query.model),
}
