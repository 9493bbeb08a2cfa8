"""A throw-away process that looks at a person's rows: little memory, one answer as JSON."""

from __future__ import annotations

import resource
from collections.abc import Callable
from typing import Any

import msgspec

from quarterdeckd.pipeline.rows import MOST_MEMORY
from quarterstore.records.faults import Fault


def answered(look: Callable[[], Any]) -> int:
    """Print what `look` finds or the fault that it raises; the exit status says which, 0 or 1."""
    resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, MOST_MEMORY))
    try:
        found = look()
    except Fault as fault:
        print(msgspec.json.encode(fault.record()).decode())
        return 1
    print(msgspec.json.encode(found).decode())
    return 0
