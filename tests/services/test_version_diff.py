"""Two versions side by side: each change of a signature says what it alone asks of the semantic version."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quarterdeckd.services.signatures import ORDER, diff
from quarterdeckd.services.version_diff import changes
from quarterstore.records import registry
from quarterstore.records.faults import NotFound
from quarterstore.records.registry import Feature, Signature, Tensor
from tests.ruling import Ruling
from tests.services.test_registry import shape, version

names = st.sampled_from(["a", "b", "c"])
tensors = st.lists(
    st.builds(Tensor, name=names, datatype=st.sampled_from(["FP32", "INT64"]), shape=st.sampled_from([(-1, 2), (-1,)])),
    max_size=3,
    unique_by=lambda each: each.name,
)
features = st.lists(
    st.builds(
        Feature,
        name=names,
        kind=st.sampled_from(["number", "category"]),
        input=st.just("a"),
        index=st.integers(0, 1),
        optional=st.booleans(),
    ),
    max_size=3,
    unique_by=lambda each: each.name,
)
signatures = st.builds(
    Signature,
    inputs=tensors.map(tuple),
    outputs=tensors.map(tuple),
    features=features.map(tuple),
    task=st.sampled_from(["classification", "regression"]),
    label=st.sampled_from([None, "a"]),
    score=st.sampled_from([None, "a", "b"]),
    classes=st.sampled_from([(), ("no",), ("no", "yes")]),
)


@given(signatures, signatures)
def test_the_highest_bump_of_the_changes_is_the_bump_of_the_whole(before: Signature, after: Signature) -> None:
    """What the card shows line by line and what the registry decides cannot disagree."""
    found = list(changes(before, after))
    highest = max((each.bump for each in found), key=ORDER.index, default="patch")
    assert highest == diff(before, after).bump
    assert list(changes(before, before)) == []


def test_what_was_added_removed_and_changed_is_told_apart() -> None:
    before = Signature(
        inputs=(Tensor("x", "FP32", (-1, 2)),),
        outputs=(Tensor("y", "FP32", (-1, 1)),),
        features=(Feature("age", "number", "x"), Feature("city", "category", "x", 1)),
    )
    after = Signature(
        inputs=(Tensor("x", "FP32", (-1, 3)),),
        outputs=(Tensor("y", "FP32", (-1, 1)), Tensor("why", "FP32", (-1, 3))),
        features=(Feature("age", "number", "x"), Feature("rent", "number", "x", 2, optional=True)),
    )
    found = {(each.part, each.name): each for each in changes(before, after)}
    assert {key: (each.change, each.bump) for key, each in found.items()} == {
        ("input", "x"): ("changed", "major"),
        ("output", "why"): ("added", "minor"),
        ("feature", "city"): ("removed", "major"),
        ("feature", "rent"): ("added", "minor"),
    }
    assert (found["input", "x"].before, found["input", "x"].after) == ("FP32[-1, 2]", "FP32[-1, 3]")
    assert found["feature", "rent"].optional


def measured(**values: float) -> Any:
    """Metrics by name."""
    return tuple(registry.Metric(name=name, value=value) for name, value in values.items())


def test_without_a_second_version_it_is_the_one_registered_before_and_the_first_has_none() -> None:
    """Also where that one was removed: the semantic version was worked out against it all the same."""
    ruling = Ruling()
    version(ruling, metrics=measured(acc=0.5, loss=1.0))
    version(ruling, metrics=measured(acc=0.75), signature=shape(width=3))
    version(ruling, signature=shape(width=3))
    ruling.act(registry.RemoveVersion(version="m@2"))
    assert ruling.ask(registry.DiffVersions(after="m@3")).before == "m@2"
    found = ruling.ask(registry.DiffVersions(after="m@2"))
    assert (found.before, found.semvers, found.bump) == ("m@1", ("1.0.0", "2.0.0"), "major")
    assert [(each.name, each.before, each.after) for each in found.metrics] == [("acc", 0.5, 0.75), ("loss", 1.0, None)]
    assert "input x" in found.reason
    first = ruling.ask(registry.DiffVersions(after="m@1"))
    assert (first.before, first.bump, first.reason) == (None, None, "the first version")
    assert ruling.ask(registry.DiffVersions(before="m@3", after="m@1")).bump == "major"
    with pytest.raises(NotFound):
        ruling.ask(registry.DiffVersions(before="m@9", after="m@1"))
