"""A pipeline's steps as the job runs them, in this process: every learner, missing cells, splits without a leak."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from quarterdeckd.pipeline import files, splitting
from quarterstore.records.faults import Fault, Refused
from quarterstore.records.pipeline_results import PipelineResult
from quarterstore.records.pipelines import (
    DataSection,
    Definition,
    SplitSection,
    TrainSection,
)
from tests.pipeline.stepping import ran

PARITY = 1e-4
"""Largest difference between the exported and the trained model that is float32's own."""


def rows(path: Path, count: int = 400, task: str = "classes", blank: bool = True) -> Path:
    """Two numbers, a text with blanks and question marks, a day, a house of four rows."""
    chance = random.Random(3)
    lines = ["size,age,job,day,house,y"]
    for number in range(count):
        size, age = chance.gauss(0, 1), chance.gauss(0, 1)
        job = chance.choice(("clerk", "smith", "baker"))
        value = size + 0.5 * age + (0.7 if job == "smith" else 0.0) + chance.gauss(0, 0.3)
        target = ("yes" if value > 0 else "no") if task == "classes" else f"{value:.4f}"
        first = "" if blank and number % 17 == 0 else f"{size:.5f}"
        word = "?" if blank and number % 19 == 0 else job
        lines.append(f"{first},{age:.5f},{word},2026-01-{1 + number % 28:02d},h{number // 4},{target}")
    path.write_text("\n".join(lines) + "\n")
    return path


def definition(learner: str = "logistic", **about: Any) -> Definition:
    """Of the rows above."""
    train = TrainSection(learner=learner, params={"epochs": 15} if learner == "mlp" else {})
    data = DataSection(target="y", file="rows.csv", ignore=("day", "house"))
    return Definition(**{"name": "p", "model": "m", "data": data, "train": train, **about})


def done(folder: Path, asked: Definition, data: Path) -> PipelineResult:
    """What comes of it, in a folder."""
    return ran(folder, asked, data).result


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A job's own folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("learner", "task"),
    [
        ("logistic", "classes"),
        ("forest", "classes"),
        ("boosting", "classes"),
        ("mlp", "classes"),
        ("ridge", "numbers"),
        ("forest", "numbers"),
        ("mlp", "numbers"),
    ],
)
def test_every_learner_ends_as_an_onnx_file_that_answers_as_it_does(folder: Path, learner: str, task: str) -> None:
    """With missing numbers and texts in the rows; better than guessing; in its interval."""
    result, steps, left = ran(folder, definition(learner), rows(folder / "rows.csv", task=task))
    assert result.parity < PARITY
    name, least = ("balanced accuracy", 0.7) if task == "classes" else ("r2", 0.4)
    metric = next(one for one in result.metrics if one.name == name)
    assert metric.value > least and metric.low is not None and metric.low <= metric.value
    assert list(steps) == ["validate", "split", "train", "evaluate"]
    assert result.size == left["train/model.onnx"].stat().st_size and result.rows == 400


def test_the_same_definition_and_rows_give_the_same_figures(folder: Path) -> None:
    data = rows(folder / "rows.csv")
    first, second = (done(folder, definition("mlp"), data) for _ in range(2))
    assert first.metrics == second.metrics


def split(path: Path, section: SplitSection, **about: Any) -> tuple[Any, splitting.Split]:
    """The rows and their two sides."""
    asked = definition(data=DataSection(target="y", file="rows.csv", **about), split=section)
    loaded = files.load(asked, str(path))
    return loaded, splitting.split(loaded, section, asked.data.time, asked.data.group)


def test_by_time_every_held_out_row_is_later_than_every_learnt_one(tmp_path: Path) -> None:
    loaded, sides = split(rows(tmp_path / "rows.csv"), SplitSection(by="time"), time="day", ignore=("house",))
    days = np.array(loaded.frame["day"].to_list())
    assert max(days[sides.train]) < min(days[sides.test])


def test_a_time_of_parquet_is_said_as_a_time(tmp_path: Path) -> None:
    frame = pl.read_csv(rows(tmp_path / "rows.csv")).with_columns(pl.col("day").str.to_datetime())
    frame.write_parquet(tmp_path / "rows.parquet")
    loaded, sides = split(tmp_path / "rows.parquet", SplitSection(by="time"), time="day", ignore=("house",))
    first = min(loaded.frame["day"].gather(sides.test).to_list())
    assert f"by day, all from {datetime.fromtimestamp(first, UTC):%Y-%m-%dT%H:%M:%S}+00:00 on" in sides.words


