"""Models: the names that versions are registered under, with descriptions, tags and aliases."""

from __future__ import annotations

from quarterstore.records.base import Act, Event, Query
from quarterstore.records.registry import Model


class CreateModel(Act[Model], tag="models.create", frozen=True):
    """Make a model without a version. The name of a removed one can be taken again; its numbers go on."""

    model: str
    description: str = ""
    tags: dict[str, str] = {}


class RenameModel(Act[Model], tag="models.rename", frozen=True):
    """Give a model another name; refused once it has versions, which bear the name in their ids."""

    model: str
    name: str


class DescribeModel(Act[Model], tag="models.describe", frozen=True):
    """Say what a model is for."""

    model: str
    description: str


class TagModel(Act[Model], tag="models.tag", frozen=True):
    """Set tags of a model; a tag that is given no value (null) is removed."""

    model: str
    tags: dict[str, str | None]


class RemoveModel(Act[Model], tag="models.remove", frozen=True):
    """Take a model and its versions out of sight; refused while one is in Production or in a deployment."""

    model: str


class RestoreModel(Act[Model], tag="models.restore", frozen=True):
    """Bring a removed model back with the versions that went with it."""

    model: str


class SetAlias(Act[Model], tag="models.set_alias", frozen=True):
    """Let a word name a version, as in `churn@champion`; a word that named another one of the model names this one
    from now on."""

    version: str
    alias: str


class RemoveAlias(Act[Model], tag="models.remove_alias", frozen=True):
    """Take a word off its version."""

    model: str
    alias: str


class ShowModel(Query[Model], tag="models.show", frozen=True):
    """One model, also a removed one."""

    model: str


class ModelChanged(Event, tag="models.changed", frozen=True):
    """The model that was called `before` has another name, description, other tags or aliases, is out of sight or
    back."""

    before: str
    model: Model
