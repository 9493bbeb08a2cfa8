"""The rules of the store itself: undo, and the note that a backup was made."""

from __future__ import annotations

import msgspec

from quarterdeckd.services.deciding import Answerers, Asking, Decision, Rules
from quarterstore.ledger.finding import in_use
from quarterstore.ledger.state import State, Step
from quarterstore.records import registry, store
from quarterstore.records.base import Event
from quarterstore.records.faults import Conflict, NotFound, Refused
from quarterstore.records.messages import EVENTS, one_of

_ANY = one_of(EVENTS)


def _undo(state: State, act: store.Undo, asking: Asking) -> Decision:
    own = [step for step in state.undo if step.actor == asking.actor]
    if not own:
        raise NotFound("nothing of yours can be taken back", field="undo")
    step: Step = own[-1]
    events: list[Event] = []
    for fields in step.inverse:
        event: Event = msgspec.convert(fields, _ANY)
        events.append(_checked(state, event, asking))
    events.append(store.ActUndone(entry=step.entry, by=asking.actor, at=asking.now))
    undone = store.Undone(entry=step.entry, act=step.act, words=step.words)
    return Decision(events, f"took back entry {step.entry}: {step.words}", lambda after: undone)


def _checked(state: State, event: Event, asking: Asking) -> Event:
    """An inverse as it can be done now; refused where the world has moved on since."""
    if not isinstance(event, registry.StageMoved):
        return event
    version = state.versions[event.version]
    if version.stage != event.before:
        raise Conflict(f"{version.id} is in {version.stage} by now, expected {event.before}", field="undo")
    if "Production" in (event.before, event.after) and asking.profile != "solo":
        raise Refused(
            "a move in or out of Production needs another person", field="undo", next="qd promote or qd rollback"
        )
    used_at = in_use(state, version.id)
    if used_at is not None and (event.before == "Production" or event.after not in ("Staging", "Production")):
        raise Refused(
            f"{version.id} is live or on trial at {used_at}", field="undo", next=f"qd rollback {used_at}, then qd undo"
        )
    moved: Event = msgspec.structs.replace(event, at=asking.now, asked_by=asking.actor)
    return moved


def _note_backup(state: State, act: store.NoteBackup, asking: Asking) -> Decision:
    made = store.BackupMade(digest=act.digest, size=act.size, seq=act.seq, hash=act.hash)
    event = store.BackedUp(digest=act.digest, seq=act.seq, at=asking.now)
    return Decision([event], f"backed up until entry {act.seq}", lambda after: made)


def _set_mode(state: State, act: store.SetMode, asking: Asking) -> Decision:
    event = store.ModeChanged(mode=act.mode, why=act.why, at=asking.now)
    return Decision([event], f"{act.mode}: {act.why}", lambda after: None)


RULES: Rules = {store.Undo: _undo, store.NoteBackup: _note_backup, store.SetMode: _set_mode}
ANSWERS: Answerers = {}
