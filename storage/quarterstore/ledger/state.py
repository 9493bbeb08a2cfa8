"""The state: everything the rules look at, in memory, made of books and changed by folding events only."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import msgspec

from quarterstore.ledger.book import Book, Changes, Former
from quarterstore.records import (
    compression,
    ct,
    datasets,
    deployments,
    drills,
    experiments,
    feature_files,
    features,
    governance,
    hooks,
    jobs,
    logged_models,
    monitoring,
    online,
    outcomes,
    packages,
    people,
    pipelines,
    registry,
    remotes,
    replays,
    retention,
    runs,
    schedules,
    search,
    streams,
    studies,
    trials,
)
from quarterstore.records.base import Event, Record
from quarterstore.records.wire import plain

R = TypeVar("R", bound=Record)
Fold = Callable[["State", Any], None]


class Step(Record, frozen=True):
    """An act that its actor can still take back: the entry, and the events that undo it."""

    entry: int
    actor: str
    act: str
    words: str
    inverse: tuple[dict[str, Any], ...]
    """Events that take it back, last one first."""


class Recording(Record, frozen=True):
    """The recording rule of one endpoint."""

    endpoint: str
    rule: deployments.RecordingRule


class Admission(Record, frozen=True):
    """A version that has answered its golden rows."""

    version: str
    at: float


class Cursor(Record, frozen=True):
    """A number that has to survive: the reactions' place in the journal, the read-only mode, whether serving is
    stopped."""

    name: str
    value: str


class Context(NamedTuple):
    """The entry whose events are being folded."""

    seq: int
    at: float
    actor: str
    act: str
    words: str


class State:
    """The books of every noun; `take` hands over what changed since the last time."""

    def __init__(self) -> None:
        self.changes: Changes = {}
        self.former: Former = []
        self.context = Context(0, 0.0, "", "", "")
        book = self._book
        self.people = book("people", people.Person, lambda r: r.name)
        self.keys = book("keys", people.Key, lambda r: r.public)
        self.experiments = book("experiments", experiments.Experiment, lambda r: r.name)
        self.runs = book("runs", runs.Run, lambda r: r.id)
        self.logged_models = book("logged_models", logged_models.LoggedModel, lambda r: r.id)
        self.datasets = book("datasets", datasets.Dataset, lambda r: r.id)
        self.feature_views = book("feature_views", features.FeatureView, lambda r: r.id)
        self.feature_rows = book("feature_rows", features.FeatureRows, lambda r: r.id)
        self.feature_parts = book("feature_parts", features.Part, lambda r: r.id)
        self.forgettings = book("forgettings", feature_files.Forgetting, lambda r: r.id)
        self.doomed = book("doomed", feature_files.Doomed, lambda r: r.digest)
        self.training_sets = book("training_sets", features.TrainingSet, lambda r: r.id)
        self.generations = book("generations", online.Generation, lambda r: r.id)
        self.packages = book("packages", packages.PackageList, lambda r: r.digest)
        self.searches = book("searches", search.SavedSearch, lambda r: r.name)
        self.models = book("models", registry.Model, lambda r: r.name)
        self.versions = book("versions", registry.Version, lambda r: r.id)
        self.tenures = book("tenures", registry.Tenure, lambda r: f"{r.model}/{r.environment}/{r.entry:012d}")
        self.stage_moves = book(
            "stage_moves", registry.StageMove, lambda r: f"{r.model}/{r.entry:012d}/{r.version}/{r.after}"
        )
        self.gates = book("gates", governance.Gate, lambda r: r.model)
        self.approvals = book("approvals", governance.Approval, lambda r: r.id)
        self.jobs = book("jobs", jobs.Job, lambda r: r.id)
        self.pipelines = book("pipelines", pipelines.Pipeline, lambda r: r.name)
        self.pipeline_runs = book("pipeline_runs", pipelines.PipelineRun, lambda r: r.id)
        self.studies = book("studies", studies.Study, lambda r: r.id)
        self.schedules = book("schedules", schedules.Schedule, lambda r: r.name)
        self.firings = book("firings", schedules.History, lambda r: r.schedule)
        self.maintenance = book("maintenance", schedules.Maintenance, lambda r: "deck")
        self.deployments = book("deployments", deployments.Deployment, lambda r: r.endpoint)
        self.recordings = book("recordings", Recording, lambda r: r.endpoint)
        self.admissions = book("admissions", Admission, lambda r: r.version)
        self.uploads = book("uploads", outcomes.OutcomeUpload, lambda r: r.id)
        self.trials = book("trials", trials.Trial, lambda r: r.id)
        self.streams = book("streams", streams.Stream, lambda r: r.id)
        self.drifts = book("drifts", monitoring.Drift, lambda r: r.id)
        self.alerts = book("alerts", monitoring.Alert, lambda r: r.id)
        self.policies = book("policies", ct.Policy, lambda r: r.model)
        self.hooks = book("hooks", hooks.Hook, lambda r: r.id)
        self.deliveries = book("deliveries", hooks.Delivery, lambda r: r.id)
        self.gate_answers = book(
            "gate_answers", hooks.GateAnswer, lambda r: hooks.answer_key(r.hook, r.version, r.stage, r.environment)
        )
        self.remotes = book("remotes", remotes.Remote, lambda r: r.name)
        self.remote_changes = book("remote_changes", remotes.RemoteChange, lambda r: r.id)
        self.senders = book("senders", remotes.Sender, lambda r: r.name)
        self.bundles = book("bundles", remotes.Bundle, lambda r: r.id)
        self.optimisations = book("optimisations", compression.Optimisation, lambda r: r.id)
        self.replays = book("replays", replays.Replay, lambda r: r.id)
        self.drills = book("drills", drills.Drill, lambda r: r.id)
        self.retentions = book("retentions", retention.Retention, lambda r: r.kind)
        self.holds = book("holds", retention.Hold, lambda r: r.id)
        self.undo = book("undo", Step, lambda r: f"{r.entry:012d}")
        self.cursors = book("cursors", Cursor, lambda r: r.name)
        self._books = {book.name: book for book in vars(self).values() if isinstance(book, Book)}

    def _book(self, name: str, kind: type[R], key: Callable[[R], str]) -> Book[R]:
        return Book(name, kind, key, self.changes, self.former)

    def copied(self) -> State:
        """Another state of the same records, from which on each goes its own way."""
        copy = State()
        for name, book in self.books().items():
            copy.books()[name].rows.update(book.rows)
        return copy

    def books(self) -> dict[str, Book[Any]]:
        """Every book by its name."""
        return self._books

    def begin(self) -> None:
        """From here on `roll_back` restores: one act, whole or not at all."""
        self.former.clear()

    def roll_back(self) -> None:
        """Put back what was there at `begin`; what is noted as changed is noted as it was."""
        books = self.books()
        for name, key, record in reversed(self.former):
            if record is None:
                books[name].rows.pop(key, None)
            else:
                books[name].rows[key] = record
            self.changes[name, key] = record
        self.former.clear()

    def take(self) -> Changes:
        """What changed since the last call."""
        taken = dict(self.changes)
        self.changes.clear()
        self.former.clear()
        return taken

    def clear(self) -> None:
        """Forget everything: it is folded again from the beginning."""
        for book in self.books().values():
            book.rows.clear()
        self.take()

    def apply(self, changes: Changes) -> None:
        """Follow another state: take over what changed there."""
        books = self.books()
        for (name, key), record in changes.items():
            if record is None:
                books[name].rows.pop(key, None)
            else:
                books[name].rows[key] = record


def copy_of(record: Record, **changes: Any) -> Any:
    """A record with some fields replaced (`msgspec.structs.replace`, named for what the folds do with it)."""
    return msgspec.structs.replace(record, **changes)


def tagged(tags: dict[str, str], changes: dict[str, str | None]) -> dict[str, str]:
    """Tags after a change; those without a value are gone."""
    return {name: value for name, value in {**tags, **changes}.items() if value is not None}


UNDO_KEPT = 200


def undoable(state: State, inverse: Event) -> None:
    """Note that `inverse` takes back what is being folded now; the oldest notes go."""
    context = state.context
    key = f"{context.seq:012d}"
    former = state.undo.get(key)
    inverses = (plain(inverse), *(former.inverse if former else ()))
    state.undo.put(Step(entry=context.seq, actor=context.actor, act=context.act, words=context.words, inverse=inverses))
    while len(state.undo) > UNDO_KEPT:
        state.undo.drop(next(iter(state.undo.rows)))
