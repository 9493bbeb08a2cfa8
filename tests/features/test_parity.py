"""What is read online is what is kept offline, whatever came in which order, at every age; what differs is found."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quarterdeckd.features import materialise
from quarterdeckd.features.derived import column_of, derived, plain
from quarterdeckd.features.joining import KNOWN, TIME
from quarterdeckd.features.lumps import write
from quarterdeckd.features.parity import compared
from quarterstore.records import features
from quarterstore.records.feature_checks import ParitySpec
from quarterstore.records.online import MaterialiseSpec, OnlineView
from quarterstore.shelf.online import Online, Pushed, Row
from tests.features.test_rows import Silent

BASE = 1_780_000_000
KEYS = (features.Key(name="shop"), features.Key(name="customer", kind="integer"))
FEATURES = (features.Feature(name="minutes", kind="number"), features.Feature(name="plan", kind="text"))
TTL = 4.0
small = st.integers(0, 9)
number, word = st.none() | st.floats(), st.none() | st.text(max_size=2)
row = st.tuples(
    st.sampled_from(["a", "b\0"]),
    st.integers(-1, 1),
    small,
    small,
    st.none() | st.floats(),
    st.none() | st.text(max_size=2),
)
Rows = list[tuple[str, int, int, int, float | None, str | None]]


def view() -> features.FeatureView:
    entity = features.Entity(name="person", keys=KEYS)
    named: dict[str, Any] = {"owner": "", "description": "", "tags": {}, "created": 0.0, "created_by": ""}
    times: dict[str, Any] = {"event_time": "at", "created_time": None, "ttl": TTL}
    return features.FeatureView(name="v", version=1, entities=(entity,), features=FEATURES, **times, **named)


def spec_of(folder: Path, files: list[Rows], pushes: Rows, made: int) -> tuple[ParitySpec, Pushed]:
    """Files that were made a generation, and rows that were pushed later, in a file too."""
    lumps = [_file(folder, f"file {number}", rows) for number, rows in enumerate(files)]
    told = MaterialiseSpec(
        view=view(),
        files=tuple(lump.of[0] for lump in lumps),
        lumps=tuple(lumps),
        made=float(BASE + made),
        folder=str(folder / "online"),
        generation="g",
    )
    materialise.run(told, Silent())
    pushed = Pushed(folder / "pushed", writes=True)
    for shop, customer, at, later, minutes, plan in pushes:
        times = ((BASE + at) * 10**6, (BASE + at + later) * 10**6)
        pushed.push("v", [Row((shop, customer), *times, {"minutes": minutes, "plan": plan})])
    lumps += [_file(folder, "pushed", pushes)] if pushes else []
    wanted = features.Wanted(view="v@1", keys=KEYS, features=FEATURES, ttl=TTL, files=(), known=(), lumps=tuple(lumps))
    online = OnlineView(
        name="v",
        version=1,
        keys=KEYS,
        features=FEATURES,
        ttl=TTL,
        folder=str(folder / "online" / "g"),
        columns=("minutes", "plan"),
        made=float(BASE + made),
        generation="g",
    )
    spec = ParitySpec(
        wanted=wanted,
        sample=100,
        seed=1,
        at=float(BASE + 1000),
        files=told.files,
        pushed_files=("pushed",),
        online=online,
        pushed=str(folder / "pushed"),
    )
    return spec, pushed


def _file(folder: Path, name: str, rows: Rows) -> features.Lump:
    kinds: dict[str, Any] = {"shop": pl.String, "customer": pl.Int64, TIME: pl.Int64, KNOWN: pl.Int64}
    kinds |= {"minutes": pl.Float64, "plan": pl.String}
    told = [(s, c, (BASE + t) * 10**6, (BASE + t + k) * 10**6, m, p) for s, c, t, k, m, p in rows]
    path = folder / "files" / f"{name}.parquet"
    write(pl.DataFrame(told, schema=kinds, orient="row").sort(TIME, KNOWN, maintain_order=True), path)
    return features.Lump(file=str(path), of=(name,))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(row, min_size=1, max_size=6), min_size=1, max_size=3),
    st.lists(row, max_size=4, unique_by=lambda each: each[:4]),
    st.integers(0, 20),
    st.sampled_from([18.0, 20.0, 20.000001, 22.0, 24.0, 40.0]),
)
def test_both_sides_are_the_same_at_every_age(
    tmp_path_factory: Any, files: list[Rows], pushes: Rows, made: int, now: float
) -> None:
    folder = tmp_path_factory.mktemp("parity")
    spec, pushed = spec_of(folder, files, pushes, made)
    pushed.close()
    found = compared(spec, BASE + now)
    assert found.mismatches == 0, found.shown
    assert found.sample == len(
        {each[:2] for rows in files for each in rows if _due(each, made)} | {p[:2] for p in pushes}
    )


def _due(each: Any, made: int) -> bool:
    return bool(each[2] + each[3] <= made)


def test_what_differs_is_shown_with_both_values(tmp_path: Path) -> None:
    rows: Rows = [("a", number, 1, 0, float(number), "x") for number in range(8)]
    spec, pushed = spec_of(tmp_path, [rows], [], 5)
    with_other = [(s, c, t, k, (m or 0.0) + 1, p) for s, c, t, k, m, p in rows]
    lump = _file(tmp_path, "file 0", with_other)
    pushed.close()
    found = compared(spec, BASE + 3.0)
    assert (found.mismatches, len(found.shown), lump.of) == (8, 5, ("file 0",))
    first = found.shown[0]
    assert first.offline[0] == first.online[0] + 1 and first.statuses == ("PRESENT", "PRESENT")


@pytest.mark.parametrize("amount", [None, 3.0])
def test_a_feature_on_demand_has_the_same_bits_on_both_sides(tmp_path: Path, amount: float | None) -> None:
    rows: Rows = [("a", number, 1, 0, number / 7, "x") for number in range(-3, 9)]
    spec, pushed = spec_of(tmp_path, [rows], [], 5)
    wanted = [features.OnDemand(name="f", formula="exp(minutes) / (amount - minutes) % 0.3", kind="number")]
    reader = Online(spec.online, pushed)
    both = {"minutes": column_of([each[4] for each in rows], "number"), "amount": column_of([amount] * 12, "number")}
    offline = derived(wanted, both, 12)
    for (shop, customer, *_), value in zip(rows, plain(offline["f"]), strict=True):
        [found] = reader.read([(shop, customer)], BASE + 2.0)
        columns = {"minutes": column_of([found.values[0]], "number"), "amount": column_of([amount], "number")}
        assert plain(derived(wanted, columns, 1)["f"]) == [value] and (value is None) == (amount is None)
    pushed.close()
