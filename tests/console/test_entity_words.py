"""Words of a person as keys: by name, alone where there is one key, never a mistyped name as a value."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quarterdeck.entity_words import keys_of
from quarterstore.records.faults import Invalid
from quarterstore.records.features import Entity, Feature, FeatureView, Key


def view(*keys: Key) -> FeatureView:
    kept: Any = {
        "version": 1,
        "created": 1.0,
        "created_by": "ana",
        "owner": "",
        "description": "",
        "tags": {},
        "ttl": None,
    }
    features = (Feature(name="n", kind="number"),)
    entities = (Entity(name="customer", keys=keys),)
    return FeatureView("usage", entities=entities, features=features, event_time="at", created_time=None, **kept)


CUSTOMER = view(Key(name="customer", kind="text"))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("7", "7"),
        ("customer=7", "7"),
        ("customer=a=b", "a=b"),
        ("customer==", "="),
        ("a,b", "a,b"),
        ('{"customer": "custmer=7"}', "custmer=7"),
    ],
)
def test_one_key_is_said_by_its_name_or_alone(text: str, value: str) -> None:
    assert keys_of(CUSTOMER, [text]) == ({"customer": value},)


@pytest.mark.parametrize("text", ["custmer=7", "Customer=7", "region=7", "YWI=", "=7"])
def test_a_name_that_is_not_that_of_the_key_is_refused_with_both_ways_to_mean_it(text: str) -> None:
    with pytest.raises(Invalid) as refused:
        keys_of(CUSTOMER, [text])
    said = refused.value.line()
    assert said.startswith(f"key: got {text}, expected customer=VALUE"), said
    assert f"say customer={text.partition('=')[2]}, or customer={text} where" in said


def test_the_same_is_said_of_a_key_of_numbers() -> None:
    with pytest.raises(Invalid, match="expected customer=VALUE"):
        keys_of(view(Key(name="customer", kind="integer")), ["custmer=7"])


def test_of_several_keys_each_is_named() -> None:
    both = view(Key(name="customer", kind="integer"), Key(name="region", kind="text"))
    assert keys_of(both, ["customer=7,region=eu"]) == ({"customer": 7, "region": "eu"},)
    with pytest.raises(Invalid, match="expected customer=VALUE,region=VALUE"):
        keys_of(both, ["custmer=7,region=eu"])


@given(st.text(min_size=1))
def test_every_text_is_a_value_behind_the_name_of_its_key(text: str) -> None:
    assert keys_of(CUSTOMER, [f"customer={text}"]) == ({"customer": text},)
