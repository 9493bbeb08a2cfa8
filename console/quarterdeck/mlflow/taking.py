"""What MLflow holds, said to the daemon in its own messages: as if it had been logged here, under the same run ids."""

from __future__ import annotations

import hashlib
import tempfile
from array import array
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quarterdeck.mlflow.deck import Deck, Taken, checked_param, checked_tag, created
from quarterdeck.mlflow.left import Left
from quarterdeck.mlflow.places import unreadable
from quarterdeck.mlflow.registering import Registering
from quarterdeck.mlflow.shapes import STATES, Experiment, Fetch, LoggedModel, Point, Run, Source
from quarterstore.records import experiments, logged_models, runs
from quarterstore.records.faults import Conflict, NotFound, got
from quarterstore.records.names import (
    LONGEST_EXPERIMENT,
    LONGEST_VALUE,
    checked_path,
    checked_text,
    checked_word,
    composed,
)

if TYPE_CHECKING:
    from quarterdeck.client import Client

MOST = 50_000
"""Points of one batch."""
TOGETHER = 100
"""Params or tags of one message."""
NAME = "mlflow.runName"
PARENT = "mlflow.parentRunId"
NOTE = "mlflow.note.content"
NUMBER = "mlflow.experimentId"
"""The tag by which an experiment is known to have come from here."""


