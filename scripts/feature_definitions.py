#!/usr/bin/env python3
"""Write feature definitions (TOML) from a Parquet or CSV file.

`scripts/feature_definitions.py FILE --view NAME --key COLUMN --time COLUMN [-o definitions.toml]`, to be read over by a
person, then `qd features apply definitions.toml`.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import polars as pl

from quarterstore.records.tables import unquoted

ROWS = 100_000
"""Rows of a CSV file that its kinds are guessed from."""


def columns_of(file: Path) -> dict[str, str]:
    """Each column with the kind of its values: number, integer, text, boolean, or time."""
    parquet = file.suffix.lower() in (".parquet", ".pq")
    try:
        rows = pl.read_parquet_schema(file) if parquet else pl.read_csv(file, n_rows=ROWS, try_parse_dates=True).schema
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        why = (str(error).splitlines() or ["nothing can be read"])[0]
        raise SystemExit(f"error: file: got {file} ({why}), expected a Parquet or CSV file") from None
    named = {} if parquet else unquoted(file, list(rows))
    return {named.get(name, name): kind_of(type_) for name, type_ in rows.items()}


def kind_of(type_: pl.DataType) -> str:
    """What a definition calls a column of this type."""
    if type_ == pl.Boolean:
        return "boolean"
    if type_.is_temporal():
        return "time"
    return "integer" if type_.is_integer() else "number" if type_.is_numeric() else "text"


def written(file: Path, view: str, keys: list[str], time: str, created: str | None, ttl: str | None) -> str:
    """The definitions; `SystemExit` says which column is not there or what has no place in a view."""
    columns = columns_of(file)
    for name in (*keys, time, *([created] if created else [])):
        if name not in columns:
            raise SystemExit(f"error: {name}: got no such column, expected one of {', '.join(columns)}")
    for name in (time, *([created] if created else [])):
        if columns[name] not in ("time", "integer", "number"):
            raise SystemExit(f"error: {name}: got {columns[name]}, expected times, or numbers of seconds since 1970")
    named = [f"{quoted(key)} = {quoted('integer' if columns[key] == 'integer' else 'text')}" for key in keys]
    entity = "_".join(keys)
    lines = [f"[entities.{quoted(entity)}]", f"keys = {{ {', '.join(named)} }}", "", f"[views.{quoted(view)}]"]
    lines += [f"entities = [{quoted(entity)}]", f"source = {quoted(file.name)}", f"event_time = {quoted(time)}"]
    lines += [f"created_time = {quoted(created)}"] if created else []
    lines += [f"ttl = {quoted(ttl)}"] if ttl else []
    lines += ["", f"[views.{quoted(view)}.features]"]
    others = {name: kind for name, kind in columns.items() if name not in (*keys, time, created)}
    lines += [f"{quoted(name)} = {quoted(kind)}" for name, kind in others.items() if kind != "time"]
    lines += [f"# {quoted(name)} holds times: no kind of feature" for name, kind in others.items() if kind == "time"]
    return "\n".join(lines) + "\n"


def quoted(text: str) -> str:
    """A basic string of TOML, whose escapes are those of JSON."""
    return json.dumps(text)


def main() -> int:
    """Print, or write to a file that is not there yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--view", required=True)
    parser.add_argument("--key", required=True, action="append", help="a column that names the entity; more than once")
    parser.add_argument("--time", required=True, help="the column that says from when on a row is true")
    parser.add_argument("--created", help="the column that says when a row was written")
    parser.add_argument("--ttl", help="such as 30d")
    parser.add_argument("-o", "--output", type=Path)
    asked = parser.parse_args()
    if not asked.file.is_file():
        raise SystemExit(f"error: file: got {asked.file}, expected a Parquet or CSV file")
    text = written(asked.file, asked.view, asked.key, asked.time, asked.created, asked.ttl)
    if asked.output is None:
        sys.stdout.write(text)
    elif asked.output.exists():
        raise SystemExit(f"error: output: {asked.output} is there already")
    else:
        asked.output.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
