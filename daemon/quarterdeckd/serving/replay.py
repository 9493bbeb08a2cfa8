"""The replay job: recorded rows answered again by a candidate, as a host answers them, and compared."""

from __future__ import annotations

import hashlib
import math
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import NormalDist
from typing import Any, NamedTuple

import msgspec
import numpy as np
import polars as pl

from quarterdeckd.measures import differences
from quarterdeckd.measures.holding import holding, right, values
from quarterdeckd.measures.quality import wilson
from quarterdeckd.rollout import shadow
from quarterdeckd.serving.admission import admitted
from quarterdeckd.serving.columns import Column, feed_of, needed, tables_of
from quarterdeckd.serving.features import said_of
from quarterdeckd.serving.recorded import Window, named, recorded
from quarterdeckd.serving.session import Loaded
from quarterdeckd.serving.tensors import Feed
from quarterstore.records import replays
from quarterstore.records.faults import Invalid, Refused
from quarterstore.records.names import drawn
from quarterstore.records.registry import Signature
from quarterstore.records.trials import Disagreement

CHUNK = 8192
TIMED = 200
"""Rows that both versions are timed on, one at a time and in turn."""
SAME = 1e-6
"""What the live version may differ from what it answered: other rows in its batch change the order of sums."""
FLIPS = 20
SAID_EVERY = 0.25
Z = NormalDist().inv_cdf(0.975)


class Said(NamedTuple):
    """What a version answers to one row: a label or number as it would be recorded, and its score."""

    text: str | None
    score: float | None


def run(spec: replays.ReplaySpec, report: Any) -> replays.ReplayResult:
    """Read, answer, compare. One thread of ONNX Runtime and an order that is given by the rows: the same rows, file and
    question give the same result but for the times. `Invalid` or `Refused` for a file that is no model of rows."""
    loaded = admitted(Path(spec.model), spec.digest, spec.signature)
    columns = needed(loaded.inputs, loaded.signature)
    report.progress("read", 0.0, f"{len(spec.predictions)} files")
    window = Window(spec.since, spec.until, spec.limit)
    found = recorded(spec.predictions, window, columns, spec.features)
    rows, left_out = _without(found.rows, spec.version)
    said, failed = _answered(loaded, columns, rows, report)
    rows = rows.with_columns(
        candidate=pl.Series([each.text for each in said], dtype=pl.String),
        candidate_score=pl.Series([each.score for each in said], dtype=pl.Float64),
        failed=pl.Series(failed, dtype=pl.String),
    )
    left_out.update(rows["failed"].drop_nulls().to_list())
    rows = rows.filter(pl.col("failed").is_null())
    report.progress("compare", 0.9, f"{rows.height:,} rows")
    timings, checked, reproduced = _timed(spec, loaded, columns, rows)
    result = _compared(spec, columns, rows)
    result = msgspec.structs.replace(
        result,
        older=found.older,
        left_out=dict(sorted(left_out.items(), key=lambda item: (-item[1], item[0]))),
        timings=(*_hosts(spec, found.rows), *timings),
        checked=checked,
        reproduced=reproduced,
    )
    return msgspec.structs.replace(result, words=_words(spec, result), hash=_hash(spec, rows, result))


def _without(rows: pl.DataFrame, candidate: str) -> tuple[pl.DataFrame, Counter[str]]:
    """The rows that can be asked again, and the others by reason. What the candidate itself answered proves nothing
    beside what others did, and everything where it alone answered."""
    others = rows.filter(pl.col("version") != candidate).height
    itself = pl.lit(f"{candidate} answered it itself")
    if others:
        own = pl.when(pl.col("version") == candidate).then(itself)
        rows = rows.with_columns(why=pl.coalesce("why", own))
    return rows.filter(pl.col("why").is_null()), Counter(rows["why"].drop_nulls().to_list())


