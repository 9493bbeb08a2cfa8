"""The rules of features: what a view may be, what may change of it, and which rows a training set can be of."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from quarterstore.records import features, jobs
from quarterstore.records.faults import Conflict, Fault, NotFound, Refused
from quarterstore.records.wire import plain
from tests.ruling import Ruling

CUSTOMER = features.Entity(name="customer", keys=(features.Key(name="customer"),))
USAGE = features.DefineView(
    name="usage",
    entities=(CUSTOMER,),
    features=(features.Feature(name="minutes", kind="number"), features.Feature(name="plan", kind="text")),
    event_time="at",
    ttl=86_400.0,
)
OTHER = msgspec.structs.replace(USAGE, name="visits", features=(features.Feature(name="visits", kind="integer"),))


def defined() -> Ruling:
    """One view, without rows."""
    ruling = Ruling()
    ruling.act(USAGE)
    return ruling


def load(ruling: Ruling, source: str, view: str = "usage", **more: Any) -> features.FeatureRows:
    """Rows of a view, as its job takes them in."""
    job = ruling.act(features.AddRows(view=view, digest=source, **more))
    ruling.act(jobs.BeginJob(job=job.id, pid=1, born=1))
    result = features.RowsResult(output=f"parquet of {source}", rows=3, first_at=1.0, last_at=3.0, late=0)
    ruling.act(jobs.EndJob(job=job.id, state="SUCCEEDED", result=plain(result)))
    return list(ruling.state.feature_rows)[-1]


def test_the_same_definition_again_changes_nothing_and_another_is_a_new_version() -> None:
    ruling = defined()
    before = ruling.kept()
    assert ruling.act(USAGE).version == 1 and ruling.kept() == before
    more = msgspec.structs.replace(USAGE, ttl=3600.0)
    assert (ruling.act(more).id, ruling.ask(features.ShowView(view="usage")).versions) == ("usage@2", (1, 2))
    assert ruling.ask(features.ShowView(view="usage@1")).view.ttl == 86_400.0
    assert [each.id for each in ruling.ask(features.ListViews())] == ["usage@2"]


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"name": "a/b"}, "name: got a/b"),
        ({"entities": ()}, "entities: got 0 keys, expected 1 to 8"),
        ({"features": ()}, "features: got 0, expected 1 to 1000"),
        ({"ttl": 0.0}, "ttl: got 0.0"),
        ({"ttl": float("nan")}, "ttl: got nan"),
        ({"event_time": "minutes"}, "features: got minutes twice"),
        ({"event_time": "__time"}, "features: got __time"),
        ({"created_time": "customer"}, "features: got customer twice"),
        ({"event_time": "a\x1bb"}, "event_time: got"),
        ({"owner": "x" * 300}, "owner: got 300 characters"),
        ({"entities": (features.Entity(name="customer", keys=()),)}, "entities"),
    ],
)
def test_a_view_that_makes_no_sense_is_refused_by_field(changed: dict[str, Any], words: str) -> None:
    ruling = Ruling()
    with pytest.raises(Fault) as refused:
        ruling.act(msgspec.structs.replace(USAGE, **changed))
    assert words in refused.value.line() and not ruling.entries


def test_an_entity_has_the_same_keys_in_every_view() -> None:
    ruling = defined()
    other = features.Entity(name="customer", keys=(features.Key(name="customer", kind="integer"),))
    with pytest.raises(Conflict, match=r"got customer \(integer\), expected customer \(text\) as in usage@1"):
        ruling.act(msgspec.structs.replace(OTHER, entities=(other,)))


def test_keys_and_kinds_of_a_view_with_rows_stay() -> None:
    ruling = defined()
    minutes = (features.Feature(name="minutes", kind="integer"),)
    region = (features.Entity(name="region", keys=(features.Key(name="region"),)),)
    assert ruling.act(msgspec.structs.replace(USAGE, features=minutes)).version == 2, "nothing is kept yet"
    ruling.act(USAGE)
    load(ruling, "a")
    with pytest.raises(Conflict, match="got integer, expected number: usage@3 has rows"):
        ruling.act(msgspec.structs.replace(USAGE, features=minutes))
    with pytest.raises(Conflict, match="define another view"):
        ruling.act(msgspec.structs.replace(USAGE, entities=region))
    added = (*USAGE.features, features.Feature(name="calls", kind="integer"))
    assert ruling.act(msgspec.structs.replace(USAGE, features=added)).version == 4


def test_the_kind_of_a_feature_that_was_left_out_for_a_while_stays() -> None:
    ruling = defined()
    load(ruling, "a")
    ruling.act(msgspec.structs.replace(USAGE, features=USAGE.features[1:]))
    again = (features.Feature(name="minutes", kind="text"), USAGE.features[1])
    with pytest.raises(Conflict, match="got text, expected number: usage@2 has rows"):
        ruling.act(msgspec.structs.replace(USAGE, features=again))
    assert ruling.act(USAGE).version == 3


def test_the_first_rows_were_known_at_their_time_and_later_ones_when_they_came() -> None:
    ruling = defined()
    assert load(ruling, "a").known == "event"
    later = load(ruling, "b")
    assert (later.known, later.at, later.rows) == ("now", ruling.now, 3)
    assert load(ruling, "c", known="event").known == "event"
    shown = ruling.ask(features.ShowView(view="usage"))
    assert (shown.rows, len(shown.files), shown.first_at, shown.last_at) == (9, 3, 1.0, 3.0)


def test_the_same_file_twice_and_an_unknown_view_are_refused() -> None:
    ruling = defined()
    load(ruling, "a")
    with pytest.raises(Conflict, match="a is in usage already"):
        ruling.act(features.AddRows(view="usage", digest="a"))
    with pytest.raises(NotFound, match="expected a known one"):
        ruling.act(features.AddRows(view="usag", digest="b"))
    with pytest.raises(Fault, match="usage@1 has no created_time"):
        ruling.act(features.AddRows(view="usage", digest="b", known="column"))


def test_rows_that_could_not_be_taken_in_leave_nothing() -> None:
    ruling = defined()
    job = ruling.act(features.AddRows(view="usage", digest="a"))
    ruling.act(jobs.BeginJob(job=job.id, pid=1, born=1))
    ruling.act(jobs.EndJob(job=job.id, state="FAILED", error="row 2, at: got x"))
    assert not list(ruling.state.feature_rows)


def join(ruling: Ruling, *views: str, **more: Any) -> features.JoinSpec:
    """What a job that makes a set is given."""
    job = ruling.act(features.JoinFeatures(digest="e", views=views, time="event_time", **more))
    return msgspec.convert(job.spec, features.JoinSpec)


def test_a_set_reads_the_files_there_are_and_the_features_that_are_wanted() -> None:
    ruling = defined()
    first, second = load(ruling, "a"), load(ruling, "b")
    [wanted] = join(ruling, "usage").views
    assert (wanted.view, wanted.files) == ("usage@1", (first.digest, second.digest))
    assert wanted.known == (None, second.at), "the first rows say themselves when they were known"
    [wanted] = join(ruling, "usage:plan").views
    assert [each.name for each in wanted.features] == ["plan"]


@pytest.mark.parametrize(
    ("views", "kind", "words"),
    [
        ((), Fault, "views: got none"),
        (("visits",), Refused, "visits has no rows"),
        (("usage:minute",), NotFound, "usage:minutes"),
        (("usage", "twin"), Conflict, "minutes is in usage@1 and in twin@1"),
        (("nothing",), NotFound, "nothing"),
    ],
)
def test_a_set_that_cannot_be_is_refused(views: tuple[str, ...], kind: type[Fault], words: str) -> None:
    ruling = defined()
    ruling.act(OTHER)
    ruling.act(msgspec.structs.replace(USAGE, name="twin"))
    load(ruling, "a"), load(ruling, "a", "twin")
    before = ruling.kept()
    with pytest.raises(kind) as refused:
        join(ruling, *views)
    assert words in refused.value.line() and ruling.kept() == before


@pytest.mark.parametrize("at", [float("nan"), -1.0, 9e9])
def test_a_set_as_known_at_a_time_to_come_is_refused(at: float) -> None:
    ruling = defined()
    load(ruling, "a")
    with pytest.raises(Fault, match="a time that is past"):
        join(ruling, "usage", reading=features.Reading(known_at=at))
