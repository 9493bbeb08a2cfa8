"""Schedules: when they fire, what happens to firings that were missed, and texts that are no cron."""

from __future__ import annotations

import itertools
import math
import re
from typing import Any

import msgspec
import pytest

from quarterdeckd.rules import RULES
from quarterdeckd.services.scheduled import matches
from quarterdeckd.services.scheduled_targets import FIELDS, OF_NOUN, OF_ONE
from quarterdeckd.services.schedules import to_start
from quarterstore.ledger.folding import fold
from quarterstore.ledger.schedules import KEPT
from quarterstore.ledger.state import Context
from quarterstore.records import jobs, people, pipelines, remotes, schedules
from quarterstore.records.faults import Conflict, Fault, Forbidden, NotFound
from quarterstore.records.messages import ACTS, BY_TAG
from quarterstore.records.schedules import Calendar, Happening
from tests.ruling import Ruling
from tests.services.test_registry import version

ACT = msgspec.to_builtins(
    pipelines.RunPipeline(
        definition=pipelines.Definition(
            name="p", model="m", data=pipelines.DataSection(target="target", builtin="breast_cancer")
        )
    )
)


def added(ruling: Ruling, **about: Any) -> schedules.Schedule:
    """A schedule named `s`."""
    made: schedules.Schedule = ruling.act(schedules.AddSchedule(**{"name": "s", "act": ACT, **about}))
    return made


BAD: list[tuple[str, dict[str, Any]]] = [
    ("no cron", {"cron": "every day"}),
    ("a minute that is none", {"cron": "61 * * * *"}),
    ("a day that never comes", {"cron": "0 0 31 2 *"}),
    ("neither cron nor seconds", {}),
    ("both", {"cron": "0 3 * * *", "every": 5.0}),
    ("no time between", {"every": 0.0}),
    ("time that runs back", {"every": -1.0}),
    ("a zone that is none", {"cron": "0 3 * * *", "zone": "Mars/Olympus"}),
    ("an act that is none", {"cron": "0 3 * * *", "act": {"type": "pipelines.rum"}}),
    ("a query", {"cron": "0 3 * * *", "act": {"type": "runs.list"}}),
    ("a name with a control", {"cron": "0 3 * * *", "name": "s\x07"}),
    ("a zone that is a path", {"cron": "0 3 * * *", "zone": "../../etc/passwd"}),
    ("more than a year between", {"every": 1e12}),
    ("no number between", {"every": math.nan}),
    ("a grace of no number", {"every": 60.0, "grace": math.nan}),
    ("a grace before", {"every": 60.0, "grace": -1.0}),
    ("a jitter as long as the time between", {"every": 60.0, "jitter": 31.0}),
    ("a jitter before", {"every": 60.0, "jitter": -1.0}),
    ("a jitter of an event", {"on": Happening(event="registry.version_registered"), "jitter": 1.0}),
    ("a calendar of nothing", {"calendar": Calendar()}),
    ("dates and a period", {"calendar": Calendar(dates=("2099-01-01",), each="month", day="1")}),
    ("a day beside dates", {"calendar": Calendar(dates=("2099-01-01",), day="1")}),
    ("a date that is none", {"calendar": Calendar(dates=("2026-02-30",))}),
    ("a holiday that is none", {"calendar": Calendar(each="month", day="1", without=("christmas",))}),
    ("a day that is none", {"calendar": Calendar(each="month", day="32")}),
    ("a word that is no day", {"calendar": Calendar(each="month", day="last payday")}),
    ("a time that is none", {"calendar": Calendar(each="month", day="1", time="25:00")}),
    ("a time with an offset", {"calendar": Calendar(each="month", day="1", time="03:00+02:00")}),
    ("dates that are over", {"calendar": Calendar(dates=("2001-01-01",))}),
    ("an event that is none", {"on": Happening(event="registry.version_regstered")}),
    ("an event of schedules", {"on": Happening(event="schedules.fired.2")}),
    ("a field that the event has not", {"on": Happening(event="registry.version_registered", where={"model": "m"})}),
]