def test_by_group_no_house_is_on_both_sides(tmp_path: Path) -> None:
    loaded, sides = split(rows(tmp_path / "rows.csv"), SplitSection(by="group"), group="house", ignore=("day",))
    houses = np.array(loaded.frame["house"].to_list())
    assert not set(houses[sides.train]) & set(houses[sides.test])


def test_at_random_the_classes_keep_their_proportion_and_a_seed_its_rows(tmp_path: Path) -> None:
    path = rows(tmp_path / "rows.csv")
    loaded, sides = split(path, SplitSection(), ignore=("day", "house"))
    _, again = split(path, SplitSection(), ignore=("day", "house"))
    _, other = split(path, SplitSection(seed=8), ignore=("day", "house"))
    yes = loaded.frame["y"].to_numpy() == "yes"
    assert abs(yes[sides.train].mean() - yes[sides.test].mean()) < 0.02
    assert np.array_equal(sides.test, again.test) and not np.array_equal(sides.test, other.test)
    assert not set(sides.train) & set(sides.test)


def test_equal_rows_are_on_one_side(tmp_path: Path) -> None:
    """A row that was copied would be learnt and then asked."""
    path = rows(tmp_path / "rows.csv", 100)
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines, *lines[1:]]) + "\n")
    loaded, sides = split(path, SplitSection(), ignore=("day", "house"))
    frame = [tuple(row) for row in loaded.frame.rows()]
    assert not {frame[index] for index in sides.train} & {frame[index] for index in sides.test}


def test_a_column_that_holds_the_target_is_said_to_leak(folder: Path) -> None:
    path = rows(folder / "rows.csv", task="numbers")
    lines = path.read_text().splitlines()
    copied = [lines[0] + ",copy", *(f"{line},{float(line.rpartition(',')[2]) * 2 + 1}" for line in lines[1:])]
    path.write_text("\n".join(copied) + "\n")
    found, steps, _ = ran(folder, definition("ridge"), path)
    assert "copy" in steps["validate"].words
    assert found.warnings[0] == "y follows exactly from copy (--ignore copy)"
    assert "is hardly ever true" in found.warnings[1] and "closest to it: copy (1.00), size" in found.warnings[1]
    assert not done(folder, definition("ridge"), rows(folder / "fair.csv", task="numbers")).warnings


@pytest.mark.parametrize(
    ("column", "make"),
    [
        ("casual,registered", lambda y, n: f"{n % 7},{float(y) - n % 7:.4f}"),
        ("rounded", lambda y, n: f"{float(y) + 0.001 * (n % 2):.4f}"),
    ],
)
def test_columns_that_add_up_to_the_target_are_named(folder: Path, column: str, make: Any) -> None:
    """Bike rentals are the casual and the registered ones: a model of them is worth nothing."""
    path = rows(folder / "rows.csv", task="numbers")
    head, *lines = path.read_text().splitlines()
    more = [f"{line[: line.rindex(',')]},{make(line.rpartition(',')[2], n)}," for n, line in enumerate(lines)]
    kept = [line + old.rpartition(",")[2] for line, old in zip(more, lines, strict=True)]
    path.write_text("\n".join([head[:-1] + column + ",y", *kept]) + "\n")
    first, *_ = done(folder, definition("ridge"), path).warnings
    assert all(name in first for name in ("y", *column.split(","))) and f"--ignore {column.split(',')[0]}" in first


def test_a_category_that_is_the_class_by_another_name_is_named(folder: Path) -> None:
    path = rows(folder / "rows.csv")
    head, *lines = path.read_text().splitlines()
    left = [f"{'gone' if line.endswith('yes') else ('here', 'new')[n % 2]},{line}" for n, line in enumerate(lines)]
    path.write_text("\n".join(["status," + head, *left]) + "\n")
    found = done(folder, definition("logistic"), path).warnings
    assert found[0] == "status is y by another name (1.0000; --ignore status)"
    assert "roc auc 1 on held-out rows is hardly ever true" in found[1]


CODE = {
    "raises": "def train(frame, target, params, log):\n    return {}['nothing']\n",
    "rubbish": "def train(frame, target, params, log):\n    return 'a model'\n",
    "leaves": "def train(frame, target, params, log):\n    raise SystemExit(3)\n",
    "no function": "x = 1\n",
    "no python": "def train(:\n",
}


