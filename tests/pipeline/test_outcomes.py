"""Outcomes are joined as a slow reading of the rule says, whatever the pieces; a bad cell costs the file, by name."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quarterdeckd.measures.holding import answered, by_arm, came_after, labelled
from quarterdeckd.pipeline import outcome_rows
from quarterdeckd.pipeline.outcomes import join
from quarterdeckd.serving.recorder import Frame, columns
from quarterstore.records.faults import Fault
from quarterstore.records.outcomes import LABEL, Joined, JoinSpec, Unit
from quarterstore.records.predictions import hashed

NOW, WINDOW = 10_000.0, 50.0
KINDS = {"row": pl.Int32, "at": pl.Float64, "epoch": pl.Int64, "status": pl.Int32, "latency": pl.Float64}


def frame(number: int, prediction: str = "1", *, version: str = "m@1", role: str = "live", **other: Any) -> Frame:
    """Prediction p<number>, answered at 100 + number."""
    about = {"at": 100.0 + number, "endpoint": "e", "epoch": 7, "status": 200, "latency": 1.0, **other}
    return Frame(
        id=f"p{number}", version=version, role=role, features={}, predictions=[prediction], scores=[0.5], **about
    )


def recorded(folder: Path, *frames: Frame) -> Path:
    """A file of recorded predictions, as the daemon folds it."""
    found = columns(frames)
    kinds = {**KINDS, "score": pl.Float64, "dealt": pl.UInt64, "propensity": pl.Float64}
    path = folder / f"predictions-{len(list(folder.iterdir()))}.parquet"
    pl.DataFrame([pl.Series(name, cells, kinds.get(name, pl.String())) for name, cells in found.items()]).write_parquet(
        path
    )
    return path


class Store:
    """A folder with predictions, and the outcomes that were joined to them one file after the other."""

    def __init__(self, folder: Path, *frames: Frame) -> None:
        self.folder = folder
        self.predictions = (str(recorded(folder, *frames)),)
        self.history: dict[str, tuple[str, ...]] = {}
        self.now = NOW

    def add(self, text: str | pl.DataFrame, metric: str = LABEL, endpoint: str | None = "e") -> Joined:
        """Join one file a second later than the one before."""
        self.now += 1
        number = len(list(self.folder.iterdir()))
        file = self.folder / f"file-{number}"
        if isinstance(text, str):
            file.write_text(text)
        else:
            text.write_parquet(file)
        target = self.folder / f"outcomes-{number}.parquet"
        spec = JoinSpec(
            file=str(file), format="csv" if isinstance(text, str) else "parquet", metric=metric, endpoint=endpoint,
            salt="s", window=WINDOW, now=self.now, upload=f"u{number}", predictions=self.predictions,
            history=self.history.get(metric, ()), target=str(target),
        )  # fmt: skip
        found = join(spec, lambda fraction, words: None)
        assert target.exists() == bool(found.kept)
        if found.kept:
            self.history[metric] = (*self.history.get(metric, ()), str(target))
        return found

    def arms(self, metric: str = LABEL, since: int = 0, unit: Unit = "answer") -> dict[str, Any]:
        """What it says by version."""
        return by_arm([Path(path) for path in self.history.get(metric, ())], "e", metric, since, unit)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Four predictions of two versions and one that failed."""
    return Store(
        tmp_path,
        frame(1, "1"),
        frame(2, "0"),
        frame(3, "1", version="m@2", role="candidate"),
        frame(4, "2.0"),
        frame(5, status=500),
    )


def counts(found: Joined) -> dict[str, int]:
    names = ("joined", "late", "unknown", "duplicate", "conflicting")
    assert sum(getattr(found, name) for name in names) == found.rows
    return {name: getattr(found, name) for name in names if getattr(found, name)}


def test_labels_are_joined_by_id_and_counted_apart(store: Store) -> None:
    """Right is the same text or the same number: 2 is 2.0."""
    first = "id,value,time\np1,1,110\np2,1,110\np3,1,110\np4,2,110\np5,1,110\nnobody,1,110\n"
    assert counts(store.add(first)) == {"joined": 4, "unknown": 2}
    arms = store.arms()
    assert (arms["m@1"].n, arms["m@1"].successes, arms["m@1"].mean) == (3, 2, pytest.approx(2 / 3))
    assert arms["m@1"].m2 == pytest.approx(2 / 3) and arms["m@2"].mean == 1.0
    assert counts(store.add(first)) == {"duplicate": 4, "unknown": 2}, "the same file twice says nothing twice"
    assert store.arms() == arms
    assert answered([Path(store.predictions[0])]) == {"m@1": 3, "m@2": 1}
    assert store.arms(since=8) == {}


