"""A batch: columns found by name, chunks done once, the same bytes however often it broke off."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from quarterdeckd.serving import batch
from quarterdeckd.serving.session import Loaded
from quarterstore.records.batches import BatchResult, BatchSpec
from quarterstore.records.faults import Fault
from quarterstore.records.registry import Feature, Signature, Tensor
from tests.small import onnx_file

SIGNATURE = Signature(
    inputs=(Tensor(name="x", datatype="FP32", shape=(-1, 2)),),
    outputs=(Tensor(name="y", datatype="FP32", shape=(-1, 1)),),
    features=(Feature(name="age", kind="number", input="x"), Feature(name="fee", kind="number", input="x", index=1)),
)
ROWS = 1000


class Said:
    """What a job says of its way."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, float | None]] = []

    def progress(self, name: str, fraction: float | None = None, words: str = "") -> None:
        self.lines.append((name, fraction))


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A job's folder; the process is not made nicer for the tests that follow."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("os.nice", lambda step: step)
    (tmp_path / "model.onnx").write_bytes(onnx_file())
    return tmp_path


def table(rows: int = ROWS) -> pl.DataFrame:
    """Rows with an id, in another order of columns than the version takes."""
    numbers = np.arange(rows, dtype=np.float64)
    return pl.DataFrame({"id": [f"c{n}" for n in range(rows)], "fee": numbers / 8, "age": numbers})


def asked(here: Path, frame: pl.DataFrame, work: str = "work", **about: Any) -> BatchSpec:
    """What the job is given."""
    frame.write_parquet(here / "rows.parquet", row_group_size=300)
    given = {
        "version": "m@1",
        "model": str(here / "model.onnx"),
        "digest": hashlib.sha256((here / "model.onnx").read_bytes()).hexdigest(),
        "data": str(here / "rows.parquet"),
        "format": "parquet",
        "signature": SIGNATURE,
        "keep": ("id",),
        "chunk": 64,
        "key": "k",
        "work": str(here / work),
        **about,
    }
    return BatchSpec(**given)


def done(spec: BatchSpec) -> tuple[BatchResult, bytes]:
    """The result, and the bytes of its file."""
    result = batch.run(spec, Said())
    return result, Path(result.output).read_bytes()


def test_each_row_is_answered_in_order_beside_what_is_kept(here: Path) -> None:
    result, _ = done(asked(here, table()))
    found = pl.read_parquet(result.output)
    assert found.columns == ["id", "version", "y"] and result.rows == len(found) == ROWS
    assert found["id"].to_list() == table()["id"].to_list()
    expected = (table()["age"] + table()["fee"]).cast(pl.Float32) * 0.5
    assert np.allclose(found["y"].to_numpy(), expected.to_numpy())
    assert (result.not_finite, result.resumed) == (0, 0)


@pytest.mark.parametrize("chunk", [1, 63, 64, 999, 1000, 1001])
def test_however_it_is_cut_the_answers_are_the_same(here: Path, chunk: int) -> None:
    frame = table(130 if chunk == 1 else ROWS)
    result, _ = done(asked(here, frame, chunk=chunk))
    assert np.allclose(pl.read_parquet(result.output)["y"].to_numpy(), ((frame["age"] + frame["fee"]) / 2).to_numpy())


