"""The daemon as an import sees it: what is here already, acts that a dry run does not say, and what was counted."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec

from quarterstore.records import logged_models, runs
from quarterstore.records.base import Query
from quarterstore.records.faults import Conflict, NotFound, got
from quarterstore.records.names import LONGEST_KEY, LONGEST_VALUE, checked_text

if TYPE_CHECKING:
    from quarterdeck.client import Client

PAGE = 1000


class Taken(msgspec.Struct):
    """What was taken in so far; `known` counts the runs that were here already, `left` says what was not taken, and
    why."""

    experiments: int = 0
    runs: int = 0
    known: int = 0
    points: int = 0
    artefacts: int = 0
    logged_models: int = 0
    models: int = 0
    versions: int = 0
    aliases: int = 0
    left: list[str] = []


class Deck:
    """The daemon; in a dry run it is asked, and told nothing."""

    def __init__(self, client: Client, *, dry_run: bool) -> None:
        self.client = client
        self.dry_run = dry_run

    def do(self, message: Any) -> Any:
        """The answer to an act or a sample; None in a dry run."""
        return None if self.dry_run else self.client.ask(message)

    def found(self, query: Query[Any]) -> Any:
        """What a query finds, or None."""
        try:
            return self.client.ask(query)
        except (NotFound, Conflict):  # a conflict: several ids start so, and none is this one
            return None

    def run(self, id_: str) -> runs.Run | None:
        """The run of exactly this id."""
        found = self.found(runs.ShowRun(run=id_))
        return found if found is not None and found.id == id_ else None

    def logged_model(self, id_: str) -> logged_models.LoggedModel | None:
        """The logged model of exactly this id."""
        found = self.found(logged_models.ShowLoggedModel(model=id_))
        return found if found is not None and found.id == id_ else None

    def runs_of(self, experiment: str) -> dict[str, runs.Run]:
        """The runs of an experiment that are here, removed or not, by id: one question for a page of them, since each
        answer that there is none looks for similar ids."""
        found: dict[str, runs.Run] = {}
        after = None
        while True:
            query = runs.ListRuns(experiment=experiment, sort="id", limit=PAGE, after=after, removed=True)
            page = self.client.ask(query, timeout=600.0)
            found.update((run.id, run) for run in page.runs)
            if (after := page.next) is None:
                return found

    def logged_models_of(self, experiment: str) -> dict[str, logged_models.LoggedModel]:
        """The logged models of an experiment that are here and not removed."""
        found = self.found(logged_models.ListLoggedModels(experiments=(experiment,)))
        return {model.id: model for model in found or ()}

    def points(self, run: str) -> Iterator[tuple[str, int, float, float | None]]:
        """Every point of a run that is here; NaN as None."""
        for curve in self.client.ask(runs.MetricHistory(run=run, points=0), timeout=600.0):
            for step, at, value in zip(curve.steps, curve.times, curve.values, strict=True):
                yield curve.key, step, at, value if value == value else None


def checked_tag(name: str, value: str) -> None:
    """Raise for a tag that the rules refuse."""
    checked_text("tags", name, longest=LONGEST_KEY)
    if len(value) > LONGEST_VALUE:
        raise got("tags", f"{len(value)} characters", f"at most {LONGEST_VALUE}")


def checked_param(name: str, value: str) -> None:
    """Raise for a parameter that the rules refuse."""
    checked_text("params", name, longest=LONGEST_KEY)
    if len(value) > LONGEST_VALUE:
        raise got("params", f"{len(value)} characters", f"at most {LONGEST_VALUE}")


def created(moment: float | None) -> dict[str, str]:
    """When something was made there, as a tag: here it is new."""
    if moment is None:
        return {}
    try:
        return {"mlflow.created": datetime.fromtimestamp(moment, UTC).isoformat(timespec="milliseconds")}
    except (OverflowError, ValueError, OSError):
        return {"mlflow.created": f"{moment:.3f} s after 1970"}  # no calendar has it
