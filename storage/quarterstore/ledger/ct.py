"""The book of continuous training: the policy of each model, and what became of its retrains."""

from __future__ import annotations

from msgspec.structs import replace

from quarterstore.ledger.state import Fold, State
from quarterstore.records import ct, monitoring
from quarterstore.records.moments import Moment


def _set(state: State, event: ct.PolicySet) -> None:
    """Since when a trigger counts is said as a time; which entry that was is known here alone. When the last retrain
    began does not change with the policy."""
    policy, seq = event.policy, state.context.seq
    former = state.policies.get(policy.model) or policy  # itself where a removal is undone
    counted = {
        trigger: former.counted.get(trigger, seq) if _since(former, trigger) == _since(policy, trigger) else seq
        for trigger in ct.TRIGGERS
    }
    state.policies.put(replace(policy, counted=counted, cools=former.cools))


def _since(policy: ct.Policy, trigger: ct.Trigger) -> float:
    return policy.since.get(trigger, policy.at)


def _removed(state: State, event: ct.PolicyRemoved) -> None:
    state.policies.drop(event.model)


def _began(state: State, event: ct.RetrainBegan) -> None:
    policy = state.policies[event.model]
    newest = max((each.number for each in state.versions if each.model == event.model), default=0)
    retrain = replace(event.retrain, seq=state.context.seq, newest=newest)
    state.policies.put(
        replace(
            policy,
            retrains={**policy.retrains, retrain.cause: retrain},
            held=None,
            last=retrain.at,
            cools=retrain.began or Moment(retrain.at),
            count=policy.count + 1,
        )
    )


def _held(state: State, event: ct.RetrainHeld) -> None:
    state.policies.put(replace(state.policies[event.model], held=event.held))


def _sent(state: State, event: ct.RetrainSent) -> None:
    policy = state.policies[event.model]
    retrain = replace(policy.retrains[event.cause], sent=event.words, tried=event.tried)
    state.policies.put(replace(policy, retrains={**policy.retrains, event.cause: retrain}))


def _judged(state: State, event: ct.RetrainJudged) -> None:
    policy = state.policies[event.model]
    retrain = replace(policy.retrains[event.cause], verdict=event.verdict)
    state.policies.put(replace(policy, retrains={**policy.retrains, event.cause: retrain}))


def _suppressed(state: State, event: ct.TriggerSuppressed) -> None:
    policy, found = state.policies[event.model], event.suppressed
    state.policies.put(replace(policy, suppressed={**policy.suppressed, found.trigger: found}))


def _resumed(state: State, event: ct.TriggerResumed) -> None:
    policy = state.policies[event.model]
    state.policies.put(
        replace(
            policy,
            suppressed={trigger: each for trigger, each in policy.suppressed.items() if trigger != event.trigger},
            since={**policy.since, event.trigger: event.at},
            counted={**policy.counted, event.trigger: state.context.seq},
        )
    )


def _reaction(state: State, event: monitoring.ReactionSet) -> None:
    """A reaction of an older journal is a policy with drift alone; its first check and no strategy, as it was."""
    reaction = event.reaction
    model = state.deployments[reaction.endpoint].model
    former = state.policies.get(model)
    state.policies.put(
        ct.Policy(
            model=model,
            pipeline=reaction.pipeline,
            endpoint=reaction.endpoint,
            set_by=reaction.set_by,
            at=reaction.at,
            enabled=reaction.enabled,
            drift=ct.OnDrift(),
            cooldown=reaction.cooldown,
            since={"drift": reaction.at},
            counted={"drift": state.context.seq},
            last=former.last if former else None,
            cools=former.cools if former else None,
        )
    )


def _fired(state: State, event: monitoring.ReactionFired) -> None:
    """Of an older journal: cool-down counts from it."""
    model = state.deployments[event.endpoint].model
    policy = state.policies.get(model)
    if policy is not None and event.fired:
        state.policies.put(
            replace(
                policy,
                last=event.at,
                cools=Moment(event.at),
                since={**policy.since, "drift": event.at},
                counted={**policy.counted, "drift": state.context.seq},
            )
        )


FOLDS: dict[type, Fold] = {
    ct.PolicySet: _set,
    ct.PolicyRemoved: _removed,
    ct.RetrainBegan: _began,
    ct.RetrainHeld: _held,
    ct.RetrainSent: _sent,
    ct.RetrainJudged: _judged,
    ct.TriggerSuppressed: _suppressed,
    ct.TriggerResumed: _resumed,
    monitoring.ReactionSet: _reaction,
    monitoring.ReactionFired: _fired,
}
