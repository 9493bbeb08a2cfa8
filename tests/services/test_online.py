"""The rules of features online: what a generation is made of, what a version may need, how a view stands."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from quarterdeckd.services.needing import needed
from quarterdeckd.services.online import status_of
from quarterdeckd.services.routing import table_of
from quarterstore.ledger.features import view_of
from quarterstore.records import feature_files, features, jobs, online
from quarterstore.records.deployments import AdmitVersion, Deploy
from quarterstore.records.faults import Conflict, Fault, Refused
from quarterstore.records.registry import Feature, MoveStage, RegisterVersion, Signature, Tensor
from tests.ruling import Ruling

ENTITY = features.Entity(name="customer", keys=(features.Key(name="customer"),))
FEATURES = tuple(
    features.Feature(name=name, kind=kind)  # type: ignore[arg-type]
    for name, kind in (("minutes", "number"), ("plan", "text"), ("calls", "integer"))
)
SIGNATURE = Signature(
    inputs=(Tensor("x", "FP32", (-1, 2)), Tensor("plan", "BYTES", (-1, 1))),
    outputs=(),
    features=(
        Feature("minutes", "number", "x", 0),
        Feature("age", "number", "x", 1),
        Feature("plan", "category", "plan"),
    ),
)


@pytest.fixture
def ruling() -> Ruling:
    found = Ruling()
    found.act(features.DefineView(name="usage", entities=(ENTITY,), features=FEATURES, event_time="at", max_lag=60.0))
    return found


def add(ruling: Ruling, digest: str, at: float = 100.0) -> None:
    result = features.RowsResult(output=digest, rows=3, first_at=at, last_at=at, late=0)
    ruling.act(features.NoteRows(view="usage", source=f"of {digest}", known="now", result=result))


def spec_of(job: jobs.Job) -> online.MaterialiseSpec:
    return msgspec.convert(job.spec, online.MaterialiseSpec)


def end(ruling: Ruling, job: jobs.Job, waiting: tuple[str, ...] = ()) -> online.Generation:
    """Its job ended well; what that leads to."""
    result = online.MaterialiseResult(
        generation=job.id, waiting=waiting, entities=2, rows=3, newest=100.0, seconds=1.0, size=10
    )
    ruling.act(jobs.BeginJob(job=job.id, pid=1, born=1))
    ruling.act(jobs.EndJob(job=job.id, state="SUCCEEDED", result=_plain(result)))
    return ruling.state.generations[job.id]


def _plain(record: Any) -> Any:
    from quarterstore.records.wire import plain

    return plain(record)


def test_a_view_without_rows_is_refused_and_one_that_is_made_already_is_a_conflict(ruling: Ruling) -> None:
    with pytest.raises(Refused, match="no rows"):
        ruling.act(online.Materialise(view="usage"))
    add(ruling, "one")
    ruling.act(online.Materialise(view="usage"))
    with pytest.raises(Conflict, match="does this already"):
        ruling.act(online.Materialise(view="usage"))


def test_only_what_came_since_and_what_was_not_due_is_read_again(ruling: Ruling) -> None:
    add(ruling, "one")
    add(ruling, "two")
    first = end(ruling, ruling.act(online.Materialise(view="usage")), waiting=("two",))
    assert (first.full, first.files, first.waiting) == (True, ("one", "two"), ("two",))
    add(ruling, "three")
    job = ruling.act(online.Materialise(view="usage"))
    assert spec_of(job).files == ("two", "three") and spec_of(job).before == first
    second = end(ruling, job)
    assert (second.full, second.files, second.waiting) == (False, ("one", "two", "three"), ())
    assert spec_of(ruling.act(online.Materialise(view="usage"))).files == ()


def test_all_is_read_again_when_it_is_asked_for_or_the_view_has_other_features(ruling: Ruling) -> None:
    add(ruling, "one")
    end(ruling, ruling.act(online.Materialise(view="usage")))
    job = ruling.act(online.Materialise(view="usage", full=True))
    assert spec_of(job).files == ("one",) and spec_of(job).before is None
    end(ruling, job)
    ruling.act(features.DefineView(name="usage", entities=(ENTITY,), features=FEATURES[:2], event_time="at"))
    assert spec_of(ruling.act(online.Materialise(view="usage"))).before is None


def test_the_newest_two_generations_are_kept(ruling: Ruling) -> None:
    add(ruling, "one")
    made = [end(ruling, ruling.act(online.Materialise(view="usage", full=True))).id for _ in range(3)]
    assert {each.id for each in ruling.state.generations} == set(made[1:])


def test_while_an_entity_is_forgotten_nothing_is_made_and_afterwards_all_of_it_is(ruling: Ruling) -> None:
    add(ruling, "one")
    end(ruling, ruling.act(online.Materialise(view="usage")))
    ruling.act(feature_files.ForgetEntity(entity="0" * 64, keys=("customer",), reason="asked to"))
    with pytest.raises(Conflict, match="being forgotten"):
        ruling.act(online.Materialise(view="usage"))


def test_a_view_is_late_once_its_oldest_waiting_file_has_waited_for_longer_than_it_allows(ruling: Ruling) -> None:
    def stands(later: float) -> online.OnlineStatus:
        return status_of(ruling.state, view_of(ruling.state, "usage"), 0, ruling.now + later)

    add(ruling, "one")
    assert not stands(1e6).late and stands(1e6).generation is None
    end(ruling, ruling.act(online.Materialise(view="usage")))
    assert (stands(1e6).lag, stands(1e6).rows_waiting, stands(1e6).late) == (0.0, 0, False)
    add(ruling, "two")
    came = ruling.state.feature_rows
    at = max(each.at for each in came)
    late = status_of(ruling.state, view_of(ruling.state, "usage"), 0, at + 61)
    assert (late.lag, late.rows_waiting, late.late, late.max_lag) == (61.0, 3, True, 60.0)
    assert not status_of(ruling.state, view_of(ruling.state, "usage"), 0, at + 60).late


def test_what_was_pushed_is_read_already_so_its_files_wait_for_nothing(ruling: Ruling) -> None:
    add(ruling, "one")
    end(ruling, ruling.act(online.Materialise(view="usage")))
    result = features.RowsResult(output="pushed", rows=2, first_at=200.0, last_at=200.0, late=0)
    ruling.act(features.NoteRows(view="usage", source="pushed", known="column", result=result))
    stands = status_of(ruling.state, view_of(ruling.state, "usage"), 0, ruling.now + 1e6)
    assert (stands.rows_waiting, stands.lag, stands.late, stands.rows) == (0, 0.0, False, 5)
    read = spec_of(ruling.act(online.Materialise(view="usage"))).files
    assert read == ("pushed",)


def need_of(
    ruling: Ruling, asked: list[str], signature: Signature = SIGNATURE, dataset: str | None = None
) -> tuple[online.Needed, ...]:
    act = RegisterVersion(
        model="m", digest="0" * 64, size=1, format="onnx", signature=signature, views=tuple(asked), dataset=dataset
    )
    return needed(ruling.state, act)


def test_a_version_needs_what_it_takes_of_a_view(ruling: Ruling) -> None:
    [need] = need_of(ruling, ["usage"])
    assert (need.name, need.version, need.features) == ("usage", 1, ("minutes", "plan"))
    [need] = need_of(ruling, ["usage:plan", "usage:plan"])
    assert need.features == ("plan",)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ("usag", "usag"),
        ("usage:plans", "usage:plans"),
        ("usage:calls", "what the model takes"),
    ],
)
def test_what_a_view_has_not_or_the_model_takes_not_is_refused(ruling: Ruling, asked: str, words: str) -> None:
    with pytest.raises(Fault, match=words):
        need_of(ruling, [asked])


def test_two_views_that_give_one_feature_and_another_kind_are_refused(ruling: Ruling) -> None:
    ruling.act(features.DefineView(name="other", entities=(ENTITY,), features=FEATURES[:1], event_time="at"))
    with pytest.raises(Conflict, match="usage@1"):
        need_of(ruling, ["usage", "other"])
    numbers = Signature(inputs=(Tensor("plan", "FP32", (-1, 1)),), outputs=())
    with pytest.raises(Fault, match="text"):
        need_of(ruling, ["usage:plan"], numbers)


def test_a_version_that_was_fitted_on_a_training_set_needs_the_views_of_it(ruling: Ruling) -> None:
    add(ruling, "one")
    ruling.act(features.JoinFeatures(digest="1" * 64, views=("usage",), time="at"))
    [job] = ruling.state.jobs
    result = features.JoinResult(id="set-1", output="2" * 64, rows=1, statuses={}, used=(("one",),))
    ruling.act(features.NoteTrainingSet(job=job.id, spec=job.spec, result=_plain(result)))
    [need] = need_of(ruling, [], dataset="2" * 64)
    assert (need.name, need.version, need.features) == ("usage", 1, ("minutes", "plan"))
    assert need_of(ruling, [], dataset="3" * 64) == ()


def test_a_version_needs_the_features_on_demand_of_its_training_set_too(ruling: Ruling) -> None:
    """What a caller who gives keys does not give is computed as it was for the rows that were learnt."""
    ruling.act(
        features.DefineView(
            name="usage",
            entities=(ENTITY,),
            features=FEATURES,
            event_time="at",
            on_demand={"hours": "minutes / 60"},
        )
    )
    add(ruling, "one")
    ruling.act(features.JoinFeatures(digest="1" * 64, views=("usage",), time="at"))
    [job] = ruling.state.jobs
    result = features.JoinResult(id="set-1", output="2" * 64, rows=1, statuses={}, used=(("one",),))
    ruling.act(features.NoteTrainingSet(job=job.id, spec=job.spec, result=_plain(result)))
    takes = (Feature("minutes", "number", "x", 0), Feature("hours", "number", "x", 1))
    [need] = need_of(ruling, [], Signature(inputs=SIGNATURE.inputs, outputs=(), features=takes), "2" * 64)
    assert need.features == ("minutes", "hours")


def test_a_feature_that_a_version_reads_by_keys_stays_as_long_as_that_may_answer(ruling: Ruling) -> None:
    view = features.DefineView(name="usage", entities=(ENTITY,), features=FEATURES[1:], event_time="at")
    signature = msgspec.structs.replace(SIGNATURE, outputs=(Tensor("y", "FP32", (-1, 1)),))
    act = RegisterVersion(
        model="m", digest="0" * 64, size=1, format="onnx", signature=signature, views=("usage:minutes",)
    )
    ruling.act(act)
    ruling.act(MoveStage(version="m@1", stage="Staging"))
    with pytest.raises(Conflict, match="features: got no minutes, expected it: m@1 reads it by keys"):
        ruling.act(view)
    made = {"minutes": "missing(plan)"}
    with pytest.raises(Conflict, match="got no minutes"):
        ruling.act(msgspec.structs.replace(view, on_demand=made))  # m@1 goes on reading it as it was kept
    ruling.act(MoveStage(version="m@1", stage="Archived"))
    assert ruling.act(view).version == 2


def test_what_the_formula_of_a_version_reads_stays_and_the_formula_itself_may_go(ruling: Ruling) -> None:
    view = features.DefineView(
        name="usage", entities=(ENTITY,), features=FEATURES, event_time="at", on_demand={"age": "minutes / 60"}
    )
    ruling.act(view)
    signature = msgspec.structs.replace(SIGNATURE, outputs=(Tensor("y", "FP32", (-1, 1)),))
    ruling.act(
        RegisterVersion(model="m", digest="0" * 64, size=1, format="onnx", signature=signature, views=("usage:age",))
    )
    ruling.act(MoveStage(version="m@1", stage="Staging"))
    with pytest.raises(Conflict, match="got no minutes, expected it: m@1 reads it by keys"):
        ruling.act(msgspec.structs.replace(view, features=FEATURES[1:], on_demand={}))
    assert ruling.act(msgspec.structs.replace(view, on_demand={"age": "minutes"})).version == 3
    assert ruling.act(msgspec.structs.replace(view, on_demand={})).version == 4


def test_hosts_are_told_of_the_newest_version_of_a_view_and_of_those_that_what_they_serve_was_made_with(
    ruling: Ruling,
) -> None:
    view = features.DefineView(
        name="usage", entities=(ENTITY,), features=FEATURES, event_time="at", on_demand={"age": "minutes / 60"}
    )
    ruling.act(view)
    signature = msgspec.structs.replace(SIGNATURE, outputs=(Tensor("y", "FP32", (-1, 1)),))
    ruling.act(
        RegisterVersion(model="m", digest="0" * 64, size=1, format="onnx", signature=signature, views=("usage:age",))
    )
    for formula in ("minutes", "minutes * 2"):
        ruling.act(msgspec.structs.replace(view, on_demand={"age": formula}))

    def told() -> list[str]:
        return [each.id for each in table_of(ruling.state, str, Path("/online")).views]

    assert told() == ["usage@4"]
    ruling.act(MoveStage(version="m@1", stage="Production", skip_stage=True, reason="r"))
    ruling.act(Deploy(version="m@1"))
    ruling.act(AdmitVersion(endpoint="m", version="m@1", ok=True))
    assert told() == ["usage@2", "usage@4"]
