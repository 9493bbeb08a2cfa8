"""The rows of a pipeline: a CSV or Parquet file, or a set that ships with scikit-learn, as one frame and a plan for
it."""

from __future__ import annotations

import csv
import gzip
import hashlib
import importlib.util
import io
from pathlib import Path
from typing import NamedTuple

import polars as pl

from quarterdeckd.features.reading import UNREADABLE, said
from quarterstore.records import plans, tables
from quarterstore.records.datasets import Column
from quarterstore.records.faults import Invalid, got, missing
from quarterstore.records.pipelines import DataSection, Definition
from quarterstore.records.plans import Plan
from quarterstore.records.tables import Table

BUILTINS: dict[str, tuple[str, str]] = {
    "breast_cancer": ("breast_cancer.csv", "diagnosis"),
    "digits": ("digits.csv.gz", "digit"),
    "wine": ("wine_data.csv", "cultivar"),
    "iris": ("iris.csv", "species"),
    "diabetes": ("diabetes_data_raw.csv.gz", "progression"),
}
"""Set -> its file inside scikit-learn, and the name of its target (`target` is understood too)."""

_CANCER = "radius,texture,perimeter,area,smoothness,compactness,concavity,concave points,symmetry,fractal dimension"
_FEATURES: dict[str, tuple[str, ...]] = {
    "breast_cancer": tuple(
        form.format(one) for form in ("mean {}", "{} error", "worst {}") for one in _CANCER.split(",")
    ),
    "digits": tuple(f"pixel_{row}_{column}" for row in range(8) for column in range(8)),
    "wine": (
        *[
            "alcohol",
            "malic_acid",
            "ash",
            "alcalinity_of_ash",
            "magnesium",
            "total_phenols",
            "flavanoids",
            "nonflavanoid_phenols",
        ],
        *["proanthocyanins", "color_intensity", "hue", "od280/od315_of_diluted_wines", "proline"],
    ),
    "iris": ("sepal length (cm)", "sepal width (cm)", "petal length (cm)", "petal width (cm)"),
    "diabetes": ("age", "sex", "bmi", "bp", "s1", "s2", "s3", "s4", "s5", "s6"),
}


class Rows(NamedTuple):
    """What a pipeline works on. `frame` holds the target and the features in the order of the plan: numbers as Float64
    (missing is NaN), text as String (missing is ""), a class target as String; then every other column as it is read.
    Rows without a target are gone. `digest` is the SHA-256 of the file's bytes; `dropped` counts the rows without a
    target."""

    frame: pl.DataFrame
    plan: Plan
    table: Table
    digest: str
    dropped: int


class Raw(NamedTuple):
    """A file as it is read: every column as number (Float64) or text, blanks as nulls, times of Parquet as seconds
    since 1970. `digest` is the SHA-256 of the file's bytes, `target` the column that is asked for."""

    frame: pl.DataFrame
    table: Table
    digest: str
    target: str


def load(definition: Definition, path: str | None) -> Rows:
    """The rows a definition names, planned: `read` and `planned` in one."""
    return planned(definition, read(definition.data, path))


def read(section: DataSection, path: str | None) -> Raw:
    """The rows of `data.builtin`, or of the file at `path`; faults name field, got, expected."""
    if section.builtin is not None:
        return _builtin(section)
    if path is None:
        raise Invalid("got neither a builtin set nor a file, expected one of them", field="data")
    file = Path(path)
    if _is_parquet(file, section):
        return _parquet(file, section)
    table = tables.read(file, blank=section.missing, kinds=section.columns)
    return Raw(_csv(file, table, section), table, _digest(file), section.target)


