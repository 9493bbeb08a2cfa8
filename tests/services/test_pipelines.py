"""Pipelines: definitions that cannot be are refused before anything is kept; runs are gone on with, answered, tried
again."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quarterdeckd.pipeline import kinds
from quarterstore.records import flows, jobs, pipelines
from quarterstore.records.faults import Conflict, Fault, Refused
from quarterstore.records.pipelines import Definition, StepSection
from tests.ruling import Ruling

CODE = "c" * 64


def step(name: str, *after: str, **about: Any) -> StepSection:
    """A step of the user's own."""
    what = {} if {"uses", "command"} & set(about) else {"run": "steps.py:do"}
    return StepSection(**{"name": name, "after": after, **what, **about})


def asked(ruling: Ruling, *steps: StepSection, **about: Any) -> pipelines.PipelineRun:
    """A run of these steps."""
    definition = Definition(name="p", steps=steps, **about)
    run: pipelines.PipelineRun = ruling.act(pipelines.RunPipeline(definition=definition, sources={"steps.py": CODE}))
    return run


def note(ruling: Ruling, run: pipelines.PipelineRun, **about: Any) -> pipelines.PipelineRun:
    """A step as the worker tells it."""
    known = next(each for each in ruling.state.pipeline_runs[run.id].steps if each.name == about["name"])
    told = pipelines.Step(**{"after": known.after, "uses": known.uses, **about})
    found: pipelines.PipelineRun = ruling.act(pipelines.NoteStep(pipeline_run=run.id, step=told))
    return found


def end(ruling: Ruling, run: pipelines.PipelineRun, state: Any, **about: Any) -> pipelines.PipelineRun:
    """The job of a run as it ends."""
    job = ruling.state.pipeline_runs[run.id].job
    ruling.act(jobs.BeginJob(job=job, pid=1, born=1))
    ruling.act(jobs.EndJob(job=job, state=state, **about))
    return ruling.state.pipeline_runs[run.id]


BAD: list[tuple[str, tuple[StepSection, ...], str]] = [
    ("a name twice", (step("a"), step("a")), "steps[1].name"),
    ("no name", (step(""),), "steps[0].name"),
    ("an unknown kind", (step("a", uses="trian"),), "trian"),
    ("nothing to do", (StepSection(name="a"),), "one of uses, run or command"),
    ("two things to do", (step("a", uses="validate", run="steps.py:do"),), "uses and run"),
    ("after what is not there", (step("a"), step("b", "aa")), "aa"),
    ("a cycle", (step("a", "c"), step("b", "a"), step("c", "b")), "a -> b -> c -> a"),
    ("after itself", (step("a", "a"),), "a -> a"),
    ("a way out", (step("a", run="../steps.py:do"),), "FILE.py:FUNCTION"),
    ("an absolute path", (step("a", run="/etc/steps.py:do"),), "FILE.py:FUNCTION"),
    ("no function", (step("a", run="steps.py"),), "FILE.py:FUNCTION"),
    ("retries below 0", (step("a", retries=-1),), "a.retries"),
    ("retries without end", (step("a", retries=10**6),), "a.retries"),
    ("a pause that is none", (step("a", backoff=float("nan")),), "a.backoff"),
    ("no time", (step("a", limits=jobs.Limits(seconds=0)),), "a.limits.seconds"),
    ("params of no section", (step("a", uses="validate", params={"x": 1}),), "a.params"),
    ("params that do not fit", (step("a", uses="split", params={"test": "half"}),), "a.params.test"),
    ("an unknown param", (step("a", uses="split", params={"tset": 0.2}),), "tset"),
    ("work behind a gate", (step("m"), step("r", "m", uses="register"), step("a", "r")), "a.after"),
    ("a gate without a version", (step("m"), step("g", "m", uses="gate")), "register"),
    ("a version of nothing", (step("r", uses="register"),), "no step that makes a model"),
    ("code that was not sent", (step("a", run="other.py:do"),), "other.py"),
    ("too many", tuple(step(f"s{n}") for n in range(201)), "at most 200"),
]


@pytest.mark.parametrize(("steps", "said"), [case[1:] for case in BAD], ids=[case[0] for case in BAD])
def test_a_flow_that_cannot_be_is_named_and_nothing_is_kept(steps: tuple[StepSection, ...], said: str) -> None:
    ruling = Ruling()
    before = ruling.kept()
    with pytest.raises(Fault) as refused:
        asked(ruling, *steps, model="m")
    assert said in refused.value.line() and ruling.kept() == before


