"""A feature on demand is the same for a caller who gives keys as it was in the training set, bit for bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quarterdeckd.features import training_set
from quarterdeckd.features.computing import completed, read_for
from quarterdeckd.features.joining import KNOWN, TIME
from quarterdeckd.features.lumps import write
from quarterstore.records import features
from quarterstore.records.faults import Fault
from quarterstore.records.online import OnlineView
from tests.features.test_rows import Silent

AT = 1_780_000_000
KEY = (features.Key(name="customer", kind="integer"),)
KEPT = (features.Feature(name="minutes", kind="number"), features.Feature(name="calls", kind="integer"))
REQUESTS = (features.Feature(name="amount", kind="number"), features.Feature(name="place", kind="text"))
ON_DEMAND = (
    features.OnDemand(name="share", formula="log(amount + 1) / (minutes - 0.1 * calls)", kind="number"),
    features.OnDemand(name="near", formula="lower(place) == 'here' or calls > 2", kind="boolean"),
)
WANTED = ("share", "minutes", "near")
number = st.none() | st.floats(-1e6, 1e6)
kept_row = st.tuples(number, st.none() | st.integers(-3, 3))
asked_row = st.tuples(st.integers(0, 5), number, st.none() | st.sampled_from(["Here", "there", ""]))


def view(ttl: float | None = None) -> OnlineView:
    return OnlineView(name="v", version=1, keys=KEY, features=KEPT, ttl=ttl, requests=REQUESTS, on_demand=ON_DEMAND)


def trained(folder: Path, kept: list[Any], asked: list[Any]) -> list[tuple[Any, ...]]:
    """What a training set has of the rows."""
    told = [(number, AT * 10**6, AT * 10**6, *row) for number, row in enumerate(kept)]
    kinds: dict[str, Any] = {"customer": pl.Int64, TIME: pl.Int64, KNOWN: pl.Int64}
    kinds |= {"minutes": pl.Float64, "calls": pl.Int64}
    write(pl.DataFrame(told, schema=kinds, orient="row"), folder / "in" / "rows.parquet")
    entities = pl.DataFrame(
        [(who, AT + 1.0, amount, place) for who, amount, place in asked],
        schema={"customer": pl.Int64, "event_time": pl.Float64, "amount": pl.Float64, "place": pl.String},
        orient="row",
    )
    entities.write_parquet(folder / "asked.parquet")
    wanted = features.Wanted(
        view="v@1",
        keys=KEY,
        features=KEPT[:1],
        inputs=KEPT[1:],
        ttl=None,
        files=("f",),
        known=(None,),
        lumps=(features.Lump(file=str(folder / "in" / "rows.parquet"), of=("f",)),),
        requests=REQUESTS,
        on_demand=ON_DEMAND,
    )
    spec = features.JoinSpec(
        entities=str(folder / "asked.parquet"),
        format="parquet",
        digest="",
        time="event_time",
        views=(wanted,),
        reading=features.Reading(),
    )
    return training_set.rows_of(spec, Silent()).frame.select(WANTED).rows()


@settings(max_examples=80, deadline=None)
@given(st.lists(kept_row, min_size=1, max_size=6), st.lists(asked_row, min_size=1, max_size=8))
def test_offline_and_online_are_the_same_to_the_bit(tmp_path_factory: Any, kept: list[Any], asked: list[Any]) -> None:
    offline = trained(tmp_path_factory.mktemp("demand"), kept, asked)
    read = read_for(view(), WANTED)
    assert list(read) == ["minutes", "calls"]
    for (who, amount, place), expected in zip(asked, offline, strict=True):
        values = list(kept[who]) if who < len(kept) else [None, None]
        row = {"customer": who, "amount": amount, "place": place}
        assert [tuple(each) for each in completed(view(), WANTED, [values], [row], ["rows[0]"])] == [expected]


def test_without_a_feature_on_demand_nothing_is_done() -> None:
    values = [[1.0]]
    assert read_for(view(), ["minutes"]) == ["minutes"]
    assert completed(view(), ["minutes"], values, [{}], ["rows[0]"]) is values


def test_a_request_that_is_not_given_is_missing_and_one_of_another_kind_is_refused() -> None:
    assert completed(view(), ["share", "near"], [[1.0, 3]], [{}], ["rows[0]"]) == [[None, None]]
    with pytest.raises(Fault) as refused:
        completed(view(), ["share"], [[1.0, 3]], [{"amount": "much"}], ["rows[4]"])
    assert "rows[4].amount: got much (str), expected a finite number" in refused.value.line()
