"""The rules of features online: what a generation is made of, and how views stand."""

from __future__ import annotations

from typing import Final

import msgspec

from quarterdeckd.services.deciding import Answerers, Asking, Decision, Rules
from quarterdeckd.services.queueing import queued
from quarterstore.ledger.features import lumps_of, rows_of, view_of
from quarterstore.ledger.online import newest_of
from quarterstore.ledger.state import State
from quarterstore.records import features, jobs, online
from quarterstore.records.faults import Conflict, Refused

LIMITS: Final = jobs.Limits(seconds=86_400.0, memory=64 * 1024**3, disk=256 * 1024**3)


def _materialise(state: State, act: online.Materialise, asking: Asking) -> Decision:
    view = view_of(state, act.view)
    files = rows_of(state, view.name)
    if not files:
        raise Refused(f"{view.name} has no rows", field="view", next=f"qd features load {view.name} FILE")
    for job in state.jobs:
        if job.kind == "materialise" and job.subject == view.name and job.state in ("QUEUED", "RUNNING"):
            raise Conflict(f"{job.id} does this already", field="view")
    if any(view.name in each.views and each.done is None for each in state.forgettings):
        raise Conflict(f"an entity of {view.name} is being forgotten", field="view", next="ask again after that")
    before = None if act.full else _basis(state, view)
    read = [
        each for each in files if before is None or each.digest not in before.files or each.digest in before.waiting
    ]
    wanted = {each.digest for each in read}
    spec = online.MaterialiseSpec(
        view=view,
        lumps=tuple(each for each in lumps_of(state, view.name) if wanted.intersection(each.of)),
        files=tuple(each.digest for each in read),
        made=asking.now,
        before=before,
    )
    return queued(asking, "materialise", view.name, spec, f"{view.name} online, of {len(read)} files", LIMITS)


def _basis(state: State, view: features.FeatureView) -> online.Generation | None:
    """The generation to go on from; none where the view has other features now, or one was forgotten since it was
    made: what is in it might be what nobody may read."""
    before = newest_of(state, view.name)
    if before is None or before.columns != columns_of(view) or before.made <= forgotten_at(state, view.name):
        return None
    return before


def forgotten_at(state: State, view: str) -> float:
    """When an entity of a view was forgotten last, in seconds since 1970; 0 where none was."""
    return max((each.done or each.at for each in state.forgettings if view in each.views), default=0.0)


def columns_of(view: features.FeatureView) -> tuple[str, ...]:
    """The features of a view in the order in which a generation has them."""
    return tuple(each.name for each in view.features)


def _note(state: State, act: online.NoteGeneration, asking: Asking) -> Decision:
    spec, result = msgspec.convert(state.jobs[act.job].spec, online.MaterialiseSpec), act.result
    before = spec.before
    if result.unchanged and before is not None:
        return Decision([], f"nothing came to {spec.view.name} since {before.id}", lambda after: before)
    generation = online.Generation(
        id=result.generation,
        view=spec.view.name,
        columns=columns_of(spec.view),
        files=tuple(dict.fromkeys([*(before.files if before else ()), *spec.files])),
        waiting=result.waiting,
        entities=result.entities,
        rows=result.rows,
        newest=result.newest,
        made=spec.made,
        full=before is None,
        seconds=result.seconds,
        size=result.size,
        at=asking.now,
        by=asking.actor,
    )
    words = f"{generation.entities:,} entities of {spec.view.id} are online"
    return Decision([online.GenerationMade(generation=generation)], words, lambda after: generation)


def status_of(state: State, view: features.FeatureView, pushed: int, now: float) -> online.OnlineStatus:
    """How a view stands at `now` (seconds since 1970), with so many rows pushed that are in no file yet. What was
    pushed is read from the moment it came: a file of it waits for nothing."""
    generation, files = newest_of(state, view.name), rows_of(state, view.name)
    there = set(generation.files) if generation else set()
    waiting = [each for each in files if each.digest not in there and not was_pushed(each)]
    lag = max(0.0, now - min((each.at for each in waiting), default=now))
    newest = generation.newest if generation else None
    last = max((each.last_at for each in files if each.last_at <= now), default=None)
    most = online.MAX_LAG if view.max_lag is None else view.max_lag
    return online.OnlineStatus(
        view=view.id,
        generation=generation,
        pushed=pushed,
        files_waiting=len(waiting),
        rows_waiting=sum(each.rows for each in waiting),
        lag=lag,
        behind=None if newest is None or last is None else max(0.0, last - newest),
        max_lag=most,
        late=generation is not None and lag > most,
        fresh=None if newest is None else now - newest,
        rows=sum(each.rows for each in files if not each.folded)
        + sum(part.rows for part in state.feature_parts if part.view == view.name),
    )


def was_pushed(rows: features.FeatureRows) -> bool:
    """Whether a file of rows was made of pushed ones: no file was sent for it."""
    return rows.source == rows.digest


RULES: Rules = {online.Materialise: _materialise, online.NoteGeneration: _note}
ANSWERS: Answerers = {}
