"""What the triggers of continuous training say: each against its limit, what stands in its way, what it leads to.

past        A schedule that is due, drift in enough checks in a row, a drop beyond its limit, enough new rows.
in the way  The policy is off, no gate is set, maintenance is on, a retrain is in flight or its version on its way,
            cool-down.
gone        Data that came after a retrain is judged and within the limit: the retrain is settled.
unchanged   Data that a version made since has answered is past the limit all the same, or the retrain brought no
            version that went out: the trigger is suppressed, since the same again would not help either.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple

from quarterdeckd.measures.proportions import fall
from quarterdeckd.services.clock_words import lasting, utc
from quarterdeckd.services.elapsed import Now
from quarterdeckd.services.evidence import judge
from quarterdeckd.services.scheduled import may
from quarterstore.ledger.finding import in_use
from quarterstore.ledger.state import State
from quarterstore.records import ct, datasets, monitoring
from quarterstore.records.pipelines import RerunPipeline
from quarterstore.records.registry import Metric, Version

JUDGED: tuple[monitoring.DriftVerdict, ...] = ("DRIFT", "NEGLIGIBLE", "NONE")
SIGNALS: tuple[ct.Trigger, ...] = ("drift", "accuracy")
"""Triggers whose cause a retrain is to remove; the clock and new rows are no fault that could stay."""
ENDED = ("SUCCEEDED", "FAILED", "CANCELLED", "LOST")


class Signal(NamedTuple):
    """One trigger against its limit. `clear` says that data of after its last retrain is within the limit, `fresh` that
    a version made since has answered what is looked at."""

    trigger: ct.Trigger
    past: bool
    value: float | None
    limit: float | None
    unit: str
    checked: float | None
    words: str
    enough: bool = True
    clear: bool = False
    fresh: bool = False


class Place(NamedTuple):
    """Where a retrain is: under way, over without a version that went out, or live."""

    state: Literal["UNDER WAY", "WAITING", "OVER", "LIVE"]
    words: str


class Found(NamedTuple):
    """A trigger as it stands, and what has to follow from it."""

    status: ct.TriggerStatus
    leads: Literal["", "FIRE", "GONE", "UNCHANGED"] = ""


def schedule_name(model: str) -> str:
    """The schedule that retrains a model."""
    return f"ct-schedule-{model}"


def checks_name(model: str) -> str:
    """The schedule that checks the drift of a model for its policy."""
    return f"ct-drift-{model}"


def found(state: State, policy: ct.Policy, readings: ct.Readings, now: Now) -> list[Found]:
    """Every trigger that the policy sets."""
    return [_judged(state, policy, signal, now) for signal in _signals(state, policy, readings, now)]


def newest(policy: ct.Policy) -> ct.Retrain | None:
    """The last retrain of any cause."""
    return max(policy.retrains.values(), key=lambda each: each.seq, default=None)


def in_the_way(state: State, policy: ct.Policy, now: Now) -> str:
    """Why no retrain of this model begins now whatever its triggers say; nothing where one may."""
    gate = state.gates.get(policy.model)
    if not policy.enabled:
        return f"off: qd ct on {policy.model}"
    if gate is None or not gate.rules:
        return f"no gate is set: qd governance set-gate --model {policy.model} --help"
    person = state.people.get(policy.set_by)
    if person is not None and not may(person.roles, RerunPipeline):
        return f"{policy.set_by}, who set it, may not run pipelines any more: qd ct set {policy.model} --help"
    maintenance = state.maintenance.get("deck")
    if maintenance is not None and now.moment.at < maintenance.until:
        return f"maintenance is on: {maintenance.reason}"
    for run in state.pipeline_runs:
        if run.state not in ENDED and state.pipelines[run.pipeline].definition.model == policy.model:
            return f"one retrain at a time: {run.id} is in flight"
    retrain = newest(policy)
    if retrain is not None and (place := place_of(state, policy, retrain, now.moment.at)).state == "UNDER WAY":
        return f"one retrain at a time: {place.words}"
    if policy.cools is not None and (left := policy.cooldown - now.since(policy.cools)) > 0:
        return f"cooling down for {lasting(left)} more"
    return ""


def place_of(state: State, policy: ct.Policy, retrain: ct.Retrain, now: float) -> Place:
    """Where a retrain and its version are."""
    run = state.pipeline_runs[retrain.pipeline_run]
    if run.state not in ENDED:
        return Place("UNDER WAY", f"{run.id} is in flight")
    version = state.versions.get(run.version or "")
    if run.state != "SUCCEEDED" or version is None:
        return Place("OVER", f"{run.id} {run.state.lower()}: {run.error or 'no version came of it'}"[:300])
    if again := made_again(retrain, version):
        return Place("OVER", again)
    deployment = state.deployments.get(policy.endpoint)
    if deployment is not None and deployment.live == version.id:
        return Place("LIVE", f"{version.id} is live at {policy.endpoint}")
    if deployment is not None and version.id in deployment.previous:
        return Place("OVER", f"{version.id} was live at {policy.endpoint} and is not any more")
    if (endpoint := in_use(state, version.id)) is not None:
        return Place("UNDER WAY", f"{version.id} is on its way at {endpoint}")
    asked = [each.id for each in state.approvals if each.subject == version.id and each.state == "WAITING"]
    if asked:
        return Place("UNDER WAY", f"{version.id} waits for an approval: qd approve {asked[0]}")
    if same := same_file(state, policy, version):
        return Place("OVER", same)
    if retrain.called_off == version.id:
        return Place("OVER", f"{version.id} was made again and had been called off before")
    outcome = judge(state, version, now)
    if not outcome.ok:
        failed = "; ".join(f"{check.rule.metric}: {check.why}" for check in outcome.checks if not check.ok)
        return Place("OVER", f"{version.id} misses its gate: {failed}"[:300])
    if version.removed is not None or version.stage == "Archived":
        return Place("OVER", f"{version.id} was put away")
    if retrain.tried:
        why = deployment.why if deployment is not None else ""
        return Place("OVER", f"{version.id} was called off{f': {why}' if why else ''}"[:300])
    if policy.strategy != "none" and not retrain.sent:
        return Place("UNDER WAY", f"{version.id} is to go out ({policy.strategy})")
    return Place("WAITING", f"{version.id} is in {version.stage} and not live: a person decides")


def made_again(retrain: ct.Retrain, version: Version) -> str:
    """That nothing new was learnt, in words: the retrain came to the version that was live when it began."""
    return f"{version.id} was live and was made again, so nothing new was learnt" if retrain.live == version.id else ""


def same_file(state: State, policy: ct.Policy, version: Version) -> str:
    """That nothing new was learnt, in words: the version is byte for byte what is live already."""
    deployment = state.deployments.get(policy.endpoint)
    live = state.versions.get((deployment.live if deployment is not None else None) or "")
    if live is None or live.id == version.id or not version.digest or live.digest != version.digest:
        return ""
    return f"{version.id} is the same file as {live.id}, so nothing new was learnt"


def trained_on(state: State, policy: ct.Policy) -> datasets.Dataset | None:
    """The newest dataset of the name that the dataset of the policy's pipeline has; None where it reads none."""
    definition = state.pipelines[policy.pipeline].definition
    known = state.datasets.get(definition.data.dataset or "")
    if known is None:
        return None
    return max((each for each in state.datasets if each.name == known.name), key=lambda each: each.created)