@pytest.mark.parametrize("sources", [{"../up.py": CODE}, {"/abs.py": CODE}, {"a.py": "short"}, {"a\x1b.py": CODE}])
def test_sources_that_are_no_files_beside_the_definition_are_refused(sources: dict[str, str]) -> None:
    ruling = Ruling()
    definition = Definition(name="p", steps=(step("a", command=("true",)),))
    with pytest.raises(Fault):
        ruling.act(pipelines.RunPipeline(definition=definition, sources=sources))
    assert len(ruling.state.jobs) == 0


@pytest.mark.parametrize(
    ("about", "said"),
    [
        ({"name": ""}, "name: got nothing, expected letters"),
        ({"model": ""}, "model: got nothing, expected the name under which a step registers what was trained"),
        ({"data": pipelines.DataSection(builtin="iris")}, "data.target: got nothing, expected the column"),
    ],
)
def test_what_a_definition_has_to_say_and_does_not_is_said_to_be_missing(about: dict[str, Any], said: str) -> None:
    data = pipelines.DataSection(target="species", builtin="iris")
    with pytest.raises(Fault) as refused:
        Ruling().act(pipelines.RunPipeline(definition=Definition(**{"name": "p", "model": "m", "data": data, **about})))
    assert refused.value.line().startswith(said)


def test_the_sections_alone_are_the_usual_steps_in_a_row() -> None:
    data = pipelines.DataSection(target="target", builtin="iris")
    plain = Definition(name="p", model="m", data=data)
    usual = ["validate", "split", "train", "evaluate", "register", "gate"]
    assert [each.name for each in flows.flow(plain)] == usual
    assert [each.after for each in flows.flow(plain)] == [(), *((name,) for name in usual[:-1])]
    sent = Definition(name="p", model="m", data=data, deploy=pipelines.DeploySection(then="staging"))
    assert [each.name for each in flows.flow(sent)] == [*usual, "deploy"]


@pytest.mark.parametrize("seconds", [-2.0, 0.0, float("nan"), float("inf"), 1e300])
def test_a_step_that_nobody_could_answer_in_time_is_refused_before_anything_is_kept(seconds: float) -> None:
    ruling = Ruling()
    before = ruling.kept()
    with pytest.raises(Fault, match=r"look\.params\.timeout: got .* expected seconds above 0"):
        asked(ruling, step("look", uses="approve", params={"timeout": seconds}))
    assert ruling.kept() == before


def test_every_kind_is_done_by_a_process_or_by_the_daemon_or_asks_a_person() -> None:
    for name, kind in flows.KINDS.items():
        assert (name in kinds.DOES) != (kind.daemon or name == "approve"), name
    for name in kinds.DOES:
        assert callable(kinds.function_of(name))


@given(st.lists(st.sets(st.integers(0, 11)), min_size=1, max_size=12), st.randoms())
def test_each_step_comes_behind_those_it_needs_however_they_are_written(needs: list[set[int]], chance: Any) -> None:
    steps = [step(f"s{n}", *(f"s{m}" for m in sorted(before) if m < n)) for n, before in enumerate(needs)]
    chance.shuffle(steps)
    seen: set[str] = set()
    for each in flows.flow(Definition(name="p", steps=tuple(steps))):
        assert set(each.after) <= seen
        assert set(flows.above(tuple(steps), each.name)) <= seen
        seen.add(each.name)
    assert len(seen) == len(steps)


def test_a_resumed_run_reuses_what_was_done_with_the_same_hashes() -> None:
    ruling = Ruling()
    run = asked(ruling, step("a"), step("b", "a"))
    note(ruling, run, name="a", state="DONE", key="k" * 64, outputs={"x": "1" * 64}, attempts=1)
    note(ruling, run, name="b", state="RUNNING", attempts=1)
    failed = end(ruling, run, "FAILED", error="a bug")
    assert [each.state for each in failed.steps] == ["DONE", "FAILED"] and failed.state == "FAILED"
    mended = Definition(name="p", steps=(step("a"), step("b", "a")))
    resumed = ruling.act(
        pipelines.ResumePipeline(pipeline_run=run.id, definition=mended, sources={"steps.py": "d" * 64})
    )
    assert resumed.state == "QUEUED" and resumed.job != run.job and resumed.code != run.code
    assert (resumed.steps[0].how, resumed.steps[0].outputs) == ("reused", {"x": "1" * 64})
    assert resumed.steps[0].words == "reused"
    assert resumed.steps[1].state == "WAITING" and resumed.steps[1].attempts == 0
    assert ruling.state.runs[resumed.run].state == "RUNNING" and ruling.state.runs[run.run].state == "FAILED"
    with pytest.raises(Conflict, match="expected FAILED, LOST or CANCELLED"):
        ruling.act(pipelines.ResumePipeline(pipeline_run=run.id))


