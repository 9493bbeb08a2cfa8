"""Outcomes joined to the predictions they belong to, a piece of the file at a time: `python -m
quarterdeckd.pipeline.outcomes` reads a `JoinSpec` and says how far it is, then what the rows were, as JSON lines.

Which prediction   By id and row; by key the last one at the endpoint that was answered at the outcome's time or before.
Which class        In the order of the file, against what was given before for that prediction: nothing (joined, or late
                   where it is more than the window after the prediction), the same value (duplicate), another
                   (conflicting, or late). A row that names no kept prediction is unknown and is not kept.
What is kept       Every value that is new for its prediction, and every new time of a value. So the same file again
                   adds nothing.
Which one holds    The value of the latest time, of those that are not late; at equal times that of the later upload,
                   then of the later line. A row without a time is of the time it came.
"""

from __future__ import annotations

import os
import resource
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import polars as pl

from quarterdeckd.pipeline.outcome_rows import Shape, pieces
from quarterstore.records.faults import Failed, Fault, Full, got
from quarterstore.records.outcomes import LABEL, Joined, JoinSpec
from quarterstore.records.predictions import hashed
from quarterstore.shelf.files import NO_ROOM, digest_of, sync_folder, write_whole

MOST_MEMORY = 8 * 1024**3
ANSWER = ("id", "row", "at", "endpoint", "version", "role", "epoch", "prediction", "score", "dealt")
"""What is kept of the prediction beside its outcome, so that nothing is joined twice."""
SAME = ("id", "row")
Say = Callable[[float, str], None]


def join(spec: JoinSpec, say: Say) -> Joined:
    """Join a file and write what is new to `spec.target`, with its SHA-256 beside it; nothing where nothing is. A fault
    leaves nothing behind. Memory is bounded by the piece, whatever the file and what is kept already."""
    shape, found = pieces(Path(spec.file), spec.format, spec.metric)
    if shape.by == "key" and spec.endpoint is None:
        raise got("endpoint", "none", "the endpoint that was asked: a key is known there only")
    aside = Path(f"{spec.target}.pieces")
    aside.mkdir(mode=0o700, parents=True)
    total = Joined()
    try:
        for number, piece in enumerate(found):
            so_far = [*spec.history, *(str(path) for path in sorted(aside.iterdir()))]
            counts, kept = _piece(spec, shape, piece.rows, so_far)
            if kept.height:
                kept.write_parquet(aside / f"{number:06}.parquet", compression="zstd", compression_level=1)
            total = _sum(total, counts)
            say(piece.read, f"{total.rows:,} rows, {total.joined:,} joined")
        if total.kept:
            _write(sorted(aside.iterdir()), Path(spec.target))
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return total


def _write(parts: Sequence[Path], target: Path) -> None:
    pl.scan_parquet(list(parts), glob=False, hive_partitioning=False).sink_parquet(
        target, compression="zstd", compression_level=3
    )
    with target.open("rb+") as file:
        os.fsync(file.fileno())
    write_whole(target.with_suffix(".sha256"), digest_of(target).encode())
    sync_folder(target.parent)


def _sum(before: Joined, more: Joined) -> Joined:
    names = ("rows", "joined", "late", "unknown", "duplicate", "conflicting", "kept")
    added = {name: getattr(before, name) + getattr(more, name) for name in names}
    return Joined(**added, endpoints=tuple(sorted({*before.endpoints, *more.endpoints})))


def _piece(spec: JoinSpec, shape: Shape, piece: pl.DataFrame, history: Sequence[str]) -> tuple[Joined, pl.DataFrame]:
    rows = piece.with_columns(pl.col("time").fill_null(spec.now))
    if shape.by == "id":
        answers = _by_id(spec, rows)
        placed = rows.rename({"name": "id"})
    else:
        placed, answers = _by_key(spec, rows)
    primary = answers.sort("role", descending=True).unique(SAME, keep="last", maintain_order=True)  # shadow: not it
    known = placed.join(primary.select(*SAME, "at"), on=SAME, how="inner", maintain_order="left")
    classed = _classed(known, _given(known, history), spec.window, timed=shape.timed)
    counts = dict(classed.group_by("is").len().iter_rows())
    new = classed.filter("new").drop("at", "is", "new")
    if spec.metric != LABEL:  # nothing comes of an answer that nobody got; a label is true of it all the same
        answers = answers.filter(pl.col("role") != "shadow")
    kept = new.join(answers, on=SAME, how="inner", maintain_order="left").with_columns(
        metric=pl.lit(spec.metric), upload=pl.lit(spec.upload), came=pl.lit(spec.now), late=_late(spec.window)
    )
    endpoints = tuple(sorted(primary["endpoint"].unique().to_list()))
    counted = {name: counts.get(name, 0) for name in ("joined", "late", "duplicate", "conflicting")}
    unknown = piece.height - classed.height
    return Joined(rows=piece.height, unknown=unknown, kept=kept.height, endpoints=endpoints, **counted), kept


# which prediction


def _answers(path: str, columns: Sequence[str]) -> pl.LazyFrame:
    """Recorded answers of one file, those that were none (an error) left out."""
    rows = pl.scan_parquet(path, glob=False, hive_partitioning=False)
    if "dealt" not in rows.collect_schema():  # kept before points were
        rows = rows.with_columns(dealt=pl.lit(None, pl.UInt64))
    return rows.filter(pl.col("status") == 200).select(columns)


