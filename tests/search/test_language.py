"""The language of search: what it accepts, what it means, and where it points when it is wrong."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from quarterstore.records.faults import Invalid
from quarterstore.records.runs import DatasetInput, Run
from quarterstore.search.matching import Row, like, test_of
from quarterstore.search.paging import fingerprint, key_from, page, written
from quarterstore.search.parsing import ordered, parsed

NAN = float("nan")


def row(id_: str = "r", metrics: dict[str, float] | None = None, **fields: Any) -> Row:
    run = Run(
        **{"id": id_, "experiment": "e", "name": id_, "state": "FINISHED", "started": 1.0, "actor": "ana", **fields}
    )
    return Row(run, metrics or {})


def holds(text: str, of: Row, vocabulary: Any = "deck") -> bool | None:
    tree = parsed(text, vocabulary)
    assert tree is not None
    return test_of(tree)(of)


ONE = row(
    metrics={"acc": 0.95, "a b": 2.0, "bad": NAN, "big": math.inf},
    params={"lr": 0.01, "depth": "3", "kind": "tree", "on": True},
    tags={"team": "x's", "note": "100% sure", "caf\u00e9": "old"},
    inputs=(DatasetInput(name="rows", digest="d1"), DatasetInput(name="more", digest="d2")),
    ended=3.0,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("acc > 0.9", True),
        ("acc>0.9 or (lr<1e-3 and team='x')", True),
        ("acc>0.99 or lr<1e-3", False),
        ("not acc > 0.99", True),
        ("tags.cafe\u0301 = 'old' and `cafe\u0301` = 'old' and caf\u00e9 = 'old'", True),
        ("metrics.`a b` = 2 and params.depth >= 3", True),
        ('metrics."a b" = 2', True),
        ("depth = '3' and depth = 3 and kind = tree", True),
        ("on = true", True),
        ("team = 'x''s'", True),
        ("team = 'x\\'s'", True),
        ("team like 'x%' and team ilike 'X_S'", True),
        ("note like '100\\% sure'", False),
        ("state in ('FINISHED', 'FAILED')", True),
        ("state not in ('RUNNING')", True),
        ("experiment = 'e' and duration = 2", True),
        ("datasets.name = 'more'", True),
        ("missing_metric > 1", None),
        ("not metrics.missing > 1", None),
        ("metrics.missing is null and acc is not null", True),
        ("metrics.missing > 1 or acc > 0.9", True),
        ("metrics.missing > 1 and acc > 0.99", False),
        ("bad > 0", None),
        ("bad != 0", None),
        ("not bad > 0", None),
        ("not bad <= 0", None),
        ("bad in (0, 1)", None),
        ("bad not in (0, 1)", None),
        ("bad in (0, nan)", True),
        ("bad > 0 or acc > 0.9", True),
        ("bad > 0 and acc > 0.99", False),
        ("bad = nan", True),
        ("bad != nan", False),
        ("not bad = nan", False),
        ("acc != nan", True),
        ("not acc > nan", None),
        ("big > 1e300", True),
        ("kind > 3", None),
    ],
)
def test_an_expression_means(text: str, expected: bool | None) -> None:
    assert holds(text, ONE) is expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("metrics.acc > 0.9 and params.kind = 'tree'", True),
        ("metric.acc >= 0.95 AND tags.`team` LIKE 'x%'", True),
        ('attributes.status = "FINISHED"', True),
        ("status = 'RUNNING'", False),
        ("run_id IN ('r', 'q')", True),
        ("start_time = 1000", True),
        ("dataset.digest = 'd2'", True),
        ("params.kind ILIKE 'TREE'", True),
        ("\"run_name\" = 'r' and tags.mlflow.runName = 'r'", True),
    ],
)
def test_a_filter_string_of_mlflow_means(text: str, expected: bool) -> None:
    assert holds(text, ONE, "mlflow") is expected


@pytest.mark.parametrize(
    ("text", "vocabulary", "at", "words"),
    [
        ("acc >", "deck", 5, "got the end"),
        ("acc > 0.9 oder x = 1", "deck", 10, "expected and, or, or the end"),
        ("(acc > 1", "deck", 8, "expected )"),
        ("acc ~ 1", "deck", 4, "got '~'"),
        ("acc = 'x", "deck", 6, "a text that does not end"),
        ("metrik.acc > 1", "deck", 0, "expected metrics, params"),
        ("attributes.statr = 1", "deck", 0, "an attribute of a run"),
        ("metrics.acc > 'x'", "mlflow", 14, "expected a number"),
        ("params.a = 1", "mlflow", 11, "a text in quotes"),
        ("params.a > '1'", "mlflow", 9, "one of =, !=, like"),
        ("metrics.a > 1 or metrics.b > 1", "mlflow", 14, "expected and"),
        ("statu = 'x'", "mlflow", 0, "Invalid attribute key 'statu' specified. Valid keys are run_id"),
        ("((((" * 20 + "a = 1", "deck", 51, "at most 50"),
    ],
)
def test_a_mistake_is_pointed_at(text: str, vocabulary: Any, at: int, words: str) -> None:
    with pytest.raises(Invalid, match="where") as raised:
        parsed(text, vocabulary)
    assert words in str(raised.value)
    shown, caret = raised.value.pointed()
    assert text[at:].startswith(shown[len(caret) - 1 :][:10])
    assert len(caret) - 1 == min(at, 60)


def test_the_nearest_words_are_named() -> None:
    with pytest.raises(Invalid) as raised:
        parsed("attributes.statr = 'x'", "deck")
    assert "started" in raised.value.nearest


@given(st.text(max_size=40), st.sampled_from(["deck", "mlflow"]))
def test_any_text_is_a_tree_or_a_fault_that_points_into_it(text: str, vocabulary: Any) -> None:
    try:
        parsed(text, vocabulary)
    except Invalid as fault:
        assert fault.place is not None
        assert 0 <= fault.place[1] <= len(fault.place[0]) + 1


NUMBERS = st.sampled_from([0.0, 1.0, -1.0, 0.5, math.inf, -math.inf, NAN])
TEXTS = st.sampled_from(["a", "b", "ab", "1", "0.5", "%", "A"])
ROWS = st.builds(
    lambda metrics, params, tags: row(metrics=metrics, params=params, tags=tags),
    st.dictionaries(st.sampled_from("mn"), NUMBERS),
    st.dictionaries(st.sampled_from("pq"), TEXTS),
    st.dictionaries(st.sampled_from("t"), TEXTS),
)
LEAVES = st.one_of(
    st.tuples(
        st.sampled_from(["metrics.m", "metrics.n"]),
        st.sampled_from(["<", "<=", ">", ">=", "=", "!="]),
        st.sampled_from([0.0, 0.5, 1.0]),
    ),
    st.tuples(st.sampled_from(["params.p", "params.q", "tags.t"]), st.sampled_from(["=", "!=", "like"]), TEXTS),
    st.tuples(st.sampled_from(["metrics.m", "params.p", "tags.t"]), st.just("is null"), st.none()),
)
TREES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.tuples(st.just("not"), inner),
        st.tuples(st.sampled_from(["and", "or"]), st.lists(inner, min_size=2, max_size=3)),
    ),
    max_leaves=6,
)


def spelled(tree: Any) -> str:
    if tree[0] == "not":
        return f"not ({spelled(tree[1])})"
    if tree[0] in ("and", "or"):
        return "(" + f" {tree[0]} ".join(spelled(part) for part in tree[1]) + ")"
    column, operator, value = tree
    if operator == "is null":
        return f"{column} is null"
    return f"{column} {operator} " + (f"'{value}'" if isinstance(value, str) else repr(value))


def slow(tree: Any, of: Row) -> bool | None:
    """The meaning by another way: the rules of SQL's three values, a comparison at a time."""
    if tree[0] == "not":
        found = slow(tree[1], of)
        return None if found is None else not found
    if tree[0] in ("and", "or"):
        parts = [slow(part, of) for part in tree[1]]
        if tree[0] == "and":
            return False if False in parts else None if None in parts else True
        return True if True in parts else None if None in parts else False
    column, operator, wanted = tree
    kind, _, name = column.partition(".")
    value = {"metrics": dict(of.metrics), "params": of.run.params, "tags": of.run.tags}[kind].get(name)
    if operator == "is null":
        return value is None
    if value is None:
        return None
    if isinstance(value, float) and math.isnan(value):
        return None
    if operator == "like":
        return _slow_like(wanted, value)
    order = {"=": {0}, "!=": {-1, 1}, "<": {-1}, "<=": {-1, 0}, ">": {1}, ">=": {0, 1}}
    return ((value > wanted) - (value < wanted)) in order[operator]