def _answered(
    loaded: Loaded, columns: Mapping[str, Column], rows: pl.DataFrame, report: Any
) -> tuple[list[Said], list[str | None]]:
    """What the candidate says of each row, and why it says nothing of some."""
    said: list[Said] = []
    failed: list[str | None] = []
    told = 0.0
    for start in range(0, rows.height, CHUNK):
        chunk = named(rows.slice(start, CHUNK), columns)
        for answer, why in _of_chunk(loaded, columns, chunk):
            said.append(answer)
            failed.append(why)
        if time.monotonic() - told > SAID_EVERY:
            told = time.monotonic()
            report.progress("answer", 0.9 * len(said) / rows.height, f"{len(said):,} of {rows.height:,} rows")
    return said, failed


def _of_chunk(loaded: Loaded, columns: Mapping[str, Column], chunk: pl.DataFrame) -> Iterator[tuple[Said, str | None]]:
    """A chunk as tensors; where a value fits none, in halves, so that only the rows at fault are left out."""
    try:
        feed = feed_of(tables_of(chunk, dict(columns), loaded), loaded, 0, chunk.height)
    except Invalid as error:
        if chunk.height == 1:
            yield Said(None, None), _why(error)
            return
        half = chunk.height // 2
        yield from _of_chunk(loaded, columns, chunk.slice(0, half))
        yield from _of_chunk(loaded, columns, chunk.slice(half))
        return
    yield from _of_feed(loaded, feed, chunk.height)


def _of_feed(loaded: Loaded, feed: Feed, rows: int) -> Iterator[tuple[Said, str | None]]:
    """Rows at once; where they raise an error, in halves. By slices of the tensors: a frame a row takes 5 ms."""
    try:
        yield from _run(loaded, feed, rows)
    except _Raised:
        if rows == 1:
            yield Said(None, None), "the candidate raised an error"
            return
        half = rows // 2
        yield from _of_feed(loaded, {name: array[:half] for name, array in feed.items()}, half)
        yield from _of_feed(loaded, {name: array[half:] for name, array in feed.items()}, rows - half)


class _Raised(Exception):
    """ONNX Runtime gave no answer to these rows."""


def _why(error: Invalid) -> str:
    """Without the value: a reason is counted, and kept for ever."""
    return f"{drawn((error.field or 'a feature').removeprefix('data.'), longest=60)} holds what does not fit"


def _run(loaded: Loaded, feed: Feed, rows: int) -> list[tuple[Said, str | None]]:
    try:
        outputs = dict(zip(loaded.names, loaded.run(feed), strict=True))
    except Exception as error:
        raise _Raised from error
    finite = np.ones(rows, bool)
    for name, array in outputs.items():
        if not array.ndim or len(array) != rows:
            raise Refused(f"{name} has the shape {list(array.shape)}, expected a row for each", field="output")
        if array.dtype.kind == "f":
            finite &= np.isfinite(array.reshape(rows, -1)).all(axis=1)
    said = iter(_said(loaded.signature, {name: array[finite] for name, array in outputs.items()}, int(finite.sum())))
    return [(next(said), None) if ok else (Said(None, None), "the answer is not finite") for ok in finite]


def _said(signature: Signature, outputs: dict[str, Any], rows: int) -> list[Said]:
    labels, scores = said_of(signature, outputs) if rows else ([], [])
    texts = [str(label) for label in labels] if len(labels) == rows else [None] * rows
    numbers = scores if len(scores) == rows else [None] * rows
    return [Said(text, score) for text, score in zip(texts, numbers, strict=True)]


def _told(text: str | None, score: float | None) -> str | None:
    """What two answers are compared by: the label, of a version that names none its score."""
    return text if text is not None or score is None else repr(score)


def _pair(row: Mapping[str, Any], columns: Mapping[str, Column]) -> shadow.Pair:
    return shadow.Pair(
        row["id"],
        row["row"],
        row["at"],
        _told(row["prediction"], row["score"]),
        _told(row["candidate"], row["candidate_score"]),
        row["score"],
        row["candidate_score"],
        {name: row[f"feature.{name}"] for name in columns},
    )


