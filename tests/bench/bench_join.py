"""The point-in-time join as its job does it, from Parquet to Parquet, each time in a process of its own; the floors are
the bare as-of joins of Polars and of DuckDB over the same files, in turns."""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benching import counted, folder, report

ENGINES = ("ours", "polars", "duckdb")
FEATURES = 4
SPAN = 90 * 86_400 * 10**6


def written(at: Path, rows: int, values: int) -> None:
    """Entities in no order, and the rows of a view as `features/rows.py` keeps them."""
    import numpy as np
    import polars as pl

    draw, people, base = np.random.default_rng(0), values // 20, 1_700_000_000_000_000
    times = np.sort(draw.integers(0, SPAN, values)) + base
    view = {"customer": draw.integers(0, people, values), "__time": times, "__known": times}
    view |= {f"f{number}": draw.random(values) for number in range(FEATURES)}
    pl.DataFrame(view).write_parquet(at / "values.parquet", compression_level=3, row_group_size=131_072)
    when = pl.Series(draw.integers(0, SPAN, rows) + base).cast(pl.Datetime("us"))
    pl.DataFrame({"customer": draw.integers(0, people, rows), "event_time": when}).write_parquet(at / "asked.parquet")


def joined(engine: str, at: Path) -> None:
    """One join, to `out.parquet`."""
    values, asked, out = at / "values.parquet", at / "asked.parquet", at / "out.parquet"
    if engine == "duckdb":
        import duckdb

        on = "e.customer = v.customer and epoch_us(e.event_time) >= v.__time"
        wanted = f"select e.*, v.* exclude (customer) from '{asked}' e asof left join '{values}' v on {on}"
        duckdb.sql(f"copy ({wanted}) to '{out}' (format parquet, compression zstd)")
        return
    import polars as pl

    if engine == "polars":
        rows = pl.scan_parquet(asked).with_columns(__time=pl.col("event_time").cast(pl.Int64)).with_row_index("line")
        view = pl.scan_parquet(values).with_columns(found=pl.col("__time"))
        both = rows.sort("__time").join_asof(view, on="__time", by="customer", check_sortedness=False)
        both.sort("line").collect().write_parquet(out, compression_level=3)
        return
    from quarterdeckd.features import training_set
    from quarterstore.records import features

    kept = tuple(features.Feature(name=f"f{number}", kind="number") for number in range(FEATURES))
    key = features.Key(name="customer", kind="integer")
    lump = features.Lump(file=str(values), of=("file",))
    view_ = features.Wanted(
        view="v@1", keys=(key,), features=kept, ttl=None, files=("file",), known=(None,), lumps=(lump,)
    )
    reading = features.Reading()
    spec = features.JoinSpec(
        entities=str(asked),
        format="parquet",
        digest="",
        time="event_time",
        views=(view_,),
        reading=reading,
    )
    os.chdir(at)
    training_set.run(spec, Silent())
    os.replace(training_set.OUTPUT, out)


class Silent:
    """A report that nobody reads."""

    def progress(self, *given: Any, **more: Any) -> None:
        """Nothing."""


def in_a_process(engine: str, at: Path) -> dict[str, float]:
    """Seconds, rows and megabytes of one join, its imports left out of the seconds."""
    command = [sys.executable, __file__, "--one", engine, str(at)]
    ran = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, float] = json.loads(ran.stdout)
    return found


def one(engine: str, at: Path) -> None:
    """What the process does."""
    import duckdb  # noqa: F401
    import polars as pl

    from quarterdeckd.features import training_set  # noqa: F401

    began = time.perf_counter()
    joined(engine, at)
    took = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    rows = pl.scan_parquet(at / "out.parquet").select(pl.len()).collect().item()
    print(json.dumps({"seconds": took, "peak": peak, "rows": rows}))


def main() -> None:
    """Two sizes."""
    for rows, values, most in ((100_000, 1_000_000, None), (1_000_000, 10_000_000, 1600)):
        rows, values = counted(rows, rows // 100), counted(values, values // 100)
        with folder() as at:
            written(at, rows, values)
            found: dict[str, list[dict[str, float]]] = {engine: [] for engine in ENGINES}
            for _ in range(counted(5 if most is None else 3, 1)):
                for engine in ENGINES:
                    found[engine].append(in_a_process(engine, at))
        seconds = {engine: [each["seconds"] for each in runs] for engine, runs in found.items()}
        better = min(("polars", "duckdb"), key=lambda engine: statistics.median(seconds[engine]))
        peaks = {engine: round(max(each["peak"] for each in runs)) for engine, runs in found.items()}
        ratio = statistics.median(seconds["ours"]) / statistics.median(seconds[better])
        whole = all(each["rows"] == rows for each in found["ours"])
        report(
            f"point-in-time join, {rows:,} x {values:,} rows",
            figure="s from Parquet to Parquet",
            values=seconds["ours"],
            reach="<= 1.5 x the better engine, no row lost" + (f", peak < {most} MB" if most else ""),
            met=whole and ratio <= 1.5 and (most is None or peaks["ours"] < most),
            floor=f"bare {better}",
            floors=seconds[better],
            more={"peak MB": peaks, "p50 s": {each: round(statistics.median(s), 3) for each, s in seconds.items()}},
        )


if __name__ == "__main__":
    one(sys.argv[-2], Path(sys.argv[-1])) if "--one" in sys.argv else main()