def test_of_values_that_conflict_the_latest_holds_whatever_the_order_they_came_in(store: Store) -> None:
    assert counts(store.add("id,value,time\np1,0,130\n")) == {"joined": 1}
    assert store.arms()["m@1"].mean == 0.0
    assert counts(store.add("id,value,time\np1,1,120\n")) == {"conflicting": 1}
    assert store.arms()["m@1"].mean == 0.0, "it came later and is of an earlier time"
    assert counts(store.add("id,value,time\np1,1,140\n")) == {"duplicate": 1}, "the value was given before"
    assert store.arms()["m@1"].mean == 1.0, "and holds again"
    assert counts(store.add("id,value,time\np1,0,140\n")) == {"duplicate": 1}
    assert store.arms()["m@1"].mean == 0.0, "at equal times the later upload"
    assert counts(store.add("id,value,time\np2,1,120\np2,0,120\n")) == {"joined": 1, "conflicting": 1}
    assert store.arms()["m@1"].successes == 1, "and in one file the later line"


def test_what_comes_after_the_window_is_late_and_counts_for_nothing(store: Store) -> None:
    assert counts(store.add("id,value,time\np1,1,151\np2,0,152.5\n")) == {"joined": 1, "late": 1}
    arm = store.arms()["m@1"]
    assert (arm.n, arm.late) == (1, 1)
    assert counts(store.add("id,value\np2,0\np3,1\n")) == {"duplicate": 1, "late": 1}, "without a time it is of now"
    assert store.arms()["m@2"].late == 1 and store.arms()["m@2"].n == 0
    assert counts(store.add("id,value,time\np2,1,120\n")) == {"conflicting": 1}
    assert (store.arms()["m@1"].n, store.arms()["m@1"].late) == (2, 0)


def test_a_key_names_the_last_answer_at_or_before_the_outcome(tmp_path: Path) -> None:
    keyed = [frame(number, key_hash=hashed("s", "ana")) for number in (1, 2, 3)]
    store = Store(tmp_path, *keyed, frame(4, version="m@2", key_hash=hashed("s", "bob")), frame(5))
    found = store.add("key,value,time\nana,5,102\nana,7,102.9\nbob,1,103.9\ncarl,1,120\nbob,2.5,104\n", "revenue")
    assert counts(found) == {"joined": 2, "conflicting": 1, "unknown": 2}
    arms = store.arms("revenue")
    assert (arms["m@1"].n, arms["m@1"].mean, arms["m@2"].mean) == (1, 7.0, 2.5)
    assert set(pl.read_parquet(store.history["revenue"][0])["id"]) == {"p2", "p4"}
    assert "key_hash" not in pl.read_parquet(store.history["revenue"][0]).columns


def test_a_shadows_answer_has_the_label_too_and_no_outcome_of_an_answer_that_nobody_got(tmp_path: Path) -> None:
    store = Store(tmp_path, frame(1, "1"), frame(1, "0", version="m@2", role="shadow"))
    assert counts(store.add("id,value,time\np1,1,110\n")) == {"joined": 1}
    assert counts(store.add("id,value,time\np1,9,110\n", "revenue")) == {"joined": 1}
    assert {version: arm.mean for version, arm in store.arms().items()} == {"m@1": 1.0, "m@2": 0.0}
    assert {version: arm.mean for version, arm in store.arms("revenue").items()} == {"m@1": 9.0}


def test_what_a_caller_asked_by_name_is_no_outcome_of_a_trial_and_a_callers_answers_are_one(tmp_path: Path) -> None:
    """Two answers of the caller at point 5, one at 6, and one that named its version."""
    store = Store(tmp_path, frame(1, dealt=5), frame(2, dealt=5), frame(3, dealt=6), frame(4))
    store.add("id,value,time\np1,1,110\np2,0,110\np3,1,110\np4,0,110\n", "bought")

    def found(unit: Unit) -> tuple[int, float]:
        arm = store.arms("bought", unit=unit)["m@1"]
        return arm.n, arm.mean

    assert found("answer") == (4, 0.5)
    assert found("dealt") == (3, pytest.approx(2 / 3))
    assert found("caller") == (2, 0.75)


