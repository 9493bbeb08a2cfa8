"""A lineage as a tree of lines: what a version came from above it, what came of it below, each with its guides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from msgspec.structs import replace

from quarterstore.records.registry import Lineage, LineageNode


class Branch(NamedTuple):
    """One line: the guides before it, and what stands there; `node` is None for the version itself."""

    guides: str
    node: LineageNode | None


def branches(lineage: Lineage, *, up: bool = True, down: bool = True) -> list[Branch]:
    """The lines from the farthest ancestor down to the last descendant."""
    above = _guided(lineage.up)[::-1] if up else []
    mirrored = [Branch(branch.guides.replace("└", "┌"), branch.node) for branch in above]
    return [*mirrored, Branch("", None), *(_guided(lineage.down) if down else [])]


def _guided(nodes: Sequence[LineageNode]) -> list[Branch]:
    """Nodes from the top to the bottom; a guide goes on for as long as a brother is to come."""
    found: list[Branch] = []
    open_at: set[int] = set()
    for node in reversed(nodes):
        last = node.depth not in open_at
        open_at = {depth for depth in open_at if depth < node.depth} | {node.depth}
        before = "".join("│  " if depth in open_at else "   " for depth in range(1, node.depth))
        found.append(Branch(before + ("└─ " if last else "├─ "), node))
    return found[::-1]


def endpoints(lineage: Lineage) -> list[str]:
    """The endpoints whose predictions are to be counted."""
    return list(dict.fromkeys(node.id for node in lineage.down if node.kind == "deployment"))


def counted(lineage: Lineage, counts: Mapping[str, Mapping[str, int]]) -> Lineage:
    """The lineage with how many predictions of each version its endpoints have kept, as nodes below them."""
    down: list[LineageNode] = []
    for node in lineage.down:
        down.append(node)
        if node.kind == "deployment" and node.id in counts:
            words = f"{counts[node.id].get(node.of, 0):,} predictions kept"
            below = LineageNode(kind="predictions", id=node.id, words=words, depth=node.depth + 1, of=node.of)
            down.append(below)
    return replace(lineage, down=tuple(down))
