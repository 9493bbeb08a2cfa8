"""A graph of steps as lines beside its rows: each row has its node, lanes run from a step to those behind it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

MOST = 12
"""Lanes that are drawn; further ones lie on the last."""


class Lanes:
    """The lanes at the row that is drawn: each carries a step that others are still to come behind."""

    def __init__(self, after: Mapping[str, Sequence[str]]) -> None:
        self._parents = {name: [each for each in parents if each in after] for name, parents in after.items()}
        self._waiting = {name: sum(name in each for each in self._parents.values()) for name in after}
        self._lanes: list[str | None] = []
        self._last = -1

    def row(self, name: str) -> tuple[str, str]:
        """What stands left of the node of a step, and right of it; steps come in an order that they can run in."""
        joined = [lane for lane, carried in enumerate(self._lanes) if carried in self._parents[name]]
        for parent in self._parents[name]:
            self._waiting[parent] -= 1
        ending = [lane for lane in joined if not self._waiting[self._lanes[lane] or ""]]
        node = ending[0] if ending else self._free(joined)
        drawn = self._drawn(node, joined, ending)
        for lane in ending:
            self._lanes[lane] = None
        self._lanes[node] = name if self._waiting[name] else None
        while self._lanes and self._lanes[-1] is None:
            self._lanes.pop()
        self._last = node
        return drawn[: 2 * node], drawn[2 * node + 1 :]

    def _free(self, joined: list[int]) -> int:
        """A lane for a step that takes none over: not the one of the row above, whose step it would seem to follow."""
        start = joined[0] if joined else 0
        for lane in range(start, min(len(self._lanes), MOST - 1)):
            if self._lanes[lane] is None and lane != self._last:
                return lane
        lane = min(max(len(self._lanes), self._last + 1 if not joined else 0), MOST - 1)
        self._lanes += [None] * (lane + 1 - len(self._lanes))
        return lane

    def _drawn(self, node: int, joined: list[int], ending: list[int]) -> str:
        low, high = min([node, *joined]), max([node, *joined])
        found = ""
        for lane in range(max(len(self._lanes), high + 1)):
            between = low < lane < high
            if lane == node:
                cell = "●"
            elif lane in joined:
                ends = lane in ending
                left, right, both = ("└", "┘", "┴") if ends else ("├", "┤", "┼")
                cell = left if lane == low else right if lane == high else both
            elif lane < len(self._lanes) and self._lanes[lane] is not None:
                cell = "┼" if between else "│"
            else:
                cell = "─" if between else " "
            found += cell + ("─" if low <= lane < high else " ")
        return found.rstrip()


def gutters(after: Mapping[str, Sequence[str]]) -> dict[str, tuple[str, str]]:
    """Step -> what is drawn left and right of its node, for steps in an order that they can run in; where each is
    behind the one above there is nothing to draw but nodes."""
    lanes = Lanes(after)
    found = {name: lanes.row(name) for name in after}
    width = max((len(left) + 1 + len(right) for left, right in found.values()), default=0)
    return {name: (left, right.ljust(width - len(left) - 1)) for name, (left, right) in found.items()}
