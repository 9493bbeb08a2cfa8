"""Edges of data through validate, train, evaluate and drift: each has the outcome that its page says."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace

from quarterdeckd.measures import drift
from quarterdeckd.pipeline import champion, kinds, training
from quarterdeckd.pipeline.progress import Report
from quarterdeckd.pipeline.step import At
from quarterstore.records.evaluations import Against, EvaluateSection
from quarterstore.records.faults import Fault
from quarterstore.records.monitoring import DriftRule
from quarterstore.records.pipelines import DataSection, Definition, SplitSection
from quarterstore.records.registry import Feature
from tests.pipeline.stepping import ran

Row = dict[str, Any]
RULE = DriftRule(least=50)


def written(path: Path, count: int, change: Callable[[int, Row], Row] = lambda n, row: row) -> Path:
    """Rows with a day, a number that tells the class and a job; changed row by row."""
    chance = random.Random(5)
    rows = []
    for number in range(count):
        size = chance.gauss(0, 1)
        row = {
            "day": f"2026-{1 + number // 28 % 12:02d}-{1 + number % 28:02d}",
            "size": f"{size:.5f}",
            "job": ("clerk", "smith")[number % 2],
            "y": "yes" if size + chance.gauss(0, 0.3) > 0 else "no",
        }
        rows.append(change(number, row))
    names = list(rows[0]) if rows else ["day", "size", "job", "y"]
    path.write_text("\n".join([",".join(names), *(",".join(row[name] for name in names) for row in rows)]) + "\n")
    return path


def definition(**about: Any) -> Definition:
    return Definition(
        **{
            "name": "p",
            "model": "m",
            "data": DataSection(target="y", time="day"),
            "split": SplitSection(by="time"),
            "evaluate": EvaluateSection(slices=("job",)),
            **about,
        }
    )


@pytest.mark.parametrize(
    ("count", "change", "said"),
    [
        (0, lambda n, row: row, "a header and no row"),
        (1, lambda n, row: row, "got one class"),
        (19, lambda n, row: row, "got 19 rows with a target, expected at least 20"),
        (200, lambda n, row: row | {"y": "yes"}, "y: got one class (yes) in all rows"),
        (200, lambda n, row: row | {"size": "1.5"}, "size: got one value (1.5) in every row"),
        (200, lambda n, row: row | {"job": ""}, "job: got no value in any row"),
        (200, lambda n, row: row | {"day": "2026-01-01"}, "day: got one time in too many rows"),
        (200, lambda n, row: row | {"day": "" if n == 7 else row["day"]}, "day: got 1 rows without a time"),
        (200, lambda n, row: row | {"size": "1e39" if n == 7 else row["size"]}, "single precision"),
        (200, lambda n, row: row | {"y": "no" if n < 150 else row["y"]}, "y: got one class (no) in the rows to learn"),
        (200, lambda n, row: row | {"y": "may" if n > 190 else row["y"]}, "class may only in held-out rows"),
    ],
)
def test_rows_that_nothing_can_be_learnt_from_are_named(
    tmp_path: Path, count: int, change: Callable[[int, Row], Row], said: str
) -> None:
    with pytest.raises(Fault) as refused:
        ran(tmp_path, definition(), written(tmp_path / "rows.csv", count, change))
    assert said in refused.value.line(), refused.value.line()


def test_the_auc_of_one_class_is_undefined_and_no_number(tmp_path: Path) -> None:
    path = written(tmp_path / "rows.csv", 200, lambda n, row: row | {"y": "yes" if n >= 150 else row["y"]})
    found = ran(tmp_path, definition(), path)
    evaluated = found.steps["evaluate"]
    assert evaluated.figures["undefined"]["roc auc"] == "the rows hold one class only"
    assert "roc auc is not defined" in evaluated.words
    assert "roc auc" not in {metric.name for metric in found.result.metrics}


def test_a_category_that_was_never_learnt_is_answered_as_other_and_counted(tmp_path: Path) -> None:
    path = written(tmp_path / "rows.csv", 200, lambda n, row: row | {"job": "baker" if n > 180 else row["job"]})
    found = ran(tmp_path, definition(), path).steps["evaluate"]
    assert found.figures["unseen"] == {"job": 19}
    assert "answered as other: job 19" in found.words


def test_times_that_tie_stay_on_one_side_and_times_to_come_are_said(tmp_path: Path) -> None:
    tied = written(tmp_path / "rows.csv", 200, lambda n, row: row | {"day": f"2026-01-{1 + n // 40:02d}"})
    split = ran(tmp_path, definition(), tied).steps["split"]
    assert (split.figures["train"], split.figures["test"]) == (120, 80)

    def late(number: int, row: Row) -> Row:
        return row | {"day": row["day"].replace("2026", "3026") if number > 197 else row["day"]}

    later = written(tmp_path / "rows.csv", 200, late)
    validated = ran(tmp_path, definition(), later).steps["validate"]
    assert validated.figures["warnings"] == ("2 rows are of times to come, by day",)


def test_a_champion_is_asked_by_name_whatever_became_of_the_columns(tmp_path: Path) -> None:
    """Another order, a new column: it answers; a column gone, or of another kind: it is not compared, in words."""
    first = ran(tmp_path, definition(), written(tmp_path / "rows.csv", 200))
    signature, model = first.result.signature, first.files["train/model.onnx"]

    def compared(change: Callable[[int, Row], Row]) -> Any:
        path = written(tmp_path / "next.csv", 200, change)
        split = SplitSection(by="time", allow_leak="few values, so that rows repeat")
        asked = definition(evaluate=EvaluateSection(explain=False), split=split)
        files = ran(tmp_path, asked, path).files
        out = tmp_path / "again"
        out.mkdir(exist_ok=True)
        with Report(tmp_path / "progress.jsonl") as report:
            at = At("evaluate", asked, {}, files, out, out, tmp_path, path, report)
            told = kinds.function_of("evaluate")(at._replace(against=Against("m@1", str(model), signature)))
        return told.figures["champion"]

    assert (
        compared(lambda n, row: dict(reversed(row.items())) | {"more": str(n % 7)})["difference"]["value"] is not None
    )
    turned = compared(lambda n, row: dict(reversed(row.items())) | {"more": str(n % 7)})
    assert turned["difference"]["value"] is not None
    assert compared(lambda n, row: {"x": str(n % 7)} | {name: row[name] for name in row if name != "job"}) == {
        "version": "m@1",
        "words": "not compared with m@1: it takes job, which these rows do not have",
    }
    texts = compared(lambda n, row: row | {"size": ("low", "high")[n % 2]})
    assert texts["words"] == "not compared with m@1: size holds texts by now, it takes numbers"
    spoilt = tmp_path / "spoilt.onnx"
    spoilt.write_bytes(b"no model")
    meaning = training.Meaning(first.result.signature.features, "classification", ("no", "yes"))  # type: ignore[arg-type]
    with pytest.raises(Fault):
        champion.Asked(spoilt, signature, meaning)


@pytest.mark.parametrize(
    ("before", "after", "verdict", "note", "effect"),
    [
        (np.ones(200), np.ones(200), "NONE", "constant", 0.0),
        (np.ones(200), np.array([]), "NOT ENOUGH DATA", "not enough data (0 of 50)", None),
        (np.ones(200), np.ones(1), "NOT ENOUGH DATA", "not enough data (1 of 50)", None),
        (np.arange(200.0), np.full(200, np.nan), "NOT ENOUGH DATA", "200 of 200 current rows left out", None),
        (
            np.arange(200.0),
            np.array(["x"] * 200, dtype=object),
            "NOT ENOUGH DATA",
            "(blank or not a finite number)",
            None,
        ),
        (np.arange(200.0), None, "UNDEFINED", "no such column in the current rows", None),
    ],
)
def test_drift_of_edges_is_defined(before: Any, after: Any, verdict: str, note: str, effect: float | None) -> None:
    feature = Feature(name="a", kind="number", input="a", index=0)
    other = {"b": np.ones(200)}
    found = drift.compare({"a": before}, other if after is None else {"a": after}, [feature], RULE)
    [one] = found.features
    assert one.verdict == verdict and note in one.note and one.effect == effect, one


def test_drift_counts_a_category_that_was_never_seen_as_other() -> None:
    feature = Feature(name="c", kind="category", input="c", index=0)
    found = drift.compare({"c": np.array(["x", "y"] * 100)}, {"c": np.array(["x", "z"] * 100)}, [feature], RULE)
    assert "100 rows of 1 unseen category counted as other" in found.features[0].note
    assert found.verdict == "DRIFT"


def test_no_part_of_a_judgement_is_a_silent_zero(tmp_path: Path) -> None:
    """Slices and groups that cannot be judged say why, and leave no metric."""
    section = EvaluateSection(slices=("id",), fairness=("only",), explain=False)
    path = written(tmp_path / "rows.csv", 200, lambda n, row: row | {"only": "one", "id": f"k{n}"})
    asked = replace(definition(evaluate=section), data=DataSection(target="y", time="day", ignore=("only", "id")))
    found = ran(tmp_path, asked, path)
    names = {metric.name for metric in found.result.metrics}
    assert not names & {"demographic parity", "equalised odds", "calibration gap"}
    assert "demographic parity over only is not defined: 1 groups of at least 30 rows" in found.steps["evaluate"].words
    few = ran(tmp_path, replace(asked, split=SplitSection(by="time", test=0.1)), path)
    assert "no slice has 30 rows" in few.steps["evaluate"].words
