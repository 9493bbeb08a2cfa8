"""The rules of how rows of views lie: when many files are made few, and that an entity is forgotten everywhere."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from quarterdeckd.services.deciding import Answerers, Asking, Decision, Rules
from quarterdeckd.services.queueing import queued
from quarterstore.ledger.features import lumps_of, rows_of, view_of
from quarterstore.ledger.state import State
from quarterstore.records import feature_files, features, jobs
from quarterstore.records.base import Act, Event
from quarterstore.records.faults import Conflict, Refused, got, missing
from quarterstore.records.names import checked_text

LIMITS: Final = jobs.Limits(seconds=86_400.0, disk=256 * 1024**3)
BY_MONTH: Final = 5_000_000
"""Rows of a view from which on its files are months, not years."""


def _compact(state: State, act: feature_files.CompactView, asking: Asking) -> Decision:
    view = view_of(state, act.view)
    live = [job for job in state.jobs if job.kind == "compaction" and job.subject == view.name]
    if any(job.state in ("QUEUED", "RUNNING") for job in live):
        raise Conflict(f"{view.name} is being compacted already", field="view")
    every, lumps = _due(state, view.name)
    if len(lumps) < 2:
        raise Refused(f"{view.name} has few files already", field="view")
    spec = feature_files.CompactSpec(view=view.name, every=every, lumps=tuple(lumps), key=f"compaction-{view.name}")
    return queued(asking, "compaction", view.name, spec, f"few files of {len(lumps)} of {view.name}", LIMITS)


def _due(state: State, view: str) -> tuple[feature_files.Span, list[features.Lump]]:
    """Which files are to be made few: those that stand alone, and the parts of the years or months they reach into."""
    every: feature_files.Span = "month" if sum(each.rows for each in rows_of(state, view)) > BY_MONTH else "year"
    parts = {each.digest: each for each in state.feature_parts if each.view == view and each.span}
    lumps = lumps_of(state, view)
    alone = {digest for lump in lumps if lump.file not in parts for digest in lump.of}
    reached = [
        (_span(each.first_at, every), _span(each.last_at, every))
        for each in rows_of(state, view)
        if each.digest in alone
    ]

    def touched(part: features.Part) -> bool:
        other = (len(part.span) == len("2026")) != (every == "year")
        return other or any(first <= part.span <= last for first, last in reached)

    return every, [lump for lump in lumps if lump.file not in parts or touched(parts[lump.file])]


def _span(at: float, every: feature_files.Span) -> str:
    return time.strftime("%Y" if every == "year" else "%Y-%m", time.gmtime(at))


def _note_parts(state: State, act: feature_files.NoteParts, asking: Asking) -> Decision:
    spec = msgspec.convert(act.spec, feature_files.CompactSpec)
    result = msgspec.convert(act.result, feature_files.CompactResult)
    there = {lump.file for lump in lumps_of(state, spec.view)}
    if not there.issuperset(lump.file for lump in spec.lumps):
        words = f"{spec.view} has other files by now: it stays as it is"
        return Decision(_doomed([each.output for each in result.parts], state, asking, words), words, lambda after: [])
    parts = [_part(spec.view, each, each.span, asking) for each in result.parts]
    event = _replaced(state, spec.view, [lump.file for lump in spec.lumps], parts)
    why = f"{spec.view} is read from other files"
    events = [event, *_doomed([lump.file for lump in spec.lumps], state, asking, why, parts)]
    words = f"{len(spec.lumps)} files of {spec.view} are {len(parts)}"
    return Decision(events, words, lambda after: parts)


def _part(view: str, made: feature_files.Made, span: str, asking: Asking) -> features.Part:
    return features.Part(
        id=asking.id("part"),
        view=view,
        digest=made.output,
        size=made.size,
        rows=made.rows,
        first_at=made.first_at,
        last_at=made.last_at,
        span=span,
        of=made.of,
    )


def _replaced(
    state: State, view: str, files: Sequence[str], parts: Sequence[features.Part]
) -> feature_files.PartsReplaced:
    """That `parts` are read instead of `files`, which are parts or single files of the view."""
    return feature_files.PartsReplaced(
        view=view,
        gone=tuple(each.id for each in state.feature_parts if each.view == view and each.digest in files),
        folded=tuple(each.id for each in rows_of(state, view) if each.digest in files and not each.folded),
        parts=tuple(parts),
    )


def _doomed(
    digests: Iterable[str], state: State, asking: Asking, why: str, parts: Sequence[features.Part] = ()
) -> list[Event]:
    """That files are to go, but for those that something reads: bytes that came out the same have the same name."""
    read = {part.digest for part in parts} | {each.id for each in state.datasets}
    read |= {each.digest for each in state.training_sets}
    return [
        feature_files.FileDoomed(file=feature_files.Doomed(digest=digest, at=asking.now, why=why))
        for digest in dict.fromkeys(digests)
        if digest not in read
    ]


# forgetting


def _forget(state: State, act: feature_files.ForgetEntity, asking: Asking) -> Decision:
    reason = checked_text("reason", act.reason, longest=1000)
    if not act.keys:
        raise got("keys", "none", "the columns that name the entity, such as customer")
    views = _with_keys(state, act.keys)
    if not views:
        known = sorted({key.name for each in state.feature_views for key in each.keys})
        raise missing("keys", ", ".join(act.keys), known)
    forgetting = feature_files.Forgetting(
        id=asking.id("forgetting"),
        entity=act.entity,
        keys=act.keys,
        reason=reason,
        at=asking.now,
        by=asking.actor,
        job="",
        views=tuple(each.name for each in views),
    )
    return _begun(state, forgetting, asking)


def _begun(state: State, forgetting: feature_files.Forgetting, asking: Asking) -> Decision:
    """Its job, over what is kept now."""
    views = _with_keys(state, forgetting.keys)
    spec = feature_files.ForgetSpec(
        forgetting=forgetting.id,
        entity=forgetting.entity,
        views=tuple(_searched(state, each) for each in views),
        sets=tuple(feature_files.Searched(id=each.id, file=each.digest) for each in _sets_with_keys(state, forgetting)),
    )
    words = f"forget one by {', '.join(forgetting.keys)}: {forgetting.reason}"
    job = queued(asking, "forgetting", ", ".join(forgetting.keys), spec, words, LIMITS)
    [event] = job.events
    assert isinstance(event, jobs.JobQueued)
    noted = replace(forgetting, job=event.job.id, views=tuple(each.name for each in views))
    return Decision([event, feature_files.ForgettingNoted(forgetting=noted)], words, lambda after: noted)


def _with_keys(state: State, keys: Sequence[str]) -> list[features.FeatureView]:
    """The newest version of every view whose rows are named by these columns, alone or with others."""
    newest = [view_of(state, name) for name in sorted({each.name for each in state.feature_views})]
    return [each for each in newest if set(keys) <= {key.name for key in each.keys}]


def _sets_with_keys(state: State, forgetting: feature_files.Forgetting) -> Iterator[features.TrainingSet]:
    """Training sets of views whose rows are named by these columns."""
    for each in state.training_sets:
        if any(set(forgetting.keys) <= {key.name for key in view.keys} for view in each.views):
            yield each


def _searched(state: State, view: features.FeatureView) -> feature_files.ForgetView:
    lumps = lumps_of(state, view.name)
    return feature_files.ForgetView(
        view=view.name, keys=view.keys, lumps=tuple(lumps), digests=tuple(lump.file for lump in lumps)
    )


def _note_forgotten(state: State, act: feature_files.NoteForgotten, asking: Asking) -> Decision:
    spec = msgspec.convert(act.spec, feature_files.ForgetSpec)
    result = msgspec.convert(act.result, feature_files.ForgetResult)
    forgetting = state.forgettings[spec.forgetting]
    searched = {digest for view in spec.views for digest in view.digests}
    now = {lump.file for view in _with_keys(state, forgetting.keys) for lump in lumps_of(state, view.name)}
    sets = {each.id for each in _sets_with_keys(state, forgetting)}
    if not now <= searched or not sets <= {each.id for each in spec.sets}:
        made = [each.made.output for each in result.files if each.made]
        events = _doomed(made, state, asking, "files came while one was forgotten")
        words = f"files or training sets came meanwhile: {forgetting.id} begins again"
        return Decision(events, words, lambda after: forgetting, _again(forgetting))
    events, doomed = [], [forgetting.entity]
    parts: list[features.Part] = []
    for view in dict.fromkeys(each.view for each in result.files):
        files = [each for each in result.files if each.view == view]
        spans = {each.digest: each.span for each in state.feature_parts if each.view == view}
        here = [_part(view, each.made, spans.get(each.digest, ""), asking) for each in files if each.made]
        gone = [each.digest for each in files]
        events.append(_replaced(state, view, gone, here))
        parts.extend(here)
        came = {digest for lump in lumps_of(state, view) if lump.file in gone for digest in lump.of}
        doomed += [*gone, *(each.source for each in rows_of(state, view) if each.digest in came)]
    done = replace(
        forgetting,
        done=asking.now,
        rows=sum(each.removed for each in result.files),
        touched=tuple(sorted({each.view for each in result.files})),
        sets=result.sets,
        versions=tuple(_trained_on(state, result.sets)),
    )
    events.append(feature_files.ForgettingNoted(forgetting=done))
    events += _doomed(doomed, state, asking, f"{forgetting.id}: {forgetting.reason}"[:300], parts)
    words = f"forgot one by {', '.join(done.keys)}: {done.rows} rows of {len(done.views)} views"
    return Decision(events, words, lambda after: done)


def _trained_on(state: State, sets: Sequence[str]) -> Iterator[str]:
    """Versions whose rows, or whose run's, were one of these sets."""
    digests = {state.training_sets[each].digest for each in sets}
    for version in state.versions:
        run = state.runs.get(version.run or "")
        if version.dataset in digests or (run is not None and digests.intersection(run.datasets)):
            yield version.id


def _again(forgetting: feature_files.Forgetting) -> Any:
    def then(after: State, asked: Asking) -> Iterator[tuple[Act[Any], Asking]]:
        yield feature_files.ForgetAgain(forgetting=forgetting.id), asked

    return then


def _forget_again(state: State, act: feature_files.ForgetAgain, asking: Asking) -> Decision:
    forgetting = state.forgettings[act.forgetting]
    if forgetting.done is not None:
        return Decision([], f"{forgetting.id} is done", lambda after: forgetting)
    return _begun(state, forgetting, asking)


def _list(state: State, query: feature_files.ListForgettings, asking: Asking) -> list[feature_files.Forgetting]:
    return sorted(state.forgettings, key=lambda each: -each.at)[: max(1, query.limit)]


RULES: Rules = {
    feature_files.CompactView: _compact,
    feature_files.NoteParts: _note_parts,
    feature_files.ForgetEntity: _forget,
    feature_files.NoteForgotten: _note_forgotten,
    feature_files.ForgetAgain: _forget_again,
}
ANSWERS: Answerers = {feature_files.ListForgettings: _list}
