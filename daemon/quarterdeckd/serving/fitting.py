"""Whether a file of rows has the columns that a version takes, said by a throw-away process with limits: `python -m
quarterdeckd.serving.fitting`, a `BatchSpec` as JSON on its input."""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec
import polars as pl

from quarterdeckd.serving.columns import needed
from quarterdeckd.serving.describe import set_limits
from quarterstore.records.batches import BatchSpec
from quarterstore.records.faults import Failed, Fault, Invalid, got
from quarterstore.records.names import drawn
from quarterstore.records.registry import Tensor
from quarterstore.records.tables import unquoted


def main() -> int:
    """Print `true` and answer 0 where the columns fit, or the fault and answer 1."""
    spec = msgspec.json.decode(sys.stdin.buffer.read(), type=BatchSpec)
    set_limits(Path(spec.data))
    found: Fault
    try:
        check_columns(spec, spec.signature.inputs, scanned(Path(spec.data), spec.format).collect_schema())
        print("true")
        return 0
    except Fault as fault:
        found = fault
    except MemoryError:
        found = Failed("it takes more memory than a file of its size may", field="data")
    print(msgspec.json.encode(found.record()).decode())
    return 1


def scanned(path: Path, kind: str) -> pl.LazyFrame:
    """The rows of a file, not read yet (those of a CSV file as text); `Invalid` where it is none of its kind."""
    try:
        rows = pl.scan_parquet(path) if kind == "parquet" else pl.scan_csv(path, infer_schema=False)
        names = rows.collect_schema().names()
        return rows if kind == "parquet" else rows.rename(unquoted(path, names))
    except (pl.exceptions.PolarsError, OSError) as error:
        raise unread(error, kind) from None


def unread(error: Exception, kind: str) -> Invalid:
    """What is said of a file that Polars does not read."""
    words = drawn(str(error).splitlines()[0], longest=200)
    return got("data", f"a file that Polars does not read ({words})", f"a {kind} file")


def check_columns(spec: BatchSpec, inputs: tuple[Tensor, ...], schema: pl.Schema) -> None:
    """Every column that the version takes is there and of a kind that can fit, and so is what is kept; `Invalid` names
    the one that is not."""
    for column in needed(inputs, spec.signature).values():
        kind = schema.get(column.name)
        if kind is None:
            if not column.optional:
                raise _unread(spec, column.name, _absent("data.column", column.name, schema))
            continue
        fits = kind.is_numeric() or kind in (pl.String, pl.Boolean) or (kind.is_temporal() and not column.text)
        if not fits or (column.text and kind not in (pl.String, pl.Categorical, pl.Enum, pl.Boolean)):
            raise got(f"data.{column.name}", str(kind), "text" if column.text else f"numbers ({column.datatype})")
    for name in spec.keep:
        if name not in schema:
            raise _absent("keep", name, schema)
        if name == "version":
            raise got("keep", name, "a column of another name: the answers have one of this name")


def _unread(spec: BatchSpec, column: str, fault: Invalid) -> Invalid:
    """What to do where callers of the version may give keys instead of the column."""
    view = next((need.id for need in spec.views if column in need.features), None)
    if view is not None:
        fault.next = f"a batch takes no keys: qd features get --entities FILE --view {view}"
    return fault


def _absent(field: str, name: str, schema: pl.Schema) -> Invalid:
    """The file is wrong, not the name of something that the daemon has."""
    there = drawn(", ".join(schema.names()), longest=200)
    return got(field, f"a file without the column {name}", f"it among {there}")


if __name__ == "__main__":
    sys.exit(main())
