"""What was not taken, and why: each is said once, and the rest goes on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TypeVar

from quarterstore.records.faults import Fault, TimedOut, Unreachable

LOST: tuple[type[Fault], ...] = (Unreachable, TimedOut)
"""Nobody answers: nothing would be taken of what follows either."""
Value = TypeVar("Value")


class Left:
    """The lines about what was left."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self.lines: list[str] = []
        self._say = say

    def add(self, what: str, fault: Fault) -> None:
        """Keep and say that something was left."""
        line = f"{what}: {fault.line()}"
        self.lines.append(line)
        self._say(f"left: {line}")

    @contextmanager
    def over(self, what: str) -> Iterator[None]:
        """Leave what is refused inside, unless nobody answers any more."""
        try:
            yield
        except LOST:
            raise
        except Fault as fault:
            self.add(what, fault)

    def sifted(
        self, what: str, given: Mapping[str, Value], checked: Callable[[str, Value], object]
    ) -> dict[str, Value]:
        """Those of a table that `checked` lets pass; the others are left, one by one."""
        kept = {}
        for name, value in given.items():
            with self.over(f"{what} {name[:80]!r}"):
                checked(name, value)
                kept[name] = value
        return kept
