"""Continuous training: each trigger at its limit, what stands in its way, one retrain at a time, no loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from quarterdeckd.services.ct import leads, standing
from quarterstore.ledger.folding import fold
from quarterstore.ledger.state import Context
from quarterstore.records import (
    ct,
    datasets,
    deployments,
    features,
    governance,
    monitoring,
    people,
    pipelines,
    registry,
    schedules,
)
from quarterstore.records.base import Event, Role
from quarterstore.records.faults import Conflict, Fault, NotFound, Refused
from tests.ruling import Ruling
from tests.services.test_registry import version
from tests.services.test_traffic import live

RULE = governance.GateRule(metric="accuracy", op=">=", limit=0.8)
HOUR = 3600.0
NOTHING = ct.Readings()


def measured(value: float = 0.9) -> tuple[registry.Metric, ...]:
    """An accuracy of 1,000 rows."""
    return (registry.Metric(name="accuracy", value=value, low=value - 0.02, high=value + 0.02, n=1000),)


class Deck(Ruling):
    """`m@1` is live at `m` with a gate, and `p` trains `m`; `p` ran once, by a person."""

    def __init__(self, profile: str = "solo") -> None:
        super().__init__()
        version(self, metrics=measured())
        live(self, "m@1")
        data = pipelines.DataSection(target="target", builtin="breast_cancer")
        run = self.act(pipelines.RunPipeline(definition=pipelines.Definition(name="p", model="m", data=data)))
        self.act(pipelines.EndPipeline(pipeline_run=run.id, state="CANCELLED"))
        self.act(governance.SetGate(model="m", rules=(RULE,)))
        self.profile = profile

    def on(self, **about: Any) -> ct.Policy:
        """The policy of `m`, on."""
        self.act(ct.SetPolicy(**{"model": "m", "pipeline": "p", **about}))
        found: ct.Policy = self.act(ct.SwitchPolicy(model="m", enabled=True))
        return found

    @property
    def policy(self) -> ct.Policy:
        return self.state.policies["m"]

    def check(self, verdict: monitoring.DriftVerdict = "DRIFT", of: str = "") -> None:
        """A drift check of the live version, or of another."""
        seen = of or self.state.deployments["m"].live or ""
        self.act(
            monitoring.RecordDrift(
                job="job-1", endpoint="m", version=seen, since=0.0, until=1.0, rule=monitoring.DriftRule(),
                n_reference=500, n_current=500, features=(), verdict=verdict, words=f"{verdict} it is",
            )
        )  # fmt: skip

    def look(self, readings: ct.Readings = NOTHING) -> ct.Policy:
        """One look that leads to something."""
        found: ct.Policy = self.act(ct.LookAtTriggers(model="m", readings=readings))
        return found

    def idle(self, readings: ct.Readings = NOTHING) -> bool:
        """Whether a look leads to nothing."""
        return leads(self.state, self.policy, readings, self.time(1)) is None

    def status(self, trigger: str, readings: ct.Readings = NOTHING) -> ct.TriggerStatus:
        """One trigger as it stands a second from now."""
        found = standing(self.state, self.policy, readings, self.time(1))
        return next(each for each in found.triggers if each.trigger == trigger)

    def runs(self) -> list[pipelines.PipelineRun]:
        """Pipeline runs that a retrain began."""
        return [run for run in self.state.pipeline_runs if run.cause]

    def trained(self, accuracy: float = 0.9, **about: Any) -> str:
        """The last run registers a version."""
        made = version(self, metrics=measured(accuracy), **about).id
        self.act(pipelines.ClosePipeline(pipeline_run=self.runs()[-1].id, version=made))
        return made

    def put_live(self, made: str) -> None:
        """By a person."""
        if self.state.versions[made].stage == "None":
            self.act(registry.MoveStage(version=made, stage="Staging"))
        self.act(registry.MoveStage(version=made, stage="Production", reason="r"))
        self.act(deployments.Deploy(version=made, endpoint="m"))
        if self.state.deployments["m"].live != made:
            self.act(deployments.AdmitVersion(endpoint="m", version=made, ok=True))
        assert self.state.deployments["m"].live == made


def labels(n: int, right: int, of: str = "m@1", new: int = 0) -> ct.Readings:
    """What the labels say."""
    return ct.Readings(accuracy=ct.AccuracyReading(version=of, n=n, right=right, at=5.0), labels=new, at=5.0)


# set, on, off


BAD: list[tuple[str, dict[str, Any], str]] = [
    ("an unknown pipeline", {"pipeline": "q"}, "pipeline"),
    ("a pipeline of another model", {"model": "n"}, "pipeline"),
    ("a name with a control", {"model": "m\x07"}, "model"),
    ("no trigger", {"drift": None}, "trigger"),
    ("an unknown endpoint", {"endpoint": "nowhere"}, "endpoint"),
    ("a negative cool-down", {"cooldown": -1.0}, "cooldown"),
    ("a cool-down that is no number", {"cooldown": float("nan")}, "cooldown"),
    ("no check at all", {"drift": ct.OnDrift(checks=0)}, "drift.checks"),
    ("no time between checks", {"drift": ct.OnDrift(every=0.0)}, "drift.every"),
    ("a window of nothing", {"drift": ct.OnDrift(window=0.0)}, "drift.window"),
    ("a drop of nothing", {"accuracy": ct.OnAccuracy(drop=0.0)}, "accuracy.drop"),
    ("a drop beyond all", {"accuracy": ct.OnAccuracy(drop=100.0)}, "accuracy.drop"),
    ("no label", {"accuracy": ct.OnAccuracy(least=0)}, "accuracy.least"),
    ("an endless window", {"accuracy": ct.OnAccuracy(window=float("inf"))}, "accuracy.window"),
    ("no row", {"rows": ct.OnRows(least=0)}, "rows.least"),
    ("an unknown view", {"rows": ct.OnRows(of="features", view="usage")}, "rows.view"),
    ("features of no view", {"rows": ct.OnRows(of="features")}, "rows.view"),
    ("a view of labels", {"rows": ct.OnRows(view="usage")}, "rows.view"),
    ("rows of a set that never grows", {"rows": ct.OnRows(of="dataset")}, "rows.of"),
    ("both clocks", {"schedule": ct.OnSchedule(cron="0 3 * * *", every=60.0)}, "schedule"),
    ("a ladder that falls", {"ladder": (50, 5, 100)}, "ladder"),
    ("a canary that sees nothing", {"rule": deployments.CanaryRule(effect=0.0)}, "effect"),
    ("no clock", {"schedule": ct.OnSchedule()}, "schedule"),
    ("a cron that is none", {"schedule": ct.OnSchedule(cron="61 * * * *")}, "cron"),
    ("a zone that is none", {"schedule": ct.OnSchedule(every=60.0, zone="Mars/Olympus")}, "zone"),
]


@pytest.mark.parametrize(("about", "field"), [case[1:] for case in BAD], ids=[case[0] for case in BAD])
def test_a_policy_that_makes_no_sense_is_refused_on_its_field(about: dict[str, Any], field: str) -> None:
    deck = Deck()
    before = deck.kept()
    with pytest.raises(Fault) as refused:
        deck.act(ct.SetPolicy(**{"model": "m", "pipeline": "p", "drift": ct.OnDrift(), **about}))
    assert refused.value.field == field
    assert deck.kept() == before


def test_it_is_off_until_a_gate_is_set_and_says_how_to_set_one() -> None:
    deck = Deck()
    deck.act(governance.SetGate(model="m", rules=()))
    assert not deck.act(ct.SetPolicy(model="m", pipeline="p", drift=ct.OnDrift())).enabled
    with pytest.raises(Refused, match="no gate") as refused:
        deck.act(ct.SwitchPolicy(model="m", enabled=True))
    assert "qd governance set-gate --model m" in (refused.value.next or "")
    deck.check()
    assert deck.idle() and deck.status("drift").state == "OFF"
    deck.act(governance.SetGate(model="m", rules=(RULE,)))
    assert deck.act(ct.SwitchPolicy(model="m", enabled=True)).enabled
    assert deck.idle(), "what was found before it was switched on counts for nothing"
    deck.check()
    deck.act(governance.SetGate(model="m", rules=()))
    assert deck.idle() and "no gate is set" in deck.status("drift").why


def test_a_policy_that_is_set_again_stays_as_it_was_switched_and_its_clocks_follow() -> None:
    deck = Deck()
    deck.on(schedule=ct.OnSchedule(every=HOUR), drift=ct.OnDrift(every=60.0))
    assert {each.name for each in deck.state.schedules} == {"ct-schedule-m", "ct-drift-m"}
    deck.act(ct.SetPolicy(model="m", pipeline="p", schedule=ct.OnSchedule(every=2 * HOUR)))
    assert deck.policy.enabled
    assert [(each.name, each.every) for each in deck.state.schedules] == [("ct-schedule-m", 2 * HOUR)]
    deck.act(ct.RemovePolicy(model="m"))
    assert len(deck.state.schedules) == len(deck.state.policies) == 0
    with pytest.raises(NotFound):
        deck.act(ct.SwitchPolicy(model="m", enabled=False))


def test_off_holds_everything_and_says_so() -> None:
    deck = Deck()
    deck.on(drift=ct.OnDrift(), rows=ct.OnRows(least=10))
    deck.act(ct.SwitchPolicy(model="m", enabled=False))
    deck.check()
    assert deck.idle(labels(0, 0, new=99))
    assert {deck.status(name).state for name in ("drift", "rows")} == {"OFF"}
    with pytest.raises(Refused, match="off: qd ct on m"):
        deck.act(ct.StartRetrain(model="m"))
    with pytest.raises(Conflict):
        deck.act(ct.SwitchPolicy(model="m", enabled=False))


# each trigger at its limit


def test_drift_fires_at_so_many_checks_in_a_row_and_a_clean_one_begins_anew() -> None:
    deck = Deck()
    deck.on(drift=ct.OnDrift(checks=2))
    assert deck.status("drift").state == "WAITING" and "no check yet" in deck.status("drift").why
    deck.check()
    assert deck.idle() and deck.status("drift").state == "BELOW"
    deck.check("NEGLIGIBLE")
    deck.check()
    assert deck.idle() and deck.status("drift").value == 1
    deck.check("NOT ENOUGH DATA")
    assert deck.status("drift").value == 1, "what could not be judged breaks no row and adds none"
    deck.check()
    status = deck.status("drift")
    assert (status.state, status.value, status.limit) == ("FIRES", 2, 2) and status.checked == deck.now
    policy = deck.look()
    assert policy.retrains["drift"].value == 2 and policy.count == 1
    [run] = deck.runs()
    assert run.cause is not None and "2 of 2 checks in a row" in run.cause and run.actor == "ana"


def test_checks_of_a_version_that_is_not_live_count_for_nothing() -> None:
    deck = Deck()
    deck.on(drift=ct.OnDrift())
    version(deck)
    deck.check(of="m@2")
    assert deck.idle() and deck.status("drift").state == "WAITING"


@pytest.mark.parametrize(
    ("n", "right", "state", "words"),
    [
        (0, 0, "WAITING", "no labels yet: 0 of 200"),
        (199, 0, "WAITING", "too few labels yet: 199 of 200"),
        (2000, 1700, "BELOW", "5 points below"),  # exactly the limit: not more than it
        (2000, 1699, "FIRES", "5.05 points below"),
        (200, 166, "FIRES", "7 points below"),
        (2000, 1900, "BELOW", "-5 points below"),
    ],
)
def test_accuracy_fires_beyond_its_points_and_never_on_too_few_labels(
    n: int, right: int, state: str, words: str
) -> None:
    deck = Deck()
    deck.on(accuracy=ct.OnAccuracy(drop=5.0, least=200))
    reading = labels(n, right)
    status = deck.status("accuracy", reading)
    assert status.state == state and words in status.why, status
    assert deck.idle(reading) == (state != "FIRES")


def test_a_drop_that_may_be_chance_does_not_fire() -> None:
    deck = Deck()
    deck.on(accuracy=ct.OnAccuracy(drop=5.0, least=20))
    status = deck.status("accuracy", labels(30, 25))
    assert status.state == "BELOW" and "may be chance" in status.why and (status.value or 0) > 5


def test_a_version_without_an_accuracy_has_nothing_to_fall_from() -> None:
    deck = Deck()
    deck.put_live(version(deck).id)
    deck.on(accuracy=ct.OnAccuracy())
    assert "registered without an accuracy" in deck.status("accuracy", labels(500, 0, "m@2")).why


@pytest.mark.parametrize(("new", "fires"), [(9_999, False), (10_000, True)])
def test_rows_fire_at_their_limit_and_count_from_the_last_training(new: int, fires: bool) -> None:
    deck = Deck()
    deck.on(rows=ct.OnRows(), cooldown=0.0)
    reading = ct.Readings(labels=new, at=3.0)
    assert deck.idle(reading) != fires
    status = deck.status("rows", reading)
    assert (status.value, status.limit, status.checked) == (new, 10_000, 3.0)
    if fires:
        assert deck.look(reading).retrains["rows"].value == 10_000


def folded(deck: Deck, event: Event) -> None:
    """An event as a job of it leaves it."""
    deck.now += 1
    fold(deck.state, [event], Context(0, deck.now, "ana", "", ""))


def test_rows_of_a_feature_view_are_those_that_came_since() -> None:
    deck = Deck()
    entity = features.Entity(name="k", keys=(features.Key(name="k"),))
    amount = features.Feature(name="amount", kind="number")
    deck.act(features.DefineView(name="usage", entities=(entity,), features=(amount,), event_time="at"))

    def came(rows: int) -> None:
        about = {"size": 1, "first_at": 0.0, "last_at": 1.0, "late": 0, "known": "now", "by": "ana", "source": "0" * 64}
        name = f"rows-{len(deck.state.feature_rows)}"
        made = features.FeatureRows(id=name, view="usage", digest="0" * 64, rows=rows, at=deck.now + 1, **about)
        folded(deck, features.RowsAdded(rows=made))

    came(50)
    deck.on(rows=ct.OnRows(least=20, of="features", view="usage"), cooldown=0.0)
    assert deck.status("rows").value == 0
    came(19)
    assert deck.idle()
    came(1)
    assert deck.look().retrains["rows"].value == 20
    assert deck.status("rows").value == 0, "the next row is the first again"


def dataset_came(deck: Deck, rows: int) -> str:
    """A dataset `d` of so many rows; its hash."""
    name = f"{rows:064x}"
    made = datasets.Dataset(name, "d", "csv", rows, 1, (), deck.now + 1, "ana")
    folded(deck, datasets.DatasetAdded(dataset=made))
    return name


def counting_rows_beyond(first: int) -> Deck:
    """`p` was trained on a dataset of so many rows, and twenty more retrain it."""
    deck = Deck()
    data = pipelines.DataSection(target="y", dataset=dataset_came(deck, first))
    run = deck.act(pipelines.RunPipeline(definition=pipelines.Definition(name="p", model="m", data=data)))
    deck.act(pipelines.EndPipeline(pipeline_run=run.id, state="CANCELLED"))
    deck.on(rows=ct.OnRows(least=20, of="dataset"), cooldown=0.0)
    return deck


def test_rows_beyond_a_dataset_that_was_never_counted_are_not_known_and_begin_nothing() -> None:
    deck = counting_rows_beyond(0)
    dataset_came(deck, 120)
    assert deck.idle() and deck.status("rows").value == 0


def test_rows_of_a_dataset_are_what_the_newest_of_its_name_has_more_and_that_one_is_trained_on() -> None:
    deck = counting_rows_beyond(100)
    dataset_came(deck, 119)
    assert deck.idle() and deck.status("rows").value == 19
    newest = dataset_came(deck, 120)
    assert deck.look().retrains["rows"].value == 20
    [began] = deck.runs()
    assert deck.state.jobs[began.job].spec["data"] == newest


def test_the_schedule_retrains_when_it_is_due_and_what_held_it_is_noted() -> None:
    deck = Deck()
    deck.on(schedule=ct.OnSchedule(every=HOUR), cooldown=2 * HOUR)
    due = deck.state.schedules["ct-schedule-m"].next or 0.0
    assert deck.status("schedule").limit == due
    deck.now = due
    deck.act(schedules.FireSchedule(name="ct-schedule-m", due=due))
    assert [run.actor for run in deck.runs()] == ["ana"]
    deck.trained()
    deck.now = due + HOUR
    deck.act(schedules.FireSchedule(name="ct-schedule-m", due=due + HOUR))
    assert len(deck.runs()) == 1
    assert deck.policy.held is not None and "cooling down" in deck.policy.held.why
    assert "last time: cooling down" in deck.status("schedule").why
    deck.act(schedules.PauseSchedule(name="ct-schedule-m"))
    assert "paused" in deck.status("schedule").why


# what stands in the way


def test_cool_down_ends_exactly_when_it_says() -> None:
    deck = Deck()
    deck.on(rows=ct.OnRows(least=1), cooldown=HOUR)
    reading = ct.Readings(labels=5, at=1.0)
    began = deck.look(reading).last or 0.0
    deck.trained()
    deck.now = began + HOUR - 2
    assert deck.status("rows", reading).state == "HELD"
    assert deck.status("rows", reading).why.startswith("cooling down for 1 s more")
    deck.now += 1
    assert deck.status("rows", reading).state == "FIRES"


YEAR = 366 * 24 * HOUR


@pytest.mark.parametrize("jump", [-YEAR, -HOUR, HOUR, YEAR])
def test_a_clock_that_jumps_neither_ends_a_cool_down_nor_lengthens_it(jump: float) -> None:
    deck = Deck()
    deck.on(rows=ct.OnRows(least=1), cooldown=HOUR)
    reading = ct.Readings(labels=5, at=1.0)
    deck.look(reading)
    began = deck.now
    deck.trained()
    deck.put(jump)
    deck.now = began + jump + HOUR - 2
    assert deck.status("rows", reading).why.startswith("cooling down for 1 s more")
    with pytest.raises(Refused, match="cooling down"):
        deck.act(ct.StartRetrain(model="m"))
    assert deck.status("rows", reading).state == "FIRES"


@pytest.mark.parametrize(("jump", "left"), [(-YEAR, 2 * HOUR), (0, HOUR), (HOUR / 2, HOUR / 2), (YEAR, 0)])
def test_over_a_restart_of_the_machine_the_times_of_the_journal_count(jump: float, left: float) -> None:
    """Of two hours one is over; a clock that was put back lets it wait once more at most."""
    deck = Deck()
    deck.on(rows=ct.OnRows(least=1), cooldown=2 * HOUR)
    reading = ct.Readings(labels=5, at=1.0)
    began = deck.look(reading).last or 0.0
    deck.trained()
    deck.now = began + HOUR
    deck.put(jump)
    deck.reboot()
    deck.now += left - 2
    assert deck.status("rows", reading).state == ("HELD" if left else "FIRES")
    deck.now += 1
    assert deck.status("rows", reading).state == "FIRES"


def test_what_comes_after_a_retrain_is_known_by_its_entry_though_the_clock_was_put_back() -> None:
    deck = Deck()
    deck.on(drift=ct.OnDrift(), cooldown=0.0)
    deck.check()
    deck.look()
    deck.put(-YEAR)
    deck.put_live(deck.trained())
    deck.check()
    assert "unchanged with m@2" in deck.look().suppressed["drift"].why
    deck.put(-YEAR)
    deck.act(ct.ResumeTrigger(model="m"))
    assert deck.idle(), "what was found before counts no more"
    deck.check()
    assert deck.status("drift").state == "FIRES", "the retrain before is settled by the resume"
    deck.look()
    deck.put(-YEAR)
    deck.put_live(deck.trained())
    deck.check("NONE")
    assert deck.look().retrains["drift"].verdict == "GONE"


def test_a_switch_settles_what_was_set_off_before_whatever_the_clock_shows() -> None:
    deck = Deck()
    deck.on(drift=ct.OnDrift(), cooldown=0.0)
    unchanged(deck)
    deck.put(-YEAR)
    deck.act(ct.SwitchPolicy(model="m", enabled=False))
    deck.act(ct.SwitchPolicy(model="m", enabled=True))
    assert deck.idle()
    deck.check()
    deck.look()
    assert len(deck.runs()) == 2


def test_one_retrain_of_a_model_is_in_flight_whoever_began_it() -> None:
    deck = Deck()
    deck.on(drift=ct.OnDrift(), rows=ct.OnRows(least=1), cooldown=0.0)
    run = deck.act(pipelines.RerunPipeline(pipeline="p"))
    deck.check()
    assert deck.idle() and f"{run.id} is in flight" in deck.status("drift").why
    deck.act(pipelines.EndPipeline(pipeline_run=run.id, state="FAILED", error="no"))
    deck.look()
    assert len(deck.runs()) == 1
    assert deck.idle(ct.Readings(labels=5)) and "in flight" in deck.status("rows", ct.Readings(labels=5)).why
    with pytest.raises(Conflict, match="nothing is due"):
        deck.look(ct.Readings(labels=5))
    assert len(deck.runs()) == 1


def test_maintenance_holds_every_trigger_and_what_is_past_its_limit_fires_when_it_is_over() -> None:
    deck = Deck()
    deck.on(drift=ct.OnDrift())
    deck.act(schedules.PauseAll(until=deck.now + HOUR, reason="a new disk"))
    deck.check()
    assert deck.idle() and "maintenance is on: a new disk" in deck.status("drift").why
    deck.act(schedules.ResumeAll())
    deck.look()
    assert len(deck.runs()) == 1


def holds(deck: Deck, role: Role) -> None:
    """Who set the policy has this role alone."""
    folded(deck, people.PersonChanged(person=people.Person("ana", (role,), 0.0)))


def test_nothing_is_retrained_for_a_person_who_may_not_run_pipelines_any_more() -> None:
    """A retrain runs as the person who set the policy, as a schedule does."""
    deck = Deck()
    holds(deck, "viewer")
    deck.on(drift=ct.OnDrift())
    deck.check()
    assert deck.idle() and "ana, who set it, may not run pipelines" in deck.status("drift").why
    holds(deck, "operator")
    deck.look()
    assert len(deck.runs()) == 1


def test_a_person_may_ask_for_one_and_is_told_what_stands_in_the_way() -> None:
    deck = Deck()
    deck.on(drift=ct.OnDrift())
    assert deck.act(ct.StartRetrain(model="m"), actor="bob").retrains["person"].words == "bob asked for it"
    with pytest.raises(Refused, match="in flight"):
        deck.act(ct.StartRetrain(model="m"))


# where the new version goes


@pytest.mark.parametrize(("strategy", "profile"), [("staging", "solo"), ("canary", "solo"), ("canary", "team")])
def test_nothing_is_sent_on_in_the_name_of_a_person_who_lost_the_role(strategy: str, profile: str) -> None:
    deck = Deck(profile)
    deck.on(drift=ct.OnDrift(), strategy=strategy)
    deck.check()
    deck.look()
    made = deck.trained()
    holds(deck, "viewer")
    sent = deck.look().retrains["drift"].sent
    assert sent.startswith("not sent on: ana, who set the policy, may not ") and "any more" in sent
    assert deck.state.versions[made].stage == "None" and deck.state.deployments["m"].live == "m@1"
    assert deck.state.deployments["m"].canary is deck.state.deployments["m"].pending is None
    assert not list(deck.state.approvals)
    [alert] = [each for each in deck.state.alerts if each.kind == "retrained version not sent on"]
    assert alert.subject == "m" and made in alert.words and f"qd promote {made} Staging" in alert.next
    holds(deck, "operator")
    assert deck.idle(), "a person decides from here"


def test_the_strategy_none_leaves_the_version_where_it_is_and_staging_moves_it_there() -> None:
    for strategy, stage in (("none", "None"), ("staging", "Staging")):
        deck = Deck()
        deck.on(drift=ct.OnDrift(), strategy=strategy)
        deck.check()
        deck.look()
        assert deck.idle()
        made = deck.trained()
        if strategy == "staging":
            deck.look()
        assert deck.idle() and deck.state.versions[made].stage == stage
        deck.check()
        assert deck.idle(), "the same signal waits for the person who decides about that version"
        assert "a person decides" in deck.status("drift").why


def test_a_canary_begins_in_solo_and_is_asked_for_elsewhere() -> None:
    deck = Deck()
    deck.on(drift=ct.OnDrift(), strategy="canary", ladder=(50, 100))
    deck.check()
    deck.look()
    made = deck.trained()
    retrain = deck.look().retrains["drift"]
    deployment = deck.state.deployments["m"]
    assert deployment.pending_canary is not None and deployment.pending_canary.ladder == (50, 100)
    assert made in (deployment.pending, deployment.canary and deployment.canary.candidate)
    assert retrain.tried and f"{made} on a canary at m" in retrain.sent
    assert deck.idle() and "on its way" in deck.status("drift").why
    team = Deck("team")
    team.on(drift=ct.OnDrift(), strategy="canary")
    team.check()
    team.look()
    made = team.trained()
    team.look()
    [approval] = list(team.state.approvals)
    assert (approval.subject, approval.state) == (made, "WAITING")
    assert team.state.deployments["m"].canary is None
    assert f"qd approve {approval.id}" in team.status("drift").why


def test_a_canary_waits_for_its_endpoint_to_be_free() -> None:
    deck = Deck()
    deck.on(drift=ct.OnDrift(), strategy="canary")
    deck.check()
    deck.look()
    other = version(deck, metrics=measured()).id
    deck.act(registry.MoveStage(version=other, stage="Staging"))
    deck.act(deployments.StartCanary(version=other, endpoint="m"))
    made = deck.trained()
    assert deck.idle() and f"{made} is to go out (canary)" in deck.status("drift").why
    deck.act(deployments.RollBack(endpoint="m", reason="r"))
    assert deck.look().retrains["drift"].tried


def test_a_version_that_misses_its_gate_goes_nowhere_and_its_trigger_is_suppressed() -> None:
    deck = Deck()
    deck.on(drift=ct.OnDrift(), strategy="canary", cooldown=0.0)
    deck.check()
    deck.look()
    made = deck.trained(accuracy=0.5)
    assert "the gate says no" in deck.look().retrains["drift"].sent
    assert deck.state.versions[made].stage == "None" and deck.state.deployments["m"].live == "m@1"
    suppressed = deck.look().suppressed["drift"]
    assert "misses its gate" in suppressed.why
    assert len(deck.runs()) == 1


def test_a_version_that_is_the_live_file_again_goes_nowhere() -> None:
    deck = Deck()
    deck.on(drift=ct.OnDrift(), strategy="canary", cooldown=0.0)
    deck.check()
    deck.look()
    deck.trained(digest=deck.state.versions["m@1"].digest)
    assert "same file as m@1" in deck.look().retrains["drift"].sent
    assert "nothing new was learnt" in deck.look().suppressed["drift"].why
    assert deck.state.deployments["m"].canary is deck.state.deployments["m"].pending is None


def again(deck: Deck, made: str) -> None:
    """The last run comes to a version that was there before."""
    deck.act(pipelines.ClosePipeline(pipeline_run=deck.runs()[-1].id, version=made))


def test_the_live_version_made_again_goes_nowhere_and_its_trigger_is_suppressed() -> None:
    deck = Deck()
    deck.on(drift=ct.OnDrift(), strategy="canary", cooldown=0.0)
    deck.check()
    deck.look()
    again(deck, "m@1")
    retrain = deck.look().retrains["drift"]
    assert retrain.sent == "not sent on: m@1 was live and was made again, so nothing new was learnt"
    assert "nothing new was learnt" in deck.look().suppressed["drift"].why
    assert [each.id for each in deck.state.versions] == ["m@1"] and len(deck.runs()) == 1


def test_a_version_of_before_that_is_made_again_goes_out_and_counts_as_the_retrains() -> None:
    """It was there and never had traffic: what it answers is looked at as that of a new one."""
    deck = Deck()
    made = version(deck, metrics=measured()).id
    deck.on(drift=ct.OnDrift(), strategy="canary", cooldown=0.0)
    deck.check()
    deck.look()
    again(deck, made)
    assert deck.look().retrains["drift"].tried and "on its way" in deck.status("drift").why
    deck.act(deployments.AdmitVersion(endpoint="m", version=made, ok=True))
    deck.act(deployments.RollBack(endpoint="m", reason="by hand, to put it live at once"))
    deck.put_live(made)
    assert deck.idle(), "nothing was checked since the switch"
    deck.check()
    assert f"unchanged with {made}" in deck.look().suppressed["drift"].why


@pytest.mark.parametrize("strategy", ["staging", "canary"])
@pytest.mark.parametrize("stage", ["Staging", "Production", "Archived"])
def test_a_version_that_is_made_again_stays_where_a_person_left_it(stage: Any, strategy: Any) -> None:
    deck = Deck()
    made = version(deck, metrics=measured()).id
    deck.on(rows=ct.OnRows(least=10), strategy=strategy, cooldown=0.0)
    deck.act(registry.MoveStage(version=made, stage="Staging"))
    if stage != "Staging":
        deck.act(registry.MoveStage(version=made, stage=stage, reason="r"))
    deck.look(labels(0, 0, new=10))
    again(deck, made)
    retrain = deck.look().retrains["rows"]
    away = f"not sent on: {made} was put away; by hand: qd promote {made} Staging"
    said = {"Archived": away}.get(stage, f"{made} is in {stage} already")
    if (stage, strategy) == ("Staging", "canary"):
        said = f"{made} on a canary at m"
    assert retrain.sent == said and deck.state.versions[made].stage == stage


def test_a_version_whose_canary_was_called_off_is_not_put_on_another_by_the_next_retrains() -> None:
    deck = Deck()
    deck.on(rows=ct.OnRows(least=10), strategy="canary", cooldown=0.0)
    deck.look(labels(0, 0, new=10))
    made = deck.trained()
    deck.look()
    deck.act(deployments.RollBack(endpoint="m", reason="worse"))
    for _ in range(2):
        deck.look(labels(0, 0, new=10))
        again(deck, made)
        sent = deck.look().retrains["rows"].sent
        assert sent == f"not sent on: {made} was called off before; by hand: qd canary {made}"
        assert deck.idle()
    deck.look(labels(0, 0, new=10))
    other = deck.trained()
    assert deck.look().retrains["rows"].sent == f"{other} on a canary at m", "what is new goes on"


# no loop


def unchanged(deck: Deck) -> None:
    """A retrain because of drift goes live, and the next check finds drift again."""
    deck.check()
    deck.look()
    deck.put_live(deck.trained())
    assert deck.idle(), "nothing was checked since the switch"
    deck.check()


def test_a_signal_that_is_unchanged_after_the_switch_suppresses_its_trigger_with_one_alert() -> None:
    deck = Deck()
    deck.on(drift=ct.OnDrift(), cooldown=0.0)
    unchanged(deck)
    policy = deck.look()
    assert "unchanged with m@2" in policy.suppressed["drift"].why
    assert policy.retrains["drift"].verdict == "UNCHANGED"
    for _ in range(3):
        deck.check()
        assert deck.idle() and deck.status("drift").state == "SUPPRESSED"
    [alert] = [each for each in deck.state.alerts if each.kind == "retraining suppressed"]
    assert (alert.subject, alert.count) == ("m", 1) and "qd ct resume m" in alert.next
    assert len(deck.runs()) == 1


def test_a_person_resumes_it_and_it_counts_from_then() -> None:
    deck = Deck()
    deck.on(drift=ct.OnDrift(), cooldown=0.0)
    unchanged(deck)
    deck.look()
    with pytest.raises(Conflict):
        deck.act(ct.ResumeTrigger(model="m", trigger="rows"))
    assert not deck.act(ct.ResumeTrigger(model="m")).suppressed
    assert [each.resolved for each in deck.state.alerts if each.kind == "retraining suppressed"] == [deck.now]
    assert deck.idle(), "what was found before counts no more"
    deck.check()
    deck.look()
    assert len(deck.runs()) == 2


def test_a_signal_that_is_gone_settles_its_retrain_and_a_new_one_fires_again() -> None:
    deck = Deck()
    deck.on(drift=ct.OnDrift(), cooldown=0.0)
    deck.check()
    deck.look()
    deck.put_live(deck.trained())
    deck.check("NONE")
    assert deck.look().retrains["drift"].verdict == "GONE"
    deck.check()
    deck.look()
    assert len(deck.runs()) == 2


def test_accuracy_that_stays_low_with_the_new_version_is_suppressed_too() -> None:
    deck = Deck()
    deck.on(accuracy=ct.OnAccuracy(), cooldown=0.0)
    deck.look(labels(400, 300))
    deck.put_live(deck.trained())
    assert deck.idle(labels(100, 10, "m@2")), "too few labels of the new version"
    policy = deck.look(labels(400, 300, "m@2"))
    assert set(policy.suppressed) == {"accuracy"} and len(deck.runs()) == 1


ENDS: list[tuple[str, Callable[[Deck], None], str]] = [
    (
        "its run failed",
        lambda deck: deck.act(pipelines.EndPipeline(pipeline_run=deck.runs()[-1].id, state="FAILED", error="no rows")),
        "no rows",
    ),
    ("its version was removed", lambda deck: deck.act(registry.RemoveVersion(version=deck.trained())), "put away"),
]


@pytest.mark.parametrize(("end", "words"), [case[1:] for case in ENDS], ids=[case[0] for case in ENDS])
def test_a_retrain_that_brought_nothing_live_is_not_tried_again(end: Callable[[Deck], None], words: str) -> None:
    deck = Deck()
    deck.on(drift=ct.OnDrift(), cooldown=0.0)
    deck.check()
    deck.look()
    end(deck)
    assert words in deck.look().suppressed["drift"].why
    assert len(deck.runs()) == 1


def test_a_canary_that_was_called_off_suppresses_its_trigger() -> None:
    deck = Deck()
    deck.on(drift=ct.OnDrift(), cooldown=0.0, strategy="canary")
    deck.check()
    deck.look()
    deck.trained()
    deck.look()
    deck.act(deployments.RollBack(endpoint="m", reason="worse"))
    assert "called off" in deck.look().suppressed["drift"].why


# older journals


def test_a_reaction_of_an_older_journal_is_a_policy_of_drift_that_waits_for_a_gate() -> None:
    deck = Deck()
    deck.act(governance.SetGate(model="m", rules=()))
    reaction = monitoring.Reaction("m", "drift", "p", True, "bob", deck.now, cooldown=5.0)
    folded(deck, monitoring.ReactionSet(reaction=reaction))
    folded(deck, monitoring.ReactionFired(endpoint="m", on="drift", at=deck.now, words="w", fired=True))
    assert (deck.policy.enabled, deck.policy.set_by, deck.policy.cooldown) == (True, "bob", 5.0)
    assert deck.policy.last == deck.now - 1
    deck.check()
    assert deck.idle() and "no gate is set" in deck.status("drift").why
    deck.act(governance.SetGate(model="m", rules=(RULE,)))
    deck.now += 5
    assert deck.look().retrains["drift"].pipeline_run == deck.runs()[0].id
