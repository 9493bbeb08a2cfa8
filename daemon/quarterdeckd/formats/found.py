"""What was found of a file."""

from __future__ import annotations

from typing import NamedTuple


class Found(NamedTuple):
    """Format, what it is in words, and the names it would import or construct when it is loaded."""

    format: str
    words: str
    code: tuple[str, ...] = ()
