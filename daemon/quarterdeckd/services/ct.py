"""The rules of continuous training: a policy set and switched, a retrain begun once and its version sent on, a trigger
suppressed where that did not help."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec.structs import replace

from quarterdeckd.services.deciding import Answerers, Asking, Decision, Rules
from quarterdeckd.services.elapsed import Now
from quarterdeckd.services.policy import check
from quarterdeckd.services.sent_on import SENT_BY, called_off, due_out
from quarterdeckd.services.triggers import (
    Found,
    checks_name,
    found,
    in_the_way,
    newest,
    place_of,
    schedule_name,
    trained_on,
)
from quarterstore.ledger.finding import deployment_of, in_use
from quarterstore.ledger.state import State
from quarterstore.records import ct, deployments, governance, monitoring, pipelines, registry, schedules
from quarterstore.records.base import Act, Event, tag_of
from quarterstore.records.faults import Conflict, NotFound, Refused, got, missing
from quarterstore.records.names import checked_word

SUPPRESSED_ALERT = "retraining suppressed"
FORBIDDEN_ALERT = "retrained version not sent on"
Then = Iterator[tuple[Act[Any], Asking]]


def policy_of(state: State, model: str) -> ct.Policy:
    """The policy of a model; `NotFound` with the nearest names."""
    policy = state.policies.get(model)
    if policy is None:
        if model in state.models:
            how = f"set one: qd ct set {model} --help"
            raise NotFound(
                f"got {model}, expected a model with a policy of continuous training", field="model", next=how
            )
        raise missing("model", model, state.policies.rows)
    return policy


def _set(state: State, act: ct.SetPolicy, asking: Asking) -> Decision:
    model = checked_word("model", act.model)
    _checked_pipeline(state, act.pipeline, model)
    check(state, act)
    fields = {name: getattr(act, name) for name in act.__struct_fields__}
    endpoint = checked_word("endpoint", act.endpoint or model)
    fresh = ct.Policy(**{**fields, "model": model, "endpoint": endpoint}, set_by=asking.actor, at=asking.now)
    policy = _carried_on(state.policies.get(model), fresh)
    _checked_endpoint(state, policy)

    def then(after: State, asked: Asking) -> Then:
        for message in _clocks(after, policy):
            yield message, asked

    return Decision(
        [ct.PolicySet(policy=policy)],
        f"set continuous training of {model} ({'on' if policy.enabled else 'off'}): {_said(policy)}",
        lambda after: after.policies[model],
        then,
    )


def _checked_pipeline(state: State, name: str, model: str) -> None:
    pipeline = state.pipelines.get(name)
    if pipeline is None:
        raise missing("pipeline", name, state.pipelines.rows, next="run it once: qd pipeline run FILE")
    if pipeline.definition.model != model:
        raise got("pipeline", f"{name}, which trains {pipeline.definition.model}", f"one that trains {model}")


def _checked_endpoint(state: State, policy: ct.Policy) -> None:
    endpoint = state.deployments.get(policy.endpoint)
    if endpoint is not None and endpoint.model != policy.model:
        raise Conflict(f"{policy.endpoint} serves {endpoint.model}, got {policy.model}", field="endpoint")
    if policy.drift is not None or policy.accuracy is not None:
        deployment_of(state, policy.endpoint)


def _carried_on(former: ct.Policy | None, policy: ct.Policy) -> ct.Policy:
    """A policy with what became of the one before it; a trigger that both have counts on."""
    if former is None:
        return policy
    kept = {trigger: former.since.get(trigger, former.at) for trigger in ct.TRIGGERS if _had(former, trigger)}
    return replace(
        policy,
        enabled=former.enabled,
        since=kept,
        retrains=former.retrains,
        suppressed={key: each for key, each in former.suppressed.items() if _had(policy, key)},
        held=former.held,
        last=former.last,
        count=former.count,
    )


def _had(policy: ct.Policy, trigger: ct.Trigger) -> bool:
    return getattr(policy, trigger) is not None


def _clocks(state: State, policy: ct.Policy) -> Iterator[Act[Any]]:
    """The schedules of a policy as they have to be; those that it has no more are removed."""
    model, schedule, drift = policy.model, policy.schedule, policy.drift
    retrain = {"type": tag_of(ct.StartRetrain), "model": model, "by_schedule": True}
    if schedule is not None:
        yield schedules.AddSchedule(
            name=schedule_name(model), act=retrain, cron=schedule.cron, every=schedule.every, zone=schedule.zone
        )
    elif schedule_name(model) in state.schedules:
        yield schedules.RemoveSchedule(name=schedule_name(model))
    if drift is not None and drift.every is not None:
        check = {"type": tag_of(monitoring.CheckDrift), "endpoint": policy.endpoint, "window": drift.window}
        yield schedules.AddSchedule(name=checks_name(model), act=check, every=drift.every, missed="skip")
    elif checks_name(model) in state.schedules:
        yield schedules.RemoveSchedule(name=checks_name(model))


def _said(policy: ct.Policy) -> str:
    named = [trigger for trigger in ct.TRIGGERS if _had(policy, trigger)]
    return f"{', '.join(named)} run {policy.pipeline}, then {policy.strategy}"


def _switch(state: State, act: ct.SwitchPolicy, asking: Asking) -> Decision:
    policy = policy_of(state, act.model)
    gate = state.gates.get(policy.model)
    if act.enabled and (gate is None or not gate.rules):
        raise Refused(
            f"{policy.model} has no gate, and nothing may retrain it by itself without one",
            field="gate",
            next=f"set one: qd governance set-gate --model {policy.model} "
            """--rules '[{"metric": "accuracy", "op": ">=", "limit": 0.9}]'""",
        )
    if policy.enabled == act.enabled:
        raise Conflict(f"continuous training of {policy.model} is {'on' if act.enabled else 'off'}", field="model")
    since: dict[ct.Trigger, float] = dict.fromkeys(ct.TRIGGERS, asking.now) if act.enabled else policy.since
    changed = replace(policy, enabled=act.enabled, set_by=asking.actor, since=since)
    words = f"switched continuous training of {policy.model} {'on' if act.enabled else 'off'}"
    return Decision([ct.PolicySet(policy=changed)], words, lambda after: after.policies[policy.model])


def _remove(state: State, act: ct.RemovePolicy, asking: Asking) -> Decision:
    policy = policy_of(state, act.model)

    def then(after: State, asked: Asking) -> Then:
        for name in (schedule_name(policy.model), checks_name(policy.model)):
            if name in after.schedules:
                yield schedules.RemoveSchedule(name=name), asked

    words = f"removed continuous training of {policy.model}"
    return Decision([ct.PolicyRemoved(model=policy.model)], words, lambda after: policy, then)


def _resume(state: State, act: ct.ResumeTrigger, asking: Asking) -> Decision:
    policy = policy_of(state, act.model)
    stopped: list[ct.Trigger] = [trigger for trigger in policy.suppressed if act.trigger in (None, trigger)]
    if not stopped:
        raise Conflict(f"no trigger of {policy.model} is suppressed", field="trigger")
    events: list[Event] = [ct.TriggerResumed(model=policy.model, trigger=trigger, at=asking.now) for trigger in stopped]

    def then(after: State, asked: Asking) -> Then:
        for alert in after.alerts:
            if (alert.kind, alert.subject, alert.resolved) == (SUPPRESSED_ALERT, policy.model, None):
                yield monitoring.ResolveAlert(alert=alert.id, note=f"resumed by {asking.actor}"), asked

    words = f"resumed {', '.join(stopped)} of {policy.model}"
    return Decision(events, words, lambda after: after.policies[policy.model], then)


def _start(state: State, act: ct.StartRetrain, asking: Asking) -> Decision:
    policy = policy_of(state, act.model)
    cause: ct.Cause = "schedule" if act.by_schedule else "person"
    why = in_the_way(state, policy, asking.time)
    if why and not act.by_schedule:
        raise Refused(why, field="model")
    if why:
        held = ct.RetrainHeld(model=policy.model, held=ct.Held(cause=cause, at=asking.now, why=why))
        return Decision([held], f"no retrain of {policy.model}: {why}", lambda after: after.policies[policy.model])
    words = "the schedule was due" if act.by_schedule else f"{asking.actor} asked for it"
    return _begun(state, policy, cause, words, None, None)


def _begun(
    state: State, policy: ct.Policy, cause: ct.Cause, words: str, value: float | None, limit: float | None
) -> Decision:
    def then(after: State, asked: Asking) -> Then:
        spoken = asked._replace(actor=policy.set_by)
        retrain = asked.id("retrain")
        because = f"{retrain} of {policy.model}: {words}"[:500]
        data = trained_on(after, policy)
        newer = data.id if data and data.id != after.pipelines[policy.pipeline].definition.data.dataset else None
        yield pipelines.RerunPipeline(pipeline=policy.pipeline, cause=because, dataset=newer), spoken
        run = next(each for each in after.pipeline_runs if each.cause == because)
        deployment = after.deployments.get(policy.endpoint)
        noted = ct.Retrain(
            id=retrain,
            cause=cause,
            at=asked.now,
            words=words,
            pipeline_run=run.id,
            value=value,
            limit=limit,
            live=deployment.live if deployment is not None else None,
            began=asked.time.moment,
            called_off=called_off(after, policy),
        )
        yield ct.NoteRetrain(model=policy.model, retrain=noted), spoken

    said = f"{cause} retrains {policy.model} by {policy.pipeline}: {words}; stop it: qd ct off {policy.model}"
    return Decision([], said, lambda after: after.policies[policy.model], then)


def _note(state: State, act: ct.NoteRetrain, asking: Asking) -> Decision:
    event = ct.RetrainBegan(model=act.model, retrain=act.retrain)
    return Decision([event], f"{act.retrain.id} began", lambda after: after.policies[act.model])


def leads(state: State, policy: ct.Policy, readings: ct.Readings, now: Now) -> Found | str | None:
    """What has to happen now, one thing at a time: words where the newest version is to go out, else a trigger that is
    settled, suppressed or fires; None where nothing has to."""
    if not policy.enabled:
        return None
    if (way := due_out(state, policy)) is not None:
        return way
    judged = [each for each in found(state, policy, readings, now) if each.leads]
    return min(judged, key=lambda each: ("GONE", "UNCHANGED", "FIRE").index(each.leads), default=None)


def _look(state: State, act: ct.LookAtTriggers, asking: Asking) -> Decision:
    policy = policy_of(state, act.model)
    what = leads(state, policy, act.readings, asking.time)
    if what is None:
        raise Conflict(f"nothing is due for {policy.model}", field="model")
    if isinstance(what, str):
        return _sent(state, policy, what) if what in SENT_BY else _not_sent(state, policy, what)
    status, model = what.status, policy.model
    if what.leads == "FIRE":
        return _begun(state, policy, status.trigger, status.why, status.value, status.limit)
    judged: list[Event] = [ct.RetrainJudged(model=model, cause=status.trigger, verdict=what.leads or "GONE")]
    if what.leads == "GONE":
        words = f"{status.trigger} of {model} is gone: {status.why}"
        return Decision(judged, words, lambda after: after.policies[model])
    stopped = ct.Suppressed(trigger=status.trigger, at=asking.now, why=status.why)
    alert = monitoring.RaiseAlert(
        kind=SUPPRESSED_ALERT,
        subject=model,
        severity="warning",
        words=f"{status.trigger}: {status.why}"[:500],
        next=f"qd ct why {model}; to go on: qd ct resume {model}",
    )
    return Decision(
        [*judged, ct.TriggerSuppressed(model=model, suppressed=stopped)],
        f"suppressed {status.trigger} of {model}: {status.why}",
        lambda after: after.policies[model],
        lambda after, asked: iter([(alert, asked)]),
    )


def _sent(state: State, policy: ct.Policy, what: str) -> Decision:
    """Staging, then the canary where the strategy says so: begun in solo, else asked for."""
    retrain, version = _to_send(state, policy)
    begins = what == "canary"
    reason = f"{retrain.id} of {policy.model}"
    words = f"{version.id} {f'on a canary at {policy.endpoint}' if begins else 'to Staging'}"

    def then(after: State, asked: Asking) -> Then:
        spoken = asked._replace(actor=policy.set_by)
        if version.stage == "None":
            yield registry.MoveStage(version=version.id, stage="Staging", reason=reason), spoken
        if begins:
            canary = deployments.StartCanary(
                version=version.id, endpoint=policy.endpoint, ladder=policy.ladder, rule=policy.rule
            )
            asks = governance.Propose(act=msgspec.to_builtins(canary), reason=reason)
            yield (canary if asked.profile == "solo" else asks), spoken

    return _noted(state, policy, words, begins)._replace(then=then)


def _not_sent(state: State, policy: ct.Policy, what: str) -> Decision:
    """Why the version stays where it is; that nobody may send it on is an alert, since no gate has said no to it."""
    _, version = _to_send(state, policy)
    if what != "forbidden":
        return _noted(state, policy, what, False)
    act = tag_of(SENT_BY[policy.strategy])
    words = f"not sent on: {policy.set_by}, who set the policy, may not {act} any more"
    alert = monitoring.RaiseAlert(
        kind=FORBIDDEN_ALERT,
        subject=policy.model,
        severity="warning",
        words=f"{version.id}: {words}"[:500],
        next=f"qd promote {version.id} Staging; for the next ones: qd ct set {policy.model} --help",
    )
    return _noted(state, policy, words, False)._replace(then=lambda after, asked: iter([(alert, asked)]))


def _to_send(state: State, policy: ct.Policy) -> tuple[ct.Retrain, registry.Version]:
    retrain = newest(policy)
    assert retrain is not None
    return retrain, state.versions[state.pipeline_runs[retrain.pipeline_run].version or ""]


def _noted(state: State, policy: ct.Policy, words: str, begins: bool) -> Decision:
    retrain, version = _to_send(state, policy)
    tried = begins or in_use(state, version.id) is not None
    event = ct.RetrainSent(model=policy.model, cause=retrain.cause, words=words, tried=tried)
    said = f"{retrain.id} of {policy.model}: {words}; stop it: qd ct off {policy.model}"
    return Decision([event], said, lambda after: after.policies[policy.model])


def standing(state: State, policy: ct.Policy, readings: ct.Readings, now: Now, fault: str = "") -> ct.PolicyStatus:
    """A policy as it stands, for people; `fault` is what its last look met."""
    triggers = tuple(each.status for each in found(state, policy, readings, now))
    retrain = newest(policy)
    words = ""
    if retrain is not None:
        place = place_of(state, policy, retrain, now.moment.at)
        words = f"{retrain.id} by {retrain.cause} ({retrain.words}): {place.words}"
        words += f"; {retrain.sent}" if retrain.sent and place.words not in retrain.sent else ""
    next_ = f"qd ct off {policy.model}" if policy.enabled else f"qd ct on {policy.model}"
    if policy.suppressed:
        next_ = f"qd ct resume {policy.model}"
    return ct.PolicyStatus(
        model=policy.model,
        policy=policy,
        triggers=triggers,
        retrain=f"{words}; {fault}" if fault else words,
        next=next_,
    )


RULES: Rules = {
    ct.SetPolicy: _set,
    ct.SwitchPolicy: _switch,
    ct.RemovePolicy: _remove,
    ct.ResumeTrigger: _resume,
    ct.StartRetrain: _start,
    ct.LookAtTriggers: _look,
    ct.NoteRetrain: _note,
}
ANSWERS: Answerers = {}