@pytest.mark.parametrize(("found", "said"), [("", "reused"), ("; 427 rows", "reused; 427 rows")])
def test_a_cached_step_that_is_reused_says_what_it_found_and_not_how_it_came_before(found: str, said: str) -> None:
    ruling = Ruling()
    run = asked(ruling, step("a"), step("b", "a"))
    note(ruling, run, name="a", state="DONE", how="cached", words=f"{pipelines.CACHED}{found}", attempts=1)
    for _ in range(2):
        end(ruling, run, "FAILED", error="a bug")
        resumed = ruling.act(pipelines.ResumePipeline(pipeline_run=run.id))
        assert (resumed.steps[0].how, resumed.steps[0].words) == ("reused", said)


def test_what_says_something_else_than_before_is_done_again_with_what_is_behind_it() -> None:
    ruling = Ruling()
    three = (step("a"), step("b", "a"), step("c"))
    run = asked(ruling, *three, step("d", "c"))
    for name in "abc":
        note(ruling, run, name=name, state="DONE", attempts=1)
    end(ruling, run, "FAILED", error="a bug")
    other = Definition(name="p", steps=(step("a", params={"n": 2}), *three[1:], step("d", "c")))
    resumed = ruling.act(pipelines.ResumePipeline(pipeline_run=run.id, definition=other, sources={"steps.py": CODE}))
    assert [each.how for each in resumed.steps] == ["", "", "reused", ""]


def test_a_yes_was_to_the_run_as_it_was_and_is_asked_for_again_when_it_was_mended() -> None:
    ruling = Ruling()
    run = waits(ruling)
    ruling.act(pipelines.ApproveStep(pipeline_run=run.id))
    end(ruling, run, "FAILED", error="a bug")
    as_it_was = ruling.act(pipelines.ResumePipeline(pipeline_run=run.id))
    assert as_it_was.steps[0].how == "reused"
    end(ruling, run, "FAILED", error="a bug")
    again = pipelines.ResumePipeline(
        pipeline_run=run.id, definition=as_it_was.definition, sources={"steps.py": "d" * 64}
    )
    assert ruling.act(again).steps[0].state == "WAITING"


def test_another_pipeline_cannot_take_the_place_of_the_one_that_is_resumed() -> None:
    ruling = Ruling()
    run = asked(ruling, step("a"))
    end(ruling, run, "FAILED", error="a bug")
    other = Definition(name="q", steps=(step("a"),))
    with pytest.raises(Fault):
        ruling.act(pipelines.ResumePipeline(pipeline_run=run.id, definition=other, sources={"steps.py": CODE}))


def test_a_worker_that_is_lost_is_followed_by_another_as_often_as_the_step_allows() -> None:
    ruling = Ruling()
    run = asked(ruling, step("a", retries=1))
    note(ruling, run, name="a", state="RUNNING", attempts=1)
    again = end(ruling, run, "LOST", error="its process was ended by SIGKILL")
    assert again.state == "QUEUED" and again.job != run.job
    assert "lost, tried again" in again.steps[0].words and again.steps[0].attempts == 1
    note(ruling, again, name="a", state="RUNNING", attempts=2)
    lost = end(ruling, again, "LOST", error="its process was ended by SIGKILL")
    assert lost.state == "LOST" and lost.steps[0].state == "LOST"


def test_a_worker_that_is_lost_while_a_step_waits_for_its_next_try_is_followed_by_another() -> None:
    ruling = Ruling()
    run = asked(ruling, step("a", retries=1))
    note(ruling, run, name="a", state="WAITING", attempts=1, words="try 1 of 2 ended")
    assert end(ruling, run, "LOST", error="its process was ended by SIGKILL").state == "QUEUED"


def waits(ruling: Ruling, timeout: float = 60.0) -> pipelines.PipelineRun:
    """A run that asks a person."""
    run = asked(ruling, step("ask", uses="approve", params={"timeout": timeout}), step("b", "ask"))
    return end(ruling, run, "SUCCEEDED", result={"asks": {"name": "ask", "state": "ASKING"}})