def planned(definition: Definition, raw: Raw) -> Rows:
    """What is learnt from rows; a `Fault` where nothing can be."""
    section, table, target = definition.data, raw.table, raw.target
    plan = plans.plan(
        table,
        target,
        task=definition.task,
        time=section.time,
        group=section.group,
        ignore=section.ignore,
        strict=section.builtin is None,
    )
    aim = table.column(target)
    kept = raw.frame.filter(pl.col(target).is_not_null()) if aim.missing else raw.frame
    used = {target, *(column.name for column in plan.features)}
    others = [name for name in raw.frame.columns if name not in used]
    chosen = [_aim(aim, plan), *(_feature(column) for column in plan.features)]
    frame = kept.select(*chosen, *(pl.col(name) for name in others))
    return Rows(frame, plan, table, raw.digest, raw.frame.height - kept.height)


def _aim(aim: Column, plan: Plan) -> pl.Expr:
    column = pl.col(aim.name)
    if plan.task == "regression":
        return column.cast(pl.Float64)
    return column.cast(pl.Int64).cast(pl.String) if aim.kind == "integer" else column.cast(pl.String)


def _feature(column: Column) -> pl.Expr:
    values = pl.col(column.name)
    if column.kind in ("number", "integer"):
        return values.cast(pl.Float64).fill_null(float("nan"))
    return values.cast(pl.String).fill_null("")