def _signals(state: State, policy: ct.Policy, readings: ct.Readings, now: Now) -> Iterator[Signal]:
    if policy.schedule is not None:
        yield _schedule(state, policy, now.moment.at)
    if policy.drift is not None:
        yield _drift(state, policy, policy.drift)
    if policy.accuracy is not None:
        yield _accuracy(state, policy, policy.accuracy, readings.accuracy)
    if policy.rows is not None:
        yield _rows(state, policy, policy.rows, readings)


def counted_from(policy: ct.Policy, trigger: ct.Trigger) -> float:
    """From when a trigger counts: since it was set, switched on or resumed; rows, since the last training too."""
    since = policy.since.get(trigger, policy.at)
    return max(since, policy.last or 0.0) if trigger == "rows" else since


def _schedule(state: State, policy: ct.Policy, now: float) -> Signal:
    schedule = state.schedules.get(schedule_name(policy.model))
    last = schedule.last if schedule is not None else None
    due = schedule.next if schedule is not None else None
    if schedule is None:
        words = f"its schedule was removed: set the policy again, qd ct set {policy.model} --help"
    elif due is None:
        words = f"paused: qd resume {schedule.name}"
    else:
        words = f"due {utc(due)}"
    held = policy.held
    if held is not None and held.cause == "schedule":
        words += f"; last time: {held.why}"
    # the clock speaks for itself when it is due: a look has nothing to add
    return Signal("schedule", False, now, due, "time", last, words)