def _compared(spec: replays.ReplaySpec, columns: Mapping[str, Column], rows: pl.DataFrame) -> replays.ReplayResult:
    pairs = [_pair(row, columns) for row in rows.iter_rows(named=True)]
    agree = [shadow.agrees(pair.live, pair.shadow, spec.tolerance) for pair in pairs]
    compared = shadow.compare(pairs, spec.tolerance, spec.top)
    before, after = (
        ([str(side) for side in sides] for sides in zip(*((p.live, p.shadow) for p in pairs), strict=True))
        if pairs
        else ([], [])
    )
    scores = differences.apart(rows["score"].to_numpy(), rows["candidate_score"].to_numpy())
    n, agreed = len(pairs), compared.agreed
    low, high = wilson(agreed, n) if n else (None, None)
    classes = spec.signature.task == "classification"
    return replays.ReplayResult(
        rows=n,
        agreed=agreed,
        rate=agreed / n if n else None,
        low=low,
        high=high,
        words="",
        hash="",
        answered=tuple(_by_version(rows["version"].to_list(), agree)),
        psi=differences.shifted(before, after) if n else None,
        mean_difference=scores.mean if scores else None,
        largest_difference=scores.largest if scores else None,
        histogram=replays.Histogram(reach=scores.largest, counts=scores.counts) if scores else None,
        flips=tuple(
            replays.Flip(recorded=one, candidate=other, rows=count)
            for (one, other), count in (differences.flips(before, after, agree)[:FLIPS] if classes else ())
        ),
        scored=_scored(spec, rows),
        slices=compared.slices,
        differences=tuple(map(_difference, compared.disagreements)),
    )


def _difference(found: Disagreement) -> replays.Difference:
    return replays.Difference(
        prediction=found.prediction,
        row=found.row,
        at=found.at,
        recorded=found.live,
        candidate=found.shadow,
        recorded_score=found.live_score,
        candidate_score=found.shadow_score,
    )


def _by_version(versions: Sequence[str], agree: Sequence[bool]) -> Iterator[replays.Answered]:
    total, agreed = Counter(versions), Counter(version for version, same in zip(versions, agree, strict=True) if same)
    for version, rows in total.most_common():
        low, high = wilson(agreed[version], rows)
        yield replays.Answered(
            version=version, rows=rows, agreed=agreed[version], rate=agreed[version] / rows, low=low, high=high
        )


def _scored(spec: replays.ReplaySpec, rows: pl.DataFrame) -> tuple[replays.Scored, ...]:
    """Both beside the labels that are known: the accuracy, of a regression the mean absolute error."""
    if not spec.labels:
        return ()
    labels = holding(values([Path(path) for path in spec.labels], spec.endpoint)).select("id", "row", "value", "number")
    known = rows.join(labels.collect(), on=["id", "row"], how="inner")
    if not known.height:
        return ()
    sides = (known, known.with_columns(prediction="candidate", score="candidate_score"))
    if spec.signature.task == "regression":
        return _mean_error(known.height, sides)
    hits = [int(side.select(right().sum()).item()) for side in sides]
    (low, high), (other_low, other_high) = (wilson(each, known.height) for each in hits)
    shares = [each / known.height for each in hits]
    return (replays.Scored("accuracy", known.height, shares[0], low, high, shares[1], other_low, other_high),)


def _mean_error(n: int, sides: Sequence[pl.DataFrame]) -> tuple[replays.Scored, ...]:
    figures: list[float] = []
    for side in sides:
        answer = pl.coalesce(pl.col("prediction").cast(pl.Float64, strict=False), "score")
        error = side.select((answer - pl.col("number")).abs()).to_series().drop_nulls()
        mean = error.mean()
        if not isinstance(mean, float):
            return ()
        half = Z * float(error.std() or 0.0) / math.sqrt(len(error))  # type: ignore[arg-type]
        figures += [mean, mean - half, mean + half]
    return (replays.Scored("mean absolute error", n, *figures),)


