"""The rules of models: made, named, described, tagged, taken away; words that name a version."""

from __future__ import annotations

import re

from msgspec.structs import replace

from quarterdeckd.services.deciding import Answerers, Asking, Decision, Rules
from quarterdeckd.services.labels import checked_prose, checked_tags
from quarterstore.ledger.finding import in_use, model_of, version_of
from quarterstore.ledger.state import State, tagged
from quarterstore.records import models, registry
from quarterstore.records.base import Event
from quarterstore.records.faults import Conflict, Refused, got, missing
from quarterstore.records.names import checked_name, checked_word

LONGEST = 5000
_taken = re.compile(r"(?:\d[\d.]*|v\d+|latest)\Z", re.IGNORECASE)
"""What `name@word` means already."""


def _free(state: State, field: str, text: str) -> str:
    name = checked_name(field, text)
    found = state.models.get(name)
    if found is not None and found.removed is None:
        raise Conflict(f"a model {name} is there already", field=field)
    return name


def _create(state: State, act: models.CreateModel, asking: Asking) -> Decision:
    name = _free(state, "model", act.model)
    former = state.models.get(name)
    made = registry.Model(
        name=name,
        created=asking.now,
        latest=former.latest if former else 0,
        description=checked_prose("description", act.description, longest=LONGEST),
        tags=checked_tags(act.tags),
        updated=asking.now,
    )
    event: Event = models.ModelChanged(before=name, model=made) if former else registry.ModelAdded(model=made)
    return Decision([event], f"made the model {name}", lambda after: after.models[name])


def _changed(former: registry.Model, now: registry.Model, words: str) -> Decision:
    return Decision([models.ModelChanged(before=former.name, model=now)], words, lambda after: after.models[now.name])


def _rename(state: State, act: models.RenameModel, asking: Asking) -> Decision:
    found = model_of(state, act.model)
    if act.name == found.name:
        raise Conflict(f"it is called {act.name} already", field="name")
    if found.latest:
        raise Refused(
            f"{found.name} has had {found.latest} versions, whose ids bear its name",
            field="model",
            next="make a model of the other name and register there",
        )
    if checked_name("name", act.name) in state.models:
        raise Conflict(f"a model {act.name} is there already", field="name")
    return _changed(
        found, replace(found, name=act.name, updated=asking.now), f"renamed the model {found.name} to {act.name}"
    )


def _describe(state: State, act: models.DescribeModel, asking: Asking) -> Decision:
    found = model_of(state, act.model)
    now = replace(found, description=checked_prose("description", act.description, longest=LONGEST), updated=asking.now)
    return _changed(found, now, f"described {found.name}")


def _tag(state: State, act: models.TagModel, asking: Asking) -> Decision:
    found = model_of(state, act.model)
    now = replace(found, tags=tagged(found.tags, checked_tags(act.tags)))
    return _changed(found, now, f"tagged {found.name}")


def _remove(state: State, act: models.RemoveModel, asking: Asking) -> Decision:
    found = model_of(state, act.model)
    for version in state.versions:
        if version.model == found.name and version.removed is None:
            used_at = in_use(state, version.id)
            if version.stage == "Production" or used_at is not None:
                where = f"live at {used_at}" if used_at else "in Production"
                raise Refused(f"{version.id} is {where}", field="model")
    now = replace(found, removed=asking.now, updated=asking.now)
    return _changed(found, now, f"removed the model {found.name}")


def _restore(state: State, act: models.RestoreModel, asking: Asking) -> Decision:
    found = model_of(state, act.model, removed=True)
    if found.removed is None:
        raise Conflict(f"{found.name} is not removed", field="model")
    return _changed(found, replace(found, removed=None, updated=asking.now), f"restored the model {found.name}")


def _set_alias(state: State, act: models.SetAlias, asking: Asking) -> Decision:
    version = version_of(state, act.version)
    alias = checked_word("alias", act.alias)
    if _taken.match(alias) or alias.lower() in {stage.lower() for stage in registry.STAGES}:
        raise got("alias", alias, "a word that is no number, no stage and not 'latest'")
    found = state.models[version.model]
    now = replace(found, aliases={**found.aliases, alias: version.number}, updated=asking.now)
    return _changed(found, now, f"{found.name}@{alias} is {version.id}")


def _remove_alias(state: State, act: models.RemoveAlias, asking: Asking) -> Decision:
    found = model_of(state, act.model)
    if act.alias not in found.aliases:
        raise missing("alias", act.alias, found.aliases)
    left = {alias: number for alias, number in found.aliases.items() if alias != act.alias}
    return _changed(found, replace(found, aliases=left, updated=asking.now), f"took {found.name}@{act.alias} away")


RULES: Rules = {
    models.CreateModel: _create,
    models.RenameModel: _rename,
    models.DescribeModel: _describe,
    models.TagModel: _tag,
    models.RemoveModel: _remove,
    models.RestoreModel: _restore,
    models.SetAlias: _set_alias,
    models.RemoveAlias: _remove_alias,
}
ANSWERS: Answerers = {models.ShowModel: lambda state, query, asking: model_of(state, query.model, removed=True)}
