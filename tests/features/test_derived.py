"""Features on demand: a formula is data, says what it makes, and gives the same for one row as for many."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quarterdeckd.features.derived import column_of, derived, plain
from quarterstore.records.faults import Fault
from quarterstore.records.features import OnDemand
from quarterstore.records.formulas import names, parsed, type_of

KINDS = {"x": "number", "n": "integer", "t": "text", "b": "boolean", "odd name": "number"}


def worked(formula: str, rows: list[dict[str, Any]]) -> list[Any]:
    """What a formula makes of rows."""
    kind: Any = type_of(parsed(formula), KINDS)
    columns = {name: column_of([row.get(name) for row in rows], kind) for name, kind in KINDS.items()}
    return plain(derived([OnDemand(name="f", formula=formula, kind=kind)], columns, len(rows))["f"])


@pytest.mark.parametrize(
    ("formula", "row", "value"),
    [
        ("x / max(n, 1)", {"x": 7.0, "n": 0}, 7.0),
        ("x / n", {"x": 7.0, "n": 0}, None),
        ("log(x)", {"x": -1.0}, None),
        ("-x % 3", {"x": 1.0}, 2.0),
        ("'late' if n >= 22 and not b else 'day'", {"n": 23, "b": False}, "late"),
        ("'late' if n >= 22 else 'day'", {}, None),
        ("coalesce(t, 'none') == 'none'", {}, True),
        ("missing(x) or b", {"b": False}, True),
        ("x + n", {"x": 1.0}, None),
        ("column('odd name') * 2", {"odd name": 3.0}, 6.0),
        ("lower(t)", {"t": "ÄB"}, "äb"),
        ("min(x, n, 3)", {"x": 5.0, "n": 4}, 3.0),
        ("x", {"x": math.inf}, None),
        ("true", {}, True),
        ("exp(x)", {"x": 1e6}, None),
    ],
)
def test_a_formula_says_what_it_reads_as(formula: str, row: dict[str, Any], value: Any) -> None:
    assert worked(formula, [row]) == [value]


@pytest.mark.parametrize(
    ("formula", "words"),
    [
        ("__import__('os').system('x')", "formula: got __import__('os').system('x'), expected names"),
        ("x.real", "formula: got x.real"),
        ("[x for x in y]", "formula: got"),
        ("lambda: 1", "formula: got lambda: 1"),
        ("x ** 999999999", "formula: got x ** 999999999"),
        ("x < n < 3", "formula: got x < n < 3"),
        ("open(t)", "formula: got open, expected a known one"),
        ("max(x)", "formula: got max of 1, expected 2 to 8 operands"),
        ("x +", "formula: got x +, expected a formula"),
        ("", "formula: got 0 characters"),
        ("1" * 501, "formula: got 501 characters"),
        ("(" * 200 + "x" + ")" * 200, "formula: got"),
        ("-" * 400 + "x", "formula: got a formula of many parts"),
        ("1e999", "formula: got a number without end"),
        ("x + t", "formula: got + of number and text, expected number"),
        ("x and b", "formula: got and of number and boolean, expected boolean"),
        ("x if t else 1", "formula: got if of text, expected boolean"),
        ("t == x", "formula: got == of text and number, expected all of one kind"),
        ("y", "formula: got y, expected a known one"),
        ("None", "formula: got None"),
        ("f'{x}'", "formula: got"),
        ("x := 1", "formula: got"),
    ],
)
def test_what_is_no_formula_is_refused_and_never_run(formula: str, words: str) -> None:
    with pytest.raises(Fault) as refused:
        tree = parsed(formula)
        type_of(tree, KINDS)
        assert formula.startswith("(") and names(tree) == ("x",)  # parentheses alone nest nothing
        raise Fault("formula: got nothing but parentheses")
    assert words in refused.value.line()


row = st.fixed_dictionaries(
    {
        "x": st.none() | st.floats(-1e9, 1e9),
        "n": st.none() | st.integers(-5, 5),
        "t": st.none() | st.sampled_from(["a", "B", ""]),
        "b": st.none() | st.booleans(),
    }
)
number = st.recursive(
    st.sampled_from(["x", "n", "2", "0.5"]),
    lambda inner: (
        st.builds("({} {} {})".format, inner, st.sampled_from("+-*/%"), inner)
        | st.builds("{}({})".format, st.sampled_from(["abs", "log", "exp", "sqrt", "floor"]), inner)
        | st.builds("({} if {} > {} else {})".format, inner, inner, inner, inner)
        | st.builds("coalesce({}, {})".format, inner, inner)
    ),
    max_leaves=6,
)


@settings(max_examples=150, deadline=None)
@given(number, st.lists(row, min_size=1, max_size=20))
def test_many_rows_at_once_have_the_bits_of_each_row_alone(formula: str, rows: list[dict[str, Any]]) -> None:
    together = worked(formula, rows)
    assert together == [worked(formula, [each])[0] for each in rows]
    assert all(value is None or math.isfinite(value) for value in together)
