"""Schedules: when they fire, what happens to firings that were missed, and texts that are no cron."""

from __future__ import annotations

import itertools
from typing import Any

import msgspec
import pytest

from quarterdeckd.rules import RULES
from quarterstore.records import people, pipelines, schedules
from quarterstore.records.faults import Fault, Forbidden, NotFound
from tests.ruling import Ruling

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
    ruling = Ruling()
    found = added(ruling, every=60.0, missed="skip")
    ruling.act(schedules.FireSchedule(name="s", due=found.created + 60, missed=2, run=False))
    assert len(ruling.state.pipeline_runs) == 0
    assert ruling.state.schedules["s"].missed_count == 2


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
    assert len(found) == 4
    assert all(20 * 3600 <= after - before <= 28 * 3600 for before, after in itertools.pairwise(found))


def test_an_act_needs_its_role_on_the_clock_too() -> None:
    """The clock speaks with every role: an operator could have made an admin of himself at three in the morning."""
    ruling = Ruling()
    act = msgspec.to_builtins(people.SetRoles(person="ana", roles=("admin",)))
    asked = schedules.AddSchedule(name="s", act=act, every=60.0)
    with pytest.raises(Forbidden):
        RULES[schedules.AddSchedule](ruling.state, asked, ruling.asking()._replace(roles=("operator",)))
    assert RULES[schedules.AddSchedule](ruling.state, asked, ruling.asking()._replace(roles=("admin",))).events


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