def test_outcomes_that_were_kept_before_points_were_are_each_of_their_own_caller(tmp_path: Path) -> None:
    store = Store(tmp_path, frame(1, dealt=5), frame(2, dealt=5), frame(3, dealt=5))
    store.add("id,value,time\np1,1,110\np2,0,110\n", "bought")
    [kept] = store.history["bought"]
    pl.read_parquet(kept).drop("dealt").write_parquet(kept)
    store.add("id,value,time\np3,1,110\n", "bought")
    assert store.arms("bought", unit="caller")["m@1"].n == 3


def test_parquet_says_the_same_as_csv(store: Store) -> None:
    rows = pl.DataFrame({"id": ["p1", "p2"], "value": [1, 0], "time": [110, 120]})
    typed = rows.with_columns(pl.from_epoch("time").dt.replace_time_zone("UTC"))
    assert counts(store.add(typed)) == {"joined": 2}
    assert counts(store.add("id,value,time\np1,1.0,110\np2,0,1970-01-01T00:02:00Z\n")) == {"duplicate": 2}
    assert len(store.history[LABEL]) == 1, "nothing new was kept"


# against a slow reading of the rule

ROW = st.tuples(st.sampled_from(["p1", "p2", "p3", "zz"]), st.sampled_from("01"), st.sampled_from([110, 120, 151, 190]))
FILE = st.tuples(st.booleans(), st.lists(ROW, min_size=1, max_size=9))


class Slow:
    """The rule, one row after the other."""

    def __init__(self) -> None:
        self.given: dict[str, list[tuple[float, float, int, str, bool]]] = {}

    def add(self, now: float, timed: bool, rows: list[tuple[str, str, int]]) -> dict[str, int]:
        found: dict[str, int] = {}
        for line, (name, value, at) in enumerate(rows):
            time = float(at) if timed else now
            what = self._one(name, value, time, now, line, timed)
            found[what] = found.get(what, 0) + 1
        return found

    def _one(self, name: str, value: str, time: float, now: float, line: int, timed: bool) -> str:
        if name == "zz":
            return "unknown"
        given = self.given.setdefault(name, [])
        late = time - (100.0 + int(name[1:])) > WINDOW
        said = any(each[3] == value for each in given)
        if not said or (timed and not any(each[0] == time and each[3] == value for each in given)):
            given.append((time, now, line, value, late))
        return "duplicate" if said else "late" if late else "conflicting" if len(given) > 1 else "joined"

    def successes(self) -> int:
        """Predictions of 1 whose label of the latest time is 1."""
        in_time = [[each for each in given if not each[4]] for given in self.given.values()]
        return sum(max(given)[3] == "1" for given in in_time if given)


@settings(max_examples=25, deadline=None)
@given(st.lists(FILE, min_size=1, max_size=4), st.integers(1, 5))
def test_rows_are_what_a_slow_reading_of_the_rule_says(files: list[Any], piece: int) -> None:
    before, outcome_rows.PIECE = outcome_rows.PIECE, piece
    try:
        with tempfile.TemporaryDirectory() as name:
            store, slow = Store(Path(name), frame(1), frame(2), frame(3)), Slow()
            for timed, rows in files:
                text = "".join(f"{id_},{value}{f',{at}' if timed else ''}\n" for id_, value, at in rows)
                text = f"id,value{',time' if timed else ''}\n{text}"
                assert counts(store.add(text)) == slow.add(store.now, timed, rows)
                again = counts(store.add(text))
                assert set(again) <= {"duplicate", "unknown"}, "the same file twice says nothing twice"
                slow.add(store.now, timed, rows)
            found = store.arms().get("m@1")
            assert (found.successes if found else 0) == slow.successes()
    finally:
        outcome_rows.PIECE = before


# what is wrong with a file

