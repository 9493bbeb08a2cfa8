"""Features read for a request by the keys of its rows, at the plain door and at v2."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from quarterdeckd.serving import plain, rest
from quarterdeckd.serving.looking import Looked, Views
from quarterdeckd.serving.tensors import Given
from quarterstore.records import features, online
from quarterstore.records.deployments import Slot
from quarterstore.records.faults import Conflict, Fault, NotFound
from quarterstore.records.registry import Feature, Signature, Tensor
from tests.usage import Rows, generation

KEYS = (features.Key(name="customer", kind="integer"), features.Key(name="region"))
HAS = (
    features.Feature(name="minutes", kind="number"),
    features.Feature(name="plan", kind="text"),
    features.Feature(name="active", kind="boolean"),
)
X, PLAN = Tensor("x", "FP32", (-1, 2)), Tensor("plan", "BYTES", (-1, 1))
SIGNATURE = Signature(
    inputs=(X, PLAN),
    outputs=(),
    features=(
        Feature("minutes", "number", "x", 0),
        Feature("active", "number", "x", 1),
        Feature("plan", "category", "plan"),
    ),
)
LOADED: Any = SimpleNamespace(inputs=(X, PLAN), wanted={"x": X, "plan": PLAN})
NEEDS = (online.Needed(name="usage", version=1, features=("minutes", "plan", "active")),)


@pytest.fixture
def views(tmp_path: Path) -> Views:
    """One view with an entity of now and one that is a day old; the ttl is an hour."""
    now = time.time_ns() // 1000
    rows: Rows = {(1, "eu"): (now, [2.5, "pro", True]), (2, "eu"): (now - 86_400 * 10**6, [7.0, "old", False])}
    view = generation(tmp_path / "g", KEYS, HAS, rows, now / 1e6)
    found = Views()
    found.swap([view])
    return found


def slot(on_expired: Any = "null") -> Slot:
    return Slot("m@1", "", "", SIGNATURE, 100, "live", NEEDS, on_expired)


def looked(views: Views, rows: list[dict[str, Any]], on_expired: Any = "null") -> Looked:
    found = views.looked(slot(on_expired), rows)
    assert found is not None
    return found


def test_rows_with_keys_are_filled_and_what_a_row_gives_itself_holds(views: Views) -> None:
    rows = [{"customer": 1, "region": "eu"}, {"customer": 1, "region": "eu", "minutes": 9}]
    feed, nulls = plain.feed_of_keys(rows, LOADED, SIGNATURE, looked(views, rows))
    assert nulls == {}
    assert feed["x"].tolist() == [[2.5, 1.0], [9.0, 1.0]]
    assert feed["plan"].ravel().tolist() == ["pro", "pro"]


def test_what_is_not_found_or_too_old_is_missing_to_the_model(views: Views) -> None:
    rows = [{"customer": 3, "region": "eu"}, {"customer": 2, "region": "eu"}]
    found = looked(views, rows)
    assert found.views["usage@1"][0] == ["NOT_FOUND", "EXPIRED"]
    feed, nulls = plain.feed_of_keys(rows, LOADED, SIGNATURE, found)
    assert nulls == {0: ["minutes", "plan", "active"], 1: ["minutes", "plan", "active"]}
    assert np.isnan(feed["x"]).all() and feed["plan"].ravel().tolist() == ["", ""]
    last = looked(views, rows[1:], "last")
    assert last.values == [{"minutes": 7.0, "plan": "old", "active": False}] and last.views["usage@1"][0] == ["EXPIRED"]
    with pytest.raises(Conflict, match=r"rows\[1\].*EXPIRED"):
        looked(views, rows, "fail")


def test_rows_without_all_keys_of_a_view_are_read_as_they_are(views: Views) -> None:
    assert views.looked(slot(), [{"customer": 1}, {"minutes": 1}]) is None
    found = looked(views, [{"customer": 1, "region": "eu"}, {"minutes": 1}])
    assert found.values[1] == {} and found.views["usage@1"][0] == ["PRESENT", None]


def test_where_no_view_is_read_rows_are_as_they_are_given() -> None:
    assert Views().looked(slot(), [{"customer": 1, "region": "eu", "minutes": 1}]) is None


def test_at_v2_tensors_that_are_given_hold_and_the_others_are_read(views: Views) -> None:
    keys: list[dict[str, Any]] = [{"customer": 1, "region": "eu"}]
    found = looked(views, keys)
    feed, _ = rest._keyed([], keys, LOADED, SIGNATURE, found)
    assert feed["x"].tolist() == [[2.5, 1.0]] and feed["plan"].tolist() == [["pro"]]
    given = [Given("x", "FP32", [1, 2], [5, 6])]
    feed, _ = rest._keyed(given, keys, LOADED, SIGNATURE, found)
    assert feed["x"].tolist() == [[5.0, 6.0]] and feed["plan"].tolist() == [["pro"]]
    with pytest.raises(Fault, match="one for each row"):
        rest._keyed([Given("x", "FP32", [2, 2], [5, 6, 7, 8])], keys, LOADED, SIGNATURE, found)
    feed, _ = rest._keyed([], [keys[0] | {"minutes": 9}], LOADED, SIGNATURE, found)
    assert feed["x"].tolist() == [[9.0, 1.0]], "what stands beside the keys holds"
    for beside, complaint in (({"minutes": 9}, r"keys\[0\].minutes.*none beside the input x"), ({"plam": 1}, "plan")):
        with pytest.raises(Fault, match=complaint):
            rest._keyed(given, [keys[0] | beside], LOADED, SIGNATURE, found)
    with pytest.raises(Fault, match="an object a row"):
        rest._keys({"keys": {"customer": 1}})


def test_entities_are_answered_by_their_keys_and_an_unknown_view_or_feature_is_named(views: Views) -> None:
    answer = views.answer("usage@1", [{"customer": 1, "region": "eu"}], ["plan"])
    assert (answer["values"], answer["statuses"], answer["features"]) == ([["pro"]], ["PRESENT"], ["plan"])
    for name, wanted in (("usage@2", []), ("other", []), ("usage", ["plans"])):
        with pytest.raises(NotFound):
            views.answer(name, [{"customer": 1, "region": "eu"}], wanted)
    with pytest.raises(Fault, match="region"):
        views.answer("usage", [{"customer": 1}], [])


def test_a_view_that_is_the_same_stays_open_and_one_that_went_is_known_no_more(views: Views) -> None:
    before = views.view("usage")
    views.swap([before.view])
    assert views.view("usage") is before
    views.swap([])
    with pytest.raises(NotFound):
        views.view("usage")
