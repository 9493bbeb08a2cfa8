"""The rules of the registry: stages, numbers, what a name means, what can be taken back."""

from __future__ import annotations

from typing import Any

import pytest

from quarterstore.records import deployments, jobs, monitoring, registry, runs, store
from quarterstore.records.faults import Conflict, Fault, Invalid, NotFound, Refused
from tests.ruling import Ruling


def shape(datatype: Any = "FP32", width: int = 2) -> registry.Signature:
    """One input, one output."""
    return registry.Signature(
        inputs=(registry.Tensor(name="x", datatype=datatype, shape=(-1, width)),),
        outputs=(registry.Tensor(name="y", datatype="FP32", shape=(-1, 1)),),
    )


def version(ruling: Ruling, number: int = 0, **about: Any) -> registry.Version:
    """Another version of `m`."""
    number = number or len(ruling.state.versions) + 1
    about = {"model": "m", "digest": f"{number:064x}", "size": 1, "format": "onnx", "signature": shape(), **about}
    made: registry.Version = ruling.act(registry.RegisterVersion(**about))
    return made


def test_numbers_are_never_used_again() -> None:
    ruling = Ruling()
    assert version(ruling).id == "m@1"
    ruling.act(registry.RemoveVersion(version="m@1"))
    assert version(ruling, 7).id == "m@2"


def test_the_semantic_version_follows_the_signature_and_is_explained() -> None:
    ruling = Ruling()
    assert version(ruling).semver == "1.0.0"
    assert version(ruling).semver == "1.0.1"
    wider = version(ruling, signature=shape(width=3))
    assert wider.semver == "2.0.0" and wider.reason


def test_a_production_version_takes_the_place_of_the_former_one() -> None:
    ruling = Ruling()
    for number in (1, 2):
        version(ruling)
        ruling.act(registry.MoveStage(version=f"m@{number}", stage="Staging"))
        ruling.act(registry.MoveStage(version=f"m@{number}", stage="Production", reason="r"))
    stages = [found.stage for found in ruling.ask(registry.ListVersions(model="m"))]
    assert sorted(stages) == ["Archived", "Production"]
    assert ruling.ask(registry.ProductionAt(model="m", at=ruling.now)).version == "m@2"


def test_what_was_live_at_a_moment_is_answered_and_before_the_first_nothing_was() -> None:
    ruling = Ruling()
    version(ruling)
    ruling.act(registry.MoveStage(version="m@1", stage="Staging"))
    before = ruling.now
    ruling.act(registry.MoveStage(version="m@1", stage="Production", reason="r"))
    assert ruling.ask(registry.ProductionAt(model="m", at=ruling.now + 5)).version == "m@1"
    with pytest.raises(NotFound):
        ruling.ask(registry.ProductionAt(model="m", at=before))
    for later in (ruling.now + 3600, 1e300):
        with pytest.raises(Invalid, match="a time that has been"):
            ruling.ask(registry.ProductionAt(model="m", at=later))


def test_every_move_is_told_with_who_why_and_the_entry_also_that_of_an_undo() -> None:
    """Also the one that another version's promotion made: the former one is archived in the same entry."""
    ruling = Ruling()
    for number in (1, 2):
        version(ruling)
        ruling.act(registry.MoveStage(version=f"m@{number}", stage="Staging"), actor="ana")
        ruling.act(registry.MoveStage(version=f"m@{number}", stage="Production", reason="r"), actor="bob")
    moves = ruling.ask(registry.ListStageMoves(model="m"))
    assert [(move.version, move.before, move.after) for move in moves[2:]] == [
        ("m@2", "None", "Staging"),
        ("m@1", "Production", "Archived"),
        ("m@2", "Staging", "Production"),
    ]
    assert moves[-1].entry == moves[-2].entry == len(ruling.entries)
    assert (moves[-1].asked_by, moves[-1].reason) == ("bob", "r")
    ruling.act(store.Undo(), actor="bob")
    back = ruling.ask(registry.ListStageMoves(model="m", version="m@2"))
    assert (back[-1].before, back[-1].after) == ("Production", "Staging") and "undo" in back[-1].reason


def test_a_tenure_that_began_before_its_traffic_names_the_deployment_that_carries_it() -> None:
    ruling = Ruling()
    version(ruling)
    for stage in ("Staging", "Production"):
        ruling.act(registry.MoveStage(version="m@1", stage=stage))  # type: ignore[arg-type]
    ruling.act(deployments.Deploy(version="m@1"))
    assert ruling.ask(registry.ListTenures(model="m"))[0].deployment is None, "nothing answers yet"
    ruling.act(deployments.AdmitVersion(endpoint="m", version="m@1", ok=True))
    assert ruling.ask(registry.ListTenures(model="m"))[0].deployment == ruling.state.deployments["m"].id