class Taking:
    """One import. What is here already is left, so that one that was cut off goes on when it is asked again: a run or
    a logged model is open until all of it is here, and nothing else of it is looked at afterwards."""

    def __init__(
        self,
        source: Source,
        client: Client,
        left: Left,
        say: Callable[[str], None],
        show: Callable[[str, float], None],
        *,
        dry_run: bool = False,
    ) -> None:
        self._source = source
        self._left = left
        self._say = say
        self._show = show
        self._taken = Taken(left=left.lines)
        self._deck = Deck(client, dry_run=dry_run)
        self._runs: dict[str, runs.Run] = {}
        self._models: dict[str, logged_models.LoggedModel] = {}

    def all(self) -> Taken:
        """Everything; what is refused is said and left, the rest goes on."""
        for experiment in self._source.experiments():
            with self._left.over(f"experiment {experiment.name[:80]!r}"):
                self._experiment(experiment)
        Registering(self._source, self._deck, self._left, self._taken).all()
        return self._taken

    def _experiment(self, experiment: Experiment) -> None:
        name = checked_text("experiment", experiment.name, longest=LONGEST_EXPERIMENT)
        experiment = experiment._replace(name=name)
        whole = self._begin(experiment) and experiment.removed
        every = parents_first(list(self._source.runs(experiment)))
        self._runs = self._deck.runs_of(name)
        self._models = self._deck.logged_models_of(name)
        open_runs = []
        for at, run in enumerate(every):
            self._show(f"{name}: run {at + 1} of {len(every)}, {self._taken.points} points", at / len(every))
            with self._left.over(f"run {run.id[:80]}"):
                if self._run(experiment, run):
                    open_runs.append(run)
        for model in self._source.logged_models(experiment):
            with self._left.over(f"logged model {model.id[:80]}"):
                self._logged_model(experiment, model)
        self._close(experiment, open_runs, whole)
        self._say(f"{name}: {len(every)} runs")

    def _begin(self, experiment: Experiment) -> bool:
        """Make the experiment; whether it came from here and nobody changed it since."""
        here = self._deck.found(experiments.ShowExperiment(experiment=experiment.name))
        if here is None or here.name != experiment.name:
            told = {NUMBER: experiment.id, **created(experiment.created), **experiment.tags}
            tags = self._left.sifted(f"tag of experiment {experiment.name}", told, checked_tag)
            self._deck.do(experiments.CreateExperiment(name=experiment.name, tags=tags))
            self._taken.experiments += 1
            return True
        if here.tags.get(NUMBER) != experiment.id:
            self._say(f"{experiment.name} is here already: runs are added to it")
            return False
        return bool(here.removed is None and here.updated == here.created)

    def _close(self, experiment: Experiment, open_runs: list[Run], whole: bool) -> None:
        """Remove what is removed there, then end what ended there: what is open when this is cut off is done again."""
        if whole:
            self._deck.do(experiments.RemoveExperiment(experiment=experiment.name))
        for run in open_runs:
            with self._left.over(f"run {run.id}"):
                here = self._runs.get(run.id)
                if run.removed and not whole and (here is None or here.removed is None):
                    self._deck.do(runs.RemoveRun(run=run.id))
                state = STATES.get(run.status)
                if state is not None:
                    self._deck.do(runs.EndRun(run=run.id, state=state, ended=run.ended or run.started))  # type: ignore[arg-type]

    def _run(self, experiment: Experiment, run: Run) -> bool:
        """Take a run in but for its end; whether it is open."""
        checked_word("run", run.id)
        if run.status not in STATES:
            raise got("status", run.status, ", ".join(STATES))
        here = self._runs.get(run.id)
        if here is not None and (here.state != "RUNNING" or here.removed is not None):
            self._taken.known += 1
            return here.state == "RUNNING"
        what = f"of run {run.id}"
        params = self._left.sifted(f"param {what}", run.params, checked_param)
        tags = self._left.sifted(f"tag {what}", self._tags(run), checked_tag)
        here = here or self._started(experiment, run, _first(params), _first(tags))
        if here is None:
            self._taken.runs += 1
            params, tags = _without(params, _first(params)), _without(tags, _first(tags))
        else:
            self._taken.known += 1
            for key in (key for key in params if key in here.params and here.params[key] != params[key]):
                self._left.add(f"param {key!r} {what}", Conflict(f"it is {here.params[key]!r} here", field="param"))
            params, tags = _without(params, here.params), _without(tags, here.tags)
        for some in _parts(params):
            self._deck.do(runs.LogParams(run=run.id, params=some))
        for some in _parts(tags):
            self._deck.do(runs.SetTags(run=run.id, tags=some))
        self._notes_and_links(run, here)
        self._points(run, here)
        self._taken.artefacts += self._files(
            run, here.artefacts if here else (), lambda path, digest, size: runs.LogArtefact(run.id, path, digest, size)
        )
        return True

    def _tags(self, run: Run) -> dict[str, str]:
        """Its tags, but for those that are kept as something else, unless that holds less than the tag."""
        return {
            key: value
            for key, value in run.tags.items()
            if key != NAME and not (key == NOTE and len(value) > LONGEST_VALUE)
        }

    def _started(
        self, experiment: Experiment, run: Run, params: dict[str, Any], tags: dict[str, str]
    ) -> runs.Run | None:
        """Open a run; None, or the run of this id that is here in another experiment."""
        try:
            self._start(experiment, run, params, tags)
        except Conflict:
            here = self._deck.run(run.id)
            if here is None:
                raise
            self._runs[run.id] = here
            return here
        return None

    def _start(self, experiment: Experiment, run: Run, params: dict[str, Any], tags: dict[str, str]) -> None:
        name, parent = run.name or run.tags.get(NAME, ""), run.tags.get(PARENT)
        named = ""
        with self._left.over(f"name of run {run.id}"):
            named = checked_text("name", name) if name else ""
        start = runs.StartRun(
            experiment=experiment.name,
            run=run.id,
            name=named,
            params=params,
            tags=tags,
            parent=parent,
            source=runs.Source(
                command=run.tags.get("mlflow.source.name") or None, commit=run.tags.get("mlflow.source.git.commit")
            ),
            started=run.started,
            beats=False,
        )
        try:
            self._deck.do(start)
        except NotFound as fault:
            if parent is None or fault.field != "parent":
                raise
            self._left.add(f"parent {parent[:80]} of run {run.id}", fault)
            self._deck.do(runs.StartRun(**{**_fields(start), "parent": None}))

    def _notes_and_links(self, run: Run, here: runs.Run | None) -> None:
        note = run.tags.get(NOTE)
        if note and (here is None or not here.notes):
            with self._left.over(f"notes of run {run.id}"):
                self._deck.do(runs.NoteRun(run=run.id, notes=note))
        known = {(each.name, each.digest) for each in here.inputs} if here else set()
        inputs = tuple(each for each in run.inputs if (each.name, each.digest) not in known)
        models = tuple(each for each in run.models if here is None or each not in here.models)
        for each in inputs:
            with self._left.over(f"dataset {each.name[:80]!r} of run {run.id}"):
                self._deck.do(runs.LogInputs(run=run.id, inputs=(each,)))
        if models:
            with self._left.over(f"inputs of run {run.id}"):
                self._deck.do(runs.LogInputs(run=run.id, models=models))
        made = tuple(each for each in run.outputs if here is None or each not in here.outputs)
        if made:
            with self._left.over(f"outputs of run {run.id}"):
                self._deck.do(runs.LogOutputs(run=run.id, models=made))

    def _points(self, run: Run, here: runs.Run | None) -> None:
        points: Iterable[Point] = self._source.points(run)
        if here is not None:
            known = set(self._deck.points(run.id))
            points = (point for point in points if _comparable(point) not in known)
        for batch in _batches(run.id, iter(points)):
            self._deck.do(batch)
            self._taken.points += len(batch.key) // 2

    def _files(
        self,
        holder: Run | LoggedModel,
        here: tuple[runs.Artefact, ...],
        logged: Callable[[str, str, int], Any],
    ) -> int:
        """Send the files that are not here; how many."""
        sent = 0
        known = {each.path: each.digest for each in here}
        with tempfile.TemporaryDirectory(prefix="quarterdeck-") as room:
            for path, fetch in self._source.files(holder):
                with self._left.over(f"artefact {path[:80]!r} of {holder.id}"):
                    checked_path(path)
                    sent += self._file(path, fetch, Path(room), known, logged)
        return sent

    def _file(
        self, path: str, fetch: Fetch, room: Path, known: dict[str, str], logged: Callable[[str, str, int], Any]
    ) -> bool:
        if self._deck.dry_run:
            return path not in known
        file = fetch(room)
        try:
            if path in known and known[path] == _digest_of(file):
                return False
            digest, size = self._deck.client.put(file)
        except OSError as error:
            raise unreadable(file, error) from None
        self._deck.do(logged(path, digest, size))
        return True

    def _logged_model(self, experiment: Experiment, model: LoggedModel) -> None:
        checked_word("model", model.id)
        here = self._models.get(model.id) or self._created(experiment, model)
        if here is not None and (here.status != "PENDING" or here.removed is not None):
            if here.status == "PENDING" and model.status != "PENDING":
                self._deck.do(logged_models.FinishLoggedModel(model=model.id, status=model.status))
            return
        self._taken.logged_models += here is None
        self._taken.artefacts += self._files(
            model,
            here.artefacts if here else (),
            lambda path, digest, size: logged_models.LogModelArtefact(model.id, path, digest, size),
        )
        if model.removed:
            self._deck.do(logged_models.RemoveLoggedModel(model=model.id))
        if model.status != "PENDING":
            self._deck.do(logged_models.FinishLoggedModel(model=model.id, status=model.status))

    def _created(self, experiment: Experiment, model: LoggedModel) -> logged_models.LoggedModel | None:
        """Begin a logged model; None, or the one of this id that is here elsewhere or removed."""
        if self._deck.dry_run and model.removed:
            return self._deck.logged_model(model.id)
        try:
            self._create(experiment, model)
        except Conflict:
            return self._deck.logged_model(model.id)
        return None

    def _create(self, experiment: Experiment, model: LoggedModel) -> None:
        what = f"of logged model {model.id}"
        params = self._left.sifted(f"param {what}", model.params, checked_param)
        create = logged_models.CreateLoggedModel(
            experiment=experiment.name,
            name=model.name,
            run=model.run,
            flavour=model.kind,
            params={**params},
            tags=self._left.sifted(f"tag {what}", model.tags, checked_tag),
            model=model.id,
            created=model.created,
        )
        try:
            self._deck.do(create)
        except NotFound as fault:
            if model.run is None or fault.field != "run":
                raise
            self._left.add(f"run {what}", fault)
            self._deck.do(logged_models.CreateLoggedModel(**{**_fields(create), "run": None}))


