"""The point-in-time join: for each row of entities the newest value that was there, and known, at the row's time.

A value has two times: its event time (from when on it is true) and the time it was known (when it was written). Read
`as known`, a row at time T is given the value of the latest event time e <= T among those with known <= T; read `as
corrected`, among all that are known today. Of two values with the same event time the one that was known later holds,
then that of the later line. A value that is older than the view's ttl is none: null, EXPIRED, with its age; an age of
exactly the ttl is not older.

Values that came late (known > e) break the order that an as-of join needs. They are joined apart, by the time they were
known, after dropping those that were no news (an older event time than one known before): so two as-of joins, each
O(n log n), say what a comparison of every pair would. Semantics of event and created time: Feast's point-in-time joins,
with its opt-in for late values turned round.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import polars as pl

from quarterstore.records.features import Reading

TIME: Final = "__time"
KNOWN: Final = "__known"
LINE: Final = "__line"
"""The place of a row among the entities."""
ROW: Final = "__row"
"""The place of a row among the values."""
FOUND: Final = "__found"
"""The event time of the value that was joined, in microseconds."""


def as_of(
    entities: pl.DataFrame,
    values: pl.LazyFrame,
    keys: Sequence[str],
    features: Sequence[str],
    reading: Reading,
    ttl: float | None = None,
) -> pl.DataFrame:
    """The features of each row of `entities` (the keys and `TIME`), in its order, with `status` and `age` (seconds).

    `values` holds the keys, `TIME`, `KNOWN` (microseconds since 1970) and the features; of equal times the row that was
    known later holds, then the later line. No row is lost and none is added, whatever keys and times come twice. Only
    keys and times are joined; features are gathered one after the other, so memory does not grow with their number.
    """
    asked = entities.select(*keys, TIME).with_row_index(LINE).sort(TIME, maintain_order=True)
    known = values.select(*keys, TIME, KNOWN).with_row_index(ROW).collect()
    if not _ordered(known):
        known = known.sort(TIME, KNOWN, maintain_order=True)
    if reading.known_at is not None:
        known = known.filter(pl.col(KNOWN) <= round(reading.known_at * 1e6))
    found = _joined(asked, known, TIME, keys) if reading.how == "corrected" else _as_known(asked, known, keys)
    del known
    return _dated(found.sort(LINE), values, features, ttl)


def _ordered(values: pl.DataFrame) -> bool:
    """Whether the rows are in the order of their times already, as one file is, and files that came day by day are."""
    time, known = values[TIME], values[KNOWN]
    if not time.is_sorted():
        return False
    at_once = (time.diff() == 0) & (known.diff() < 0)
    return not at_once.any()


def _as_known(asked: pl.DataFrame, values: pl.DataFrame, keys: Sequence[str]) -> pl.DataFrame:
    late = values[KNOWN] > values[TIME]
    if not late.any():
        return _joined(asked, values, TIME, keys)
    found = _joined(asked, values.filter(~late), TIME, keys)
    news = pl.col(TIME) >= pl.col(TIME).cum_max().over(keys)
    other = _joined(asked, values.filter(late).sort(KNOWN, maintain_order=True).filter(news), KNOWN, keys)
    newer = (other[FOUND] >= found[FOUND]).fill_null(found[FOUND].is_null() & other[FOUND].is_not_null())
    return found.with_columns(other[name].zip_with(newer, found[name]) for name in (ROW, FOUND))


def _joined(asked: pl.DataFrame, values: pl.DataFrame, on: str, keys: Sequence[str]) -> pl.DataFrame:
    """Backward, so of equal times the last; `values` is sorted by `on`."""
    right = values.select(*keys, ROW, pl.col(on).alias("__on"), pl.col(TIME).alias(FOUND))
    return asked.join_asof(
        right, left_on=TIME, right_on="__on", by=list(keys), strategy="backward", check_sortedness=False
    ).drop("__on", strict=False)


def _dated(found: pl.DataFrame, values: pl.LazyFrame, features: Sequence[str], ttl: float | None) -> pl.DataFrame:
    # numpy divides; Polars multiplies by 1 / 1e6, which is another float now and then than what is read online
    age = pl.Series((found[TIME] - found[FOUND]).to_numpy() / 1e6).fill_nan(None)
    expired = pl.lit(False) if ttl is None else (pl.col(TIME) - pl.col(FOUND) > round(ttl * 1e6)).fill_null(False)
    status = (
        pl.when(pl.col(FOUND).is_null())
        .then(pl.lit("NOT_FOUND"))
        .when(expired)
        .then(pl.lit("EXPIRED"))
        .otherwise(pl.lit("PRESENT"))
    )
    dated = found.select(pl.when(~expired).then(pl.col(ROW)).alias(ROW), status=status, age=pl.lit(age))
    rows = dated[ROW]
    gathered = [values.select(name).collect().to_series().gather(rows) for name in features]
    return pl.DataFrame([*gathered, dated["status"], dated["age"]])
