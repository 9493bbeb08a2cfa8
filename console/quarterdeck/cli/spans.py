"""Spans of time as a person writes them: `30m`, `12h`, `7d`; read, and said so."""

from __future__ import annotations

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def seconds(field: str, text: str) -> float:
    """A span of time as a person writes it, in seconds; raises `Invalid` on `field`."""
    from quarterstore.records.faults import got

    if not text[:-1].isdecimal() or text[-1:] not in UNITS:
        raise got(field, text, "a span such as 30m, 12h or 7d")
    return float(int(text[:-1]) * UNITS[text[-1]])


def written(span: float) -> str:
    """Seconds as a person writes them, in the largest unit that is whole: `7d`, `90m`, `0.5s`."""
    unit, size = next((unit, size) for unit, size in reversed(UNITS.items()) if span % size == 0 or size == 1)
    return f"{span / size:g}{unit}"