def test_what_an_undo_would_take_back_is_told_and_another_act_by_then_is_a_conflict() -> None:
    ruling = Ruling()
    with pytest.raises(NotFound):
        ruling.ask(store.ShowUndo())
    version(ruling)
    ruling.act(registry.TagVersion(version="m@1", tags={"a": "b"}))
    seen = ruling.ask(store.ShowUndo())
    assert seen.words == "tagged m@1"
    ruling.act(registry.DescribeVersion(version="m@1", notes="x"))
    with pytest.raises(Conflict, match="described m@1"):
        ruling.act(store.Undo(entry=seen.entry))
    assert ruling.ask(registry.ShowVersion(version="m@1")).notes == "x"


NOTHING = registry.Signature(inputs=(), outputs=())
BAD: list[tuple[str, Any, type[Fault], str]] = [
    ("an unknown version", registry.MoveStage(version="m@9", stage="Staging"), NotFound, "m@"),
    ("an unknown model", registry.MoveStage(version="n@1", stage="Staging"), NotFound, ""),
    ("no version", registry.MoveStage(version="m", stage="Staging"), Fault, ""),
    ("the stage it has", registry.MoveStage(version="m@1", stage="None"), Conflict, "None"),
    ("a skipped stage", registry.MoveStage(version="m@1", stage="Production"), Refused, "Staging"),
    ("a stage that is none", registry.MoveStage(version="m@1", stage="Live"), Invalid, "Production"),  # type: ignore[arg-type]
    ("a reason with a control", registry.MoveStage(version="m@1", stage="Staging", reason="\x9d0;"), Invalid, "reason"),
    ("a short digest", registry.RegisterVersion("m", "ab", 1, "onnx", shape()), Invalid, "digest"),
    ("a path as a digest", registry.RegisterVersion("m", "../" * 21 + "x", 1, "onnx", shape()), Invalid, "digest"),
    ("a name with a control", registry.RegisterVersion("m\x1b[2J", "0" * 64, 1, "onnx", shape()), Invalid, "model"),
    ("code without leave", registry.RegisterVersion("m", "0" * 64, 1, "pickle", shape()), Refused, "--allow-code"),
    (
        "types without leave",
        registry.RegisterVersion("m", "0" * 64, 1, "skops", shape(), code=("a.B",)),
        Refused,
        "skops",
    ),
    ("a format that is none", registry.RegisterVersion("m", "0" * 64, 1, "keras", shape()), Invalid, "safetensors"),
    ("a format not told yet", registry.RegisterVersion("m", "0" * 64, 1, "auto", shape()), Invalid, "format"),
    (
        "no inputs",
        registry.RegisterVersion("m", "0" * 64, 1, "onnx", NOTHING),
        Invalid,
        "no input schema (give --schema",
    ),
    ("a version to convert that is no skops", registry.ConvertVersion(version="m@1"), Refused, "expected skops"),
    ("an empty name", registry.RegisterVersion("", "0" * 64, 1, "onnx", shape()), Invalid, "model"),
    ("a name that is a place", registry.RegisterVersion("../m", "0" * 64, 1, "onnx", shape()), Invalid, "model"),
    ("tags of nothing", registry.TagVersion(version="m@4", tags={"a": "b"}), NotFound, ""),
    ("a restored one that is there", registry.RestoreVersion(version="m@1"), Fault, ""),
]


@pytest.mark.parametrize(("act", "kind", "said"), [case[1:] for case in BAD], ids=[case[0] for case in BAD])
def test_what_is_wrong_is_refused_and_changes_nothing(act: Any, kind: type[Fault], said: str) -> None:
    ruling = Ruling()
    version(ruling)
    before = ruling.kept()
    with pytest.raises(kind) as refused:
        ruling.act(act)
    assert said in refused.value.line()
    assert ruling.kept() == before


def test_a_version_in_production_cannot_be_removed() -> None:
    ruling = Ruling()
    version(ruling)
    ruling.act(registry.MoveStage(version="m@1", stage="Staging"))
    ruling.act(registry.MoveStage(version="m@1", stage="Production", reason="r"))
    with pytest.raises(Refused):
        ruling.act(registry.RemoveVersion(version="m@1"))


def test_undo_takes_back_ones_own_last_act_and_not_anothers() -> None:
    ruling = Ruling()
    version(ruling)
    ruling.act(registry.MoveStage(version="m@1", stage="Staging"), actor="ana")
    with pytest.raises(NotFound):
        ruling.act(store.Undo(), actor="bob")
    assert ruling.act(store.Undo(), actor="ana").act == "registry.move_stage"
    assert ruling.ask(registry.ShowVersion(version="m@1")).stage == "None"


