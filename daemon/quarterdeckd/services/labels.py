"""Tags, parameters, notes and paths as the rules of every noun check and change them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeVar

from quarterstore.records.faults import got
from quarterstore.records.names import LONGEST_KEY, LONGEST_VALUE, checked_text, drawn
from quarterstore.records.names import checked_path as checked_path
from quarterstore.records.runs import Value

MOST_PARAMS = 2000
MOST_TAGS = 2000
FIRST, LAST = -62_135_596_800.0, 253_402_300_800.0
"""Seconds from 1970 to the years 1 and 10,000: beyond them no calendar has a day, and nothing can draw one."""


Changes = TypeVar("Changes", bound=Mapping[str, str | None])


def checked_tags(tags: Changes) -> Changes:
    """Tags, not too many, with names that can be drawn, one spelling of each, and values of a bearable length."""
    if len(tags) > MOST_TAGS:
        raise got("tags", f"{len(tags)} of them", f"at most {MOST_TAGS}")
    for name, value in tags.items():
        if value is not None and len(value) > LONGEST_VALUE:
            raise got(f"tags.{name}", f"{len(value)} characters", f"at most {LONGEST_VALUE}")
    return dict(zip(_names("tags", tags), tags.values(), strict=True))  # type: ignore[return-value]


def _names(field: str, given: Iterable[str]) -> list[str]:
    """Names as they are kept; two spellings of one (NFC and NFD) in one act are refused: they would be one."""
    names = [checked_text(field, name, longest=LONGEST_KEY) for name in given]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise got(field, f"two spellings of {twice}", "each name once")
    return names


def checked_prose(field: str, text: str, *, longest: int) -> str:
    """Text of any number of lines, each as it may be drawn (a tab as blanks); at most `longest` characters.

    Errors: `Invalid` on `field` where it is longer.
    """
    if len(text) > longest:
        raise got(field, f"{len(text)} characters", f"at most {longest}")
    return "\n".join(drawn(line.expandtabs(4)) for line in text.splitlines())


def checked_params(params: dict[str, Value]) -> dict[str, Value]:
    """Parameters with names that can be drawn, numbers of 64 bits and texts of a bearable length."""
    if len(params) > MOST_PARAMS:
        raise got("params", f"{len(params)} of them", f"at most {MOST_PARAMS}")
    checked = dict(zip(_names("params", params), params.values(), strict=True))
    for name, value in checked.items():
        if isinstance(value, str) and len(value) > LONGEST_VALUE:
            raise got(f"params.{name}", f"{len(value)} characters", f"at most {LONGEST_VALUE}")
        if isinstance(value, int) and not isinstance(value, bool) and not -(2**63) <= value < 2**63:
            raise got(f"params.{name}", value, "a 64-bit integer")
    return checked


def checked_time(field: str, at: float) -> float:
    """An instant that a calendar has."""
    if not FIRST <= at < LAST:
        raise got(field, at, "seconds since 1970, in the years 1 to 9999")
    return at
