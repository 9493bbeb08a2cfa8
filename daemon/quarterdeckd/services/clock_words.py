"""Times and spans as people read them, in what the rules refuse and explain."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

UNITS: Final = ((86_400, "d"), (3600, "h"), (60, "min"), (1, "s"))


def utc(at: float) -> str:
    """`2026-03-01 12:00:00 UTC` of seconds since 1970; what no calendar has as the number that it is."""
    try:
        return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M:%S} UTC"
    except (OverflowError, ValueError, OSError):
        return f"{at:g}"


def lasting(seconds: float) -> str:
    """`5 h 58 min`, `12 s`: the two largest units, the smaller one rounded up; below a second 1 s."""
    left = max(1, -int(-seconds // 1))
    for index, (size, unit) in enumerate(UNITS[:-1]):
        if left >= size:
            whole, rest = divmod(left, size)
            smaller, name = UNITS[index + 1]
            more = -(-rest // smaller)
            if more * smaller == size:
                whole, more = whole + 1, 0
            return f"{whole} {unit}" + (f" {more} {name}" if more else "")
    return f"{left} s"
