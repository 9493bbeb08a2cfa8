"""The gates of a canary beyond errors and latency: each is surely kept, surely broken, or waits for more.

What is judged is how much worse the candidate is, from all values since the canary began, with an interval that holds
however often it is looked at (`measures.margin`), at the rule's level divided by the number of gates.

margin      accuracy, calibration, metric. FAIL when it is surely worse and the estimate is beyond the limit; PASS when
            the whole interval is within the limit (non-inferiority); HOLD otherwise.
ceiling     disagreement, fairness. FAIL when the whole interval is above the limit, PASS when it is below.
psi         noise alone makes about (1/n + 1/n') chi-square(bins - 1) of it (Yurdakul 2018): with twice as many rows as
            keep that below the limit (at the level), PASS below the limit and FAIL from it on.

No reading, too few values or too small a coverage is HOLD, with what is needed; never PASS.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, NamedTuple

from quarterdeckd.measures.margin import chi_square, half_width, need
from quarterstore.records.canaries import UNITS, CanaryGate, CanaryRule, GateReading, GateVerdict, Measured, Verdict
from quarterstore.records.faults import got
from quarterstore.records.names import checked_text, checked_word

OF: Final = ("metric", "fairness")
COVERED: Final = ("accuracy", "calibration", "fairness")
UNKNOWN_BINS: Final = 10
WORST_VARIANCE: Final = 0.25
"""Of a share, before anything is known of it."""


class Terms(NamedTuple):
    """What all gates of a rule are judged under."""

    level: float
    power: float
    least: int


def checked_gates(gates: Sequence[CanaryGate]) -> tuple[CanaryGate, ...]:
    """The gates, or a fault that names the one that makes no sense."""
    seen: set[str] = set()
    for gate in gates:
        if gate.name in seen:
            raise got("gates", f"{gate.name} twice", "each gate once")
        seen.add(gate.name)
        _checked(gate)
    return tuple(gates)


def _checked(gate: CanaryGate) -> None:
    field = f"gates.{gate.name}"
    if bool(gate.of) != (gate.kind in OF):
        raise got(field, gate.of or "nothing", "what it is of" if gate.kind in OF else f"{gate.kind}:LIMIT")
    if gate.kind == "metric":
        checked_word(field, gate.of)
        if not (math.isfinite(gate.limit) and gate.limit):
            raise got(field, gate.limit, "how far the mean may fall (below 0) or rise (above 0)")
    elif gate.relative:
        raise got(field, "a limit in percent", "an absolute one; only a metric has relative ones")
    elif not 0 < gate.limit < (10 if gate.kind == "psi" else 1):
        raise got(field, gate.limit, "a limit above 0, below " + ("10" if gate.kind == "psi" else "1"))
    if gate.of:
        checked_text(field, gate.of)
    if not 0 < gate.coverage <= 1:
        raise got(field, f"coverage {gate.coverage}", "a share above 0, at most 1")


def judge_gates(rule: CanaryRule, readings: Sequence[GateReading]) -> tuple[GateVerdict, ...]:
    """Every gate of the rule judged on its reading, in the order of the rule."""
    by_name = {reading.gate: reading for reading in readings}
    terms = Terms(rule.alpha / max(1, len(rule.gates)), rule.power, rule.least)
    return tuple(judge_gate(gate, by_name.get(gate.name), terms) for gate in rule.gates)


def judge_gate(gate: CanaryGate, reading: GateReading | None, terms: Terms) -> GateVerdict:
    """One gate judged; depends on nothing but what is given, so it says the same after a restart."""
    if reading is None or reading.missing:
        why = reading.missing if reading else "nothing is measured yet"
        wanted = _needed(gate, reading or GateReading(gate.name), terms)
        return _verdict(
            gate, "HOLD", f"{why}; need {about(wanted)} {UNITS[gate.kind]} per {_place(gate)}", None, 0, wanted
        )
    if gate.kind == "psi":
        return _psi(gate, reading, terms)
    return _short(gate, reading, terms) or _decided(gate, reading, terms)


# what is needed


def _needed(gate: CanaryGate, reading: GateReading, terms: Terms) -> int:
    """Values per arm to see a difference of the limit, or to see on which side of a ceiling a share is."""
    live, candidate = reading.live, reading.candidate
    if gate.kind == "psi":
        bins = reading.bins or UNKNOWN_BINS
        return max(terms.least, math.ceil(4 * chi_square(max(1, bins - 1), terms.level) / gate.limit))
    if gate.kind == "metric" and min(live.n, candidate.n) < terms.least:
        return terms.least  # its spread is not known
    if gate.kind == "disagreement":
        share = candidate.mean if candidate.n >= terms.least else gate.limit / 2
        distance = max(abs(gate.limit - share), gate.limit / 4)
        return max(terms.least, need(max(share, gate.limit / 4) * (1 - share), distance, terms.level, terms.power))
    known = [each.variance for each in (live, candidate) if each.n >= terms.least] or [WORST_VARIANCE]
    variance = 2 * sum(known) / len(known)
    if gate.kind == "fairness":
        distance = max(abs(gate.limit - _worse(gate, reading)), gate.limit / 4) if len(known) > 1 else gate.limit
        return max(terms.least, need(variance, distance, terms.level, terms.power))
    return max(terms.least, need(variance, _limit(gate, live), terms.level, terms.power))


def _short(gate: CanaryGate, reading: GateReading, terms: Terms) -> GateVerdict | None:
    """HOLD below the least number of values, where no interval can be trusted."""
    for of, arm in _arms(gate, reading):
        if arm.n < terms.least:
            wanted = _needed(gate, reading, terms)
            why = f"need {about(wanted)} {UNITS[gate.kind]} per {_place(gate)}, have {arm.n:,}{of}"
            return _verdict(gate, "HOLD", why, None, arm.n, wanted)
    return None


def _arms(gate: CanaryGate, reading: GateReading) -> tuple[tuple[str, Measured], ...]:
    """What has to be enough, the candidate's first, and whose it is."""
    if gate.kind == "disagreement":
        return (("", reading.candidate),)
    if gate.kind == "fairness":
        return ((" of the smallest", min(reading.live, reading.candidate, key=lambda each: each.n)),)
    return ("", reading.candidate), (" of the live version", reading.live)