def _digest(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


# CSV: every cell as text first, so that the kinds are those of records.tables and no second opinion


def _csv(file: Path, table: Table, section: DataSection) -> pl.DataFrame:
    try:
        frame = pl.read_csv(file, infer_schema=False)
    except UNREADABLE as error:
        raise got(file.name, said(error), "a CSV file that Polars reads") from None
    frame.columns = [column.name for column in table.columns]
    if frame.height != table.rows:
        raise got(file.name, f"{frame.height:,} rows by Polars and {table.rows:,} by line", "one reading of its quotes")
    blanks = ["", *(cell.strip() for cell in section.missing)]
    return frame.select(_cells(column, blanks) for column in table.columns)


def _cells(column: Column, blanks: list[str]) -> pl.Expr:
    cells = pl.col(column.name).str.strip_chars()
    known = pl.when(cells.is_in(blanks)).then(None).otherwise(cells)
    if column.kind == "integer":
        return known.str.strip_prefix("+").cast(pl.Float64).alias(column.name)
    return (known.cast(pl.Float64) if column.kind == "number" else known).alias(column.name)


# Parquet: the types are in the file


def _is_parquet(file: Path, section: DataSection) -> bool:
    """By the name the person gave and by content: a file called .parquet that is none is a fault, not a bad CSV."""
    named = (section.file or file.name).lower().endswith((".parquet", ".pq"))
    if not file.is_file():
        raise got("data", str(file), "a file that is there")
    with file.open("rb") as opened:
        begins = opened.read(4) == b"PAR1"
    if named or begins:
        tables.check_parquet(file)
    return named or begins


def _parquet(file: Path, section: DataSection) -> Raw:
    try:
        frame = pl.read_parquet(file)
    except UNREADABLE as error:
        raise got(file.name, said(error), "a Parquet file that Polars reads") from None
    if not frame.height:
        raise Invalid("got no row, expected at least one row", field=file.name)
    blanks = ["", *(cell.strip() for cell in section.missing)]
    asked = section.columns
    raw = frame.select(_typed(name, dtype, blanks) for name, dtype in frame.schema.items())
    raw = raw.with_columns(_numbers(raw[name], asked[name]) for name in raw.columns if _is_text_of(raw[name], asked))
    columns = tuple(_measured(name, raw[name], frame.schema[name], asked.get(name)) for name in raw.columns)
    values = {
        column.name: tuple(sorted(map(_text, raw[column.name].drop_nulls().unique().to_list())))
        for column in columns
        if (column.distinct or 0) <= tables.MOST_CLASSES + 1
    }
    counts = tuple(column.name for column in columns if column.kind == "integer" and _counts_rows(raw[column.name]))
    return Raw(raw, Table(columns, raw.height, values, counts), _digest(file), section.target)


def _typed(name: str, dtype: pl.DataType, blanks: list[str]) -> pl.Expr:
    column = pl.col(name)
    if dtype.is_numeric():
        return column.cast(pl.Float64).fill_nan(None)
    if dtype == pl.Boolean:
        return pl.when(column).then(pl.lit("true")).when(~column).then(pl.lit("false")).otherwise(None).alias(name)
    if dtype.is_temporal() and dtype not in (pl.Time, pl.Duration):
        return (column.cast(pl.Datetime("us")).dt.epoch("us") / 1e6).alias(name)
    if dtype in (pl.String, pl.Categorical, pl.Enum):
        cells = column.cast(pl.String).str.strip_chars()
        return pl.when(cells.is_in(blanks)).then(None).otherwise(cells).alias(name)
    raise got(name, f"a column of {dtype}", "numbers, text, booleans or dates")


def _is_text_of(cells: pl.Series, asked: dict[str, str]) -> bool:
    return cells.dtype == pl.String and asked.get(cells.name) in ("number", "integer")


def _numbers(cells: pl.Series, kind: str) -> pl.Series:
    """Texts that `data.columns` says are numbers, as those of a training set of a CSV file are."""
    try:
        return cells.str.strip_prefix("+").cast(pl.Float64)
    except pl.exceptions.PolarsError:
        odd = next((cell for cell in cells.drop_nulls().unique().sort() if not tables.number(cell)), "another value")
        raise got(cells.name, odd, f"{kind} in every cell (as columns.{cells.name} says)") from None


def _measured(name: str, values: pl.Series, dtype: pl.DataType, asked: str | None) -> Column:
    kind = asked or ("boolean" if dtype == pl.Boolean else "time" if dtype.is_temporal() else _kind(values, dtype))
    return Column(name, kind, values.null_count(), values.drop_nulls().n_unique())


def _kind(values: pl.Series, dtype: pl.DataType) -> str:
    if not dtype.is_numeric():
        return "text"
    known = values.drop_nulls()
    return "integer" if dtype.is_integer() or bool((known == known.floor()).all()) else "number"


def _text(value: float | str) -> str:
    return f"{int(value)}" if isinstance(value, float) and value.is_integer() else str(value)


def _counts_rows(values: pl.Series) -> bool:
    return values.len() > tables.FEW and values.null_count() == 0 and bool((values.diff().drop_nulls() == 1).all())


# the sets inside scikit-learn, read without importing it (1.5 s here)


def _builtin(section: DataSection) -> Raw:
    name = section.builtin or ""
    if name not in BUILTINS:
        raise missing("data.builtin", name, BUILTINS)
    file, target = BUILTINS[name]
    aim = target if section.target in ("target", "") else section.target
    found = importlib.util.find_spec("sklearn")
    if found is None or not found.submodule_search_locations:
        raise Invalid("got no scikit-learn, expected the extra 'learning'", field="data.builtin")
    folder = Path(found.submodule_search_locations[0]) / "datasets" / "data"
    data = (folder / file).read_bytes()
    if name == "diabetes":
        data += (folder / "diabetes_target.csv.gz").read_bytes()
    frame = pl.DataFrame(_columns(name, folder / file, folder), schema=[*_FEATURES[name], target], orient="row")
    raw = frame.cast(pl.Float64)
    columns = tuple(_measured(one, raw[one], pl.Float64(), None) for one in raw.columns)
    values = {column.name: tuple(sorted(map(_text, raw[column.name].unique().to_list()))) for column in columns}
    return Raw(raw, Table(columns, raw.height, values), hashlib.sha256(data).hexdigest(), aim)


def _columns(name: str, file: Path, folder: Path) -> list[list[float]]:
    text = _unpacked(file)
    if name == "diabetes":
        target = _unpacked(folder / "diabetes_target.csv.gz").split()
        return [[*map(float, line.split()), float(y)] for line, y in zip(text.splitlines(), target, strict=True)]
    rows = list(csv.reader(io.StringIO(text)))
    return [list(map(float, row)) for row in (rows if name == "digits" else rows[1:])]


def _unpacked(file: Path) -> str:
    data = file.read_bytes()
    return (gzip.decompress(data) if file.suffix == ".gz" else data).decode()
