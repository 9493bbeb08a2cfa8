"""`qd batch VERSION ROWS ANSWERS`: a file goes out, is answered in a job, and the file of answers comes back."""

from __future__ import annotations

from pathlib import Path

import msgspec

from quarterdeck.cli.context import Context
from quarterdeck.cli.waiting import to_the_end
from quarterstore.records import tables
from quarterstore.records.batches import BatchResult, StartBatch
from quarterstore.records.faults import Conflict, got

PARQUET = (".parquet", ".pq")


def answered(
    context: Context,
    version: str,
    rows: Path,
    answers: Path,
    overwrite: bool,
    keep: tuple[str, ...],
    chunk: int,
) -> BatchResult:
    """Ask for the batch, follow it to its end, fetch its file; the same words again go on where it was."""
    if not rows.is_file():
        raise got("rows", str(rows), "a CSV or Parquet file that can be read")
    if answers.suffix.lower() not in PARQUET:
        raise got("answers", str(answers), "a name that ends in .parquet: the answers are Parquet")
    if not answers.parent.is_dir():
        raise got("answers", str(answers), "a file in a folder that is there")
    if answers.exists() and not overwrite:
        raise Conflict(f"{answers} is there already", field="answers", next="give another name or --overwrite")
    parquet = rows.suffix.lower() in PARQUET
    if parquet:
        tables.check_parquet(rows)
    digest, _ = context.client.put(rows)
    asked = StartBatch(version=version, digest=digest, format="parquet" if parquet else "csv", keep=keep, chunk=chunk)
    job = to_the_end(context, context.client.ask(asked))
    result = msgspec.convert(job.result, BatchResult)
    context.client.get(result.output, answers)
    now = max(result.rows - result.resumed * chunk, 0)
    speed = f", {now / result.seconds:,.0f} rows/s" if now and result.seconds else ""
    context.say(f"{result.rows:,} rows answered by {job.subject} into {answers}{speed} ({job.id})")
    if result.resumed:
        context.say(f"{result.resumed} chunks were finished by an attempt before")
    if result.not_finite:
        context.say(f"WARNING: {result.not_finite:,} rows have an answer that is NaN or infinite")
    return result
