"""Questions to Parquet files in a DuckDB of their own: in memory, locked down, gone when it is closed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import duckdb

from quarterstore.records.faults import Invalid
from quarterstore.records.names import drawn


def quoted(name: str) -> str:
    """A name as an identifier of SQL; whatever it holds, it is one name and nothing else."""
    return '"' + name.replace('"', '""') + '"'


class Queried:
    """Parquet files under names, to be asked in SQL; use as a context.

    Nothing but these files can be read, nothing can be written, loaded or set from a statement. Statements are made of
    our own words and of `quoted` names; values are bound.
    """

    def __init__(self, files: Mapping[str, Path], threads: int = 1, memory: str = "2GB") -> None:
        self._connection = duckdb.connect(
            ":memory:",
            config={
                "threads": threads,
                "memory_limit": memory,
                "autoinstall_known_extensions": "false",
                "autoload_known_extensions": "false",
                "temp_directory": "",
            },
        )
        paths = ", ".join("'" + str(path).replace("'", "''") + "'" for path in files.values())
        self._connection.execute(f"SET allowed_paths = [{paths}]")
        self._connection.execute("SET enable_external_access = false")
        self._connection.execute("SET lock_configuration = true")
        for name, path in files.items():
            self._connection.read_parquet(str(path)).create_view(name)

    def __enter__(self) -> Queried:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._connection.close()

    def rows(self, statement: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """What a statement answers; `Invalid` with DuckDB's own first line where a bound value does not fit (a
        pattern that is none, a text where numbers are compared)."""
        try:
            return self._connection.execute(statement, list(values)).fetchall()
        except duckdb.Error as error:
            raise Invalid(drawn(str(error).splitlines()[0], longest=200), field="query") from error
