"""Few files say what many said: the same joins, whichever of the files count; an attempt that was cut off goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from quarterdeckd.features import compaction
from quarterdeckd.features.joining import KNOWN, TIME, as_of
from quarterdeckd.features.lumps import of_kinds, scanned, write
from quarterstore.records.feature_files import CompactSpec
from quarterstore.records.features import Lump, Reading
from tests.features.test_rows import Silent

SECOND = 1_000_000
DAY = 86_400 * SECOND
BASE = 1_766_966_400 * SECOND
"""2025-12-29, so that days from there on are of two years."""
KINDS: dict[str, Any] = {"k": pl.Int64, TIME: pl.Int64, KNOWN: pl.Int64, "amount": pl.Float64}
cell = st.tuples(st.integers(0, 1), st.integers(0, 6), st.integers(0, 3), st.integers(0, 99))
files = st.lists(
    st.tuples(st.lists(cell, min_size=1, max_size=5), st.none() | st.integers(0, 9)), min_size=2, max_size=5
)


def written(folder: Path, number: int, rows: list[tuple[int, int, int, int]], known: int | None) -> Lump:
    frame = pl.DataFrame(
        {
            "k": [k for k, _, _, _ in rows],
            TIME: [BASE + day * DAY for _, day, _, _ in rows],
            KNOWN: [BASE + (day + later) * DAY for _, day, later, _ in rows],
            "amount": [float(amount) for _, _, _, amount in rows],
        },
        schema=KINDS,
    ).sort(TIME, KNOWN, maintain_order=True)
    path = folder / "in" / f"{number}.parquet"
    write(frame.drop(KNOWN) if known is not None else frame, path)
    at = None if known is None else (BASE + known * DAY) / 1e6
    return Lump(file=str(path), of=(f"file {number}",), known=at)


def compacted(folder: Path, lumps: list[Lump], every: Any) -> list[Lump]:
    work = str(folder / "work")
    result = compaction.run(CompactSpec(view="v", every=every, lumps=tuple(lumps), key="k", work=work), Silent())
    return [Lump(file=str(folder / each.output), of=each.of) for each in result.parts]


def joined(lumps: list[Lump], used: set[str], reading: Reading) -> Any:
    parts = [of_kinds(scanned(each, used), KINDS) for each in lumps if used.intersection(each.of)]
    values = pl.concat(parts) if parts else pl.LazyFrame(schema=KINDS)
    asked = pl.DataFrame(
        {"k": [k for k in (0, 1) for _ in range(14)], TIME: [BASE + day * DAY // 2 for day in range(14)] * 2}
    )
    return as_of(asked, values, ["k"], ["amount"], reading, 3 * 86_400.0).rows()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(files, st.sets(st.integers(0, 4)), st.sampled_from(["year", "month"]), st.sampled_from(["known", "corrected"]))
def test_joins_are_the_same_whichever_of_the_files_count(
    tmp_path_factory: Any, monkeypatch: Any, came: Any, chosen: set[int], every: str, how: Any
) -> None:
    folder = tmp_path_factory.mktemp("few")
    monkeypatch.chdir(folder)
    lumps = [written(folder, number, rows, known) for number, (rows, known) in enumerate(came)]
    used = {lump.of[0] for number, lump in enumerate(lumps) if number in chosen}
    few = compacted(folder, lumps[:-1], every)
    assert joined([*few, lumps[-1]], used, Reading(how=how)) == joined(lumps, used, Reading(how=how))
    (folder / "out").rename(folder / "before")
    few = compacted(
        folder, [Lump(file=each.file.replace("/out/", "/before/"), of=each.of) for each in few] + lumps[-1:], every
    )
    assert joined(few, used, Reading(how=how)) == joined(lumps, used, Reading(how=how))
    assert len(few) <= 2


def test_an_attempt_that_was_cut_off_goes_on_and_one_over_other_files_begins_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    lumps = [written(tmp_path, 0, [(0, 0, 0, 1), (0, 5, 0, 2)], None), written(tmp_path, 1, [(0, 0, 0, 3)], None)]
    spec = CompactSpec(view="v", every="year", lumps=tuple(lumps), key="k", work=str(tmp_path / "work"))
    first = Path("work/2025.parquet")
    whole = compaction._span

    def cut(rows: Any, digests: Any, name: str, *more: Any) -> None:
        if name == "2026":
            raise KeyboardInterrupt
        whole(rows, digests, name, *more)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(compaction, "_span", cut)
        compaction.run(spec, Silent())
    before = first.stat().st_mtime_ns
    result = compaction.run(spec, Silent())
    assert (result.resumed, result.rows, [each.rows for each in result.parts]) == (1, 3, [2, 1])
    assert Path("out/2025.parquet").stat().st_mtime_ns == before
    other = CompactSpec(view="v", every="year", lumps=(lumps[1],), key="k", work=str(tmp_path / "work"))
    assert compaction.run(other, Silent()).resumed == 0