def test_undo_is_refused_where_the_world_has_moved_on() -> None:
    ruling = Ruling()
    version(ruling)
    ruling.act(registry.MoveStage(version="m@1", stage="Staging"), actor="ana")
    ruling.act(registry.MoveStage(version="m@1", stage="Archived"), actor="bob")
    with pytest.raises(Conflict):
        ruling.act(store.Undo(), actor="ana")


def test_undo_does_not_take_the_stage_from_what_has_traffic_or_waits_for_it() -> None:
    """A version in None with traffic would be one that nobody promoted."""
    ruling = Ruling()
    for _ in range(2):
        version(ruling)
    for stage in ("Staging", "Production"):
        ruling.act(registry.MoveStage(version="m@1", stage=stage), actor="bob")  # type: ignore[arg-type]
    ruling.act(deployments.Deploy(version="m@1"), actor="bob")
    ruling.act(deployments.AdmitVersion(endpoint="m", version="m@1", ok=True), actor="bob")
    ruling.act(registry.MoveStage(version="m@2", stage="Staging"), actor="ana")
    ruling.act(deployments.StartCanary(version="m@2"), actor="ana")
    with pytest.raises(Refused, match="live or on trial at m"):
        ruling.act(store.Undo(), actor="ana")
    assert ruling.ask(registry.ShowVersion(version="m@2")).stage == "Staging"
    ruling.act(deployments.RollBack(endpoint="m"), actor="bob")
    assert ruling.act(store.Undo(), actor="ana").act == "registry.move_stage"


def test_an_unknown_run_names_the_nearest_three() -> None:
    ruling = Ruling()
    for name in ("run-alpha", "run-alpine", "run-beta", "run-altar"):
        ruling.act(runs.StartRun(experiment="e", run=name))
    with pytest.raises(NotFound) as unknown:
        ruling.act(runs.EndRun(run="run-alpa"))
    assert len(unknown.value.nearest) == 3 and "run-alpha" in unknown.value.nearest


def test_leave_to_keep_code_stands_on_the_version_and_in_the_trail() -> None:
    ruling = Ruling()
    plain = version(ruling, allow_code=True)
    assert not plain.allow_code, "nothing had to be allowed"
    assert "code" not in ruling.entries[-1].words
    dark = version(ruling, format="pickle", allow_code=True, code=tuple(f"evil.n{number}" for number in range(9)))
    assert dark.allow_code and len(dark.code) == 9
    assert "code allowed: pickle that imports evil.n0" in ruling.entries[-1].words
    assert ruling.entries[-1].words.endswith("and 4 more")


def test_a_skops_version_is_converted_once_at_a_time_and_only_with_rows_to_compare() -> None:
    ruling = Ruling()
    bare = version(ruling, format="skops")
    with pytest.raises(Refused, match="no golden rows"):
        ruling.act(registry.ConvertVersion(version=bare.id))
    whole = version(ruling, format="skops", golden="a" * 64, allow_code=True, code=("a.B",))
    job = ruling.act(registry.ConvertVersion(version=whole.id))
    assert (job.kind, job.subject, job.spec["code"]) == ("convert", whole.id, ["a.B"])
    with pytest.raises(Conflict, match=job.id):
        ruling.act(registry.ConvertVersion(version=whole.id))


def test_a_conversion_that_failed_raises_an_alert_and_registers_nothing() -> None:
    ruling = Ruling()
    whole = version(ruling, format="skops", golden="a" * 64)
    job = ruling.act(registry.ConvertVersion(version=whole.id))
    ruling.act(jobs.BeginJob(job=job.id, pid=1, born=1))
    ruling.act(jobs.EndJob(job=job.id, state="FAILED", error="row 3 of label: got another answer"))
    [alert] = ruling.ask(monitoring.ListAlerts())
    assert alert.subject == whole.id and "row 3" in alert.words
    assert len(ruling.ask(registry.ListVersions(model="m"))) == 1


def test_a_parent_and_a_run_are_kept_by_their_ids_however_they_were_called() -> None:
    ruling = Ruling()
    ruling.act(runs.StartRun(experiment="e", run="run-alpha"))
    version(ruling)
    child = version(ruling, parent="m@latest", run="run-al")
    assert (child.parent, child.run) == ("m@1", "run-alpha")
    ups = {node.kind: node.id for node in ruling.ask(registry.ShowLineage(version="m@2")).up}
    assert ups["parent"] == "m@1" and ups["run"] == "run-alpha"
