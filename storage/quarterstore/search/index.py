"""The index of runs: narrow tables in a DuckDB of its own, in memory, made from the books and gone with the process."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import duckdb

from quarterstore.records.faults import TimedOut
from quarterstore.search.matching import NUMBERS, TEXTS, Row, cell_of, datasets_of
from quarterstore.search.paging import Key
from quarterstore.search.statement import MOST_TABLES, Names, Statement
from quarterstore.search.tree import Order, Tree
from quarterstore.shelf.arrow import ArrowStream

_RUNS = {
    "row": "INTEGER",
    **dict.fromkeys(TEXTS, "VARCHAR"),
    **dict.fromkeys(NUMBERS, "DOUBLE"),
    "removed": "BOOLEAN",
}
_TABLES = {
    "runs": _RUNS,
    "metrics": {"row": "INTEGER", "key": "INTEGER", "value": "DOUBLE"},
    "params": {"row": "INTEGER", "key": "INTEGER", "text": "VARCHAR", "number": "DOUBLE"},
    "tags": {"row": "INTEGER", "key": "INTEGER", "text": "VARCHAR", "number": "DOUBLE"},
    "datasets": {"row": "INTEGER", "name": "VARCHAR", "digest": "VARCHAR", "context": "VARCHAR"},
}
Columns = dict[str, list[tuple[Any, ...]]]
"""Rows to insert, a table each."""


class Wanted(NamedTuple):
    """A search: of which runs, what must hold, in which order, from where on."""

    tree: Tree | None
    orders: Sequence[Order]
    experiments: Sequence[str]
    removed: bool | None
    limit: int
    after: Key | None
    backward: bool = False


class Prepared(NamedTuple):
    """Runs as rows of the tables, made without the index being touched."""

    ids: list[str]
    frames: dict[str, Any]


class RunIndex:
    """Not safe for threads: one at a time asks or changes it. A run that changes is forgotten and comes again under
    another row number; what it leaves in the narrow tables is `dead` until `clear`."""

    def __init__(self) -> None:
        self.names: Names = {"metrics": {}, "params": {}, "tags": {}}
        self.dead = 0
        self._ids: set[str] = set()
        self._next = 0
        self._open()

    def __len__(self) -> int:
        return len(self._ids)

    def _open(self) -> None:
        self._connection = duckdb.connect(
            ":memory:",
            config={
                "threads": 2,
                "memory_limit": "1GB",
                "enable_external_access": "false",
                "autoinstall_known_extensions": "false",
                "autoload_known_extensions": "false",
            },
        )
        for table, columns in _TABLES.items():
            self._connection.execute(f"CREATE TABLE {table} ({', '.join(f'{n} {k}' for n, k in columns.items())})")

    def clear(self) -> None:
        """Forget every run, and give the memory back."""
        self._connection.close()
        self._ids, self.dead = set(), 0
        self._open()

    def close(self) -> None:
        """Close the tables; they are gone."""
        self._connection.close()

    def prepare(self, rows: Sequence[Row]) -> Prepared:
        """Runs as the frames to insert; may be asked while another thread searches."""
        import polars

        types = {
            "VARCHAR": polars.String,
            "INTEGER": polars.Int32,
            "DOUBLE": polars.Float64,
            "BOOLEAN": polars.Boolean,
        }
        frames = {}
        for table, found in self._columns(rows).items():
            kinds = {name: types[kind] for name, kind in _TABLES[table].items()}
            frame = polars.DataFrame(found, schema=kinds, orient="row")
            frames[table] = frame.sort("key", maintain_order=True) if "key" in kinds else frame
        return Prepared([row.run.id for row in rows], frames)

    def _columns(self, rows: Iterable[Row]) -> Columns:
        found: Columns = {table: [] for table in _TABLES}
        for run, metrics in rows:
            self._next += 1
            number = self._next
            texts = (read(run) for read in TEXTS.values())
            numbers = (read(run) for read in NUMBERS.values())
            found["runs"].append((number, *texts, *numbers, run.removed is not None))
            found["metrics"] += [(number, self._key("metrics", name), value) for name, value in metrics.items()]
            for table, values in (("params", run.params), ("tags", run.tags)):
                found[table] += [
                    (number, self._key(table, name), *cell)
                    for name, value in values.items()
                    if (cell := cell_of(value)) is not None
                ]
            found["datasets"] += [(number, *each) for each in datasets_of(run)]
        return found

    def _key(self, table: str, name: str) -> int:
        names = self.names[table]
        return names.setdefault(name, len(names))

    def add(self, prepared: Prepared, without: set[str]) -> None:
        """Insert what was prepared; runs in `without` changed meanwhile and stay out."""
        self._connection.execute("BEGIN")
        for table, frame in prepared.frames.items():
            if len(frame):
                self._connection.register("many", ArrowStream(frame))
                self._connection.execute(f"INSERT INTO {table} SELECT * FROM many")
                self._connection.unregister("many")
        self._connection.execute("COMMIT")
        self._ids.update(prepared.ids)
        self.forget(without)

    def forget(self, ids: Iterable[str]) -> None:
        """Runs that are asked for elsewhere from now on."""
        gone = [id_ for id_ in ids if id_ in self._ids]
        if gone:
            self._connection.execute("DELETE FROM runs WHERE id IN (SELECT unnest(?::VARCHAR[]))", [gone])
            self._ids.difference_update(gone)
            self.dead += len(gone)

    def fits(self, wanted: Wanted, columns: int) -> bool:
        """Whether a search joins few enough columns to be planned quickly."""
        return columns + len(wanted.orders) <= MOST_TABLES

    def count(self, wanted: Wanted, *, seconds: float = 10.0) -> int:
        """How many runs a search holds of."""
        statement = Statement(self.names)
        where = self._where(statement, wanted)
        ((count,),) = self._asked(f"SELECT count(*) FROM {statement.source()} WHERE {where}", statement.values, seconds)
        return int(count)

    def page(self, wanted: Wanted, *, seconds: float = 10.0) -> list[str]:
        """The ids of the first `limit` runs of a search, backward of the last, and of one more where there is one."""
        statement = Statement(self.names)
        where = self._where(statement, wanted)
        keys = statement.keys(wanted.orders)
        if wanted.after is not None:
            where = f"{where} AND {statement.beyond(keys, wanted.after, wanted.backward)}"
        order = f"ORDER BY {statement.sorting(keys, wanted.backward)} LIMIT {wanted.limit + 1:d}"
        rows = self._asked(f"SELECT r.id FROM {statement.source()} WHERE {where} {order}", statement.values, seconds)
        return [id_ for (id_,) in rows]

    def _where(self, statement: Statement, wanted: Wanted) -> str:
        parts = ["TRUE"] if wanted.removed is None else [f"r.removed = {statement.bind(wanted.removed)}"]
        if wanted.experiments:
            parts.append(f"r.experiment IN ({', '.join(map(statement.bind, wanted.experiments))})")
        if wanted.tree is not None:
            parts.append(statement.condition(wanted.tree))
        return " AND ".join(parts)

    def _asked(self, sql: str, values: Sequence[Any], seconds: float) -> list[tuple[Any, ...]]:
        timer = threading.Timer(seconds, self._connection.interrupt)
        timer.start()
        try:
            return self._connection.execute(sql, list(values)).fetchall()
        except duckdb.InterruptException as error:
            raise TimedOut(f"got no answer in {seconds:g} s", field="where") from error
        finally:
            timer.cancel()
