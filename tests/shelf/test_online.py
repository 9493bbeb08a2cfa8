"""What is read online: as a dict would hold it, whatever was made, pushed and forgotten, and in which order."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quarterstore.records.features import Feature, Key
from quarterstore.records.online import OnlineView
from quarterstore.shelf import online
from quarterstore.shelf.entity_keys import key_bytes, key_of

KEYS = (Key(name="k"), Key(name="n", kind="integer"))
FEATURES = (Feature(name="a", kind="number"), Feature(name="b", kind="text"))
TTL = 50


def view(folder: Path | None = None, made: float = 0.0, ttl: float | None = TTL, **more: Any) -> OnlineView:
    columns = more.pop("columns", ("a", "b"))
    return OnlineView(
        name="v",
        version=1,
        keys=KEYS,
        features=FEATURES,
        ttl=ttl,
        folder=str(folder) if folder else "",
        columns=columns,
        made=made,
        **more,
    )


def generation(folder: Path, rows: dict[tuple[Any, ...], tuple[int, int, list[Any]]]) -> Path:
    """A generation of rows: key -> event time and known time in seconds, values."""
    pairs = sorted(
        (key_bytes(key), online.packed([at * 10**6, known * 10**6, *values]))
        for key, (at, known, values) in rows.items()
    )
    assert online.write(folder, pairs) == len(rows)
    return folder


@pytest.fixture
def pushed(tmp_path: Path) -> Iterator[online.Pushed]:
    opened = online.Pushed(tmp_path / "pushed", writes=True)
    yield opened
    opened.close()


def push(pushed: online.Pushed, key: tuple[Any, ...], at: int, known: int, a: Any = 1.0, b: Any = "x") -> int:
    return pushed.push("v", [online.Row(key, at * 10**6, known * 10**6, {"a": a, "b": b})])


def read(
    made: OnlineView, pushed: online.Pushed | None, *keys: tuple[Any, ...], now: float = 100, **more: Any
) -> list[Any]:
    return [tuple(each) for each in online.Online(made, pushed).read(keys, now, **more)]


def test_an_age_of_exactly_the_ttl_is_present_and_a_microsecond_more_is_expired(tmp_path: Path) -> None:
    made = view(generation(tmp_path / "g", {("x", 1): (40, 40, [2.5, "t"])}))
    assert read(made, None, ("x", 1), now=90) == [([2.5, "t"], "PRESENT", 50.0)]
    assert read(made, None, ("x", 1), now=90.000001) == [([None, None], "EXPIRED", 50.000001)]
    assert read(made, None, ("x", 1), now=200, stale=True) == [([2.5, "t"], "EXPIRED", 160.0)]
    assert read(made, None, ("x", 2), ("y", 1)) == [([None, None], "NOT_FOUND", None)] * 2


def test_features_are_picked_by_name_and_one_that_a_generation_lacks_is_null(tmp_path: Path) -> None:
    folder = generation(tmp_path / "g", {("x", 1): (40, 40, ["t"])})
    assert read(view(folder, columns=("b",)), None, ("x", 1), now=41) == [([None, "t"], "PRESENT", 1.0)]
    assert read(view(folder, columns=("b",)), None, ("x", 1), now=41, names=["b"]) == [(["t"], "PRESENT", 1.0)]


def test_a_huge_key_is_read_by_its_hash_beside_one_that_begins_alike(tmp_path: Path, pushed: online.Pushed) -> None:
    long = "ä" * 5000
    made = view(
        generation(tmp_path / "g", {(long, 1): (40, 40, [1.0, "long"]), (long[1:], 1): (40, 40, [2.0, "less"])})
    )
    push(pushed, (long + "!", 1), 50, 50, 3.0, "pushed")
    found = read(made, pushed, (long, 1), (long[1:], 1), (long + "!", 1), now=60)
    assert [each[0] for each in found] == [[1.0, "long"], [2.0, "less"], [3.0, "pushed"]]


def test_keys_out_of_order_or_twice_are_refused_and_leave_no_generation(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="order"):
        online.write(tmp_path / "g", [(b"b", b""), (b"a", b"")])
    assert not (tmp_path / "g").exists()
    assert online.write(tmp_path / "g", [(b"a", b""), (b"b", b"")]) == 2  # what was left aside is no hindrance


def test_a_generation_grows_beyond_its_first_map(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(online, "FIRST_SIZE", 1 << 20)
    monkeypatch.setattr(online, "CHUNK", 50)
    large = os.urandom(9000)
    assert online.write(tmp_path / "g", ((b"%06d" % n, large) for n in range(1000))) == 1000
    assert sum(value == large for _, value in online.pairs_in(tmp_path / "g")) == 1000


@given(st.lists(st.tuples(st.text(max_size=300), st.integers(-(2**63), 2**63 - 1)), unique=True, max_size=30))
@settings(deadline=None)
def test_keys_are_ordered_as_their_parts_are_and_no_two_are_one(keys: list[tuple[str, int]]) -> None:
    encoded = {key_bytes(key): key for key in keys}
    assert len(encoded) == len(keys)
    short = [key for key in keys if len(key_bytes(key)) < 33]
    assert all(key_of(each) in (key, None) for each, key in encoded.items())
    assert all(key_of(key_bytes(key)) == key for key in short)
    by_parts = sorted(short, key=lambda key: (key[0].encode(), key[1]))
    assert by_parts == [encoded[each] for each in sorted(map(key_bytes, short))]


def test_a_pushed_row_holds_over_an_older_one_and_an_older_pushed_one_does_not(
    tmp_path: Path, pushed: online.Pushed
) -> None:
    made = view(generation(tmp_path / "g", {("x", 1): (50, 50, [1.0, "made"])}))
    push(pushed, ("x", 1), 40, 99, 2.0, "older")
    assert read(made, pushed, ("x", 1)) == [([1.0, "made"], "PRESENT", 50.0)]
    push(pushed, ("x", 1), 60, 99, 3.0, "newer")
    assert read(made, pushed, ("x", 1)) == [([3.0, "newer"], "PRESENT", 40.0)]
    push(pushed, ("x", 1), 55, 99, 4.0, "between")
    assert read(made, pushed, ("x", 1)) == [([3.0, "newer"], "PRESENT", 40.0)]
    assert [row.at // 10**6 for _, row in pushed.logged("v")] == [40, 60, 55]


def test_what_was_forgotten_is_not_read_of_an_older_generation_also_after_an_older_push(
    tmp_path: Path, pushed: online.Pushed
) -> None:
    made = view(generation(tmp_path / "g", {("x", 1): (90, 90, [1.0, "made"])}), made=95.0)
    push(pushed, ("x", 1), 60, 60)
    assert pushed.forget("v", [("x", 1)], 97 * 10**6, "f") == 1 and pushed.logged("v") == []
    assert read(made, pushed, ("x", 1)) == [([None, None], "NOT_FOUND", None)]
    push(pushed, ("x", 1), 70, 98, 5.0, "again")
    assert read(made, pushed, ("x", 1)) == [([5.0, "again"], "PRESENT", 30.0)]
    pushed.covered("v", 0, 98 * 10**6)
    assert read(made, pushed, ("x", 1))[0][0] == [1.0, "made"]  # which is read no more: a later one was made without it


def test_a_forgetting_that_is_done_again_leaves_what_was_pushed_since(tmp_path: Path, pushed: online.Pushed) -> None:
    """The daemon does it again with each new generation, until the files are searched: a row that was answered after
    the entity was forgotten would be gone."""
    push(pushed, ("x", 1), 60, 60, 1.0)
    assert pushed.forget("v", [("x", 1)], 97 * 10**6, "f") == 1
    push(pushed, ("x", 1), 70, 98, 5.0)
    assert pushed.forget("v", [("x", 1)], 97 * 10**6, "f") == 0
    assert read(view(), pushed, ("x", 1)) == [([5.0, "x"], "PRESENT", 30.0)] and pushed.waiting("v") == 1
    made = view(generation(tmp_path / "g", {("y", 1): (90, 90, [1.0, "made"])}), made=95.0)  # it was on its way
    pushed.forget("v", [("x", 1), ("y", 1)], 97 * 10**6, "f")
    assert [each[1] for each in read(made, pushed, ("x", 1), ("y", 1))] == ["PRESENT", "NOT_FOUND"]
    assert pushed.forget("v", [("x", 1)], 99 * 10**6, "g") == 1
    assert read(view(), pushed, ("x", 1)) == [([None, None], "NOT_FOUND", None)]


def test_what_a_generation_covers_is_dropped_and_what_came_later_stays(tmp_path: Path, pushed: online.Pushed) -> None:
    upto = push(pushed, ("x", 1), 10, 10)
    push(pushed, ("y", 1), 20, 20)
    pushed.folded("v", upto)
    pushed.covered("v", upto, 0)
    assert read(view(), pushed, ("x", 1), ("y", 1), now=21) == [
        ([None, None], "NOT_FOUND", None),
        ([1.0, "x"], "PRESENT", 1.0),
    ]
    assert [number for number, _ in pushed.logged("v")] == [upto + 1] and pushed.views_logged() == ["v"]


def test_views_whose_names_begin_alike_keep_apart(pushed: online.Pushed) -> None:
    push(pushed, ("x", 1), 10, 10)
    pushed.push("v2", [online.Row(("x", 1), 10, 10, {"a": 9.0})])
    assert pushed.views_logged() == ["v", "v2"]
    pushed.covered("v", 99, 0)
    assert pushed.newest("v", [key_bytes(("x", 1))]) == [None]
    assert pushed.newest("v2", [key_bytes(("x", 1))]) is not None
    pushed.note("v", 3, "digest")
    assert pushed.noted("v") == [(3, "digest")] and pushed.noted("v2") == []


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("push"), st.integers(0, 3), st.integers(1, 99), st.floats(allow_nan=False)),
        st.tuples(st.just("forget"), st.integers(0, 3)),
        st.tuples(st.just("make")),
    ),
    max_size=25,
)


@given(STEPS, st.integers(1, 200))
@settings(deadline=None, max_examples=60)
def test_reading_is_as_a_dict_of_the_latest_rows_says(
    tmp_path_factory: pytest.TempPathFactory, steps: Any, ahead: int
) -> None:
    """The model: of each entity the rows that were not forgotten, the latest event time first, then the last to come.
    A generation is made of them now and then; what it covers is dropped with the next one, as the daemon does."""
    folder = tmp_path_factory.mktemp("online")
    pushed = online.Pushed(folder / "pushed", writes=True)
    rows: dict[int, list[tuple[int, int, float]]] = {}
    made, clock, covered = view(), 1000, (0, 0)
    try:
        for number, step in enumerate(steps):
            clock += 1
            if step[0] == "push":
                push(pushed, ("e", step[1]), step[2], clock, step[3], str(clock))
                rows.setdefault(step[1], []).append((step[2], clock, step[3]))
            elif step[0] == "forget":
                pushed.forget("v", [("e", step[1])], clock * 10**6, str(clock))
                rows.pop(step[1], None)
            else:
                upto = max((n for n, _ in pushed.logged("v")), default=covered[0])
                pushed.folded("v", upto)
                pushed.covered("v", *covered)
                latest = {("e", key): max(found) for key, found in rows.items()}
                kept = {key: (at, known, [a, str(known)]) for key, (at, known, a) in latest.items()}
                made = view(generation(folder / str(number), kept), made=float(clock))
                covered = (upto, clock * 10**6)
        now = clock + ahead
        found = read(made, pushed, *(("e", key) for key in range(4)), now=now, stale=True)
        for key, (values, status, age) in enumerate(found):
            if key not in rows:
                assert (values, status, age) == ([None, None], "NOT_FOUND", None)
                continue
            at, known, a = max(rows[key])
            assert (values, age) == ([a, str(known)], now - at)
            assert status == ("EXPIRED" if now - at > TTL else "PRESENT")
    finally:
        pushed.close()


def test_a_key_that_is_known_by_its_hash_only_is_read_no_more_and_what_was_sent_of_it_stays_in_the_log(
    pushed: online.Pushed,
) -> None:
    key = ("x" * 600, 1)
    push(pushed, key, at=50, known=60)
    assert pushed.forget("v", [key_bytes(key)], 70 * 10**6, "f") == 0
    assert read(view(), pushed, key) == [([None, None], "NOT_FOUND", None)]
    assert [row.key for _, row in pushed.logged("v")] == [key]
    assert pushed.forget("v", [key], 70 * 10**6, "g") == 1 and pushed.logged("v") == []
