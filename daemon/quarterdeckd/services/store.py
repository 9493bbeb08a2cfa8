"""The rules of the store itself: undo, what may be purged, and the note that a backup was made."""

from __future__ import annotations

import msgspec

from quarterdeckd.services.deciding import Answerers, Asking, Decision, Rules
from quarterstore.ledger.finding import in_use, places_of, version_before
from quarterstore.ledger.retention import held_models, held_runs
from quarterstore.ledger.state import State, Step
from quarterstore.records import logged_models, registry, search, store
from quarterstore.records.base import Event
from quarterstore.records.faults import Conflict, Fault, NotFound, Refused
from quarterstore.records.messages import EVENTS, one_of

_ANY = one_of(EVENTS)


def _last(state: State, asking: Asking) -> Step:
    own = [step for step in state.undo if step.actor == asking.actor]
    if not own:
        raise NotFound("nothing of yours can be taken back", field="undo")
    return own[-1]


def _undoable(state: State, query: store.ShowUndo, asking: Asking) -> store.Undone:
    step = _last(state, asking)
    return store.Undone(entry=step.entry, act=step.act, words=step.words)


def _undo(state: State, act: store.Undo, asking: Asking) -> Decision:
    step = _last(state, asking)
    if act.entry is not None and act.entry != step.entry:
        raise Conflict(f"got entry {act.entry}, your last act by now is {step.entry}: {step.words}", field="entry")
    if act.skip:
        return _pass_over(step, asking)
    try:
        events = [_checked(state, msgspec.convert(fields, _ANY), asking) for fields in step.inverse]
    except Fault as fault:
        way = f"or leave entry {step.entry} ({step.words}) as it is: qd undo --skip"
        fault.next = f"{fault.next}; {way}" if fault.next else way
        raise
    events.append(store.ActUndone(entry=step.entry, by=asking.actor, at=asking.now))
    undone = store.Undone(entry=step.entry, act=step.act, words=step.words)
    return Decision(events, f"took back entry {step.entry}: {step.words}", lambda after: undone)


def _pass_over(step: Step, asking: Asking) -> Decision:
    event = store.UndoPassedOver(entry=step.entry, by=asking.actor, at=asking.now)
    passed = store.Undone(entry=step.entry, act=step.act, words=step.words, passed_over=True)
    return Decision([event], f"undo leaves entry {step.entry} as it is: {step.words}", lambda after: passed)


def _checked(state: State, event: Event, asking: Asking) -> Event:
    """An inverse as it can be done now; refused where the world has moved on since."""
    if isinstance(event, search.SearchSaved | search.SearchRemoved):
        return _own_search(state, event, asking)
    if isinstance(event, logged_models.LoggedModelChanged):
        return _as_it_is_now(state, event, asking)
    if not isinstance(event, registry.StageMoved):
        return event
    version = state.versions[event.version]
    back_to_a_place = event.after == "Production" and event.environment not in places_of(state, version)
    if version.stage != event.before and not (version.stage == "Production" and back_to_a_place):
        raise Conflict(f"{version.id} is in {version.stage} by now, expected {event.before}", field="undo")
    if "Production" in (event.before, event.after) and asking.profile != "solo":
        raise Refused(
            "a move in or out of Production needs another person", field="undo", next="qd promote or qd rollback"
        )
    used_at = in_use(state, version.id)
    if used_at is not None and (event.before == "Production" or event.after not in ("Staging", "Production")):
        raise Refused(
            f"{version.id} is live or on trial at {used_at}", field="undo", next=_way_out(state, used_at, version.id)
        )
    moved: Event = msgspec.structs.replace(event, at=asking.now, asked_by=asking.actor)
    return moved


