"""Registered models with their versions, stages and aliases, as MLflow holds them, registered here by reference."""

from __future__ import annotations

from typing import Any

import msgspec

from quarterdeck.mlflow.deck import Deck, Taken, checked_tag, created
from quarterdeck.mlflow.left import Left
from quarterdeck.mlflow.shapes import Model, Source, Version
from quarterstore.records import models, registry
from quarterstore.records.faults import Conflict, Invalid, got
from quarterstore.records.names import checked_name, checked_text

REASON = "imported from MLflow"
GONE = "deleted or left in MLflow"
"""The source of what holds the place of a number whose version is not taken."""
UNKNOWN = "unknown"
MOST_GONE = 1000
LONGEST_SOURCE = 1000


class Registering:
    """The registry's part of an import: models in the order of names, versions in that of numbers, which are kept."""

    def __init__(self, source: Source, deck: Deck, left: Left, taken: Taken) -> None:
        self._source = source
        self._deck = deck
        self._left = left
        self._taken = taken
        self._number = 0

    def all(self) -> None:
        """Every model; what is refused is left."""
        with self._left.over("models"):
            for model in self._source.models():
                with self._left.over(f"model {model.name[:80]!r}"):
                    self._model(model)

    def _model(self, model: Model) -> None:
        name = checked_name("model", model.name)
        here: registry.Model | None = self._deck.found(models.ShowModel(model=name))
        if here is not None and here.removed is not None:
            raise Conflict(f"{name} was removed here", field="model")
        if here is None:
            self._create(name, model)
        versions = list(self._source.versions(model))
        known = self._known(name) if here is not None else {}
        self._number = here.latest if here is not None else 0
        top = max((each.number for each in versions if each.stage == "Production"), default=0)
        for version in versions:
            with self._left.over(f"version {name}@{version.number}"):
                if version.number > self._number:
                    self._version(name, version)
                elif version.number not in known or known[version.number].source != (version.source or UNKNOWN):
                    raise Conflict("another one of this number is here already", field="version")
                self._stage(name, version, known.get(version.number), top)
        for alias, named in model.aliases.items():
            with self._left.over(f"alias {name}@{alias}"):
                self._alias(name, alias, named, here)

    def _create(self, name: str, model: Model) -> None:
        told = {**created(model.created), **model.tags}
        act = models.CreateModel(
            model=name,
            description=model.description,
            tags=self._left.sifted(f"tag of model {name}", told, checked_tag),
        )
        self._without(act, "description", f"description of model {name}")
        self._taken.models += 1

    def _without(self, act: Any, field: str, what: str) -> Any:
        """The answer to an act, without one of its texts where that is refused."""
        try:
            return self._deck.do(act)
        except Invalid as fault:
            if fault.field != field:
                raise
            self._left.add(what, fault)
            return self._deck.do(msgspec.structs.replace(act, **{field: ""}))

    def _known(self, name: str) -> dict[int, registry.Version]:
        """The versions that are here; what holds the place of another one and was not removed yet is removed now."""
        found = {each.number: each for each in self._deck.client.ask(registry.ListVersions(model=name, removed=True))}
        for each in found.values():
            if each.source == GONE and each.removed is None:
                self._deck.do(registry.RemoveVersion(version=each.id))
        return found

    def _version(self, name: str, version: Version) -> None:
        """Register a version under its own number: those before it that MLflow has not are given to nobody."""
        if version.number - self._number > MOST_GONE:
            expected = f"at most {self._number + MOST_GONE}, as {name}@{self._number} is the one before"
            raise got("version", version.number, expected)
        told = {**created(version.created), **({"mlflow.user": version.user} if version.user else {}), **version.tags}
        what = f"{name}@{version.number}"
        act = registry.RegisterSource(
            model=name,
            source=version.source or UNKNOWN,
            run=version.run,
            notes=version.description,
            tags=self._left.sifted(f"tag of version {what}", told, checked_tag),
        )
        checked_text("source", act.source, longest=LONGEST_SOURCE)
        while self._number + 1 < version.number:
            self._registered(registry.RegisterSource(model=name, source=GONE))
            self._deck.do(registry.RemoveVersion(version=f"{name}@{self._number}"))
        self._registered(act)
        self._taken.versions += 1

    def _registered(self, act: registry.RegisterSource) -> None:
        made = self._without(act, "notes", f"description of version {act.model}@{self._number + 1}")
        self._number += 1
        if made is not None and made.number != self._number:
            self._deck.do(registry.RemoveVersion(version=made.id))
            self._number = made.number
            raise Conflict(f"{made.id} was to be {self._number}: somebody else registers too", field="version")

    def _stage(self, name: str, version: Version, here: registry.Version | None, top: int) -> None:
        """Move a version to its stage, unless somebody moved it here."""
        if version.stage == "None" or (here is not None and (here.stage != "None" or here.updated is not None)):
            return
        if version.stage not in registry.STAGES:
            raise got("stage", version.stage, ", ".join(registry.STAGES))
        if version.stage == "Production" and version.number != top:
            raise got("stage", f"Production beside {name}@{top}", "one version in Production")
        self._deck.do(
            registry.MoveStage(
                version=f"{name}@{version.number}",
                stage=version.stage,
                skip_stage=True,
                reason=REASON,
            )
        )

    def _alias(self, name: str, alias: str, named: int, here: registry.Model | None) -> None:
        there = here.aliases.get(alias) if here is not None else None
        if there == named:
            return
        if there is not None:
            raise Conflict(f"it is {name}@{there} here", field="alias")
        self._deck.do(models.SetAlias(version=f"{name}@{named}", alias=alias))
        self._taken.aliases += 1