def test_a_batch_that_broke_off_goes_on_and_has_the_bytes_of_one_that_did_not(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed = done(asked(here, table()))[1]
    spec, real, written = asked(here, table(), "again"), batch._write, []

    def breaks(frame: pl.DataFrame, part: Path) -> None:
        written.append(part)
        if len(written) > 5:
            part.with_suffix(".part").write_bytes(b"half a chunk")
            raise OSError(5, "gone")
        real(frame, part)

    monkeypatch.setattr(batch, "_write", breaks)
    with pytest.raises(OSError, match="gone"):
        batch.run(spec, Said())
    monkeypatch.setattr(batch, "_write", real)
    result, found = done(spec)
    assert result.resumed == 5 and found == undisturbed


def test_a_csv_file_gives_what_the_same_rows_give_as_parquet(here: Path) -> None:
    _, expected = done(asked(here, table()))
    table().write_csv(here / "rows.csv")
    assert done(asked(here, table(), "other", data=str(here / "rows.csv"), format="csv"))[1] == expected


def test_kept_columns_of_a_csv_file_are_the_numbers_that_they_are_written_as(here: Path) -> None:
    rows = ["n,part,code,gap,void,age,fee"]
    rows += [f"{n - 3},{n / 4},{n:03d},{n if n % 2 else ''},,{n}, {n / 8} " for n in range(9)]
    (here / "rows.csv").write_text("\n".join(rows))
    keep = ("n", "part", "code", "gap", "void", "age")
    result, _ = done(asked(here, table(), data=str(here / "rows.csv"), format="csv", keep=keep))
    found = pl.read_parquet(result.output)
    kinds = (pl.Int64, pl.Float64, pl.String, pl.Int64, pl.String, pl.Int64)
    assert [found.schema[name] for name in keep] == list(kinds)
    assert found["n"].to_list() == list(range(-3, 6)) and found["code"][1] == "001" and found["gap"][0] is None
    assert found["y"].to_list() == [n * 1.125 / 2 for n in range(9)]


def test_a_gap_in_what_is_kept_is_no_answer_that_is_not_finite(here: Path) -> None:
    frame = table().with_columns(note=pl.lit(float("nan")))
    assert done(asked(here, frame, keep=("note",)))[0].not_finite == 0


def test_missing_numbers_are_nan_and_counted_where_the_answer_is_none(here: Path) -> None:
    frame = table().with_columns(pl.when(pl.col("age") < 3).then(None).otherwise(pl.col("age")).alias("age"))
    assert done(asked(here, frame))[0].not_finite == 3


def test_without_features_the_columns_are_those_of_the_tensors(here: Path) -> None:
    bare = Signature(inputs=SIGNATURE.inputs, outputs=SIGNATURE.outputs)
    frame = table().rename({"age": "x_0", "fee": "x_1"})
    result, _ = done(asked(here, frame, signature=bare, keep=()))
    assert pl.read_parquet(result.output).columns == ["version", "y"] and result.rows == ROWS


WRONG: list[tuple[str, pl.DataFrame, dict[str, Any], str]] = [
    ("a column is not there", table().drop("fee"), {}, "data.column: got a file without the column fee"),
    ("a column holds lists", table().with_columns(pl.lit([1]).alias("fee")), {}, "data.fee: got List"),
    ("a text is no number", table().with_columns(pl.lit("much").alias("fee")), {}, "data.fee: got 'much' in row 0"),
    ("a number is beyond the type", table().with_columns(pl.lit(1e300).alias("fee")), {}, "data.fee: got '1e+300'"),
    ("a kept column is not there", table(), {"keep": ("name",)}, "keep: got a file without the column name"),
    ("a kept column is an answer", table().with_columns(y=1), {"keep": ("y",)}, "keep: got y"),
    (
        "a kept column has the name of ours",
        table().with_columns(version=1),
        {"keep": ("version",)},
        "keep: got version",
    ),
    ("there is no row", table(0), {}, "data: got no row"),
]


@pytest.mark.parametrize(("frame", "about", "words"), [each[1:] for each in WRONG], ids=[each[0] for each in WRONG])
def test_what_does_not_fit_is_said_by_its_column_before_anything_is_written(
    here: Path, frame: pl.DataFrame, about: dict[str, Any], words: str
) -> None:
    with pytest.raises(Fault) as refused:
        batch.run(asked(here, frame, **about), Said())
    assert words in refused.value.line()
    assert not list((here / "work").glob("*.arrow")) and not (here / "out").exists()


def test_whole_numbers_and_texts_take_only_what_they_are() -> None:
    from quarterdeckd.serving.columns import Column, _numbers, _texts

    whole = Column("n", "n", 0, "INT32", False)
    assert _numbers(pl.DataFrame({"n": ["1", " 2 "]}), whole).to_list() == [1, 2]
    for values in ([1.5], [None], [2**40], ["one"]):
        with pytest.raises(Fault, match="n: got"):
            _numbers(pl.DataFrame({"n": values}), whole)
    assert _texts(pl.DataFrame({"n": ["a", None]}), whole).to_list() == ["a", ""]


def test_a_model_whose_input_is_no_row_of_columns_is_refused(here: Path) -> None:
    from quarterdeckd.serving.columns import needed

    loaded = Loaded(here / "model.onnx", hashlib.sha256((here / "model.onnx").read_bytes()).hexdigest())
    loaded.inputs = (Tensor(name="image", datatype="FP32", shape=(-1, 3, 8, 8)),)
    with pytest.raises(Fault, match=r"image is of shape \[-1, 3, 8, 8\]"):
        needed(loaded.inputs, SIGNATURE)
