"""A lineage as lines: guides that go on as long as a brother is to come, above mirrored, below as usual."""

from __future__ import annotations

from quarterdeck.branches import branches, counted, endpoints
from quarterstore.records.registry import Lineage, LineageNode


def nodes(*told: tuple[str, int]) -> tuple[LineageNode, ...]:
    """Nodes by id and depth."""
    return tuple(LineageNode(kind="child", id=id_, words="", depth=depth, of="m@1") for id_, depth in told)


def test_what_it_came_from_stands_above_and_what_came_of_it_below() -> None:
    up = nodes(("run", 1), ("code", 2), ("data", 2), ("parent", 1), ("its run", 2))
    down = nodes(("child", 1), ("grandchild", 2), ("endpoint", 1), ("alert", 2))
    lines = [guides + (node.id if node else "m@1") for guides, node in branches(Lineage("m@1", up, down))]
    assert "\n".join(lines) == "\n".join(
        [
            "   ┌─ its run",
            "┌─ parent",
            "│  ┌─ data",
            "│  ├─ code",
            "├─ run",
            "m@1",
            "├─ child",
            "│  └─ grandchild",
            "└─ endpoint",
            "   └─ alert",
        ]
    )


def test_one_side_alone_and_none_at_all() -> None:
    lineage = Lineage("m@1", nodes(("run", 1)), nodes(("child", 1)))
    assert [branch.guides for branch in branches(lineage, down=False)] == ["┌─ ", ""]
    assert [branch.guides for branch in branches(lineage, up=False)] == ["", "└─ "]
    assert [branch.node for branch in branches(Lineage("m@1", (), ()))] == [None]


def test_predictions_are_counted_below_the_endpoint_for_the_version_that_it_is_told_of() -> None:
    down = (
        LineageNode("deployment", "churn", "LIVE", 1, "m@1"),
        LineageNode("alert", "a", "", 2, "m@1"),
        LineageNode("child", "s@1", "", 1, "m@1"),
        LineageNode("deployment", "churn", "LIVE, answered before", 2, "s@1"),
    )
    lineage = Lineage("m@1", (), down)
    assert endpoints(lineage) == ["churn"]
    found = counted(lineage, {"churn": {"m@1": 1200, "other@1": 5}}).down
    told = [(node.depth, node.of, node.words) for node in found if node.kind == "predictions"]
    assert told == [(2, "m@1", "1,200 predictions kept"), (3, "s@1", "0 predictions kept")]