@pytest.mark.parametrize("kind", CODE)
def test_training_code_that_fails_is_one_line_that_names_it(folder: Path, kind: str) -> None:
    (folder / "train.py").write_text(CODE[kind])
    asked = definition(train=TrainSection(python="train.py:train"))
    with pytest.raises(Fault) as failed:
        done(folder, asked, rows(folder / "rows.csv"))
    assert "\n" not in failed.value.line() and "train" in failed.value.line()


def test_by_hash_a_row_stays_on_its_side_whatever_rows_come(tmp_path: Path) -> None:
    """Held out of twice as many rows is what was held out of the first half, and half again as much."""
    section = SplitSection(by="hash", key=("house",))
    sides = []
    for count in (400, 800):
        loaded, found = split(rows(tmp_path / "rows.csv", count), section, ignore=("day", "house"))
        houses = np.array(loaded.frame["house"].to_list())
        sides.append((set(houses[found.train]), set(houses[found.test])))
    (learnt, held), (more_learnt, more_held) = sides
    assert learnt <= more_learnt and held <= more_held and not more_learnt & more_held
    assert 0.15 < len(more_held) / (len(more_held) + len(more_learnt)) < 0.35
    _, whole = split(tmp_path / "rows.csv", SplitSection(by="hash"), ignore=("day", "house"))
    assert whole.words.endswith("by the hash of the whole row")


@pytest.mark.parametrize(
    ("section", "about", "said"),
    [
        (SplitSection(), {"time": "day", "ignore": ("house",)}, "rows to learn from are not before the first held-out"),
        (SplitSection(), {"group": "house", "ignore": ("day",)}, "held-out house are learnt from too"),
        (SplitSection(by="hash", key=("day",)), {"ignore": ("day",), "group": "house"}, "held-out house"),
    ],
)
def test_what_is_on_both_sides_is_refused_with_counts_unless_a_reason_is_given(
    tmp_path: Path, section: SplitSection, about: dict[str, Any], said: str
) -> None:
    path = rows(tmp_path / "rows.csv")
    with pytest.raises(Refused) as refused:
        split(path, section, **about)
    assert said in refused.value.message and "--allow-leak" in (refused.value.next or "")
    _, sides = split(path, replace(section, allow_leak="as agreed"), **about)
    assert said in sides.leak and sides.leak.endswith("allowed, as agreed") and sides.figures["leak"] == sides.leak


def test_equal_rows_of_other_houses_go_with_them_and_by_time_are_refused(tmp_path: Path) -> None:
    """A row that was written twice under another house, or at another time."""
    path = rows(tmp_path / "rows.csv")
    header, *lines = path.read_text().splitlines()
    again = [line.replace(",h", ",again") for line in lines[::40]]
    path.write_text("\n".join([header, *lines, *again]) + "\n")
    loaded, sides = split(path, SplitSection(by="group"), group="house", ignore=("day",))
    same = loaded.frame.select("size", "age", "job", "y").hash_rows().to_numpy()
    assert not set(same[sides.train]) & set(same[sides.test])
    later = [line.replace(",2026-01", ",2027-01") for line in lines[::40]]
    path.write_text("\n".join([header, *lines, *later]) + "\n")
    with pytest.raises(Refused, match=r"got 7 of 136 held-out rows are equal to learnt ones"):
        split(path, SplitSection(by="time", test=0.3), time="day", ignore=("house",))


@given(pairs=st.lists(st.tuples(st.integers(0, 8), st.integers(0, 8)), min_size=1, max_size=40))
def test_groups_that_hang_together_are_those_that_a_walk_finds(pairs: list[tuple[int, int]]) -> None:
    """The components of groups linked by equal rows, against a walk from each."""
    groups = np.unique([group for group, _ in pairs], return_inverse=True)[1]
    found = splitting.joined(groups, np.array([same for _, same in pairs]))
    for start in range(len(pairs)):
        reached = {start}
        while True:
            more = {
                other
                for one in reached
                for other in range(len(pairs))
                if groups[one] == groups[other] or pairs[one][1] == pairs[other][1]
            }
            if more <= reached:
                break
            reached |= more
        assert reached == set(np.flatnonzero(found == found[start]).tolist())


def test_a_key_that_is_not_there_or_blank_is_named(tmp_path: Path) -> None:
    path = rows(tmp_path / "rows.csv")
    for key, field in (("houze", "split.key"), ("size", "split.key")):
        with pytest.raises(Fault) as refused:
            split(path, SplitSection(by="hash", key=(key,)), ignore=("day", "house", "size"))
        assert refused.value.field == field
