"""What a training set is of: the files of rows that could matter to it, and the id that is the hash of all that went
in."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import msgspec

from quarterstore.records.features import JoinSpec

Used = tuple[tuple[str, ...], ...]
"""Of each view the files that could matter."""


def used(spec: JoinSpec, newest: int) -> Used:
    """The files that can be in a set whose last row is of the instant `newest` (microseconds since 1970)."""
    return tuple(
        tuple(file for file, known in zip(view.files, view.known, strict=True) if _matters(known, newest, spec))
        for view in spec.views
    )


def _matters(known: float | None, newest: int, spec: JoinSpec) -> bool:
    """Whether rows that were known from an instant on can be in the set: not where all of it is older."""
    if known is None:
        return True
    at = spec.reading.known_at
    return (spec.reading.how == "corrected" or known * 1e6 <= newest) and (at is None or known <= at)


def identity(spec: JoinSpec, used: Sequence[tuple[str, ...]]) -> str:
    """The hash of what went in, and of nothing else: not of files that could not matter, nor of how they lie."""
    views: list[tuple[object, ...]] = []
    for view, files in zip(spec.views, used, strict=True):
        further = (view.inputs, view.requests, view.on_demand, view.forgotten)
        views.append((view.view, view.keys, view.features, view.ttl, files, *(further if any(further) else ())))
    asked = msgspec.msgpack.encode((spec.digest, spec.time, spec.reading, views))
    return f"set-{hashlib.sha256(asked).hexdigest()[:24]}"


def said(spec: JoinSpec) -> JoinSpec:
    """What is asked, without where it lies."""
    views = tuple(msgspec.structs.replace(view, lumps=()) for view in spec.views)
    return msgspec.structs.replace(spec, entities="", views=views)
