"""Quarterdeck for scripts: `connect`, the client, the errors; nothing heavy is loaded until it is used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from quarterdeck.async_client import AsyncClient
    from quarterdeck.client import Client, connect
    from quarterdeck.live_run import LiveRun
    from quarterstore.records.faults import Conflict, Fault, Invalid, NotFound, Refused, TimedOut, Unreachable

_PLACES = {
    "connect": "quarterdeck.client",
    "Client": "quarterdeck.client",
    "AsyncClient": "quarterdeck.async_client",
    "LiveRun": "quarterdeck.live_run",
    **dict.fromkeys(
        ("Conflict", "Fault", "Invalid", "NotFound", "Refused", "TimedOut", "Unreachable"),
        "quarterstore.records.faults",
    ),
}
__all__ = [
    "AsyncClient",
    "Client",
    "Conflict",
    "Fault",
    "Invalid",
    "LiveRun",
    "NotFound",
    "Refused",
    "TimedOut",
    "Unreachable",
    "connect",
]


def __getattr__(name: str) -> Any:
    """A public name, or any message by its class name (`quarterdeck.MoveStage`), loaded when it is first used."""
    import importlib

    if name in _PLACES:
        return getattr(importlib.import_module(_PLACES[name]), name)
    if name[:1].isupper():
        from quarterstore.records import messages

        for kind in messages.BY_TAG.values():
            if kind.__name__ == name:
                return kind
    raise AttributeError(f"module 'quarterdeck' has no name {name!r}")
