"""What is made ready to be read online is what a training set would be given now, however it was made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from quarterdeckd.features import materialise
from quarterdeckd.features.joining import KNOWN, TIME, as_of
from quarterstore.records.features import Lump, Reading
from quarterstore.records.online import Generation, MaterialiseSpec, OnlineView
from quarterstore.shelf.online import Online
from tests.features.test_rows import VIEW, Silent

SMALL = replace(VIEW, features=VIEW.features[:1], ttl=30.0)
ROWS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 90), st.integers(0, 90)), min_size=1, max_size=12)


def file(folder: Path, number: int, rows: list[tuple[int, int, int]]) -> str:
    """Rows (entity, event time, time known) as a file of the view; each value is another."""
    frame = pl.DataFrame(
        {
            "k": [row[0] for row in rows],
            "s": ["é" for _ in rows],
            TIME: [row[1] * 10**6 for row in rows],
            KNOWN: [row[2] * 10**6 for row in rows],
            "n": [float(1000 * number + place) for place in range(len(rows))],
        },
        schema_overrides={"k": pl.Int64, TIME: pl.Int64, KNOWN: pl.Int64},
    ).sort(TIME, KNOWN, maintain_order=True)
    frame.write_parquet(folder / f"{number}.parquet")
    return str(folder / f"{number}.parquet")


def made(folder: Path, files: list[str], now: int, before: Generation | None, number: int) -> tuple[Generation, Any]:
    """A generation of files on top of another, and how it is read."""
    spec = MaterialiseSpec(
        view=SMALL,
        lumps=tuple(Lump(file=each, of=(each,)) for each in files),
        files=tuple(files),
        made=float(now),
        before=before,
        folder=str(folder / "v"),
        generation=f"g{number}",
    )
    result = materialise.run(spec, Silent())
    generation = Generation(
        id=result.generation,
        view="v",
        columns=("n",),
        files=tuple({*(before.files if before else ()), *files}),
        waiting=result.waiting,
        entities=result.entities,
        rows=result.rows,
        newest=result.newest,
        made=float(now),
        full=before is None,
        seconds=0.0,
        size=result.size,
        at=float(now),
        by="",
    )
    read = OnlineView(
        name="v",
        version=1,
        keys=SMALL.keys,
        features=SMALL.features,
        ttl=SMALL.ttl,
        folder=f"{spec.folder}/{generation.id}",
        columns=("n",),
        made=float(now),
    )
    return generation, read


def offline(files: list[str], now: int) -> list[tuple[Any, str, Any]]:
    """What a training set is given for every entity at `now`."""
    asked = pl.DataFrame({"k": range(4), "s": ["é"] * 4, TIME: [now * 10**6] * 4})
    values = pl.concat([pl.scan_parquet(each) for each in files]).sort(TIME, KNOWN, maintain_order=True)
    reading = Reading(how="corrected", known_at=float(now))
    return as_of(asked, values, ["k", "s"], ["n"], reading, SMALL.ttl).select("n", "status", "age").rows()


@given(st.lists(st.tuples(ROWS, st.booleans()), min_size=1, max_size=4), st.integers(1, 100))
@settings(deadline=None, max_examples=40)
def test_online_is_offline_whatever_came_in_which_file_and_was_made_on_top_of_what(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[list[tuple[int, int, int]], bool]], last: int
) -> None:
    """Times run up to 90, now up to 100: some rows are not due when their file is first read."""
    folder = tmp_path_factory.mktemp("parity")
    files: list[str] = []
    before: Generation | None = None
    for number, (rows, full) in enumerate(steps, 1):
        files.append(file(folder, number, rows))
        now = max(1, last * number // len(steps))
        on = None if full else before
        unread = [each for each in files if on is None or each not in on.files or each in on.waiting]
        before, view = made(folder, unread, now, on, number)
        found = Online(view, None).read([(k, "é") for k in range(4)], now)
        assert [(each.values[0], each.status, each.age) for each in found] == offline(files, now)


def test_nothing_new_makes_nothing(tmp_path: Path) -> None:
    first, _ = made(tmp_path, [file(tmp_path, 1, [(1, 5, 5)])], 10, None, 1)
    spec = MaterialiseSpec(
        view=SMALL, lumps=(), files=(), made=20.0, before=first, folder=str(tmp_path), generation="g2"
    )
    assert materialise.run(spec, Silent()).unchanged and not (tmp_path / "g2").exists()


@pytest.mark.parametrize("odd", ["plain", "a\0b", "ü" * 200])
def test_text_keys_are_found_whatever_is_in_them(tmp_path: Path, odd: str) -> None:
    """One short text is made a key a column at a time, others one by one: the reader must not see which."""
    by_text = replace(SMALL, entities=(replace(SMALL.entities[0], keys=SMALL.entities[0].keys[1:]),))
    times = {TIME: [5 * 10**6] * 3, KNOWN: [5 * 10**6] * 3}
    frame = pl.DataFrame({"s": ["", odd, "zz"], **times, "n": [1.0, 2.0, 3.0]})
    frame.write_parquet(tmp_path / "rows.parquet")
    spec = MaterialiseSpec(
        view=by_text,
        lumps=(Lump(file=str(tmp_path / "rows.parquet"), of=("rows",)),),
        files=("rows",),
        made=10.0,
        folder=str(tmp_path / "v"),
        generation="g",
    )
    assert materialise.run(spec, Silent()).entities == 3
    view = OnlineView(
        name="v",
        version=1,
        keys=by_text.keys,
        features=by_text.features,
        ttl=None,
        folder=str(tmp_path / "v" / "g"),
        columns=("n",),
    )
    found = Online(view, None).read([("",), (odd,), ("zz",), ("z",)], 10.0)
    assert [each.values[0] for each in found] == [1.0, 2.0, 3.0, None]