def _drift(state: State, policy: ct.Policy, rule: ct.OnDrift) -> Signal:
    deployment = state.deployments.get(policy.endpoint)
    live = deployment.live if deployment is not None else None
    after, retrain = policy.counted.get("drift", 0), policy.retrains.get("drift")
    checks = sorted(
        (each for each in state.drifts if each.endpoint == policy.endpoint and each.seq > after),
        key=lambda each: each.seq,
        reverse=True,
    )
    judged = [each for each in checks if each.version == live and each.verdict in JUDGED]
    clean = next((index for index, each in enumerate(judged) if each.verdict != "DRIFT"), len(judged))
    if clean:
        words = f"{clean} of {rule.checks} checks in a row found drift: {judged[0].words}"
    elif judged:
        words = f"the last check found none: {judged[0].words}"
    elif checks:
        words = f"the last check could not tell: {checks[0].words}"
    else:
        words = f"no check yet: qd drift {policy.endpoint}"
    return Signal(
        "drift",
        past=clean >= rule.checks,
        value=clean,
        limit=rule.checks,
        unit="checks in a row",
        checked=checks[0].at if checks else None,
        words=words[:300],
        enough=bool(judged),
        clear=retrain is not None and any(each.verdict != "DRIFT" and each.seq > retrain.seq for each in judged),
        fresh=_of_after(state, live, retrain),
    )


def _accuracy(state: State, policy: ct.Policy, rule: ct.OnAccuracy, reading: ct.AccuracyReading | None) -> Signal:
    if reading is None:
        return Signal("accuracy", False, None, rule.drop, "points", None, "not looked at yet", enough=False)
    found = Signal("accuracy", False, None, rule.drop, "points", reading.at, "", enough=False)
    version = state.versions.get(reading.version)
    if version is None:
        return found._replace(words=f"{policy.endpoint} has no live version")
    before = next((each for each in version.metrics if each.name == "accuracy"), None)
    if before is None:
        return found._replace(words=f"{version.id} was registered without an accuracy")
    if reading.n < rule.least:
        none = "no labels yet" if reading.n == 0 else "too few labels yet"
        return found._replace(words=f"{none}: {reading.n} of {rule.least}")
    return _dropped(state, policy, rule, reading, before)


def _dropped(
    state: State, policy: ct.Policy, rule: ct.OnAccuracy, reading: ct.AccuracyReading, before: Metric
) -> Signal:
    low = before.value if before.low is None else before.low
    high = before.value if before.high is None else before.high
    drop = fall(before.value, low, high, reading.right, reading.n)
    points = round(100 * drop.value, 9)  # 0.9 - 0.85 is 0.05 and a little
    past = points > rule.drop and drop.low > 0
    words = (
        f"{reading.right / reading.n:.4g} of {reading.n} labels, {before.value:.4g} at registration: "
        f"{points:.3g} points below ({100 * drop.low:.3g} to {100 * drop.high:.3g})"
    )
    if points > rule.drop and not past:
        words += ", which may be chance"
    fresh = _of_after(state, reading.version, policy.retrains.get("accuracy"))
    return Signal("accuracy", past, points, rule.drop, "points", reading.at, words, clear=not past, fresh=fresh)


