"""A model's versions in its card: the value of the metric is not cut where there is room for it."""

from __future__ import annotations

import pytest

from quarterdeck.tui.screens.version_cards import model_card
from quarterstore.records import registry
from tests.tui.conftest import SIGNATURE

NOW = 1_700_000_000.0


def version(number: int) -> registry.Version:
    metrics = tuple(registry.Metric(name=name, value=0.9718, low=0.9, high=1.0, n=142) for name in ("accuracy", "f1"))
    return registry.Version(
        id=f"m@{number}", model="m", number=number, semver="1.0.4", stage="Production", digest="d", size=1,
        format="onnx", signature=SIGNATURE, created=NOW - 900, created_by="ana", environment="default", reason="r",
        metrics=metrics,
    )  # fmt: skip


@pytest.mark.parametrize("width", [56, 62, 78, 158])
def test_the_value_of_a_metric_is_in_sight(width: int) -> None:
    model = registry.Model(name="m", created=NOW - 900, latest=12)
    lines = model_card(model, [version(12), version(1)], NOW, width).plain.splitlines()
    rows = [line for line in lines if "● Production" in line]
    assert len(rows) == 2 and all("accuracy 0.972  " in row and len(row) <= width for row in rows)
    assert all(row.endswith("15 min ago") for row in rows)