@pytest.mark.parametrize("about", [case[1] for case in BAD], ids=[case[0] for case in BAD])
def test_a_schedule_that_makes_no_sense_is_refused(about: dict[str, Any]) -> None:
    ruling = Ruling()
    before = ruling.kept()
    with pytest.raises(Fault) as refused:
        added(ruling, **about)
    assert refused.value.field
    assert ruling.kept() == before


def test_a_schedule_fires_its_act_in_the_same_entry_and_counts() -> None:
    ruling = Ruling()
    found = added(ruling, every=60.0)
    fired = ruling.act(schedules.FireSchedule(name="s", due=found.created + 60, missed=3, run=True))
    assert (fired.fired, fired.missed_count) == (1, 3)
    assert [run.cause for run in ruling.state.pipeline_runs] == ["schedule s"]


def test_a_firing_that_is_skipped_is_counted_and_does_nothing() -> None:
    """Two that were missed and the one that is skipped with them."""
    ruling = Ruling()
    found = added(ruling, every=60.0, missed="skip")
    ruling.act(schedules.FireSchedule(name="s", due=found.created + 60, missed=2, run=False))
    assert len(ruling.state.pipeline_runs) == 0
    assert ruling.state.schedules["s"].missed_count == 3
    assert history(ruling)[0].why.startswith("late by")


@pytest.mark.parametrize(
    ("missed", "words"), [("once", "3 missed before it, made up for once"), ("skip", "3 missed before it, skipped")]
)
def test_a_firing_says_what_became_of_those_that_were_missed_before_it(missed: Any, words: str) -> None:
    ruling = Ruling()
    found = added(ruling, every=60.0, missed=missed)
    ruling.act(schedules.FireSchedule(name="s", due=found.created + 60, missed=3, run=True))
    assert history(ruling)[0].why == words


def history(ruling: Ruling) -> list[schedules.Firing]:
    """The firings of `s`, newest first."""
    found: list[schedules.Firing] = ruling.ask(schedules.ListFirings(name="s"))
    return found


def fired(ruling: Ruling) -> schedules.Firing:
    """What became of the next due time of `s`."""
    due = ruling.state.schedules["s"].next
    assert due is not None
    ruling.now = max(ruling.now, due)
    ruling.act(schedules.FireSchedule(name="s", due=due))
    return history(ruling)[0]


def ended(ruling: Ruling, job: str, state: jobs.JobState = "FAILED") -> None:
    """A job of before is over."""
    ruling.act(jobs.EndJob(job=job, state=state, error="as the test says"))


def test_no_due_time_is_fired_twice() -> None:
    ruling = Ruling()
    due = added(ruling, every=60.0).next
    fired(ruling)
    before = ruling.kept()
    for again in (due, due - 60, due + 30):
        with pytest.raises(Conflict):
            ruling.act(schedules.FireSchedule(name="s", due=again))
        with pytest.raises(Conflict):
            ruling.act(schedules.NoteFailure(name="s", due=again + 0.5, error="e"))
    assert ruling.kept() == before


def test_while_its_job_runs_a_firing_is_skipped_and_says_behind_what() -> None:
    ruling = Ruling()
    added(ruling, every=60.0)
    first = fired(ruling)
    assert first.state == "RAN" and len(first.jobs) == 1 and first.ended == "QUEUED"
    second = fired(ruling)
    assert second.state == "SKIPPED" and second.why == f"{first.jobs[0]} is not over"
    ended(ruling, first.jobs[0])
    assert fired(ruling).state == "RAN"
    assert len(ruling.state.pipeline_runs) == 2


