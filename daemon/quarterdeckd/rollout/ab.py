"""An A/B trial: a fixed split, looked at whenever outcomes came, ended by what the always-valid interval says.

HOLD            The arms are not as they were dealt: a chi-square of their callers (distinct keys, else predictions)
                against the split has p < 0.001. Whatever lost one arm's callers may have lost its outcomes; nothing is
                decided, and it is said loudly. Looked at as often as the rest, it holds only as long as it is so.
WIN, LOSS       The interval of the difference lies wholly on the better or the worse side of zero.
NO DIFFERENCE   It lies within `effect` of zero on both sides.
NEEDS           None of it yet; how many outcomes per arm would do. Nothing is decided before callers were counted.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from msgspec.structs import replace

from quarterdeckd.measures import sequential
from quarterstore.records.faults import got
from quarterstore.records.outcomes import ArmOutcome
from quarterstore.records.trials import AbRule, TrialVerdict

RATIO_LEVEL: Final = 0.001
ENDS: Final = ("WIN", "LOSS", "NO DIFFERENCE")
AGAIN: Final = 300.0
"""Seconds after which a verdict that is the same is worth an entry again."""


def checked(rule: AbRule, split: int) -> AbRule:
    """The rule, or a fault that names the field that makes no sense."""
    if not 1 <= split <= 99:
        raise got("split", split, "1 to 99 percent for the candidate")
    if not 0 < rule.effect < math.inf:
        raise got("effect", rule.effect, "the smallest difference worth having, above 0")
    if not 0 < rule.alpha <= 0.5:
        raise got("alpha", rule.alpha, "a level above 0, at most 0.5")
    if not 0.5 <= rule.power < 1:
        raise got("power", rule.power, "from 0.5 to below 1")
    if rule.least < 10:
        raise got("least", rule.least, "at least 10 outcomes per arm")
    return rule


def judge(
    rule: AbRule, live: ArmOutcome, candidate: ArmOutcome, callers: Sequence[int], dealt: Sequence[float]
) -> TrialVerdict:
    """Judge a trial by the outcomes of both arms, the callers each had, and the shares they were dealt by. Depends on
    nothing else, so it says the same after a restart."""
    sequential.checked(live), sequential.checked(candidate)
    square, p = sequential.sample_ratio(callers, dealt)
    verdict = _judged(rule, live, candidate, callers, dealt, square, p)
    return replace(verdict, callers=tuple(callers), ratio=p if sum(callers) else None)


def _judged(
    rule: AbRule,
    live: ArmOutcome,
    candidate: ArmOutcome,
    callers: Sequence[int],
    dealt: Sequence[float],
    square: float,
    p: float,
) -> TrialVerdict:
    have = min(live.n, candidate.n)
    if p < RATIO_LEVEL:
        why = (
            f"sample ratio: {callers[0]:,} callers against {callers[1]:,}, dealt {dealt[0]:g} to {dealt[1]:g} "
            f"(chi-square {square:.1f}, p {p:.1g}): the arms cannot be compared; find out who is missing"
        )
        return TrialVerdict("HOLD", why, have, 0)
    if have and not sum(callers):
        return TrialVerdict("NEEDS", "no caller was counted yet: it cannot be told whether the arms are as dealt", have)
    if have < rule.least:
        why = f"need {rule.least:,} outcomes of {rule.metric} per arm for a first look, have {have:,}"
        return TrialVerdict("NEEDS", why, have, rule.least)
    for arm in (live, candidate):
        if not sequential.near_normal(arm):
            why = f"{arm.version} had {arm.successes:,} of {arm.n:,}: too few of a kind to tell"
            return TrialVerdict("NEEDS", why, have, _of_a_kind(arm))
    return _compared(rule, live, candidate, have)


def _of_a_kind(arm: ArmOutcome) -> int:
    """Outcomes by which an arm should have enough of its rarer kind."""
    rarer = max(1, min(arm.successes, arm.n - arm.successes))
    return math.ceil(arm.n * sequential.NEAR_NORMAL / rarer)


def _compared(rule: AbRule, live: ArmOutcome, candidate: ArmOutcome, have: int) -> TrialVerdict:
    found = sequential.always_valid(live, candidate, rule.alpha, rule.effect)
    if not found.variance:
        return TrialVerdict("NEEDS", f"every {rule.metric} so far is the same within its arm", have, 2 * have)
    better, worse = (found.low > 0, found.high < 0) if rule.better == "higher" else (found.high < 0, found.low > 0)
    needed = max(rule.least, sequential.need(found.variance, have, rule.alpha, rule.effect, rule.power))
    words = (
        f"{rule.metric} {candidate.mean:.4g} ({candidate.n:,}) against {live.mean:.4g} ({live.n:,}), "
        f"a difference of {found.difference:+.4g} ({found.low:+.4g} to {found.high:+.4g})"
    )
    if better:
        return TrialVerdict("WIN", words, have, needed, found.difference, found.low, found.high)
    if worse:
        return TrialVerdict("LOSS", words, have, needed, found.difference, found.low, found.high)
    if -rule.effect < found.low and found.high < rule.effect:
        why = f"{words}: less than {rule.effect:g} either way"
        return TrialVerdict("NO DIFFERENCE", why, have, needed, found.difference, found.low, found.high)
    why = f"{words}; need about {needed:,} per arm"
    return TrialVerdict("NEEDS", why, have, needed, found.difference, found.low, found.high)


def worth_an_entry(before: TrialVerdict | None, verdict: TrialVerdict, since: float) -> bool:
    """Whether a verdict is news, `since` seconds after the last one that was kept: another one, or the same with other
    figures after `AGAIN` seconds."""
    if before is None or before.verdict != verdict.verdict:
        return True
    return before != verdict and since >= AGAIN