def _slow_like(pattern: str, text: str) -> bool:
    if not pattern:
        return not text
    if pattern[0] == "%":
        return any(_slow_like(pattern[1:], text[at:]) for at in range(len(text) + 1))
    return bool(text) and pattern[0] in ("_", text[0]) and _slow_like(pattern[1:], text[1:])


@settings(max_examples=300)
@given(TREES, ROWS)
def test_a_tree_means_what_the_slow_rules_say(tree: Any, of: Row) -> None:
    assert holds(spelled(tree), of) == slow(tree, of)


@given(st.text(alphabet="ab%_", max_size=8), st.text(alphabet="ab", max_size=8))
def test_like_is_what_the_slow_rules_say(pattern: str, text: str) -> None:
    assert like(pattern, text) == _slow_like(pattern, text)


def test_no_pattern_takes_long() -> None:
    assert not like("%a" * 200 + "b", "a" * 5000)


@pytest.mark.parametrize("order", ["m", "-m", "-name", "params.p", "-params.p"])
@settings(max_examples=60)
@given(rows=st.lists(ROWS, max_size=12), size=st.integers(1, 5))
def test_pages_by_key_are_the_whole_in_order_with_nothing_twice(order: str, rows: list[Row], size: int) -> None:
    rows = [Row(replace(each.run, id=f"r{n}", name=f"r{n}"), each.metrics) for n, each in enumerate(rows)]
    orders, name = [ordered(order, "deck")], fingerprint(order)
    whole = page(rows, orders, 100, None).rows
    assert len(whole) == len(rows)
    for backward in (False, True):
        found: list[Row] = []
        after = None
        while True:
            part = page(rows, orders, size, after, backward)
            found = [*part.rows, *found] if backward else [*found, *part.rows]
            further, behind = (part.previous, part.next) if backward else (part.next, part.previous)
            assert (behind is None) == (after is None), "where it was come from"
            if further is None:
                break
            after = key_from(written(further, name), name, orders)
        assert [each.run.id for each in found] == [each.run.id for each in whole]