def test_a_firing_that_is_queued_starts_once_the_job_before_it_is_over() -> None:
    ruling = Ruling()
    added(ruling, every=60.0, overlap="queue")
    first, second, third = fired(ruling), fired(ruling), fired(ruling)
    assert [first.state, second.state, third.state] == ["RAN", "WAITING", "WAITING"]
    with pytest.raises(Conflict):
        ruling.act(schedules.StartFiring(name="s", firing=second.id))
    ended(ruling, first.jobs[0])
    with pytest.raises(Conflict):
        ruling.act(schedules.StartFiring(name="s", firing=third.id))
    ruling.act(schedules.StartFiring(name="s", firing=second.id))
    with pytest.raises(Conflict):
        ruling.act(schedules.StartFiring(name="s", firing=second.id))
    assert [each.state for each in history(ruling)] == ["WAITING", "RAN", "RAN"]
    assert ruling.state.schedules["s"].fired == 2


def test_no_more_than_ten_firings_wait() -> None:
    ruling = Ruling()
    added(ruling, every=60.0, overlap="queue")
    became = [fired(ruling).state for _ in range(13)]
    assert became == ["RAN", *["WAITING"] * 10, "SKIPPED", "SKIPPED"]


def test_a_firing_that_kills_ends_the_job_before_it_in_the_same_entry() -> None:
    ruling = Ruling()
    added(ruling, every=60.0, overlap="kill")
    first = fired(ruling)
    entries = len(ruling.entries)
    second = fired(ruling)
    assert len(ruling.entries) == entries + 1
    assert ruling.state.jobs[first.jobs[0]].state == "CANCELLED"
    assert "is due again" in (ruling.state.jobs[first.jobs[0]].error or "")
    assert second.state == "RAN" and ruling.state.jobs[second.jobs[0]].state == "QUEUED"


@pytest.mark.parametrize("lost", ["leave", "again"])
def test_a_job_that_was_lost_is_left_or_done_again_up_to_two_times(lost: Any) -> None:
    ruling = Ruling()
    added(ruling, every=60.0, lost=lost)
    first = fired(ruling)
    tries = 1
    while True:
        ended(ruling, history(ruling)[0].jobs[-1], "LOST")
        if to_start(ruling.state, ruling.state.schedules["s"]) is None:
            break
        ruling.act(schedules.StartFiring(name="s", firing=first.id))
        tries += 1
    assert tries == (3 if lost == "again" else 1)
    assert len(history(ruling)) == 1 and len(history(ruling)[0].jobs) == tries


def test_the_history_of_a_schedule_has_its_bound() -> None:
    ruling = Ruling()
    added(ruling, every=60.0)
    for _ in range(KEPT + 5):
        fired(ruling)
    found = ruling.ask(schedules.ListFirings(name="s", limit=1000))
    assert len(found) == KEPT and found[0].due == ruling.state.schedules["s"].last


def test_what_waited_is_let_go_when_its_schedule_is_set_anew() -> None:
    ruling = Ruling()
    added(ruling, every=60.0, overlap="queue", lost="again")
    first = fired(ruling)
    fired(ruling)
    added(ruling, every=90.0, overlap="queue", lost="again")
    assert history(ruling)[0].why == "the schedule was set anew"
    ended(ruling, first.jobs[0], "LOST")
    assert to_start(ruling.state, ruling.state.schedules["s"]) is None


def test_maintenance_holds_every_firing_until_its_end() -> None:
    ruling = Ruling()
    due = added(ruling, every=60.0).next
    for until, reason in ((ruling.now - 1, "late"), (math.nan, "never"), (ruling.now + 1e9, "for ever"), (2e9, " ")):
        with pytest.raises(Fault):
            ruling.act(schedules.PauseAll(until=until, reason=reason))
    with pytest.raises(Conflict):
        ruling.act(schedules.ResumeAll())
    ruling.act(schedules.PauseAll(until=ruling.now + 3600, reason="a new disk"))
    assert ruling.ask(schedules.ShowMaintenance()).reason == "a new disk"
    with pytest.raises(Conflict, match="a new disk"):
        ruling.act(schedules.FireSchedule(name="s", due=due))
    ruling.act(schedules.ResumeAll())
    assert ruling.ask(schedules.ShowMaintenance()) is None
    assert fired(ruling).state == "RAN"
    ruling.act(schedules.PauseAll(until=ruling.now + 10, reason="short"))
    ruling.now += 20
    assert ruling.ask(schedules.ShowMaintenance()) is None
    ended(ruling, history(ruling)[0].jobs[0])
    assert fired(ruling).state == "RAN"


