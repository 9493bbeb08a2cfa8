"""A canary, step by step: a share grows on evidence, goes back on evidence, and otherwise waits.

What is compared: the error rates p (live) and p' (candidate) since the step began, and the P95 latencies.

need        requests per arm so that a rise of `effect` over `baseline` is seen with `power` (Fleiss, Levin and Paik
            2003, 4.2, without continuity correction), with p' = p + effect and m = (p + p') / 2:
            n = (z_a sqrt(2 m (1 - m)) + z_b sqrt(p (1 - p) + p' (1 - p')))^2 / effect^2
one level   The one-sided `alpha` is one budget: half is for looking every second, half for the decision, so z_a is
            taken at alpha / 2 (1 % -> 2 %, alpha 0.05, power 0.8: 2,319). By the union bound an equal candidate is
            rolled back for errors in at most `alpha` of the steps.
early       Were the rates equal, each error would fall on the candidate with the chance of its share of the requests,
            one error after the other. A mixture of likelihood ratios over relative risks of 1.5 to 100 against that
            chance is a test martingale: it exceeds 2 / alpha at any time with a chance of at most alpha / 2 (Ville's
            inequality; as Robbins 1970, Johari et al. 2017). So a catastrophe is caught at once and looking often
            costs nothing. It must also be a rise of `effect`, and of three errors at least.
decision    Once, when nothing else holds the step: the pooled two-proportion z-test, FAIL or PASS. FAIL needs a rise of
            half the `effect` besides: the whole of it would leave a power of one half at exactly `effect`.
gates       What else the rule names (`rollout.gates`): a broken one is FAIL at once, one not surely kept is HOLD.
latency     FAIL when P95 is above `latency` times the live P95, and too many requests are: the same kind of
            martingale, for a share of slow ones above 5 %, exceeds 1 / alpha. Above without that evidence is HOLD.

What is assumed: requests fail independently of each other; one user who always fails, on one arm for being sticky, is
not that. The live P95 is taken as known. No live traffic, or less than enough on either arm, is HOLD; never PASS.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Sequence
from statistics import NormalDist
from typing import Final, Literal, NamedTuple

from msgspec.structs import replace

from quarterdeckd.measures import latency
from quarterdeckd.rollout.gates import about, checked_gates, judge_gates
from quarterstore.records.canaries import CanaryRule, CanaryVerdict, GateReading, GateVerdict
from quarterstore.records.deployments import ArmCounts, Canary
from quarterstore.records.faults import got

FEWEST_ERRORS: Final = 3
RISKS: Final = (1.5, 2.0, 3.0, 5.0, 10.0, 30.0, 100.0)
"""Relative risks over which the early test is spread evenly: each costs it a factor of seven, 1.9 in the logarithm."""
SLOW: Final = 0.05
SLOWER: Final = (0.075, 0.1, 0.2, 0.4, 0.8)
"""Shares of slow requests over which the latency test is spread, against the 5 % that P95 allows."""

_normal = NormalDist()


class Move(NamedTuple):
    """What becomes of a canary: stay, take the step `step`, be live, or give the traffic back."""

    what: Literal["hold", "advance", "finish", "roll back"]
    step: int


def checked(rule: CanaryRule) -> CanaryRule:
    """The rule, or a fault that names the field that makes no sense."""
    if not (0 < rule.effect < 1 and 0 <= rule.baseline < 1 and rule.baseline + rule.effect <= 1):
        raise got("effect", f"{rule.effect} over a baseline of {rule.baseline}", "a rise that stays within 0 to 1")
    if not 0 < rule.alpha <= 0.5:
        raise got("alpha", rule.alpha, "a level above 0, at most 0.5")
    if not 0.5 <= rule.power < 1:
        raise got("power", rule.power, "from 0.5 to below 1")
    if not 1 <= rule.latency < math.inf:
        raise got("latency", rule.latency, "a factor from 1 on")
    if rule.least < 1:
        raise got("least", rule.least, "at least 1 request")
    if not 0 <= rule.soak < math.inf:
        raise got("soak", rule.soak, "seconds from 0 on")
    checked_gates(rule.gates)
    return rule


def checked_ladder(ladder: tuple[int, ...]) -> tuple[int, ...]:
    """The ladder, or a fault: percents that grow, the first below 100 (at 100 there is nothing to compare with), the
    last 100."""
    if len(ladder) < 2 or ladder[0] < 1 or ladder[-1] != 100 or any(b <= a for a, b in itertools.pairwise(ladder)):
        raise got(
            "ladder",
            ">".join(map(str, ladder)) or "nothing",
            "growing percents, the first below 100 and the last 100, such as 5>25>100",
        )
    return ladder


def need(rule: CanaryRule) -> int:
    """Requests per arm that a step needs, by the formula above; never fewer than `least`."""
    return _need(checked(rule), rule.baseline)


def judge(
    rule: CanaryRule,
    live: ArmCounts,
    candidate: ArmCounts,
    elapsed: float,
    readings: Sequence[GateReading] = (),
) -> CanaryVerdict:
    """Judge a step by what both arms did since it began, `elapsed` seconds ago, and by what was measured for the gates
    since the canary began.

    Depends on nothing but these counts, so it says the same after a restart. Counts that cannot be are `Invalid`.
    """
    checked(rule)
    for field, arm in (("live", live), ("candidate", candidate)):
        if not 0 <= arm.errors <= arm.requests:
            raise got(field, f"{arm.errors} errors in {arm.requests} requests", "no more errors than requests")
        latency.checked(arm.histogram)
    wanted, gates = _wanted(rule, live), judge_gates(rule, readings)
    if not live.requests:
        found = _verdict("HOLD", "no live traffic to compare with", wanted, candidate)
    else:
        found = _judged(rule, live, candidate, wanted, elapsed, gates)
    return replace(found, gates=gates)


def _judged(
    rule: CanaryRule,
    live: ArmCounts,
    candidate: ArmCounts,
    wanted: int,
    elapsed: float,
    gates: tuple[GateVerdict, ...],
) -> CanaryVerdict:
    """What is broken goes before what is waited for."""
    served = _early(rule, live, candidate, wanted) or _latency(rule, live, candidate, wanted)
    if served is not None and served.verdict == "FAIL":
        return served
    return (
        _gate(gates, "FAIL")
        or served
        or _patience(rule, live, candidate, wanted, elapsed)
        or _gate(gates, "HOLD")
        or _decision(rule, live, candidate, wanted)
    )


def _gate(gates: tuple[GateVerdict, ...], wanted: Literal["HOLD", "FAIL"]) -> CanaryVerdict | None:
    """The first gate with that verdict, as the verdict on the step."""
    for gate in gates:
        if gate.verdict == wanted:
            return CanaryVerdict(
                wanted, f"{gate.gate}: {gate.why}", gate.need, gate.n, gate.gate, gate.value, gate.limit, gate.unit
            )
    return None


def next_step(canary: Canary, verdict: CanaryVerdict) -> Move:
    """What a verdict makes of a canary: never a step skipped, never one taken without the requests it needs."""
    if verdict.verdict == "FAIL":
        return Move("roll back", canary.step)
    if verdict.verdict != "PASS" or verdict.have < verdict.need:
        return Move("hold", canary.step)
    after = canary.step + 1
    if after >= len(canary.ladder):
        return Move("finish", canary.step)
    return Move("finish" if canary.ladder[after] >= 100 else "advance", after)


AGAIN: Final = 300.0
"""Seconds after which a canary that holds for the same reason says anew how far it is."""
OTHERWISE: Final = 5.0
"""Seconds before another reason to hold is worth an entry: two that take turns each second are not."""
FIGURE: Final = re.compile(r"[\d.,]+")


def worth_an_entry(before: CanaryVerdict | None, verdict: CanaryVerdict, since: float) -> bool:
    """Whether a verdict tells enough that is new, `since` seconds after the last one that was kept: a step, another
    reason to hold, or the same one again after `AGAIN` seconds; figures that only grow are no news."""
    if before is None or verdict.verdict != "HOLD" or before.verdict != "HOLD":
        return True
    return since >= (AGAIN if _reason(before) == _reason(verdict) else OTHERWISE)


def _reason(verdict: CanaryVerdict) -> tuple[str, str]:
    """A verdict without its figures."""
    return verdict.metric, FIGURE.sub("", verdict.why)


def _need(rule: CanaryRule, baseline: float) -> int:
    before, after = baseline, min(1.0, baseline + rule.effect)
    middle = (before + after) / 2
    z_level, z_power = _normal.inv_cdf(1 - rule.alpha / 2), _normal.inv_cdf(rule.power)
    root = z_level * math.sqrt(2 * middle * (1 - middle)) + z_power * math.sqrt(
        before * (1 - before) + after * (1 - after)
    )
    return max(rule.least, math.ceil((root / (after - before)) ** 2))


def _wanted(rule: CanaryRule, live: ArmCounts) -> int:
    """What the rule needs, or more where the live version itself errs clearly more than the rule assumed: a rise of
    `effect` is harder to see over more errors. Clearly: by the lower end of a 95 % Wilson interval."""
    planned = _need(rule, rule.baseline)
    if live.errors < FEWEST_ERRORS or live.errors / live.requests <= rule.baseline:
        return planned
    n, share, z = live.requests, live.errors / live.requests, 1.96
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    surely = (share + z * z / (2 * n) - half) / (1 + z * z / n)
    return planned if surely <= rule.baseline else max(planned, _need(rule, min(surely, 1 - rule.effect)))


def _early(rule: CanaryRule, live: ArmCounts, candidate: ArmCounts, wanted: int) -> CanaryVerdict | None:
    """FAIL when the candidate surely errs more, however few requests there are yet; else None."""
    if candidate.errors < FEWEST_ERRORS:
        return None
    before, after = live.errors / live.requests, candidate.errors / candidate.requests
    if after - before < rule.effect or _log_evidence(live, candidate) < math.log(2 / rule.alpha):
        return None
    why = f"error rate {_rate(candidate)} against {_rate(live)} live, surely a rise, seen early at level {rule.alpha:g}"
    return _verdict("FAIL", why, wanted, candidate, value=after, limit=before + rule.effect)


def _decision(rule: CanaryRule, live: ArmCounts, candidate: ArmCounts, wanted: int) -> CanaryVerdict:
    """FAIL or PASS of a step that has all it needs."""
    before, after = live.errors / live.requests, candidate.errors / candidate.requests
    limit = before + rule.effect / 2
    if after >= limit and _p(live, candidate) < rule.alpha / 2:
        why = f"error rate {_rate(candidate)} against {_rate(live)} live, a rise at level {rule.alpha:g}"
        return _verdict("FAIL", why, wanted, candidate, value=after, limit=limit)
    why = f"error rate {_rate(candidate)} against {_rate(live)} live; a rise of {rule.effect:.2%} would show"
    return _verdict("PASS", why, wanted, candidate, value=after, limit=limit)


def _log_evidence(live: ArmCounts, candidate: ArmCounts) -> float:
    """Log of the mixture of likelihood ratios that the errors fall on the candidate more often than requests do."""
    share = candidate.requests / (candidate.requests + live.requests)
    grown = []
    for risk in RISKS:
        theirs = share * risk / (share * risk + 1 - share)
        grown.append(candidate.errors * math.log(theirs / share) + live.errors * math.log((1 - theirs) / (1 - share)))
    return _log_mean(grown)


def _p(live: ArmCounts, candidate: ArmCounts) -> float:
    """One-sided p of the pooled two-proportion z-test."""
    pooled = (live.errors + candidate.errors) / (live.requests + candidate.requests)
    spread = math.sqrt(pooled * (1 - pooled) * (1 / live.requests + 1 / candidate.requests))
    rise = candidate.errors / candidate.requests - live.errors / live.requests
    return 0.5 * math.erfc(rise / spread / math.sqrt(2)) if spread else 1.0


def _latency(rule: CanaryRule, live: ArmCounts, candidate: ArmCounts, wanted: int) -> CanaryVerdict | None:
    """FAIL when the candidate is surely too slow, HOLD when it looks so, None when it is not or cannot be told yet."""
    n = latency.total(candidate.histogram)
    if n < rule.least or latency.total(live.histogram) < rule.least:
        return None
    usual, value = latency.percentile(live.histogram, 95), latency.percentile(candidate.histogram, 95)
    assert usual is not None and value is not None
    limit = usual * rule.latency
    if value <= limit:
        return None
    slow = latency.above(candidate.histogram, limit)
    grown = [slow * math.log(share / SLOW) + (n - slow) * math.log((1 - share) / (1 - SLOW)) for share in SLOWER]
    sure = _log_mean(grown) >= math.log(1 / rule.alpha)
    why = f"P95 {value:.3g} ms, limit {limit:.3g} ms ({rule.latency:g} x live's {usual:.3g} ms), {n:,} requests"
    if not sure:
        why += "; not sure yet, waiting for more"
    return _verdict("FAIL" if sure else "HOLD", why, wanted, candidate, metric="P95 latency", value=value, limit=limit)


def _patience(
    rule: CanaryRule, live: ArmCounts, candidate: ArmCounts, wanted: int, elapsed: float
) -> CanaryVerdict | None:
    """HOLD until both arms have the requests, and their latencies, and the soak is over."""
    for arm, of in ((candidate, ""), (live, " of the live version")):
        if arm.requests < wanted:
            return _verdict("HOLD", f"need {about(wanted)} per arm, have {arm.requests:,}{of}", wanted, candidate)
    for arm, of in ((candidate, "candidate"), (live, "live version")):
        timed = latency.total(arm.histogram)
        if timed < rule.least:
            return _verdict(
                "HOLD", f"need {rule.least:,} latencies of the {of}, have {timed:,}", wanted, candidate, "P95 latency"
            )
    if not elapsed >= rule.soak:
        return _verdict("HOLD", f"soak: {max(0.0, elapsed):.0f} of {rule.soak:.0f} s", wanted, candidate)
    return None


def _verdict(
    verdict: Literal["PASS", "HOLD", "FAIL"],
    why: str,
    wanted: int,
    candidate: ArmCounts,
    metric: str = "error rate",
    value: float | None = None,
    limit: float | None = None,
) -> CanaryVerdict:
    return CanaryVerdict(verdict, why, wanted, candidate.requests, metric, value, limit)


def _rate(arm: ArmCounts) -> str:
    return f"{arm.errors / arm.requests:.2%} ({arm.errors:,} of {arm.requests:,})"


def _log_mean(logs: list[float]) -> float:
    most = max(logs)
    return most + math.log(sum(math.exp(one - most) for one in logs) / len(logs))
