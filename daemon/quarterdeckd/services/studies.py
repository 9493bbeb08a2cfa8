"""The rules of tuning studies: asked for, gone on with, stopped, ended, removed, and a winner sent into a pipeline."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from msgspec.structs import replace

from quarterdeckd.services.deciding import Answerers, Asking, Decision, Rules
from quarterdeckd.services.queueing import queued
from quarterdeckd.services.spaces import FOREVER, check_numbers, check_search
from quarterstore.ledger.finding import one_of, study_of
from quarterstore.ledger.state import State
from quarterstore.records import jobs, monitoring, pipelines, studies
from quarterstore.records.base import Act
from quarterstore.records.faults import Conflict, NotFound, Refused, got, missing
from quarterstore.records.names import checked_path, checked_word

DIGEST = re.compile(r"[0-9a-f]{64}", re.ASCII)

ALERTS = ("study lost", "study failed")
"""Kinds of alerts that end with a study that was gone on with to its end."""


def checked(state: State, definition: studies.StudyDefinition, *, sent: bool = True) -> studies.StudyDefinition:
    """A definition whose parts exist and fit together; raises a fault naming the field otherwise. Its rows are looked
    for where they were `sent` already."""
    checked_word("name", definition.name)
    if definition.model is not None:
        checked_word("model", definition.model)
    definition = check_search(definition)
    data = definition.data
    if definition.objective is not None:
        return definition
    if definition.train.code is not None:
        raise got("train.code", definition.train.code, "nothing: a study takes the file of train.python alone")
    if data is None:
        raise got("data", "nothing", "[data] with a target, or objective = FILE.py:FUNCTION")
    if not data.target:
        raise got("data.target", "nothing", "the column that is predicted")
    if data.features:
        raise got(
            "data.features", ", ".join(data.features), "nothing: a study takes rows as they are (qd features get)"
        )
    if ((data.dataset or (data.file and not sent)) is None) == (data.builtin is None):
        raise got("data", "both or neither", "a dataset (upload the file) or builtin = NAME")
    if not 0 < definition.split.test < 1:
        raise got("split.test", definition.split.test, "a share between 0 and 1")
    if data.dataset is not None and sent:
        data = replace(data, dataset=one_of(state.datasets, "data.dataset", data.dataset).id)
    return replace(definition, data=data)


def _start(state: State, act: studies.StartStudy, asking: Asking) -> Decision:
    definition = checked(state, act.definition)
    named = studies.file_of(definition)
    if named is not None and named not in act.sources:
        raise got("sources", "nothing", f"the uploaded file {named}")
    for name, digest in act.sources.items():
        if name != named or checked_path(name) != name or not DIGEST.fullmatch(digest):
            raise got("sources", name, f"the SHA-256 of {named}" if named else "nothing: the study names no file")
    study = studies.Study(
        id=asking.id("study"),
        name=definition.name,
        definition=definition,
        state="RUNNING",
        created=asking.now,
        actor=asking.actor,
        job="",
        sources=act.sources,
    )
    return _queued(study, asking, f"started study {study.name}: {definition.budget.trials} trials")


def _queued(study: studies.Study, asking: Asking, words: str) -> Decision:
    definition = study.definition
    spec = studies.StudySpec(
        study=study.id,
        definition=definition,
        data=definition.data.dataset if definition.data else None,
        sources=study.sources,
    )
    begun = queued(asking, "study", study.id, spec, words, jobs.Limits(seconds=FOREVER))
    [waiting] = begun.events
    assert isinstance(waiting, jobs.JobQueued)
    started = studies.StudyStarted(study=replace(study, job=waiting.job.id))
    return Decision([waiting, started], words, lambda after: after.studies[study.id])


def _resume(state: State, act: studies.ResumeStudy, asking: Asking) -> Decision:
    study = study_of(state, act.study)
    if study.state == "RUNNING":
        raise Conflict(f"{study.id} is running", field="study")
    budget = study.definition.budget
    given = {name: value for name in ("trials", "within", "workers") if (value := getattr(act, name)) is not None}
    if study.state == "SUCCEEDED" and not given:
        raise Conflict(f"{study.id} is done with {budget.trials} trials", field="study", next="give more with --trials")
    if study.result is not None and act.trials is not None:
        ended = study.result.complete + study.result.pruned + study.result.failed
        if act.trials <= ended:
            raise got("trials", act.trials, f"more than the {ended} that ended")
    definition = replace(study.definition, budget=replace(budget, **given))
    check_numbers(definition)
    again = replace(study, definition=definition, state="RUNNING", ended=None, error=None)
    return _queued(again, asking, f"went on with study {study.name}")


def _stop(state: State, act: studies.StopStudy, asking: Asking) -> Decision:
    study = study_of(state, act.study)
    if study.state != "RUNNING":
        raise Conflict(f"{study.id} is {study.state} already", field="study")

    def then(after: State, asked: Asking) -> Iterator[tuple[Act[Any], Asking]]:
        yield jobs.CancelJob(job=study.job, reason=act.reason), asked._replace(chained=True)

    return Decision([], f"stopped study {study.name}", lambda after: after.studies[study.id], then)


def _remove(state: State, act: studies.RemoveStudy, asking: Asking) -> Decision:
    study: studies.Study = one_of(state.studies, "study", act.study)
    if study.state == "RUNNING":
        raise Conflict(f"{study.id} is running", field="study", next=f"qd tune stop {study.id}")

    def then(after: State, asked: Asking) -> Iterator[tuple[Act[Any], Asking]]:
        return _resolved(after, study.id, "the study was removed", asked)

    return Decision([studies.StudyRemoved(study=study.id)], f"removed study {study.name}", lambda after: study, then)


def _resolved(state: State, study: str, note: str, asked: Asking) -> Iterator[tuple[Act[Any], Asking]]:
    """The alerts that stand because of a study end."""
    for alert in state.alerts:
        if alert.kind in ALERTS and alert.subject == study and alert.resolved is None:
            yield monitoring.ResolveAlert(alert=alert.id, note=note), asked


def _end(state: State, act: studies.EndStudy, asking: Asking) -> Decision:
    study = state.studies[act.study]
    event = studies.StudyEnded(study=study.id, state=act.state, at=asking.now, result=act.result, error=act.error)
    words = act.result.words if act.result else act.error or ""

    def then(after: State, asked: Asking) -> Iterator[tuple[Act[Any], Asking]]:
        if act.state in ("FAILED", "LOST"):
            yield (
                monitoring.RaiseAlert(
                    kind=f"study {act.state.lower()}",
                    subject=study.id,
                    severity="warning",
                    words=(act.error or act.state)[:500],
                    next=f"qd tune resume {study.id}",
                ),
                asked,
            )
        elif act.state == "SUCCEEDED":
            yield from _resolved(after, study.id, "it was gone on with to its end", asked)

    said = f"study {study.name} {act.state.lower()}: {words[:200]}"
    return Decision([event], said, lambda after: after.studies[study.id], then)


def _register(state: State, act: studies.RegisterBest, asking: Asking) -> Decision:
    study = study_of(state, act.study)
    if study.definition.objective is not None:
        raise Refused(
            "got an objective of its own, which gives values and no model", field="study", next="train it yourself"
        )
    if study.result is None or not study.result.best:
        raise NotFound(f"{study.id} has no trial that was scored again", field="study")
    chosen = study.result.best[0]
    if act.trial is not None:
        known = {each.trial: each for each in study.result.best}
        if act.trial not in known:
            raise missing("trial", str(act.trial), [str(number) for number in known])
        chosen = known[act.trial]
    definition = studies.pipeline_of(study.definition, chosen.params)

    def then(after: State, asked: Asking) -> Iterator[tuple[Act[Any], Asking]]:
        chained, before = asked._replace(chained=True), set(after.pipeline_runs.rows)
        cause = f"{study.id} trial {chosen.trial}"
        yield pipelines.RunPipeline(definition=definition, sources=study.sources, cause=cause), chained
        [made] = set(after.pipeline_runs.rows) - before
        yield studies.NoteRegistered(study=study.id, pipeline_run=made), chained

    words = f"trial {chosen.trial} of study {study.name} goes into a pipeline"
    return Decision([], words, lambda after: after.pipeline_runs[str(after.studies[study.id].pipeline_run)], then)


def _note_registered(state: State, act: studies.NoteRegistered, asking: Asking) -> Decision:
    event = studies.StudyRegistered(study=act.study, pipeline_run=act.pipeline_run)
    return Decision([event], f"{act.study} runs as {act.pipeline_run}", lambda after: after.studies[act.study])


def _list(state: State, query: studies.ListStudies, asking: Asking) -> list[studies.Study]:
    found = [study for study in state.studies if query.name in (None, study.name)]
    return sorted(found, key=lambda study: study.created, reverse=True)[: max(1, query.limit)]


def _show(state: State, query: studies.ShowStudy, asking: Asking) -> studies.Study:
    return study_of(state, query.study)


RULES: Rules = {
    studies.StartStudy: _start,
    studies.ResumeStudy: _resume,
    studies.StopStudy: _stop,
    studies.RemoveStudy: _remove,
    studies.EndStudy: _end,
    studies.RegisterBest: _register,
    studies.NoteRegistered: _note_registered,
}
ANSWERS: Answerers = {
    studies.CheckStudy: lambda state, query, asking: checked(state, query.definition, sent=False),
    studies.ListStudies: _list,
    studies.ShowStudy: _show,
}