def test_an_event_is_matched_by_what_its_fields_are_and_fired_for_once() -> None:
    ruling = Ruling()
    on = Happening(event="pipelines.ended", where={"state": "SUCCEEDED"})
    added(ruling, on=on)
    ending = pipelines.PipelineEnded(pipeline_run="p", state="SUCCEEDED", at=1.0)
    assert matches(on, ending)
    assert not matches(on, msgspec.structs.replace(ending, state="FAILED"))
    assert not matches(Happening(event="jobs.ended"), ending)
    ruling.act(schedules.FireSchedule(name="s", due=ruling.now, place="7/0"))
    with pytest.raises(Conflict):
        ruling.act(schedules.FireSchedule(name="s", due=ruling.now, place="7/0"))
    with pytest.raises(Conflict):
        ruling.act(schedules.FireSchedule(name="s", due=ruling.now, place="1/0"))
    assert ruling.ask(schedules.NextFirings(name="s")) == []


def test_who_lost_the_role_has_nothing_done_by_the_clock_any_more() -> None:
    ruling = Ruling()
    added(ruling, every=60.0)
    ruling.state.people.put(people.Person(name="ana", roles=("viewer",), created=1.0))
    due = ruling.state.schedules["s"].next
    assert due is not None
    with pytest.raises(Forbidden):
        ruling.act(schedules.FireSchedule(name="s", due=due))
    ruling.act(schedules.NoteFailure(name="s", due=due, error="ana may not"))
    found = ruling.state.schedules["s"]
    assert found.last_error == "ana may not" and found.next == due + 60 and found.fired == 0


def test_a_firing_of_an_old_journal_is_read_as_it_is_kept_now() -> None:
    ruling = Ruling()
    added(ruling, every=60.0)
    old = schedules.ScheduleFired(name="s", due=10.0, at=11.0, missed=2, run=False, next=70.0)
    fold(ruling.state, [old, schedules.ScheduledActFailed(name="s", due=10.0, error="e")], Context(9, 11.0, "", "", ""))
    found = ruling.state.schedules["s"]
    assert (found.next, found.missed_count, found.last_error) == (70.0, 3, "e")
    assert history(ruling)[0].state == "SKIPPED"


def test_a_second_of_one_name_replaces_the_first_and_an_unknown_one_is_said() -> None:
    ruling = Ruling()
    added(ruling, every=60.0)
    assert added(ruling, every=90.0).every == 90.0
    assert len(ruling.ask(schedules.ListSchedules())) == 1
    with pytest.raises(NotFound):
        ruling.act(schedules.PauseSchedule(name="t"))
    assert ruling.act(schedules.PauseSchedule(name="s")).paused
    ruling.act(schedules.RemoveSchedule(name="s"))
    assert ruling.ask(schedules.ListSchedules()) == []


def test_the_next_firings_keep_to_the_wall_clock_of_the_zone() -> None:
    """Berlin, 02:30, over the night in which that hour does not exist (2026-03-29): once a day, never twice."""
    ruling = Ruling(now=1_774_656_000.0)  # 2026-03-28 00:00 UTC
    added(ruling, cron="30 2 * * *", zone="Europe/Berlin")
    found = ruling.ask(schedules.NextFirings(name="s", count=4))
    assert [each.local for each in found[:2]] == ["Sat 2026-03-28 02:30:00 CET", "Sun 2026-03-29 03:00:00 CEST"]
    assert [each.utc for each in found[:2]] == ["Sat 2026-03-28 01:30:00 UTC", "Sun 2026-03-29 01:00:00 UTC"]
    assert all(20 * 3600 <= after.at - before.at <= 28 * 3600 for before, after in itertools.pairwise(found))
    for count in (0, 101, -1):
        with pytest.raises(Fault):
            ruling.ask(schedules.NextFirings(name="s", count=count))


