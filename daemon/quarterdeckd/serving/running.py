"""One run of a version: its outputs, or in words why there are none."""

from __future__ import annotations

import logging
import time
from typing import Any, NamedTuple

from quarterdeckd.serving.nulls import NONE, Nulls, blamed
from quarterdeckd.serving.session import Loaded
from quarterdeckd.serving.tensors import Array, Feed, finite

log = logging.getLogger("quarterdeck.host")
INLINE = 0.002
"""Seconds: a run expected to be shorter is done on the loop; a thread would cost more than it (0.1 ms here)."""
RUN_WITHIN = 30.0
"""Seconds a model has to answer; a version that hangs must fail its canary, not hold it for ever."""


class Ran(NamedTuple):
    """The outputs in the order of the file, none of them where `error` says why."""

    found: list[Any]
    error: str | None = None
    by_nulls: bool = False
    """It failed on nulls that were read by keys."""


def run(loaded: Loaded, version: str, feed: Feed, rows: int, nulls: Nulls = NONE) -> Ran:
    """Run the model of a version on tensors of so many rows; a raised error and a number that is not finite are the
    model's, unless `nulls` among them are to blame."""
    ran = _once(loaded, version, feed, rows)
    if ran.error is None or not nulls:
        return ran
    return ran._replace(
        by_nulls=blamed(nulls, feed, rows, lambda whole: _once(loaded, version, whole, rows).error is not None)
    )


def _once(loaded: Loaded, version: str, feed: Feed, rows: int) -> Ran:
    ran = attempt(loaded, version, feed, rows)
    return checked(ran.found) if ran.error is None else ran


def attempt(loaded: Loaded, version: str, feed: Feed, rows: int) -> Ran:
    """The same, whatever numbers the outputs hold."""
    began = time.perf_counter()
    try:
        found = loaded.run(feed)
    except Exception as error:
        log.warning("%s: %s", version, " ".join(str(error).split())[:300])
        return Ran([], "the model raised an error on this input")
    loaded.took(rows, time.perf_counter() - began)
    return Ran(found)


def checked(found: list[Array]) -> Ran:
    """Outputs, if every number among them is finite."""
    for array in found:
        if not finite(array):
            return Ran([], "the model's answer is not finite")
    return Ran(found)