def test_a_page_is_the_same_come_to_from_either_side() -> None:
    """The key of a page's first run leads back to the page before, that of its last run on to the next."""
    rows = [row(f"r{n:02}", {"m": float(n)}) for n in range(10)]
    orders = [ordered("m", "deck")]
    first = page(rows, orders, 4, None)
    second = page(rows, orders, 4, first.next)
    assert page(rows, orders, 4, second.previous, backward=True) == first
    last = page(rows, orders, 2, None, backward=True)
    assert page(rows, orders, 4, last.previous, backward=True) == second


def test_nan_and_missing_come_last_either_way() -> None:
    values = {"a": {"m": 1.0}, "b": {"m": NAN}, "c": {}, "d": {"m": math.inf}, "e": {"m": -math.inf}}
    rows = [row(id_, metrics) for id_, metrics in values.items()]
    for text, expected in (("m", "eadbc"), ("-m", "daebc")):
        found = page(rows, [ordered(text, "deck")], 10, None).rows
        assert "".join(each.run.id for each in found) == expected


def test_a_run_that_comes_between_two_pages_moves_nothing() -> None:
    rows = [row(f"r{n}", {"m": float(n)}) for n in range(6)]
    orders = [ordered("m", "deck")]
    first = page(rows, orders, 3, None)
    rows.insert(0, row("new", {"m": 0.5}))
    second = page(rows, orders, 3, first.next)
    assert [each.run.id for each in (*first.rows, *second.rows)] == [f"r{n}" for n in range(6)]


@pytest.mark.parametrize("text", ["", "x", "AAAA", "é", written(((0, 1.0, ""), 1.0, "r"), b"other123")])
def test_a_key_that_is_not_of_this_search_is_refused(text: str) -> None:
    with pytest.raises(Invalid, match="after"):
        key_from(text, b"search00", [ordered("m", "deck")])
