"""A file of labels joined to as many predictions, in the process that joins it, and how much memory that takes."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import polars as pl
from benching import counted, folder, report, timed

from quarterstore.records.outcomes import LABEL, Joined, JoinSpec

ROWS = counted(1_000_000, 20_000)
PART = 50_000
"""Rows of one file of recorded predictions."""


def recorded(place: Path) -> list[str]:
    """Files of recorded predictions, as the daemon folds them."""
    paths = []
    for start in range(0, ROWS, PART):
        names = [f"p19ab{number:x}" for number in range(start, min(ROWS, start + PART))]
        frame = pl.DataFrame({"id": names}).with_columns(
            pl.lit(0, pl.Int32).alias("row"),
            pl.lit(1000.0).alias("at"),
            *(pl.lit(word).alias(name) for name, word in (("endpoint", "e"), ("version", "m@1"), ("role", "live"))),
            pl.lit(7, pl.Int64).alias("epoch"),
            pl.lit(200, pl.Int32).alias("status"),
            pl.lit("1").alias("prediction"),
            pl.lit(0.5).alias("score"),
        )
        frame.write_parquet(path := place / f"predictions-{start}.parquet", compression="zstd")
        paths.append(str(path))
    return paths


def joined(spec: JoinSpec) -> tuple[float, float, Joined]:
    """Seconds, MB at most, and what the rows were."""
    began = time.perf_counter()
    code = (
        "import resource, sys; from quarterdeckd.pipeline.outcomes import main; code = main(); "
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, file=sys.stderr); sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], input=msgspec.json.encode(spec), capture_output=True, check=True
    )
    return (
        time.perf_counter() - began,
        float(done.stderr),
        msgspec.json.decode(done.stdout.splitlines()[-1], type=Joined),
    )


def main() -> None:
    with folder() as place:
        paths = recorded(place)
        file = place / "labels.csv"
        with file.open("w") as out:
            out.write("id,value,time\n")
            out.writelines(f"p19ab{number:x},{number % 2},1010\n" for number in range(ROWS))
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        spec = JoinSpec(
            file=str(file), format="csv", metric=LABEL, endpoint=None, salt="", window=86400.0, now=2000.0,
            upload=digest[:8], predictions=tuple(paths), history=(), target=str(place / "first.parquet"),
        )  # fmt: skip
        first, memory, found = joined(spec)
        assert (found.rows, found.joined) == (ROWS, ROWS), found
        again = msgspec.structs.replace(
            spec, history=(spec.target,), target=str(place / "second.parquet"), upload="again"
        )
        second, _, found = joined(again)
        assert found.duplicate == ROWS, found

        def floor() -> None:
            labels = pl.read_csv(file)
            assert labels.join(pl.read_parquet(paths), on="id").height == ROWS

        report(
            "outcomes", figure=f"seconds to join {ROWS:,} labels to {ROWS:,} predictions", values=[first],
            reach="1,000,000 labels in 60 s, below 1 GB", met=first <= 60 and memory <= 1024,
            floor="polars, both sides whole in memory, nothing checked or kept", floors=[timed(floor)],
            more={"seconds for the same file again": round(second, 2), "MB at most": round(memory)},
        )  # fmt: skip


if __name__ == "__main__":
    main()