def _place(gate: CanaryGate) -> str:
    return "group" if gate.kind == "fairness" else "arm"


# what is decided


def _worse(gate: CanaryGate, reading: GateReading) -> float:
    """How much worse the candidate is, or what is held against the ceiling."""
    live, candidate = reading.live.mean, reading.candidate.mean
    if gate.kind == "disagreement":
        return candidate
    if gate.kind == "fairness":
        return abs(candidate - live)
    falls = gate.kind == "accuracy" or (gate.kind == "metric" and gate.limit < 0)
    return live - candidate if falls else candidate - live


def _limit(gate: CanaryGate, live: Measured) -> float:
    limit = abs(gate.limit)
    return limit * abs(live.mean) if gate.relative else limit


def _decided(gate: CanaryGate, reading: GateReading, terms: Terms) -> GateVerdict:
    live, candidate, n = reading.live, reading.candidate, _arms(gate, reading)[0][1].n
    limit, worse = _limit(gate, live), _worse(gate, reading)
    if limit <= 0:
        why = f"the live version's mean is 0: {abs(gate.limit):.0%} of it is nothing"
        return _verdict(gate, "HOLD", why, worse, n, terms.least)
    variance = _of_mean(gate, candidate) + (0.0 if gate.kind == "disagreement" else _of_mean(gate, live))
    half = half_width(variance, limit, terms.level)
    wanted, words = _needed(gate, reading, terms), _words(gate, reading, worse, limit)
    floor = limit if gate.kind in ("disagreement", "fairness") else 0.0
    verdict: Verdict = "HOLD"
    if worse >= limit and worse - half > floor:
        verdict = "FAIL"
    elif worse + half <= limit:
        if (thin := _thin(gate, reading)) is not None:
            return _verdict(gate, "HOLD", thin, worse, n, wanted, limit)
        verdict = "PASS"
    else:
        words = f"{words}; not sure yet, need {about(max(wanted, n + 1))} {UNITS[gate.kind]} per {_place(gate)}"
    return _verdict(gate, verdict, words, worse, n, wanted, limit)


def _thin(gate: CanaryGate, reading: GateReading) -> str | None:
    """Why a gate that looks kept may not pass: labels that are missing may be the bad ones."""
    if gate.kind not in COVERED:
        return None
    for share, of in zip(reading.coverage or (0.0, 0.0), ("live version", "candidate"), strict=True):
        if share < gate.coverage:
            return f"{share:.0%} of the {of}'s predictions are labelled, need {gate.coverage:.0%}"
    return None


def _of_mean(gate: CanaryGate, arm: Measured) -> float:
    """The variance of a mean; of a share with one row of either kind added, since none seen is not none."""
    if gate.kind in ("accuracy", "disagreement", "fairness"):
        share = (arm.mean * arm.n + 1) / (arm.n + 2)
        return share * (1 - share) / arm.n
    return arm.variance / arm.n


def _words(gate: CanaryGate, reading: GateReading, worse: float, limit: float) -> str:
    live, candidate, n = reading.live, reading.candidate, f"{_arms(gate, reading)[0][1].n:,} {UNITS[gate.kind]}"
    if gate.kind == "disagreement":
        return f"disagrees with the live version in {worse:.2%}, limit {limit:.2%}, {n}"
    if gate.kind == "fairness":
        return f"differs by {worse:.3g} between groups, limit {limit:.3g}, {n} in the smaller"
    how = f"{abs(worse):.3g} {'worse' if worse > 0 else 'better'}" if worse else "equal"
    what = "ECE " if gate.kind == "calibration" else ""
    return f"{what}{candidate.mean:.4g} against {live.mean:.4g} live, {how}, limit {limit:.3g}, {n}"


def _psi(gate: CanaryGate, reading: GateReading, terms: Terms) -> GateVerdict:
    wanted, have = _needed(gate, reading, terms), min(reading.live.n, reading.candidate.n)
    if have < wanted or reading.value is None:
        of = " of the live version" if reading.live.n < reading.candidate.n else ""
        why = f"need {about(wanted)} predictions per arm, have {have:,}{of}"
        return _verdict(gate, "HOLD", why, reading.value, have, wanted)
    why = f"PSI {reading.value:.3g} of the predictions, limit {gate.limit:g}, {reading.candidate.n:,} predictions"
    verdict: Verdict = "FAIL" if reading.value >= gate.limit else "PASS"
    return _verdict(gate, verdict, why, reading.value, reading.candidate.n, wanted)


def _verdict(
    gate: CanaryGate, verdict: Verdict, why: str, value: float | None, n: int, need: int, limit: float | None = None
) -> GateVerdict:
    return GateVerdict(
        gate=gate.name,
        verdict=verdict,
        why=why,
        value=value,
        limit=gate.limit if limit is None else limit,
        n=n,
        need=need,
        unit=UNITS[gate.kind],
    )


def about(n: int) -> str:
    """A number that is needed: whole below 1,000, else to the nearest hundred."""
    return f"{n:,}" if n < 1000 else f"about {round(n, -2):,}"
