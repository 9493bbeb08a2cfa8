"""Identifiers that sort by time: a word, 10 characters of milliseconds, 6 of chance."""

from __future__ import annotations

import os
import time

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"


def _base32(number: int, width: int) -> str:
    return "".join(_ALPHABET[(number >> (5 * place)) & 31] for place in range(width - 1, -1, -1))


def new_id(noun: str, at: float | None = None) -> str:
    """`run-01hv3k9q2xabcdef`: unique, and sortable by the time it was made (Crockford base 32, as in ULID)."""
    milliseconds = int((time.time() if at is None else at) * 1000)
    return f"{noun}-{_base32(milliseconds, 10)}{_base32(int.from_bytes(os.urandom(4), 'big') & 0x3FFFFFFF, 6)}"