def test_an_act_needs_its_role_on_the_clock_too() -> None:
    """The clock speaks with every role: an operator could have made an admin of himself at three in the morning."""
    ruling = Ruling()
    act = msgspec.to_builtins(people.AddKey(public="k" * 40, person="ana", roles=("admin",)))
    asked = schedules.AddSchedule(name="s", act=act, every=60.0)
    with pytest.raises(Forbidden):
        RULES[schedules.AddSchedule](ruling.state, asked, ruling.asking()._replace(roles=("operator",)))
    assert RULES[schedules.AddSchedule](ruling.state, asked, ruling.asking()._replace(roles=("admin",))).events


@pytest.mark.parametrize(
    ("act", "field"),
    [
        ({"type": "pipelines.rerun", "pipeline": "chrun"}, "act.pipeline"),
        ({"type": "monitoring.check_drift", "endpoint": "chrun"}, "act.endpoint"),
        ({"type": "deployments.roll_back", "endpoint": "chrun", "reason": "nightly"}, "act.endpoint"),
        ({"type": "features.parity", "view": "chrun"}, "act.view"),
        ({"type": "online.materialise", "view": "chrun@2"}, "act.view"),
        ({"type": "features.join", "views": ["chrun:a"], "digest": "0" * 64, "time": "t"}, "act.views"),
        ({"type": "features.forget", "keys": ["chrun"], "entity": "1", "reason": "asked"}, "act.keys"),
        ({"type": "features.rebuild", "set": "chrun"}, "act.set"),
        ({"type": "registry.move_stage", "version": "chrun@1", "stage": "Archived"}, "act.version"),
        ({"type": "deployments.start_canary", "version": "chrun@Staging"}, "act.version"),
        (
            {
                "type": "trials.start_ab",
                "version": "chrun@2",
                "against": "m@1",
                "rule": {"metric": "paid", "effect": 0.1},
            },
            "act.version",
        ),
        ({"type": "compression.optimise", "version": "chrun@latest"}, "act.version"),
        ({"type": "replays.start", "version": "m@1", "endpoint": "chrun"}, "act."),
        ({"type": "drills.rollback", "endpoint": "chrun"}, "act.endpoint"),
        ({"type": "streams.start", "model": "chrun", "input": "tcp://127.0.0.1:1", "output": ""}, "act.model"),
        ({"type": "streams.stop", "stream": "chrun"}, "act.stream"),
        ({"type": "ct.retrain", "model": "chrun"}, "act.model"),
        ({"type": "models.tag", "model": "chrun", "tags": {}}, "act.model"),
        ({"type": "studies.resume", "study": "chrun"}, "act.study"),
        ({"type": "runs.set_tags", "run": "chrun", "tags": {}}, "act.run"),
        ({"type": "experiments.remove", "experiment": "chrun"}, "act.experiment"),
        ({"type": "hooks.test", "hook": "chrun"}, "act.hook"),
        ({"type": "remotes.roll_back", "remote": "chrun", "endpoint": "m", "reason": "r"}, "act.remote"),
        ({"type": "retention.release", "hold": "chrun"}, "act.hold"),
        ({"type": "schedules.pause", "name": "chrun"}, "act.name"),
        ({"type": "pipelines.rerun", "pipeline": "p", "dataset": "chrun"}, "act.dataset"),
        ({"type": "jobs.cancel", "job": "chrun"}, "act.job"),
        ({"type": "people.set_roles", "person": "chrun", "roles": []}, "act.person"),
    ],
    ids=lambda each: each["type"] if isinstance(each, dict) else "",
)
def test_what_a_schedule_is_to_act_on_has_to_be_there(act: dict[str, Any], field: str) -> None:
    ruling = Ruling()
    ruling.act(msgspec.convert(ACT, pipelines.RunPipeline))
    before = ruling.kept()
    with pytest.raises(NotFound) as refused:
        ruling.act(schedules.AddSchedule(name="s", act=act, every=60.0))
    assert (refused.value.field or "").startswith(field) and re.search("got (chrun|m@1)", refused.value.line())
    assert ruling.kept() == before


