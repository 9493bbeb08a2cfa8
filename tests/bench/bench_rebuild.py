"""The projection made again from the journal; the floor is DuckDB taking the same rows from a CSV file."""

from __future__ import annotations

import csv
from pathlib import Path

import duckdb
from benching import counted, deck, fill_with_runs, folder, report, timed

from quarterstore.ledger import journal
from quarterstore.ledger.opening import rebuild


def bare(rows: Path, folder_: Path, number: int) -> float:
    """Seconds of DuckDB alone for the entries' rows."""
    connection = duckdb.connect(str(folder_ / f"{number}.duckdb"))
    seconds = timed(lambda: connection.execute(f"CREATE TABLE entries AS SELECT * FROM read_csv('{rows}')"))
    connection.close()
    return seconds


def main() -> None:
    """Ours and the floor's, one after the other."""
    with deck(started=False) as daemon, folder() as path:
        entries = fill_with_runs(daemon.home.root, counted(20_000, 200))
        with (path / "rows.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(("seq", "at", "actor", "act", "words", "key", "request", "body", "hash", "position"))
            for found in journal.read(daemon.home.journal, 0):
                one = found.entry
                words = (one.seq, one.at, one.actor, one.act, one.words, one.key, one.request, one.body.hex())
                writer.writerow((*words, found.hash.hex(), found.position))
        ours, floors = [], []
        for number in range(counted(5, 1)):
            count, seconds = rebuild(daemon.home)
            ours.append(count / seconds)
            floors.append(entries / bare(path / "rows.csv", path, number))
    median = sorted(ours)[len(ours) // 2]
    report(
        "rebuild",
        figure="entries/s",
        values=ours,
        reach=">= 50,000 entries/s",
        met=median >= 50_000,
        floor="DuckDB reading the entries' rows (no runs, no records) from a CSV file",
        floors=floors,
        more={"entries": entries},
    )


if __name__ == "__main__":
    main()
