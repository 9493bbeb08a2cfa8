"""What each kind of step does: the one table from kind to function, by name, so that a run loads what it needs."""

from __future__ import annotations

import importlib
from collections.abc import Callable

from quarterdeckd.pipeline.step import At, Told

DOES: dict[str, str] = {
    "features": "quarterdeckd.pipeline.joined:features",
    "validate": "quarterdeckd.pipeline.steps:validate",
    "split": "quarterdeckd.pipeline.steps:split",
    "tune": "quarterdeckd.pipeline.tuning.step:tune",
    "train": "quarterdeckd.pipeline.steps:train",
    "evaluate": "quarterdeckd.pipeline.steps:evaluate",
    "run": "quarterdeckd.pipeline.own:run",
    "command": "quarterdeckd.pipeline.own:command",
}
"""Kind -> `module:function` of `At -> Told`. The kinds of `records.flows.KINDS` that are missing here are no work of a
process: a person's (approve) or the daemon's."""


def function_of(kind: str) -> Callable[[At], Told]:
    """The function of a kind; importing its module loads its libraries."""
    module, _, name = DOES[kind].partition(":")
    found: Callable[[At], Told] = getattr(importlib.import_module(module), name)
    return found
