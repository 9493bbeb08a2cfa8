"""The rules of features: views and their versions, rows that come, training sets that are made of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import msgspec

from quarterdeckd.services.clock_words import utc
from quarterdeckd.services.deciding import Answerers, Asking, Decision, Rules
from quarterdeckd.services.queueing import queued
from quarterdeckd.services.wanting import wanted_views
from quarterstore.ledger.features import check_unforgotten, lumps_of, rows_of, view_of
from quarterstore.ledger.finding import one_of
from quarterstore.ledger.state import State
from quarterstore.records import feature_files, features, formulas, jobs
from quarterstore.records.base import Act
from quarterstore.records.faults import Conflict, got
from quarterstore.records.names import checked_text, checked_word

MOST_FEATURES: Final = 1000
MOST_KEYS: Final = 8
LONGEST_TTL: Final = 100 * 366 * 86_400.0
MOST_FILES: Final = 16
"""Files of a view from which on they are made few by themselves."""
RESERVED: Final = "__"
LIMITS: Final = jobs.Limits(seconds=86_400.0, disk=256 * 1024**3)


def _define(state: State, act: features.DefineView, asking: Asking) -> Decision:
    name = checked_word("name", act.name)
    _checked_columns(act)
    if act.ttl is not None and not (math.isfinite(act.ttl) and 0 < act.ttl <= LONGEST_TTL):
        raise got("ttl", act.ttl, "seconds, above 0 and up to a hundred years")
    if act.max_lag is not None and not (math.isfinite(act.max_lag) and 0 < act.max_lag <= LONGEST_TTL):
        raise got("max_lag", act.max_lag, "seconds, above 0 and up to a hundred years")
    for entity in act.entities:
        _same_keys(state, name, entity)
    before = max((each for each in state.feature_views if each.name == name), key=lambda v: v.version, default=None)
    view = features.FeatureView(
        name=name,
        version=before.version + 1 if before else 1,
        entities=act.entities,
        features=act.features,
        event_time=act.event_time,
        created_time=act.created_time,
        ttl=act.ttl,
        owner=checked_text("owner", act.owner) if act.owner else "",
        description=checked_text("description", act.description, longest=1000) if act.description else "",
        tags={checked_text("tags", key): checked_text("tags", value) for key, value in act.tags.items()},
        max_lag=act.max_lag,
        created=asking.now,
        created_by=asking.actor,
        source=checked_text("source", act.source, longest=1000) if act.source else "",
        requests=act.requests,
        on_demand=_on_demand(act),
    )
    if before is not None:
        if (
            msgspec.structs.replace(view, version=before.version, created=before.created, created_by=before.created_by)
            == before
        ):
            return Decision([], f"{before.id} is defined so already", lambda after: before)
        if rows_of(state, name):
            _fits(state, before, view)
        _still_there(state, view)
    return Decision([features.ViewDefined(view=view)], f"defined {view.id}", lambda after: view)


def _on_demand(act: features.DefineView) -> tuple[features.OnDemand, ...]:
    """Each formula with what it makes, of the features and requests of the view."""
    kinds = {each.name: each.kind for each in (*act.features, *act.requests)}
    found = []
    for name, formula in act.on_demand.items():
        field = f"on_demand.{name}"
        made = formulas.type_of(formulas.parsed(formula, field), kinds, field)
        found.append(features.OnDemand(name=name, formula=formula, kind=made))
    return tuple(found)


def _checked_columns(act: features.DefineView) -> None:
    """Each column once, none with a name that the join uses."""
    keys = [checked_text(f"entities.{each.name}.keys", key.name) for each in act.entities for key in each.keys]
    names = [checked_text("features", each.name) for each in act.features]
    names += [checked_text("requests", each.name) for each in act.requests]
    names += [checked_text("on_demand", each) for each in act.on_demand]
    times = [checked_text("event_time", act.event_time)]
    if act.created_time is not None:
        times.append(checked_text("created_time", act.created_time))
    if not 1 <= len(keys) <= MOST_KEYS:
        raise got("entities", f"{len(keys)} keys", f"1 to {MOST_KEYS}")
    if not 1 <= len(names) <= MOST_FEATURES:
        raise got("features", f"{len(names)}", f"1 to {MOST_FEATURES}")
    seen: set[str] = set()
    for column in (*keys, *times, *names):
        if column.startswith(RESERVED):
            raise got("features", column, f"a column whose name does not begin with {RESERVED}")
        if column in seen:
            raise got("features", f"{column} twice", "each column once, as a key, a time or a feature")
        seen.add(column)


def _same_keys(state: State, name: str, entity: features.Entity) -> None:
    checked_word("entities", entity.name)
    if not entity.keys:
        raise got(f"entities.{entity.name}.keys", "none", "the columns that name one")
    for view in state.feature_views:
        for other in view.entities:
            if other.name == entity.name and other.keys != entity.keys and view.name != name:
                raise Conflict(
                    f"got {_named(entity.keys)}, expected {_named(other.keys)} as in {view.id}",
                    field=f"entities.{entity.name}.keys",
                )


def _named(keys: Sequence[features.Key]) -> str:
    return ", ".join(f"{key.name} ({key.kind})" for key in keys)


def _still_there(state: State, view: features.FeatureView) -> None:
    """`Conflict` where a version that answers, or may, reads a kept feature of the view, also for a formula of the
    version of the view that it was made with, which would be kept no more."""
    there = {each.name for each in view.features}
    live = {version for each in state.deployments for version in (each.live, *each.previous[-1:])}
    for version in state.versions:
        if version.stage not in ("Staging", "Production") and version.id not in live:
            continue
        for need in version.views:
            if need.name != view.name:
                continue
            gone = [each for each in _read_for(view_of(state, need.id), need.features) if each not in there]
            if gone:
                raise Conflict(
                    f"got no {gone[0]}, expected it: {version.id} reads it by keys",
                    field="features",
                    next="keep the feature, or archive the version",
                )


def _read_for(view: features.FeatureView, wanted: Sequence[str]) -> list[str]:
    """The kept features that are read for those that are wanted."""
    kept = {each.name for each in view.features}
    return [name for name in formulas.read_for(wanted, view.on_demand) if name in kept]


def _fits(state: State, before: features.FeatureView, view: features.FeatureView) -> None:
    """`Conflict` where rows that are kept could not be read as the new version says; a feature that was left out for a
    while is in older rows still."""
    if view.keys != before.keys:
        raise Conflict(
            f"got {_named(view.keys)}, expected {_named(before.keys)}: {before.id} has rows",
            field="entities",
            next="define another view",
        )
    versions = sorted((each for each in state.feature_views if each.name == view.name), key=lambda each: each.version)
    kinds = {each.name: each.kind for known in versions for each in known.features}
    for each in view.features:
        if kinds.get(each.name, each.kind) != each.kind:
            raise Conflict(
                f"got {each.kind}, expected {kinds[each.name]}: {before.id} has rows",
                field=f"features.{each.name}",
                next="give the feature another name",
            )


def _add(state: State, act: features.AddRows, asking: Asking) -> Decision:
    view = view_of(state, act.view)
    known = act.known or ("column" if view.created_time else "now" if rows_of(state, view.name) else "event")
    if known == "column" and view.created_time is None:
        raise got("known", "column", f"event or now: {view.id} has no created_time")
    if any(each.source == act.digest for each in rows_of(state, view.name)):
        raise Conflict(f"{act.digest[:16]} is in {view.name} already", field="digest")
    spec = features.RowsSpec(view=view, data=act.digest, format=act.format, known=known, source=act.digest)
    return queued(asking, "feature_rows", view.name, spec, f"rows for {view.name}", LIMITS)


def _note_rows(state: State, act: features.NoteRows, asking: Asking) -> Decision:
    view, result = view_of(state, act.view), act.result
    rows = features.FeatureRows(
        id=asking.id("row"),
        view=view.name,
        digest=result.output,
        size=result.size,
        rows=result.rows,
        first_at=result.first_at,
        last_at=result.last_at,
        late=result.late,
        known=act.known,
        at=asking.now,
        by=asking.actor,
        source=act.source,
        known_from=result.known_from,
    )
    words = f"{rows.rows:,} rows of {view.name}, known {'when they came' if act.known == 'now' else f'by {act.known}'}"
    return Decision([features.RowsAdded(rows=rows)], words, lambda after: rows, _few(view.name))


def _few(view: str) -> Callable[[State, Asking], Iterator[tuple[Act[Any], Asking]]]:
    """Many files of a view are made few, where no job does so already."""

    def then(after: State, asked: Asking) -> Iterator[tuple[Act[Any], Asking]]:
        going = any(
            job.kind == "compaction" and job.subject == view and job.state in ("QUEUED", "RUNNING")
            for job in after.jobs
        )
        if not going and len(lumps_of(after, view)) >= MOST_FILES:
            yield feature_files.CompactView(view=view), asked

    return then


def _join(state: State, act: features.JoinFeatures, asking: Asking) -> Decision:
    at = act.reading.known_at
    if at is not None and not (math.isfinite(at) and 0 < at <= asking.now):
        raise got("reading.known_at", utc(at), f"a time that is past (it is {utc(asking.now)})")
    checked_text("time", act.time)
    wanted = wanted_views(state, act.views)
    spec = features.JoinSpec(
        entities=act.digest,
        format=act.format,
        digest=act.digest,
        time=act.time,
        views=wanted,
        reading=act.reading,
    )
    subject = ", ".join(each.view for each in wanted)[:200]
    return queued(asking, "training_set", subject, spec, f"a training set of {subject}", LIMITS)


def _note_set(state: State, act: features.NoteTrainingSet, asking: Asking) -> Decision:
    spec = msgspec.convert(act.spec, features.JoinSpec)
    result = msgspec.convert(act.result, features.JoinResult)
    if spec.again is not None:
        before = state.training_sets[spec.again]
        words = "the same" if before.digest == result.output else "not the same"
        return Decision([], f"made {spec.again} again: {words}", lambda after: before)
    known = state.training_sets.get(result.id)
    if known is not None:
        return Decision([], f"{result.id} is kept already", lambda after: known)
    check_unforgotten(state, spec)
    used = tuple(_only(each, files) for each, files in zip(spec.views, result.used, strict=True))
    made = features.TrainingSet(
        id=result.id,
        entities=spec.digest,
        format=spec.format,
        time=spec.time,
        reading=spec.reading,
        views=used,
        digest=result.output,
        rows=result.rows,
        statuses=result.statuses,
        job=act.job,
        at=asking.now,
        by=asking.actor,
    )
    return Decision([features.TrainingSetMade(set=made)], f"made {made.id}, {made.rows:,} rows", lambda after: made)


def _only(wanted: features.Wanted, files: Sequence[str]) -> features.Wanted:
    kept = [(file, known) for file, known in zip(wanted.files, wanted.known, strict=True) if file in files]
    return msgspec.structs.replace(wanted, files=tuple(f for f, _ in kept), known=tuple(k for _, k in kept), lumps=())


def _rebuild(state: State, act: features.RebuildSet, asking: Asking) -> Decision:
    made: features.TrainingSet = one_of(state.training_sets, "set", act.set)
    views = tuple(
        msgspec.structs.replace(each, lumps=tuple(_still(state, each.view.partition("@")[0], each.files)))
        for each in made.views
    )
    spec = features.JoinSpec(
        entities=made.entities,
        format=made.format,
        digest=made.entities,
        time=made.time,
        views=views,
        reading=made.reading,
        again=made.id,
    )
    return queued(asking, "training_set", made.id, spec, f"{made.id} again", LIMITS)


def _still(state: State, view: str, files: Sequence[str]) -> Iterator[features.Lump]:
    return (lump for lump in lumps_of(state, view) if set(lump.of).intersection(files))


# answers


def _list(state: State, query: features.ListViews, asking: Asking) -> list[features.FeatureView]:
    return [view_of(state, name) for name in sorted({each.name for each in state.feature_views})]


def _show(state: State, query: features.ShowView, asking: Asking) -> features.ViewShown:
    view = view_of(state, query.view)
    files = rows_of(state, view.name)
    parts = tuple(each for each in state.feature_parts if each.view == view.name)
    here: list[features.Part | features.FeatureRows] = [*parts, *(each for each in files if not each.folded)]
    return features.ViewShown(
        view=view,
        versions=tuple(sorted(each.version for each in state.feature_views if each.name == view.name)),
        rows=sum(each.rows for each in here),
        size=sum(each.size for each in here),
        first_at=min((each.first_at for each in here), default=None),
        last_at=max((each.last_at for each in here), default=None),
        files=tuple(files),
        parts=parts,
    )


def _sets(state: State, query: features.ListTrainingSets, asking: Asking) -> list[features.TrainingSet]:
    return sorted(state.training_sets, key=lambda each: -each.at)[: max(1, query.limit)]


def _set(state: State, query: features.ShowTrainingSet, asking: Asking) -> features.TrainingSet:
    found: features.TrainingSet = one_of(state.training_sets, "set", query.set)
    return found


RULES: Rules = {
    features.DefineView: _define,
    features.AddRows: _add,
    features.NoteRows: _note_rows,
    features.JoinFeatures: _join,
    features.RebuildSet: _rebuild,
    features.NoteTrainingSet: _note_set,
}
ANSWERS: Answerers = {
    features.ListViews: _list,
    features.ShowView: _show,
    features.ListTrainingSets: _sets,
    features.ShowTrainingSet: _set,
}