BAD = [
    ("id,value\np1,1\n,1\n", "line 3, id: got nothing, expected 1 to 200 characters"),
    ("id,value\np1\n", "line 2: got 1 fields, expected 2 as in the header"),
    ("id,value,time\np1,1,noon\n", "line 2, time: got noon, expected seconds since 1970, or ISO 8601 with its zone"),
    ("id,value,time\np1,1,2026-03-01T12:00\n", "line 2, time: got 2026-03-01T12:00, expected a time with its zone"),
    ("id,value,time\np1,1,\n", "line 2, time: got nothing"),
    ("id,value,row\np1,1,-1\n", "line 2, row: got -1, expected the number of a row"),
    ("id,value,tme\np1,1,3\n", "column: got tme, expected a known one; nearest: time"),
    ("id,value,value\np1,1,3\n", "column 3: got the name value again"),
    ("id,key,value\np1,a,3\n", "columns: got id, key, value, expected one of id and key"),
    ("key,row,value\na,1,3\n", "columns: got row beside key"),
    ("id,time\np1,3\n", "columns: got id, time, expected a column value"),
    ("id,value\n", "file: got a header and no row"),
    ("", "file: got an empty file, expected a first line with the names of the columns"),
    ("id;value\np1;1\n", "file: got ';' between the fields"),
    ('id,value\np1,"1\n', "file line 2"),
    ("id,value\np1,\x1b[2J\n", "line 2, value: got"),
]


@pytest.mark.parametrize(("text", "words"), BAD)
def test_a_bad_row_is_named_by_line_and_column_and_nothing_is_kept(store: Store, text: str, words: str) -> None:
    with pytest.raises(Fault) as refused:
        store.add(text)
    assert words in refused.value.line() and "\x1b" not in refused.value.line()
    assert not [path for path in store.folder.iterdir() if path.name.startswith("outcomes")]


def test_a_key_without_an_endpoint_is_refused(store: Store) -> None:
    with pytest.raises(Fault, match="endpoint: got none"):
        store.add("key,value\nana,1\n", endpoint=None)


@pytest.mark.parametrize("cell", ["abc", "nan", "inf", ""])
def test_a_measure_that_is_no_finite_number_is_refused(store: Store, cell: str) -> None:
    with pytest.raises(Fault, match=r"line 3, value: got .*, expected a finite number"):
        store.add(f"id,value\np1,1\np2,{cell}\n", "revenue")


def test_a_bad_row_after_good_pieces_costs_the_whole_file(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outcome_rows, "PIECE", 2)
    with pytest.raises(Fault, match="line 6, value"):
        store.add("id,value\np1,1\np2,1\np3,1\np4,1\np1,x\n", "revenue")
    assert not [path for path in store.folder.iterdir() if path.name.startswith("outcomes")]


BAD_PARQUET = [
    (pl.DataFrame({"id": ["p1", None], "value": [1, 2]}), "row 2, id: got nothing"),
    (pl.DataFrame({"id": ["p1"], "value": [[1]]}), "value: got a column of List"),
    (
        pl.DataFrame({"id": ["p1"], "value": [1], "time": [1]}).with_columns(pl.from_epoch("time")),
        "time: got a column of Datetime",
    ),
    (pl.DataFrame({"id": ["p1"], "value": [1]}).clear(), "file: got no row"),
]


@pytest.mark.parametrize(("rows", "words"), BAD_PARQUET)
def test_a_bad_parquet_file_is_refused_by_row_and_column(store: Store, rows: pl.DataFrame, words: str) -> None:
    with pytest.raises(Fault) as refused:
        store.add(rows)
    assert words in refused.value.line()


def test_what_continuous_training_reads_are_the_labels_of_a_window_and_the_answers_that_got_their_first_one(
    store: Store,
) -> None:
    """Answers 1, 2 and 4 are of m@1 at 101, 102 and 104; a corrected label is no new row."""
    store.add("id,value,time\np1,1,110\np2,1,110\n")
    first = store.now
    store.add("id,value,time\np1,0,120\np4,2,120\np3,1,120\n")
    paths = [Path(path) for path in store.history[LABEL]]
    assert labelled(paths, "e", "m@1", 0.0) == (3, 1)
    assert labelled(paths, "e", "m@1", 102.0) == (2, 1)
    assert (
        labelled(paths, "e", "m@1", 104.5)
        == labelled(paths, "f", "m@1", 0.0)
        == labelled([], "e", "m@1", 0.0)
        == (0, 0)
    )
    assert came_after(paths, "e", 0.0) == 4
    assert came_after(paths, "e", first) == 2
    assert came_after(paths, "e", store.now) == came_after([], "e", 0.0) == 0
