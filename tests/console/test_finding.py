"""What a person types to find runs becomes one expression that the daemon's parser reads as it was meant."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quarterdeck import finding
from quarterdeck.wording import command_text
from quarterstore.records.names import composed
from quarterstore.records.search import SearchRuns
from quarterstore.search.parsing import ordered, parsed
from quarterstore.search.tree import Column, Compare


@pytest.mark.parametrize("text", ["acc > 0.9", "a=1", "name like 'x%'", "id in ('a')", "acc is null", "x is not null"])
def test_what_compares_is_an_expression(text: str) -> None:
    assert finding.is_expression(text) and parsed(text, "deck") is not None


@pytest.mark.parametrize("text", ["", "try 03", "island", "in the night", "like this", "o'brien", "50 %", "this is"])
def test_what_compares_nothing_is_a_text(text: str) -> None:
    assert not finding.is_expression(text)


@given(st.text(min_size=1, max_size=30))
def test_a_text_is_a_value_whatever_is_in_it(text: str) -> None:
    tree = parsed(f"name = {finding.quoted(text)}", "deck")
    assert tree == Compare(Column("any", "name", 0), "=", text)


@given(st.text(min_size=1, max_size=30))
def test_a_column_keeps_its_name_whatever_is_in_it(name: str) -> None:
    """As a column to sort by and as one that is compared; in the one spelling in which names are kept (NFC)."""
    words = finding.column("metrics", name)
    assert ordered(words, "deck").column.name == composed(name)
    assert ordered(f"-{words}", "deck").down
    tree = parsed(f"{words} is not null", "deck")
    assert tree is not None


def test_the_command_of_a_search_has_its_expression_and_its_order() -> None:
    asked = SearchRuns(where="acc > 0.9", order=("-metrics.acc",), limit=200, after="k")
    assert command_text(asked) == "qd runs --sort -metrics.acc --where 'acc > 0.9' --limit 200 --after k"
