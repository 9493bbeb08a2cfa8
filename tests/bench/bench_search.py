"""Finding runs by a metric, sorted by another, a page of 100, over the socket; the floor is the same question to a
bare DuckDB table of one row a run."""

from __future__ import annotations

import sys
import time

import duckdb
import psutil
from benching import counted, deck, fill_with_runs, quantile, report, timed

from quarterdeck.client import Client
from quarterstore.records.search import SearchRuns

WHERE = "accuracy > 0.5 and depth != '3'"
BARE = "SELECT id FROM runs WHERE accuracy > 0.5 AND depth <> '3' ORDER BY loss DESC, started DESC, id LIMIT 101"


def floor(count: int) -> duckdb.DuckDBPyConnection:
    """The same runs as one wide table."""
    connection = duckdb.connect(config={"threads": 2})
    connection.execute(
        "CREATE TABLE runs AS SELECT 'run-' || n AS id, 1 / (1 + n) AS loss, n % 97 / 97 AS accuracy, "
        f"(n % 9)::VARCHAR AS depth, n::DOUBLE AS started FROM range({count}) AS made(n)"
    )
    return connection


def ask(client: Client, after: str | None = None) -> str | None:
    """A page."""
    found = client.ask(SearchRuns(where=WHERE, order=("-loss",), limit=100, after=after))
    if not found.runs:
        raise RuntimeError("no run was found")
    return found.next


def main() -> None:
    """Both sizes."""
    for count, reach in ((counted(10_000, 1_000), 25.0), (counted(100_000, 2_000), 60.0)):
        with deck(started=False) as daemon:
            fill_with_runs(daemon.home.root, count)
            daemon.start()
            with daemon.client() as client:
                before = psutil.Process(daemon.process.pid).memory_info().rss / 1e6
                first = timed(lambda: ask(client)) * 1000
                time.sleep(counted(12, 3))  # until the index is made: nothing says so from outside
                found, later, after = [], [], ask(client)
                for _ in range(counted(100, 5)):
                    found.append(timed(lambda: ask(client)) * 1000)
                    began = time.perf_counter()
                    after = ask(client, after)
                    later.append((time.perf_counter() - began) * 1000)
                held = psutil.Process(daemon.process.pid).memory_info().rss / 1e6
            with floor(count) as bare:
                floors = [timed(lambda: bare.execute(BARE).fetchall()) * 1000 for _ in range(counted(100, 5))]
        report(
            f"search of {count:,} runs, page of 100",
            figure="ms",
            values=found,
            reach=f"p50 <= {reach:g}",
            met=quantile(found, 0.5) <= reach,
            floor="bare DuckDB, one wide table",
            floors=floors,
            more={
                "daemon MB before": round(before),
                "after": round(held),
                "first of all": round(first, 1),
                "following pages p50": round(quantile(later, 0.5), 1),
            },
        )


if __name__ == "__main__":
    sys.exit(main())
