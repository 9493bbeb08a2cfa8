"""The card of a policy of continuous training: each trigger against its limit, and why it does not fire."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text

from quarterdeck.tui.widgets.drawing import (
    age,
    ago,
    clock,
    facts,
    muted,
    number,
    safe,
    section,
    state,
    title,
)
from quarterstore.records.ct import PolicyStatus, TriggerStatus


def standing(found: PolicyStatus) -> str:
    """A policy in one word: the gravest that a person should know."""
    if not found.policy.enabled:
        return "off"
    return "SUPPRESSED" if found.policy.suppressed else "on"


def policy_words(found: PolicyStatus) -> str:
    """A policy on a line: each trigger with its state, or what was suppressed."""
    stopped = [f"{each.trigger}: {each.why}" for each in found.policy.suppressed.values()]
    return stopped[0] if stopped else ", ".join(f"{each.trigger} {each.state.lower()}" for each in found.triggers)


def policy_card(found: PolicyStatus, now: float, width: int) -> Text:
    """A policy: who set it, its triggers a block each, the newest retrain, what to do next."""
    policy = found.policy
    words = f"set by {policy.set_by} {clock(policy.at, now)} · {policy.pipeline} → {policy.strategy}"
    text = title(f"continuous training of {found.model}", [state(standing(found))], words, width)
    for each in found.triggers:
        text.append_text(section(each.trigger, _trigger(each, now, width), width))
    lines = (
        ("newest retrain", found.retrain or "none yet"),
        ("cool-down", age(policy.cooldown)),
        ("retrains", number(policy.count)),
        ("next", found.next),
    )
    return text.append_text(facts(lines, 14, width))


def policy_lines(policies: Sequence[PolicyStatus], endpoint: str, width: int) -> Text:
    """What the drift of an endpoint leads to, a line a policy; how to set one where there is none."""
    lines = [
        (found.model, Text.assemble(state(standing(found)), safe(f"  {each.trigger} {each.state.lower()}: {each.why}")))
        for found in policies
        if found.policy.endpoint == endpoint
        for each in found.triggers
        if each.trigger == "drift"
    ]
    return facts(lines, 20, width) if lines else muted("drift starts nothing by itself:  qd ct set --help\n")


def _trigger(found: TriggerStatus, now: float, width: int) -> Text:
    of = "" if found.unit == "time" else f"{_figure(found.value)} of {_figure(found.limit)} {found.unit}"
    checked = f"checked {ago(found.checked, now)}" if found.checked else "not checked yet"
    head = Text.assemble(state(found.state), "   ", safe(of), "   " if of else "", muted(checked), "\n")
    return head.append_text(facts((("why", found.why),), 4, width))


def _figure(value: float | None) -> str:
    return number(int(value) if value is not None and value.is_integer() else value, 3)