def parents_first(every: list[Run]) -> list[Run]:
    """Runs so that none comes before its parent, where that is among them; in a circle somebody is the first."""
    by_id = {run.id: run for run in every}
    ordered: dict[str, Run] = {}
    for run in every:
        line: dict[str, Run] = {}
        above: Run | None = run
        while above is not None and above.id not in ordered and above.id not in line:
            line[above.id] = above
            above = by_id.get(above.tags.get(PARENT, ""))
        for each in reversed(line.values()):
            ordered[each.id] = each
    return list(ordered.values())


def _batches(run: str, points: Iterator[Point]) -> Iterator[runs.LogMetrics]:
    """Points in columns; a batch is named by what is in it, so that the same one again counts once."""
    while some := list(islice(points, MOST)):
        places = {key: index for index, key in enumerate(dict.fromkeys(key for key, _, _, _ in some))}
        columns = (
            array("H", [places[key] for key, _, _, _ in some]).tobytes(),
            array("q", [step for _, step, _, _ in some]).tobytes(),
            array("d", [at for _, _, at, _ in some]).tobytes(),
            array("d", [value for _, _, _, value in some]).tobytes(),
        )
        keys = tuple(composed(key) for key in places)
        name = hashlib.sha256(b"\0".join((run.encode(), "\0".join(keys).encode(), *columns))).hexdigest()[:40]
        key, step, time, value = columns
        yield runs.LogMetrics(
            run=run, batch=f"mlflow-{name}", keys=keys, key=key, step=step, time=time, value=value, durable=True
        )


def _comparable(point: Point) -> tuple[str, int, float, float | None]:
    """A point as it can be looked up: NaN equals NaN."""
    key, step, at, value = point
    return composed(key), step, at, value if value == value else None


def _first(table: dict[str, Any]) -> dict[str, Any]:
    return dict(islice(table.items(), TOGETHER))


def _without(table: dict[str, Any], known: Iterable[str]) -> dict[str, Any]:
    there = set(known)
    return {key: value for key, value in table.items() if key not in there}


def _parts(table: dict[str, Any]) -> Iterator[dict[str, Any]]:
    pairs = iter(table.items())
    while some := dict(islice(pairs, TOGETHER)):
        yield some


def _fields(record: Any) -> dict[str, Any]:
    return {name: getattr(record, name) for name in record.__struct_fields__}


def _digest_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
