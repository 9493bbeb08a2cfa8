"""How a message travels: the envelope, the protocol version, the limits, the encoders."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from quarterstore.records.faults import FaultRecord, got

PROTOCOL: Final = 1
"""Version of the envelope; a daemon answers `Protocol` to one it does not know."""

MAX_MESSAGE: Final = 16 * 1024 * 1024
"""Bytes of one request over all its frames."""

CHUNK: Final = 4 * 1024 * 1024
"""Bytes of a blob sent in one chunk."""


class Ask(msgspec.Struct, frozen=True, array_like=True):
    """A request: protocol, request id (chosen by the asker, the same on a retry), the message, the last seq seen."""

    protocol: int
    id: str
    body: msgspec.Raw
    seen: int = 0


class Answer(msgspec.Struct, frozen=True, array_like=True):
    """A reply: protocol, the request's id, the answer (nil beside a fault), the fault or nil, the journal's seq it
    reflects."""

    protocol: int
    id: str
    body: msgspec.Raw
    fault: FaultRecord | None
    seq: int


NIL: Final = msgspec.Raw(b"\xc0")
"""msgpack's nil, where there is no answer."""


class Published(msgspec.Struct, frozen=True, array_like=True):
    """What followers get for one journal entry; `seq` has no gaps, so a follower sees one it missed."""

    protocol: int
    seq: int
    at: float
    actor: str
    act: str
    events: msgspec.Raw
    """A list of events, each with its `type`."""


EVENT_TOPIC: Final = b"event"
"""First frame of a `Published`; the second is its msgpack."""

PULSE_TOPIC: Final = b"pulse"
"""First frame of a pulse; the second is its msgpack, with `type`."""

_encoder = msgspec.msgpack.Encoder()

encode = _encoder.encode
"""Any record to msgpack bytes."""


def framed(message: Any, request: str, seen: int) -> bytes:
    """A request as its one frame; `Invalid` naming the field of an integer that has no room in 64 bits."""
    try:
        body = encode(message)
    except OverflowError:
        field, number = _widest(msgspec.to_builtins(message), "")
        raise got(field, number, "an integer of 64 bits (-2^63 to 2^63-1)") from None
    return encode(Ask(PROTOCOL, request, msgspec.Raw(body), seen))


def _widest(value: Any, field: str) -> tuple[str, int]:
    """The field and value of the integer farthest from zero."""
    if isinstance(value, int):
        return field, value
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list | tuple) else ()
    found = (_widest(each, f"{field}.{name}" if field else str(name)) for name, each in inner)
    return max(found, key=lambda each: abs(each[1]), default=(field, 0))


def plain(record: Any) -> Any:
    """A record in dicts and lists, as it will be read back: kept inside another one, it is the same before and after
    a replay (`msgspec.to_builtins` leaves tuples, which come back as lists)."""
    return msgspec.msgpack.decode(encode(record))


def decode(data: bytes | memoryview, kind: Any) -> Any:
    """msgpack bytes to `kind`; raises `msgspec.ValidationError` or `msgspec.DecodeError`."""
    return msgspec.msgpack.decode(data, type=kind)
