"""Every message there is, in one explicit list per kind: what the decoders, the command line and the docs are made
from."""

from __future__ import annotations

import functools
import inspect
import operator
from types import ModuleType
from typing import Any

from quarterstore.records import (
    base,
    batches,
    checks,
    compression,
    ct,
    datasets,
    deployments,
    drills,
    experiments,
    feature_checks,
    feature_files,
    features,
    governance,
    hooks,
    jobs,
    logged_models,
    models,
    monitoring,
    online,
    outcomes,
    packages,
    people,
    pipelines,
    predictions,
    registry,
    remotes,
    replays,
    retention,
    runs,
    schedules,
    search,
    store,
    streams,
    studies,
    transfer,
    trials,
)

NOUNS: tuple[ModuleType, ...] = (
    experiments,
    runs,
    search,
    packages,
    logged_models,
    registry,
    models,
    datasets,
    checks,
    features,
    online,
    feature_files,
    feature_checks,
    pipelines,
    studies,
    schedules,
    jobs,
    deployments,
    trials,
    predictions,
    replays,
    drills,
    batches,
    streams,
    outcomes,
    monitoring,
    ct,
    compression,
    hooks,
    remotes,
    governance,
    people,
    retention,
    store,
    transfer,
)
"""The nouns, in the order people read them."""


def _of(kind: type) -> tuple[type, ...]:
    return tuple(
        found
        for noun in NOUNS
        for found in vars(noun).values()
        if inspect.isclass(found) and found.__module__ == noun.__name__ and issubclass(found, kind)
    )


QUERIES = _of(base.Query)
ACTS = _of(base.Act)
SAMPLES = _of(base.Sample)
BLOBS = _of(base.Blob)
EVENTS = _of(base.Event)
PULSES = _of(base.Pulse)
ASKABLE: tuple[type, ...] = QUERIES + ACTS + SAMPLES + BLOBS
"""Everything that has an answer."""


def one_of(kinds: tuple[type, ...]) -> Any:
    """The union of message classes as one type, for a decoder that tells them by their tag."""
    return functools.reduce(operator.or_, kinds)


BY_TAG: dict[str, type] = {base.tag_of(kind): kind for kind in ASKABLE + EVENTS + PULSES}
"""Tag on the wire -> message class."""
