"""The rules of files of views: when they are made few, what that replaces, and what is forgotten with an entity."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from quarterstore.ledger.features import lumps_of
from quarterstore.records import feature_files, features, jobs
from quarterstore.records.faults import Conflict, Fault, NotFound, Refused
from quarterstore.records.wire import plain
from tests.ruling import Ruling
from tests.services.test_features import USAGE, defined, load


def end(ruling: Ruling, job: jobs.Job, result: Any) -> None:
    ruling.act(jobs.BeginJob(job=job.id, pid=1, born=1))
    ruling.act(jobs.EndJob(job=job.id, state="SUCCEEDED", result=plain(result)))


def made(name: str, *of: str, span: str = "1970") -> feature_files.Made:
    return feature_files.Made(output=name, rows=2, first_at=1.0, last_at=2.0, span=span, of=of, size=9)


def result(*parts: feature_files.Made) -> feature_files.CompactResult:
    return feature_files.CompactResult(parts=parts, rows=2, resumed=0)


def lying(ruling: Ruling) -> list[str]:
    return [lump.file for lump in lumps_of(ruling.state, "usage")]


def doomed(ruling: Ruling) -> set[str]:
    return {each.digest for each in ruling.state.doomed}


def test_a_view_of_sixteen_files_is_compacted_by_itself_and_once_only() -> None:
    ruling = defined()
    for number in range(15):
        load(ruling, str(number))
    assert not [job for job in ruling.state.jobs if job.kind == "compaction"]
    load(ruling, "fifteen")
    load(ruling, "sixteen")
    [job] = [job for job in ruling.state.jobs if job.kind == "compaction"]
    assert len(job.spec["lumps"]) == 16 and job.spec["every"] == "year"
    with pytest.raises(Conflict, match="usage is being compacted already"):
        ruling.act(feature_files.CompactView(view="usage"))


def test_parts_stand_for_their_files_and_those_that_came_later_stay() -> None:
    ruling = defined()
    first, second = load(ruling, "a"), load(ruling, "b")
    job = ruling.act(feature_files.CompactView(view="usage"))
    load(ruling, "c")
    end(ruling, job, result(made("few", first.digest, second.digest)))
    assert lying(ruling) == ["few", "parquet of c"] and doomed(ruling) == {first.digest, second.digest}
    wanted = msgspec.convert(
        ruling.act(features.JoinFeatures(digest="e", views=("usage",), time="t")).spec, features.JoinSpec
    ).views[0]
    assert wanted.files == (first.digest, second.digest, "parquet of c"), "a set names what came, not how it lies"
    assert [lump.of for lump in wanted.lumps] == [(first.digest, second.digest), ("parquet of c",)]


def test_only_parts_of_a_year_that_new_rows_reach_are_made_again() -> None:
    ruling = defined()
    first, second = load(ruling, "a"), load(ruling, "b")
    job = ruling.act(feature_files.CompactView(view="usage"))
    end(ruling, job, result(made("1970", first.digest), made("1999", second.digest, span="1999")))
    load(ruling, "c")
    spec = ruling.act(feature_files.CompactView(view="usage")).spec
    assert [lump["file"] for lump in spec["lumps"]] == ["1970", "parquet of c"]


def test_a_view_of_few_files_and_files_that_are_others_by_now_stay_as_they_are() -> None:
    ruling = defined()
    first = load(ruling, "a")
    with pytest.raises(Refused, match="usage has few files already"):
        ruling.act(feature_files.CompactView(view="usage"))
    second = load(ruling, "b")
    job = ruling.act(feature_files.CompactView(view="usage"))
    forgotten = forget(ruling)
    cleaned = feature_files.Cleaned(view="usage", digest=first.digest, removed=1, made=made("clean", first.digest))
    end(ruling, ruling.state.jobs[forgotten.job], feature_files.ForgetResult(files=(cleaned,), sets=()))
    end(ruling, job, result(made("few", first.digest, second.digest)))
    assert lying(ruling) == ["clean", second.digest] and "few" in doomed(ruling)


def forget(ruling: Ruling, *keys: str) -> feature_files.Forgetting:
    found: feature_files.Forgetting = ruling.act(
        feature_files.ForgetEntity(entity="who", keys=keys or ("customer",), reason="asked to")
    )
    return found


def test_forgetting_replaces_files_and_dooms_what_was_sent() -> None:
    ruling = defined()
    first, second = load(ruling, "a"), load(ruling, "b")
    forgetting = forget(ruling)
    files = (
        feature_files.Cleaned(view="usage", digest=first.digest, removed=1, made=made("clean", first.digest)),
        feature_files.Cleaned(view="usage", digest=second.digest, removed=3, made=None),
    )
    end(ruling, ruling.state.jobs[forgetting.job], feature_files.ForgetResult(files=files, sets=()))
    [done] = ruling.ask(feature_files.ListForgettings())
    assert (done.rows, done.done, done.reason) == (4, ruling.now, "asked to")
    assert lying(ruling) == ["clean"] and doomed(ruling) == {"who", "a", "b", first.digest, second.digest}


def test_files_that_came_meanwhile_are_searched_as_well_and_a_lost_job_begins_again() -> None:
    ruling = defined()
    load(ruling, "a")
    forgetting = forget(ruling)
    load(ruling, "b")
    end(ruling, ruling.state.jobs[forgetting.job], feature_files.ForgetResult(files=(), sets=()))
    [again] = ruling.ask(feature_files.ListForgettings())
    assert again.done is None and again.job != forgetting.job
    ruling.act(jobs.BeginJob(job=again.job, pid=1, born=1))
    ruling.act(jobs.EndJob(job=again.job, state="LOST", error="killed"))
    [third] = ruling.ask(feature_files.ListForgettings())
    assert third.job not in (again.job, forgetting.job)
    assert len(ruling.state.jobs[third.job].spec["views"][0]["lumps"]) == 2
    end(ruling, ruling.state.jobs[third.job], feature_files.ForgetResult(files=(), sets=()))
    assert ruling.ask(feature_files.ListForgettings())[0].done is not None


def cleaned(ruling: Ruling, forgetting: feature_files.Forgetting, digest: str) -> None:
    files = (feature_files.Cleaned(view="usage", digest=digest, removed=1, made=made("clean", digest)),)
    end(ruling, ruling.state.jobs[forgetting.job], feature_files.ForgetResult(files=files, sets=()))


def joined(ruling: Ruling, job: jobs.Job) -> None:
    used = tuple(each.files for each in msgspec.convert(job.spec, features.JoinSpec).views)
    end(ruling, job, features.JoinResult(id="set-a", output="d" * 64, rows=1, statuses={}, used=used))


def test_a_set_that_was_asked_for_before_a_forgetting_and_made_after_it_is_not_kept() -> None:
    ruling = defined()
    rows = load(ruling, "a")
    job = ruling.act(features.JoinFeatures(digest="e", views=("usage",), time="t"))
    cleaned(ruling, forget(ruling), rows.digest)
    with pytest.raises(Refused, match=r"usage@1 was joined with rows that forgetting-\S+ took out meanwhile"):
        joined(ruling, job)
    assert not ruling.state.training_sets.rows
    joined(ruling, ruling.act(features.JoinFeatures(digest="e", views=("usage",), time="t")))
    assert list(ruling.state.training_sets.rows) == ["set-a"]


def test_a_set_that_was_made_while_one_is_forgotten_is_searched_as_well() -> None:
    ruling = defined()
    rows = load(ruling, "a")
    job = ruling.act(features.JoinFeatures(digest="e", views=("usage",), time="t"))
    forgetting = forget(ruling)
    joined(ruling, job)
    cleaned(ruling, forgetting, rows.digest)
    [again] = ruling.ask(feature_files.ListForgettings())
    assert again.done is None and lying(ruling) == [rows.digest]
    assert [each["id"] for each in ruling.state.jobs[again.job].spec["sets"]] == ["set-a"]
    cleaned(ruling, again, rows.digest)
    assert ruling.ask(feature_files.ListForgettings())[0].done is not None


@pytest.mark.parametrize(
    ("keys", "reason", "kind", "words"),
    [
        ((), "asked to", Fault, "keys: got none"),
        (("shop",), "asked to", NotFound, "keys: got shop"),
        (("customer",), "", Fault, "reason: got"),
    ],
)
def test_a_forgetting_that_cannot_be_is_refused(keys: tuple[str, ...], reason: str, kind: Any, words: str) -> None:
    ruling = Ruling()
    ruling.act(USAGE)
    with pytest.raises(kind) as refused:
        ruling.act(feature_files.ForgetEntity(entity="who", keys=keys, reason=reason))
    assert words in refused.value.line() and not ruling.state.jobs.rows