def _empty(extra: Sequence[str] = ()) -> pl.DataFrame:
    kinds = {"row": pl.Int32, "at": pl.Float64, "epoch": pl.Int64, "score": pl.Float64, "dealt": pl.UInt64}
    return pl.DataFrame(schema={name: kinds.get(name, pl.String()) for name in (*ANSWER, *extra)})


def _by_id(spec: JoinSpec, rows: pl.DataFrame) -> pl.DataFrame:
    """The recorded answers to the ids and rows of a piece: one, or with a shadow two."""
    names = rows.select(pl.col("name").alias("id")).unique().lazy()
    found = [_empty()]
    for path in spec.predictions:
        answers = _answers(path, ANSWER)
        if spec.endpoint is not None:
            answers = answers.filter(pl.col("endpoint") == spec.endpoint)
        found.append(answers.join(names, on="id", how="semi").collect(engine="streaming"))
    return pl.concat(found)


def _by_key(spec: JoinSpec, rows: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The rows under the ids of the answers they belong to, and those answers."""
    hashes = [hashed(spec.salt, key) for key in rows["name"].to_list()]
    asked = rows.with_columns(key_hash=pl.Series(hashes, dtype=pl.String)).sort("time", maintain_order=True)
    names = asked.select("key_hash").unique().lazy()
    found = [_empty(["key_hash"])]
    for path in spec.predictions:
        if "key_hash" in pl.read_parquet_schema(path):
            those = _answers(path, [*ANSWER, "key_hash"]).filter(
                (pl.col("endpoint") == spec.endpoint) & (pl.col("row") == 0) & (pl.col("role") != "shadow")
            )
            found.append(those.join(names, on="key_hash", how="semi").collect(engine="streaming"))
    answers = pl.concat(found).sort("at", maintain_order=True)
    last = asked.drop("row").join_asof(
        answers.select("id", "row", "key_hash", pl.col("at").alias("answered")),
        left_on="time",
        right_on="answered",
        by="key_hash",
        strategy="backward",
        check_sortedness=False,
    )
    placed = last.filter(pl.col("id").is_not_null()).sort("line").select("line", "id", "row", "value", "number", "time")
    return placed, answers.drop("key_hash").join(placed.select(SAME).unique(), on=SAME, how="semi")


# which class


def _given(known: pl.DataFrame, history: Sequence[str]) -> pl.DataFrame:
    """What was given before for the predictions of a piece."""
    asked = known.select(SAME).unique().lazy()
    found = [pl.DataFrame(schema={"id": pl.String, "row": pl.Int32, "value": pl.String, "time": pl.Float64})]
    for path in history:
        rows = pl.scan_parquet(path, glob=False, hive_partitioning=False).select("id", "row", "value", "time")
        found.append(rows.join(asked, on=SAME, how="semi").collect(engine="streaming"))
    return pl.concat(found).unique()


def _classed(known: pl.DataFrame, given: pl.DataFrame, window: float, *, timed: bool) -> pl.DataFrame:
    """The rows with what each of them `is`, and whether it is `new`: not given before, nor by an earlier line."""
    before = given.select(SAME).unique().with_columns(any_given=True)
    same = given.select(*SAME, "value").unique().with_columns(value_given=True)
    exact = given.with_columns(time_given=True)
    looked = (
        known.join(before, on=SAME, how="left", maintain_order="left")
        .join(same, on=[*SAME, "value"], how="left", maintain_order="left")
        .join(exact, on=[*SAME, "value", "time"], how="left", maintain_order="left")
        .with_columns(pl.col("any_given", "value_given", "time_given").fill_null(False))
    )
    first = ~pl.col("any_given") & pl.struct(SAME).is_first_distinct()
    fresh = ~pl.col("value_given") & pl.struct(*SAME, "value").is_first_distinct()
    unsaid = ~pl.col("time_given") & pl.struct(*SAME, "value", "time").is_first_distinct()
    is_ = (
        pl.when(~fresh)
        .then(pl.lit("duplicate"))
        .when(_late(window))
        .then(pl.lit("late"))
        .when(first)
        .then(pl.lit("joined"))
        .otherwise(pl.lit("conflicting"))
    )
    return looked.with_columns(is_.alias("is"), (unsaid if timed else fresh).alias("new")).drop(
        "any_given", "value_given", "time_given"
    )


def _late(window: float) -> pl.Expr:
    return pl.col("time") - pl.col("at") > window


# in a process of its own


def main() -> int:
    """Exit code 1 with a `FaultRecord` as the last line when it failed."""
    resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, MOST_MEMORY))
    spec = msgspec.json.decode(sys.stdin.buffer.read(), type=JoinSpec)

    def tell(record: object) -> None:
        sys.stdout.buffer.write(msgspec.json.encode(record) + b"\n")
        sys.stdout.buffer.flush()

    try:
        tell(join(spec, lambda fraction, words: tell([fraction, words])))
    except OSError as error:
        kind = Full if error.errno in NO_ROOM else Failed
        tell(kind(f"the rows could not be kept ({error.strerror})", field="store").record())
        return 1
    except Fault as fault:
        tell(fault.record())
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
