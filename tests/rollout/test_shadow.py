"""What a shadow would have said beside what was said, from pairs alone."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quarterdeckd.measures.quality import wilson
from quarterdeckd.rollout.shadow import Pair, agrees, checked, compare
from quarterstore.records.faults import Invalid


def pair(number: int, live: str | None, shadow: str | None, score: float = 0.5, **inputs: object) -> Pair:
    return Pair(f"p-{number}", 0, float(number), live, shadow, score, score, dict(inputs))


@pytest.mark.parametrize(
    ("live", "shadow", "same"),
    [
        ("yes", "yes", True),
        ("yes", "no", False),
        ("1", "2", False),
        ("100", "101", False),
        ("100.0", "100.9", True),
        ("100.0", "102.0", False),
        ("0.0", "0.0001", False),
        ("1.5", "no", False),
        (None, None, True),
        (None, "1", False),
    ],
)
def test_labels_agree_when_they_are_the_same_and_numbers_when_they_are_near(
    live: str | None, shadow: str | None, same: bool
) -> None:
    assert agrees(live, shadow, 0.01) is same
    assert agrees(shadow, live, 0.01) is same


def test_the_slice_in_which_the_shadow_is_worse_comes_first_with_its_interval() -> None:
    chance = random.Random(1)
    pairs = []
    for number in range(2000):
        country, age = chance.choice(("at", "be", "cz")), chance.uniform(20, 60)
        wrong = country == "be" and chance.random() < 0.4
        pairs.append(pair(number, "1", "0" if wrong else "1", country=country, age=age, free=f"text {number}"))
    found = compare(pairs, 0.01, 20)
    worst, *others = found.slices
    assert (worst.field, worst.value) == ("country", "be")
    assert worst.agreed == sum(each.live == each.shadow for each in pairs if each.inputs["country"] == "be")
    assert worst.low < 0.6 < worst.high < others[0].high
    assert {each.field for each in others} == {"country", "age"}, "a text that is never the same is no slice"
    assert sum(each.pairs for each in found.slices if each.field == "age") == 2000, "quarters cover the range"


def test_a_number_that_is_missing_is_a_slice_of_its_own_whatever_it_was_recorded_as() -> None:
    """A blank is recorded as NaN, which has no place in an order."""
    blanks = (None, float("nan"))
    pairs = [pair(number, "a", "a", x=float(number)) for number in range(120)]
    pairs += [pair(200 + number, "a", "b", x=blanks[number % 2]) for number in range(40)]
    found = compare(pairs, 0.01, 20)
    slices = {each.value: each.pairs for each in found.slices if each.field == "x"}
    assert slices == {"missing": 40, "x < 30": 30, "30 <= x < 60": 30, "60 <= x < 90": 30, "90 <= x": 30}


def test_an_interval_is_wider_for_being_one_of_many_slices() -> None:
    pairs = [pair(number, "1", str(number % 2), a=number % 2, b=number // 50) for number in range(200)]
    first = compare(pairs, 0, 0).slices[0]
    low, high = wilson(first.agreed, first.pairs)
    assert first.low < low or first.high > high


def test_the_largest_disagreements_are_listed_first_and_no_more_than_asked_for() -> None:
    pairs = [pair(number, "10.0", str(10.0 + number)) for number in range(100)]
    found = compare(pairs, 0.01, 20)
    assert [each.prediction for each in found.disagreements] == [f"p-{number}" for number in range(99, 79, -1)]
    sure = [pair(1, "a", "b", score=0.51), pair(2, "a", "b", score=0.99), pair(3, "a", "a", score=1.0)]
    assert [each.prediction for each in compare(sure, 0, 20).disagreements] == ["p-2", "p-1"]


def test_of_nothing_nothing_is_said() -> None:
    assert compare([], 0.01, 20) == (0, (), ())


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("abc"), st.integers(0, 3)), max_size=200))
def test_what_agrees_and_what_does_not_add_up(rows: list[tuple[str, str, int]]) -> None:
    pairs = [pair(number, live, shadow, field=value) for number, (live, shadow, value) in enumerate(rows)]
    found = compare(pairs, 0.0, 1000)
    assert found.agreed + len(found.disagreements) == len(pairs)
    for each in found.slices:
        assert 0 <= each.low <= each.rate <= each.high <= 1
        assert each.pairs == sum(one.inputs["field"] == int(each.value) for one in pairs)


@pytest.mark.parametrize(("field", "values"), [("tolerance", (1.0, 1, 1)), ("top", (0, -1, 1)), ("newest", (0, 1, 0))])
def test_a_report_that_makes_no_sense_is_refused_by_its_field(field: str, values: tuple[float, int, int]) -> None:
    with pytest.raises(Invalid, match=rf"^{field}: got"):
        checked(*values)


def test_models_that_give_scores_only_are_compared_by_those() -> None:
    """Without a label both say nothing, which is no agreement."""
    pairs = [
        Pair(f"p-{number}", 0, float(number), None, None, 0.5, 0.5 + number / 10, {"a": number}) for number in range(4)
    ]
    found = compare(pairs, 0.01, 20)
    assert found.agreed == 1
    assert [each.prediction for each in found.disagreements] == ["p-3", "p-2", "p-1"]