def _hosts(spec: replays.ReplaySpec, rows: pl.DataFrame) -> list[replays.Timing]:
    """What callers waited for the versions that answered, a request once."""
    requests = rows.filter((pl.col("row") == 0) & (pl.col("status") == 200))
    grouped = requests.group_by("version").agg(
        n=pl.len(), p50=pl.col("latency").quantile(0.5), p95=pl.col("latency").quantile(0.95)
    )
    return [
        replays.Timing(version=version, recorded=True, rows=n, p50=p50, p95=p95)
        for version, n, p50, p95 in grouped.sort("n", "version", descending=[True, False]).iter_rows()
    ]


def _timed(
    spec: replays.ReplaySpec, loaded: Loaded, columns: Mapping[str, Column], rows: pl.DataFrame
) -> tuple[list[replays.Timing], int, int]:
    """Both versions over the same rows in turn, and how often the live one says again what it said."""
    live = _live(spec)
    chosen = rows.gather_every(max(1, rows.height // TIMED)).head(TIMED)
    times: dict[str, list[float]] = {spec.version: []}
    checked = reproduced = 0
    own = needed(live.inputs, live.signature) if live is not None else {}
    able = live is not None and own.keys() <= columns.keys()
    for row in chosen.iter_slices(1):
        _, seconds = _once(loaded, columns, row)
        times[spec.version].append(seconds)
        if not able or live is None:
            continue
        again, seconds = _once(live, own, row)
        times.setdefault(spec.live, []).append(seconds)
        if row["version"][0] == spec.live and again is not None:
            said = _said(live.signature, again, 1)[0]
            was = _told(row["prediction"][0], row["score"][0])
            checked += 1
            reproduced += shadow.agrees(was, _told(said.text, said.score), SAME)
    found = [
        replays.Timing(
            version=version,
            recorded=False,
            rows=len(each),
            p50=float(np.quantile(each, 0.5)) * 1000,
            p95=float(np.quantile(each, 0.95)) * 1000,
        )
        for version, each in times.items()
        if each
    ]
    return found, checked, reproduced


def _live(spec: replays.ReplaySpec) -> Loaded | None:
    if not spec.live_model or spec.live == spec.version:
        return None
    return admitted(Path(spec.live_model), spec.live_digest, spec.live_signature)


def _once(loaded: Loaded, columns: Mapping[str, Column], row: pl.DataFrame) -> tuple[dict[str, Any] | None, float]:
    feed = feed_of(tables_of(named(row, columns), dict(columns), loaded), loaded, 0, row.height)
    began = time.perf_counter()
    try:
        outputs = loaded.run(feed)
    except Exception:  # of the live version on a row it did not answer; the candidate answered all of these
        return None, time.perf_counter() - began
    return dict(zip(loaded.names, outputs, strict=True)), time.perf_counter() - began


def _hash(spec: replays.ReplaySpec, rows: pl.DataFrame, result: replays.ReplayResult) -> str:
    asked = (spec.endpoint, spec.digest, spec.signature, spec.limit, spec.tolerance, spec.top)
    answers = rows.select("id", "row", "version", "prediction", "score", "candidate", "candidate_score").rows()
    steady = msgspec.structs.replace(result, timings=(), words="", hash="")
    whole = msgspec.msgpack.encode((asked, answers, steady), order="deterministic")
    return hashlib.sha256(whole).hexdigest()


def _words(spec: replays.ReplaySpec, result: replays.ReplayResult) -> str:
    if result.rate is None:
        words = "no recorded row could be replayed"
    else:
        words = (
            f"{spec.version} agrees with what was answered on {result.rate:.2%} ({result.low:.2%} to "
            f"{result.high:.2%}) of {result.rows:,} rows"
        )
    if left := sum(result.left_out.values()):
        words += f"; {left:,} could not be replayed"
    if result.checked > result.reproduced:
        words += f"; {spec.live} gives only {result.reproduced} of {result.checked} of its own answers again"
    return words
