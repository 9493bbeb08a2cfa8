"""Keys of entities as ordered bytes: a type code a part, then text ending in NUL or an integer with its sign bit turned
(as FoundationDB's tuple layer); what is too long for a key of LMDB is there by its BLAKE2b hash."""

from __future__ import annotations

import hashlib
import struct
from typing import Any, Final

Key = tuple[Any, ...]
LONGEST: Final = 250
"""Bytes of a key from which on its hash stands for it: LMDB takes 511, the name of a view goes before it."""
_integer = struct.Struct(">BQ")


def key_bytes(key: Key) -> bytes:
    """A key as LMDB orders it: texts by their UTF-8, integers by size, composite ones part by part."""
    whole = b"".join(map(_part, key)) if len(key) > 1 else _part(key[0])
    return whole if len(whole) <= LONGEST else b"\xff" + hashlib.blake2b(whole, digest_size=32).digest()


def key_of(encoded: bytes) -> Key | None:
    """A key from its bytes; None where they are its hash."""
    found: list[Any] = []
    while encoded:
        if encoded[0] == 1:
            found.append(_integer.unpack(encoded[: _integer.size])[1] - 2**63)
            encoded = encoded[_integer.size :]
        elif encoded[0] == 2:
            end = encoded.index(b"\0")
            while encoded[end + 1 : end + 2] == b"\xff":
                end = encoded.index(b"\0", end + 1)
            found.append(encoded[1:end].replace(b"\0\xff", b"\0").decode())
            encoded = encoded[end + 1 :]
        else:
            return None
    return tuple(found)


def _part(part: str | int) -> bytes:
    if isinstance(part, int):
        return _integer.pack(1, part + 2**63)
    return b"\2%b\0" % part.encode().replace(b"\0", b"\0\xff")