def _own_search(state: State, event: search.SearchSaved | search.SearchRemoved, asking: Asking) -> Event:
    """What was kept under the name by now must be the asker's own."""
    name = event.search.name if isinstance(event, search.SearchSaved) else event.name
    present = state.searches.get(name)
    if present is None and isinstance(event, search.SearchRemoved):
        raise Conflict(f"the search {name} is removed by now", field="undo")
    if present is not None and present.created_by != asking.actor:
        raise Conflict(f"the search {name} was kept again by {present.created_by}", field="undo")
    return event


def _as_it_is_now(state: State, event: logged_models.LoggedModelChanged, asking: Asking) -> Event:
    """Only its tags and whether it is in sight are taken back: files, numbers and state have come since."""
    present = state.logged_models.get(event.model.id)
    if present is None:
        raise Conflict(f"{event.model.id} is purged by now", field="undo")
    before = msgspec.structs.replace(present, tags=event.model.tags, removed=event.model.removed, updated=asking.now)
    return logged_models.LoggedModelChanged(model=before)


def _way_out(state: State, endpoint: str, version: str) -> str:
    """What to do about a version that is in use, before its stage can be taken back."""
    deployment = state.deployments[endpoint]
    if deployment.live != version:
        return f"qd rollback {endpoint}, then qd undo"
    if version_before(state, deployment) is not None:
        return f"qd rollback {endpoint} gives back traffic and stage"
    return f"qd deployments stop --endpoint {endpoint}, then qd undo"


def _note_backup(state: State, act: store.NoteBackup, asking: Asking) -> Decision:
    made = store.BackupMade(digest=act.digest, size=act.size, seq=act.seq, hash=act.hash)
    event = store.BackedUp(digest=act.digest, seq=act.seq, at=asking.now)
    return Decision([event], f"backed up until entry {act.seq}", lambda after: made)


def _set_mode(state: State, act: store.SetMode, asking: Asking) -> Decision:
    event = store.ModeChanged(mode=act.mode, why=act.why, at=asking.now)
    return Decision([event], f"{act.mode}: {act.why}", lambda after: None)


def _set_profile(state: State, act: store.SetProfile, asking: Asking) -> Decision:
    event = store.ProfileSet(profile=act.profile, before=act.before, at=asking.now)
    words = f"the store is kept under profile {act.profile} from here on, before under {act.before or 'none'}"
    return Decision([event], words, lambda after: None)


def purgeable(state: State, until: float) -> store.Purge:
    """What was removed up to an instant and can be forgotten: of versions those that nothing was made from; nothing
    that a hold is on."""
    held, models = held_runs(state), held_models(state)

    def old(removed: float | None) -> bool:
        return removed is not None and removed <= until

    parents = {version.parent for version in state.versions if version.removed is None}
    return store.Purge(
        runs=tuple(run.id for run in state.runs if old(run.removed) and run.id not in held),
        logged_models=tuple(model.id for model in state.logged_models if old(model.removed)),
        versions=tuple(
            version.id
            for version in state.versions
            if old(version.removed) and version.freed is None and version.id not in parents
            if version.model not in models
        ),
    )


def _purge(state: State, act: store.Purge, asking: Asking) -> Decision:
    for book, ids in ((state.runs, act.runs), (state.logged_models, act.logged_models), (state.versions, act.versions)):
        for id_ in ids:
            found = book.get(id_)
            if found is None or found.removed is None:
                raise Conflict(f"{id_} is not removed by now", field="gc", next="qd gc again")
    event = store.Purged(
        runs=act.runs, logged_models=act.logged_models, versions=act.versions, at=asking.now, files=act.files
    )
    if act.files:
        return Decision([event], f"freed {act.files} files that nothing names", lambda after: None)
    counts = f"{len(act.runs)} runs, {len(act.logged_models)} logged models, {len(act.versions)} versions"
    return Decision([event], f"purged {counts} that were removed", lambda after: None)


RULES: Rules = {
    store.Undo: _undo,
    store.NoteBackup: _note_backup,
    store.SetMode: _set_mode,
    store.SetProfile: _set_profile,
    store.Purge: _purge,
}
ANSWERS: Answerers = {store.ShowUndo: _undoable}
