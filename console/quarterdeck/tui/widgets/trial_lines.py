"""What is tried beside the live version: how a shadow agrees, how an A/B test stands, what a bandit deals."""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence

from rich.text import Text

from quarterdeck.tui.widgets.drawing import MUTED, age, bar, fit, grid, muted, number, right, safe, state
from quarterdeck.tui.widgets.plot import Series, plot
from quarterstore.records.trials import KINDS, ShadowReport, Slice, Trial, TrialPoint, TrialReading, TrialVerdict

SLICES = 4
APART = 3
"""Slices and disagreements of a shadow on its card."""


def kind(trial: Trial) -> str:
    """`SHADOW`, `A/B` or `BANDIT`; `ADMITTING` while it waits for its versions."""
    return "ADMITTING" if trial.state == "ADMITTING" else KINDS[trial.kind].upper()


def trial_brief(trial: Trial, reading: TrialReading | None) -> Text:
    """How it stands, in a line or two: of a shadow what it was shown, of others the last verdict and why."""
    if trial.kind == "shadow":
        copied, dropped = (reading.copied, reading.dropped) if reading else (0, 0)
        shown = f"shown {copied:,} requests, {dropped:,} dropped for want of room" if reading else "nothing copied yet"
        return Text.assemble(muted(f"{shown}\n"))
    judged = _now(trial, reading)
    if judged is None:
        return Text.assemble(muted(f"not judged yet: outcomes of {trial.metric} are awaited\n"))
    why = safe(judged.why, 600)
    why.no_wrap = False
    return Text.assemble(state(judged.verdict), "  ", why, "\n")


def _now(trial: Trial, reading: TrialReading | None) -> TrialVerdict | None:
    return reading.verdict if reading and reading.verdict else trial.judged


def shadow_lines(trial: Trial, reading: TrialReading | None, report: ShadowReport | None, width: int) -> Text:
    """What it was shown; how often it agrees, the surely worst slices, the largest disagreements."""
    text = trial_brief(trial, reading)
    if report is None or report.trial != trial.id:
        return text
    words = safe(report.words, 400)
    words.no_wrap = False
    if report.rate is None:
        return text.append_text(words).append("\n")
    text.append_text(bar(report.rate, max(8, min(24, width - 30))))
    text.append(f" {report.rate:.2%} agree, {report.low:.2%} to {report.high:.2%}\n")
    text.append_text(words).append("\n")
    text.append_text(muted(f"P95 ms: {number(report.shadow_p95, 3)} beside {number(report.live_p95, 3)} live\n"))
    if report.slices:
        text.append("\nworst slices\n", style="bold")
        heads = (safe("field", style=MUTED), safe("value", style=MUTED), *(right(w, MUTED) for w in ("rows", "agree")))
        rows = [heads, *(_slice(each) for each in report.slices[:SLICES])]
        text.append_text(grid(rows, (14, max(8, min(24, width - 50)), 8, 22)))
    if report.disagreements:
        text.append("\nlargest disagreements", style="bold").append_text(muted("  d lists them\n"))
        for each in report.disagreements[:APART]:
            line = Text.assemble(
                safe(said(each.live, each.live_score), 20),
                " → ",
                safe(said(each.shadow, each.shadow_score), 20, "yellow"),
                "  ",
            )
            text.append_text(fit(line.append_text(safe(asked(each.inputs), 200, MUTED)), width)).append("\n")
    return text


def given(value: object) -> object:
    """A value of a request as it was written: the shortest figure that is the same FP32, where it is one."""
    if not isinstance(value, float) or not math.isfinite(value):
        return value
    for digits in range(6, 10):
        short = f"{value:.{digits}g}"
        if _as_fp32(float(short)) == value:
            return short
    return value


def _as_fp32(value: float) -> float:
    try:
        found: float = struct.unpack("f", struct.pack("f", value))[0]
    except OverflowError:
        return math.inf
    return found


def asked(inputs: Mapping[str, object]) -> str:
    """What is kept of a request, on one line."""
    return ", ".join(f"{name} {given(value)}" for name, value in inputs.items())


def said(label: str | None, score: float | None) -> str:
    """What was answered: the label, or the score of a model that gives nothing else."""
    return number(score, 4) if label is None else label


def _slice(each: Slice) -> tuple[Text, ...]:
    rate = f"{each.rate:.1%} ({each.low:.0%} to {each.high:.0%})"
    return safe(each.field, 40), safe(each.value, 40), right(f"{each.pairs:,}"), right(rate)


def ab_lines(trial: Trial, heard: Sequence[TrialReading], now: float, width: int, height: int) -> Text:
    """The verdict and why, the outcomes it has of those it needs, whether the arms are as dealt, the interval over
    time."""
    reading = heard[-1] if heard else None
    text = trial_brief(trial, reading)
    judged = _now(trial, reading)
    if judged is None:
        return text
    if judged.need:
        text.append_text(bar(judged.have / judged.need, max(8, min(40, width - 40))))
        text.append(f" {judged.have:,} of {judged.need:,} outcomes per arm needed\n")
    if judged.ratio is not None:
        counted = " against ".join(f"{each:,}" for each in judged.callers)
        dealt = " to ".join(f"{share:g}" for share in trial.shares)
        fits = "as dealt" if judged.ratio >= 0.001 else "NOT AS DEALT"
        text.append_text(muted(f"callers {counted}, dealt {dealt}: {fits} (p {judged.ratio:.2g})\n"))
    points = [each for each in stood(trial, heard) if each.low is not None]
    if len(points) < 2:
        return text.append_text(muted("the interval is drawn from the second look on that has one\n"))
    xs = [each.at - now for each in points]
    series = [
        Series("difference", xs, [each.difference for each in points]),
        Series("high", xs, [each.high for each in points]),
        Series("low", xs, [each.low for each in points]),
        Series("none", [xs[0], xs[-1]], [0.0, 0.0]),
    ]
    ends = (f"{age(-xs[0])} ago", f"{age(-xs[-1])} ago")
    return text.append_text(plot(series, width, height, ends=ends, lines=2))


def bandit_lines(trial: Trial, heard: Sequence[TrialReading], now: float, width: int, height: int) -> Text:
    """What each arm earned, then their shares over time."""
    text = trial_brief(trial, heard[-1] if heard else None)
    points = [each for each in trial.history if len(each.shares) == len(trial.versions)]
    if not points:
        return text
    xs = [*(each.at - now for each in points), 0.0]
    series = [
        Series(version, xs, [*(each.shares[index] for each in points), trial.shares[index]])
        for index, version in enumerate(trial.versions)
    ]
    ends = (f"{age(-xs[0])} ago", "now")
    return text.append_text(plot(series, width, height, ends=ends, unit="%", floor=0.0, lines=2))


def stood(trial: Trial, heard: Sequence[TrialReading]) -> list[TrialPoint]:
    """How a trial stood: what is kept of it, then what was heard since."""
    last = trial.history[-1].at if trial.history else 0.0
    news = [
        TrialPoint(
            each.at,
            each.verdict.verdict,
            each.verdict.have,
            each.verdict.difference,
            each.verdict.low,
            each.verdict.high,
        )
        for each in heard
        if each.verdict is not None and each.at > last
    ]
    return [*trial.history, *news]
