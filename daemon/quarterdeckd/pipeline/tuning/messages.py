"""What the owner of a study and its workers say to each other, one datagram each."""

from __future__ import annotations

from typing import Any

import msgspec


class Task(msgspec.Struct, frozen=True, tag=True):
    """Run a trial; `fresh` scores it again: on rows that no trial saw, where there are rows."""

    number: int
    params: dict[str, Any]
    seed: int
    fresh: bool = False


class Verdict(msgspec.Struct, frozen=True, tag=True):
    """Whether a trial should end here."""

    prune: bool


class Ready(msgspec.Struct, frozen=True, tag=True):
    """A worker has read its rows or code; `untouched` counts the rows that no trial sees."""

    untouched: int = 0


class Broken(msgspec.Struct, frozen=True, tag=True):
    """A worker cannot run any trial: the fault as its kind, field and message."""

    kind: str
    field: str | None
    message: str


class Reported(msgspec.Struct, frozen=True, tag=True):
    """A trial is at a step; it waits for the verdict."""

    step: int
    value: float


class Done(msgspec.Struct, frozen=True, tag=True):
    """A trial ended: values, or pruned, or why it failed."""

    values: tuple[float, ...] = ()
    pruned: bool = False
    error: str | None = None


Asked = Task | Verdict
Said = Ready | Broken | Reported | Done
encode = msgspec.msgpack.Encoder().encode
asked = msgspec.msgpack.Decoder(Asked).decode
said = msgspec.msgpack.Decoder(Said).decode
LARGEST = 64 * 1024
"""Bytes of one datagram."""