def test_what_is_not_there_is_said_with_what_it_may_have_been_meant_for() -> None:
    ruling = Ruling()
    version(ruling, model="churn")
    act = {"type": "registry.move_stage", "version": "chrun@1", "stage": "Archived"}
    with pytest.raises(NotFound) as refused:
        added(ruling, act=act, every=60.0)
    assert refused.value.nearest == ("churn",)


@pytest.mark.parametrize("which", ["latest", "Staging", "Production"])
def test_a_stage_is_whatever_it_is_when_the_schedule_fires(which: str) -> None:
    ruling = Ruling()
    version(ruling)
    act = {"type": "registry.tag", "version": f"m@{which}", "tags": {"nightly": "yes"}}
    assert added(ruling, act=act, every=60.0).next


def test_a_definition_in_a_schedule_is_looked_at_as_one_that_is_run() -> None:
    for definition, field in (
        ({**ACT["definition"], "data": {"target": "y", "dataset": "0" * 64}}, "act.definition.data.dataset"),
        ({**ACT["definition"], "gate": {"limits": {"accuracy": 1.7}}}, "act.definition.gate.limits.accuracy"),
    ):
        with pytest.raises(Fault) as refused:
            added(Ruling(), act={**ACT, "definition": definition}, every=60.0)
        assert refused.value.field == field


def test_every_field_that_is_looked_up_is_one_of_some_act_and_every_exception_one_of_its_act() -> None:
    """A field that is renamed would leave a look-up that looks at nothing."""
    fields = {name for kind in ACTS for name in kind.__struct_fields__}
    assert set(FIELDS) <= fields
    for tag, own in OF_ONE.items():
        assert set(own) <= set(BY_TAG[tag].__struct_fields__), tag
    for noun, own in OF_NOUN.items():
        of_it = {name for tag, kind in BY_TAG.items() if tag.startswith(f"{noun}.") for name in kind.__struct_fields__}
        assert set(own) <= of_it, noun


def test_an_act_that_makes_what_it_names_is_scheduled_before_that_is_there() -> None:
    ruling = Ruling()
    version(ruling)
    ruling.act(remotes.AddRemote(name="prod", url="https://deck.example:8600", token="keyring", kept="keyring"))
    for act in (
        {"type": "deployments.deploy", "version": "m@Production", "endpoint": "new"},
        {"type": "models.create", "model": "new"},
        {"type": "runs.start", "experiment": "new"},
        {"type": "governance.set_gate", "model": "new", "rules": []},
        {"type": "remotes.roll_back", "remote": "prod", "endpoint": "there", "reason": "nightly"},
    ):
        assert ruling.act(schedules.AddSchedule(name="s", act=act, every=60.0)).next


def test_what_is_gone_by_the_time_of_a_firing_is_said_by_the_firing() -> None:
    ruling = Ruling()
    ruling.act(msgspec.convert(ACT, pipelines.RunPipeline))
    due = added(ruling, act={"type": "pipelines.rerun", "pipeline": "p"}, every=60.0).next or 0.0
    ruling.state.pipelines.drop("p")
    ruling.now = due
    with pytest.raises(NotFound) as gone:
        ruling.act(schedules.FireSchedule(name="s", due=due))
    ruling.act(schedules.NoteFailure(name="s", due=due, error=gone.value.line()))
    [firing] = ruling.ask(schedules.ListFirings(name="s"))
    assert firing.state == "FAILED" and "pipeline: got p" in firing.why
    assert "pipeline: got p" in (ruling.state.schedules["s"].last_error or "")


def test_what_the_daemon_has_to_look_at_first_is_not_for_the_clock() -> None:
    """It would be decided unlooked at: a pickle that says it is ONNX."""
    shape = {"inputs": [], "outputs": []}
    act = {
        "type": "registry.register",
        "model": "m",
        "digest": "0" * 64,
        "size": 1,
        "format": "onnx",
        "signature": shape,
    }
    with pytest.raises(Fault, match=r"act\.type: got registry\.register"):
        Ruling().act(schedules.AddSchedule(name="s", act=act, every=60.0))