def test_a_yes_goes_on_behind_the_step_and_a_no_ends_the_run() -> None:
    ruling = Ruling()
    yes, no = waits(ruling), waits(ruling)
    assert yes.state == "WAITING"
    gone_on = ruling.act(pipelines.ApproveStep(pipeline_run=yes.id, note="fine"), actor="bob")
    assert gone_on.state == "QUEUED" and gone_on.steps[0].words == "approved by bob: fine"
    with pytest.raises(Conflict):
        ruling.act(pipelines.ApproveStep(pipeline_run=yes.id))
    refused = ruling.act(pipelines.RejectStep(pipeline_run=no.id, note="worse"))
    assert refused.state == "FAILED" and refused.error == "ask: rejected by ana: worse"
    assert [each.state for each in refused.steps] == ["FAILED", "WAITING"]


def test_who_answers_too_late_said_no() -> None:
    ruling = Ruling()
    run = waits(ruling, timeout=5.0)
    ruling.now += 10.0
    with pytest.raises(Conflict):
        ruling.act(pipelines.ApproveStep(pipeline_run=run.id))
    expired = ruling.act(pipelines.ExpireStep(pipeline_run=run.id, step="ask"))
    assert expired.state == "FAILED" and "which is a no" in str(expired.error)


@pytest.mark.parametrize("jump", [-1e8, -30.0, 30.0, 1e8])
def test_a_clock_that_jumps_neither_ends_the_time_for_an_answer_nor_lengthens_it(jump: float) -> None:
    ruling = Ruling()
    run, other = waits(ruling), waits(ruling)
    ruling.put(jump)
    assert ruling.act(pipelines.ApproveStep(pipeline_run=run.id)).state == "QUEUED"
    ruling.now += 60.0
    with pytest.raises(Conflict, match="was to be answered before"):
        ruling.act(pipelines.ApproveStep(pipeline_run=other.id))


def test_over_a_restart_of_the_machine_a_clock_that_was_put_back_lets_a_person_answer_once_more() -> None:
    ruling = Ruling()
    late, run = waits(ruling), waits(ruling)
    ruling.put(-1e8)
    ruling.reboot()
    ruling.now += 50.0
    assert ruling.act(pipelines.ApproveStep(pipeline_run=run.id)).state == "QUEUED"
    ruling.now += 10.0
    with pytest.raises(Conflict):
        ruling.act(pipelines.ApproveStep(pipeline_run=late.id))


def test_outside_solo_nobody_approves_a_run_of_their_own() -> None:
    ruling = Ruling("team")
    run = waits(ruling)
    with pytest.raises(Refused):
        ruling.act(pipelines.ApproveStep(pipeline_run=run.id), actor="ana")
    assert ruling.act(pipelines.ApproveStep(pipeline_run=run.id), actor="bob").state == "QUEUED"


def test_files_of_old_runs_are_let_go_and_no_longer_taken_for_cached() -> None:
    ruling = Ruling()
    found = []
    for _ in range(22):
        run = asked(ruling, step("a"))
        note(ruling, run, name="a", state="DONE", key="k" * 64, outputs={"x": "1" * 64}, attempts=1)
        found.append(end(ruling, run, "SUCCEEDED", result={}).id)
    kept = [ruling.state.pipeline_runs[each].steps[0] for each in found]
    assert [bool(each.outputs) for each in kept] == [False] * 2 + [True] * 20
    assert not any(each.key for each in kept[:2])


def test_a_run_is_cancelled_with_its_job() -> None:
    ruling = Ruling()
    run = asked(ruling, step("a"))
    assert ruling.act(pipelines.CancelPipeline(pipeline_run=run.id)).state == "CANCELLED"
    assert ruling.state.jobs[run.job].state == "CANCELLED"
    with pytest.raises(Conflict):
        ruling.act(pipelines.CancelPipeline(pipeline_run=run.id))


def test_a_step_that_is_told_after_its_run_was_cancelled_does_not_bring_it_back() -> None:
    """What was done is known for a resume all the same."""
    ruling = Ruling()
    run = asked(ruling, step("a"))
    ruling.act(pipelines.CancelPipeline(pipeline_run=run.id))
    with pytest.raises(Conflict):
        note(ruling, run, name="a", state="RUNNING", attempts=1)
    told = note(ruling, run, name="a", state="DONE", attempts=1)
    assert told.state == "CANCELLED" and told.steps[0].state == "DONE"
