"""Recorded predictions on their way to Parquet: all of them, once, in bounded memory."""

from __future__ import annotations

import os
import subprocess
import sys

import polars
import pytest

from quarterdeckd.serving.recorder import Frame, Recorder
from quarterdeckd.work import predictions as work
from quarterdeckd.work.predictions import Predictions
from quarterstore.ledger.state import State
from quarterstore.records.places import Home
from quarterstore.records.registry import Feature, Signature, Version

NOON = 1_700_049_600.0
SIGNATURE = Signature(
    inputs=(),
    outputs=(),
    features=(
        Feature(name="age", kind="number", input="x", index=0),
        Feature(name="id", kind="category", input="c", index=0),
    ),
)


def frame(number: int, at: float = NOON, endpoint: str = "e", age: object = 40.0) -> Frame:
    """One answered request."""
    features = {"age": [age], "id": [f"caller {number}"]}
    return Frame(f"p{number}", at, endpoint, "m@1", "live", 1, 200, 0.5, features, ["yes"], [0.5])


def recorded(home: Home, *segments: list[Frame]) -> None:
    """Closed segments, as a host leaves them."""
    recorder = Recorder(home.serving / "predictions", os.getpid())
    for frames in segments:
        for each in frames:
            assert recorder.write(each)
        recorder.tend(close=True)


@pytest.fixture
def predictions(home: Home) -> Predictions:
    """The daemon's side, with one version known."""
    (home.serving / "predictions").mkdir()
    view = State()
    view.versions.rows["m@1"] = Version(
        id="m@1", model="m", number=1, semver="1.0.0", stage="Production", digest="0" * 64, size=1, format="onnx",
        signature=SIGNATURE, created=NOON, created_by="ana", reason="first",
    )  # fmt: skip
    return Predictions(home, view)


def rows(home: Home) -> polars.DataFrame:
    """Everything that is kept."""
    files = sorted((home.samples / "predictions").glob("endpoint=*/day=*/*.parquet"))
    return polars.concat([polars.read_parquet(path) for path in files], how="diagonal_relaxed")


def test_a_feature_named_like_a_column_is_read_back_under_its_own_name(home: Home, predictions: Predictions) -> None:
    recorded(home, [frame(1)])
    (found,) = predictions.newest("e", 10, None)
    assert found.id == "p1" and found.inputs == {"age": 40.0, "id": "caller 1"}


def test_a_number_that_was_hashed_stays_a_hash(home: Home, predictions: Predictions) -> None:
    """Cast to a number it would be nothing at all, silently."""
    recorded(home, [frame(1, age="0a" * 16)])
    (found,) = predictions.newest("e", 10, None)
    assert found.inputs["age"] == "0a" * 16


def test_predictions_lie_under_the_day_they_were_answered_on(home: Home, predictions: Predictions) -> None:
    """Whole days are dropped by the retention rule: a row under the wrong one goes a day too soon."""
    recorded(home, [frame(1), frame(2, NOON + 86_400), frame(3, endpoint="o")])
    assert predictions.fold() == 3
    found = {str(path.parent.relative_to(predictions.folder)) for path in predictions.folder.rglob("*.parquet")}
    assert found == {"endpoint=e/day=2023-11-15", "endpoint=e/day=2023-11-16", "endpoint=o/day=2023-11-15"}


def test_what_waited_long_is_folded_in_bounded_pieces(
    home: Home, predictions: Predictions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a day without a daemon half a gigabyte waits; as rows in memory it would be ten times that."""
    recorded(home, *[[frame(number) for number in range(each, each + 10)] for each in range(0, 60, 10)])
    size = max(path.stat().st_size for path in (home.serving / "predictions").glob("*.done"))
    monkeypatch.setattr(work, "BATCH", 2 * size)
    assert predictions.fold() == 60
    assert len(list(predictions.folder.rglob("*.parquet"))) == 3
    assert rows(home)["id"].n_unique() == 60
    assert predictions.waiting() == 0 and predictions.fold() == 0


@pytest.mark.fault
@pytest.mark.parametrize("point", ["predictions.noted", "predictions.folded", "predictions.cleared"])
def test_a_fold_that_was_killed_doubles_and_loses_nothing(home: Home, predictions: Predictions, point: str) -> None:
    """Segments that close meanwhile must not change under which name the same rows are written again."""
    recorded(home, [frame(1)], [frame(2)])
    code = (
        "import sys; from pathlib import Path; from quarterdeckd.work.predictions import Predictions; "
        "from quarterstore.ledger.state import State; from quarterstore.records.places import Home; "
        f"Predictions(Home(Path({str(home.root)!r})), State()).fold()"
    )
    killed = subprocess.run([sys.executable, "-c", code], env={**os.environ, "QD_CRASH_AT": point}, timeout=60)
    assert killed.returncode == 137
    recorded(home, [frame(3)])
    predictions.fold()
    assert sorted(rows(home)["id"]) == ["p1", "p2", "p3"]
    assert sorted(path.name for path in (home.serving / "predictions").iterdir()) == []


def test_a_damaged_segment_is_noted_for_the_doctor_and_the_rest_is_kept(home: Home, predictions: Predictions) -> None:
    """A line in a log is read by nobody; the note is without what was predicted, so retention does not concern it."""
    recorded(home, [frame(1), frame(2)], [frame(3)])
    first, _ = sorted((home.serving / "predictions").glob("*.done"))
    first.write_bytes(first.read_bytes()[:-3])
    assert predictions.fold() == 2
    assert sorted(rows(home)["id"]) == ["p1", "p3"]
    (note,) = (home.serving / "predictions").glob("*.damaged")
    assert note.name == f"{first.name}.damaged" and "are no whole prediction and are dropped" in note.read_text()
