"""A policy of continuous training as people read it: what sets it off, how each trigger stands, what came of it."""

from __future__ import annotations

from typing import Any

from quarterdeck.cli.printing import lines, shown, table
from quarterdeck.cli.spans import written
from quarterdeck.units import counted
from quarterstore.records.ct import OnRows, OnSchedule, Policy, PolicyStatus, Retrain, TriggerStatus

STANDS = ("trigger", "state", "value", "limit", "checked")
NEVER = "it was never retrained by itself"
VERDICTS = {"": "", "GONE": "GONE: what set it off was gone after it", "UNCHANGED": "UNCHANGED: it did not help"}
"""What a retrain did to its cause, in words."""


def show_standing(found: PolicyStatus) -> None:
    """Each trigger with its value, limit, last check and why it does not fire."""
    table([_stands(each) for each in found.triggers], STANDS)
    print()
    lines({each.trigger: each.why for each in found.triggers})
    print()
    policy = found.policy
    lines(
        {
            "state": _state(policy),
            "pipeline": policy.pipeline,
            "goes out": _goes_out(policy),
            "cool-down": _cooldown(policy),
            "newest": found.retrain or NEVER,
            "next": found.next,
        }
    )


def show_why(found: PolicyStatus) -> None:
    """Why it was retrained and what came of that, the oldest first; then why it is not now."""
    policy = found.policy
    lines({"state": _state(policy), "stop it": f"qd ct off {found.model}" if policy.enabled else ""})
    print()
    for retrain in sorted(policy.retrains.values(), key=lambda each: each.seq):
        lines(retrain_words(retrain))
        print()
    lines(
        {
            **{f"{each.trigger} {each.state}": each.why for each in found.triggers},
            "newest": found.retrain or NEVER,
        }
    )


def policy_words(policy: Policy) -> dict[str, Any]:
    """What is set, in words: spans as they are written, limits with their units, no number of an entry."""
    drift, accuracy = policy.drift, policy.accuracy
    checked = f", one each {written(drift.every)} of the last {written(drift.window)}" if drift and drift.every else ""
    found = {
        "model": policy.model,
        "state": _state(policy),
        "pipeline": policy.pipeline,
        "endpoint": policy.endpoint,
        "schedule": policy.schedule and _schedule(policy.schedule),
        "drift": drift and f"{counted(drift.checks, 'check')} in a row that find it{checked}",
        "accuracy": accuracy
        and f"more than {accuracy.drop:g} points below that at registration, by the labels of the last "
        f"{written(accuracy.window)}, at least {accuracy.least:,}",
        "rows": policy.rows and _rows(policy.rows),
        "cool-down": _cooldown(policy),
        "goes out": _goes_out(policy),
        "retrains": f"{policy.count:,}, the last {_time(policy.last)}" if policy.last else "none yet",
    }
    suppressed = {
        f"{name} SUPPRESSED": f"since {_time(each.at)}: {each.why}" for name, each in policy.suppressed.items()
    }
    held = policy.held and {"last held": f"{_time(policy.held.at)}, by {policy.held.cause}: {policy.held.why}"}
    return {**found, **suppressed, **(held or {})}


def retrain_words(retrain: Retrain) -> dict[str, Any]:
    """One retrain: what set it off, at which value against which limit, and what came of it."""
    figures = ""
    if retrain.value is not None and retrain.limit is not None:
        figures = f" ({retrain.value:,.6g} against a limit of {retrain.limit:,.6g})"
    return {
        "retrained": f"{_time(retrain.at)} by {retrain.cause}",
        "why": f"{retrain.words}{figures}",
        "run": f"qd pipeline show {retrain.pipeline_run}",
        "live then": retrain.live or "nothing",
        "came of it": retrain.sent or "nothing yet",
        "signal": VERDICTS[retrain.verdict],
    }


def _state(policy: Policy) -> str:
    state = "on" if policy.enabled else f"off (qd ct on {policy.model})"
    return f"{state}, set by {policy.set_by} {_time(policy.at)}"


def _stands(found: TriggerStatus) -> dict[str, Any]:
    """A row: the limit in its unit; of a clock it is the time that is waited for, and the value the time now."""
    clock = found.unit == "time"
    return {
        "trigger": found.trigger,
        "state": found.state,
        "value": _time(found.value) if clock else _figure(found.value),
        "limit": _time(found.limit) if clock else f"{_figure(found.limit)} {found.unit}",
        "checked": _time(found.checked),
    }


def _figure(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.4g}"


def _time(at: float | None) -> str:
    return shown("at", at, 0)


def _schedule(schedule: OnSchedule) -> str:
    if schedule.every is not None:
        return f"every {written(schedule.every)}"
    return f"{schedule.cron} ({schedule.zone})"


def _rows(rows: OnRows) -> str:
    of = {
        "labels": "answers that got a label",
        "dataset": "rows more in the dataset",
        "features": f"rows of {rows.view}",
    }
    return f"{rows.least:,} {of[rows.of]} since the last training"


def _cooldown(policy: Policy) -> str:
    return f"{written(policy.cooldown)} between two retrains at least" if policy.cooldown else "none"


def _goes_out(policy: Policy) -> str:
    if policy.strategy == "none":
        return "nowhere by itself: it is registered, a person decides"
    if policy.strategy == "staging":
        return "to Staging, where its gate lets it"
    gates = "".join(f", gate {gate.name}" for gate in policy.rule.gates)
    return f"canary: {', '.join(map(str, policy.ladder))} % of the traffic{gates}"
