"""Daemon start to first answer: an empty store, and one with 100,000 entries; the floor is Python with DuckDB open."""

from __future__ import annotations

import subprocess
import sys

from benching import counted, deck, fill_with_runs, folder, report, timed

FLOOR = "python opening an empty DuckDB file and a zmq socket"
CODE = "import duckdb, zmq, msgspec, uvloop, sys; duckdb.connect(sys.argv[1]); zmq.Context().socket(zmq.ROUTER)"


def floors(repeats: int) -> list[float]:
    """Seconds of bare processes."""
    found = []
    for number in range(repeats):
        with folder() as path:
            command = [sys.executable, "-c", CODE, str(path / f"{number}.duckdb")]
            found.append(timed(lambda command=command: subprocess.run(command, check=True)))
    return found


def main() -> None:
    """Both stores, start after start, cleanly stopped between."""
    repeats = counted(11, 2)
    bare = floors(repeats)
    for name, runs, limit in (("empty", 0, 0.9), ("100,000 entries", counted(20_000, 200), 1.3)):
        seconds = []
        with deck(started=False) as daemon:
            entries = fill_with_runs(daemon.home.root, runs) if runs else 0
            for _ in range(repeats):
                seconds.append(timed(daemon.start))
                daemon.stop()
        median = sorted(seconds)[len(seconds) // 2]
        report(
            f"start, {name}",
            figure="s from process start to first answer",
            values=seconds,
            reach=f"< {limit} s",
            met=median < limit,
            floor=FLOOR,
            floors=bare,
            more={"entries": entries},
        )


if __name__ == "__main__":
    main()