def _of_after(state: State, live: str | None, retrain: ct.Retrain | None) -> bool:
    """Whether the live version is none of before a retrain: made since by anything, or made again by it and not live
    then."""
    version = state.versions.get(live or "")
    if retrain is None or version is None:
        return False
    again = state.pipeline_runs[retrain.pipeline_run].version == version.id != retrain.live
    return again or version.number > retrain.newest


def _rows(state: State, policy: ct.Policy, rule: ct.OnRows, readings: ct.Readings) -> Signal:
    since, checked = counted_from(policy, "rows"), readings.at or None
    if rule.of == "labels":
        new, of = readings.labels, f"answers of {policy.endpoint} got a label"
    elif rule.of == "features":
        new = sum(each.rows for each in state.feature_rows if each.view == rule.view and each.at > since)
        of = f"rows came into {rule.view}"
    else:
        newer = trained_on(state, policy)
        new, of = _rows_beyond(state, newer, since), f"rows more in {newer.name if newer else 'no dataset'}"
    return Signal("rows", new >= rule.least, new, rule.least, "rows", checked, f"{new:,} {of} since the last training")


def _rows_beyond(state: State, newer: datasets.Dataset | None, since: float) -> int:
    if newer is None or newer.created <= since:
        return 0
    before = [each for each in state.datasets if each.name == newer.name and each.created <= since]
    trained = max(before, key=lambda each: each.created, default=None)
    if trained is None:
        return newer.rows
    # kept before rows were counted: how many more there are is not known
    return max(0, newer.rows - trained.rows) if trained.rows else 0


def _judged(state: State, policy: ct.Policy, signal: Signal, now: Now) -> Found:
    def said(what: ct.TriggerState, why: str, leads: Literal["", "FIRE", "GONE", "UNCHANGED"] = "") -> Found:
        status = ct.TriggerStatus(
            trigger=signal.trigger,
            state=what,
            value=signal.value,
            limit=signal.limit,
            unit=signal.unit,
            checked=signal.checked,
            why=why,
        )
        return Found(status, leads)

    if not policy.enabled:
        return said("OFF", f"off: qd ct on {policy.model} ({signal.words})")
    suppressed = policy.suppressed.get(signal.trigger)
    if suppressed is not None:
        return said("SUPPRESSED", f"{suppressed.why}; a person goes on: qd ct resume {policy.model}")
    retrain = _unsettled(policy, signal.trigger)
    if retrain is not None and signal.clear:
        return said("BELOW", signal.words, "GONE")
    if not signal.past:
        return said("BELOW" if signal.enough else "WAITING", signal.words)
    if retrain is not None:
        place = place_of(state, policy, retrain, now.moment.at)
        if signal.fresh:
            why = f"unchanged with {_live(state, policy)}, made after it had set off a retrain: {signal.words}"
            return said("SUPPRESSED", why, "UNCHANGED")
        if place.state == "OVER":
            return said("SUPPRESSED", f"its retrain brought nothing live ({place.words}): {signal.words}", "UNCHANGED")
        return said("HELD", f"{place.words} ({signal.words})")
    obstacle = in_the_way(state, policy, now)
    return said("HELD", f"{obstacle} ({signal.words})") if obstacle else said("FIRES", signal.words, "FIRE")


def _unsettled(policy: ct.Policy, trigger: ct.Trigger) -> ct.Retrain | None:
    """The last retrain of a signal, until it is known whether that helped; a resume settles it too."""
    retrain = policy.retrains.get(trigger) if trigger in SIGNALS else None
    if retrain is None or retrain.verdict or policy.counted.get(trigger, 0) > retrain.seq:
        return None
    return retrain


def _live(state: State, policy: ct.Policy) -> str:
    deployment = state.deployments.get(policy.endpoint)
    return (deployment.live if deployment is not None else None) or "nothing live"
