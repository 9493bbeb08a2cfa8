"""How far a canary is: its ladder, the verdict on its step and why, how many requests it has of those it needs."""

from __future__ import annotations

from rich.text import Text

from quarterdeck.tui.widgets.drawing import MUTED, age, bar, clock, fit, grid, muted, right, safe, state
from quarterstore.records.canaries import CanaryVerdict, GateVerdict
from quarterstore.records.deployments import Canary

SHORT = 4
"""Cells below which a bar says nothing."""


def ladder(steps: tuple[int, ...], at: int) -> Text:
    """The steps of a canary on one line, with the one it is at."""
    text = Text(no_wrap=True)
    for index, step in enumerate(steps):
        done, here = index < at, index == at
        mark = "✓" if done else "◉" if here else "○"
        text.append(f"{mark} {step} %", style="green" if done else "bold yellow" if here else MUTED)
        if index < len(steps) - 1:
            text.append(" ── ", style="green" if done else MUTED)
    return text


def steps(canary: Canary, now: float, width: int) -> Text:
    """A line a step: when it began, how long it took or takes, and what it had when it went on."""
    rows: list[tuple[Text, ...]] = []
    for each in canary.passed:
        took = age(each.until - each.since)
        rows.append(_step("✓", "green", each.share, clock(each.since, now), took, each.verdict))
    took = age(now - canary.step_since)
    rows.append(_step("◉", "bold yellow", canary.share, clock(canary.step_since, now), took, None))
    for share in canary.ladder[canary.step + 1 :]:
        rows.append(_step("○", MUTED, share, "to come", "", None))
    return grid(rows, (1, 5, 12, 7, max(10, width - 33)))


def _step(mark: str, style: str, share: int, since: str, took: str, verdict: CanaryVerdict | None) -> tuple[Text, ...]:
    words = f"{verdict.have:,} of {verdict.need:,} {verdict.unit} needed" if verdict else ""
    return Text(mark, style=style), right(f"{share} %", style), safe(since), right(took), safe(words, style=MUTED)


def canary_lines(judged: CanaryVerdict | None, width: int, pace: float | None = None) -> Text:
    """The verdict on the step and why, how many requests there are of those it needs, and with a `pace` (the
    candidate's requests a second) in how long they will be there; each gate."""
    if judged is None:
        return muted("this step was not judged yet\n")
    why = safe(judged.why, 400)
    why.no_wrap = False
    text = Text.assemble(state(judged.verdict), "  ", why, "\n")
    room = width - len(f" {judged.need:,} of {judged.need:,} {judged.unit} needed")  # the bar is as long when more came
    if room >= SHORT:
        text.append_text(bar(judged.have / max(1, judged.need), min(40, room))).append(" ")
    text.append(f"{judged.have:,} of {judged.need:,} {judged.unit} needed\n")
    lacking = judged.need - judged.have
    if pace and lacking > 0 and judged.unit == "requests":
        text.append_text(muted(f"in about {age(lacking / pace)} at {pace:.3g} requests a second to it\n"))
    if judged.gates:
        text.append_text(_gates(judged.gates, width))
    return text


def _gates(gates: tuple[GateVerdict, ...], width: int) -> Text:
    """A line a gate: its verdict, what it is, the value against the limit on how many, or why there is none."""
    text = Text()
    longest = min(24, max(len(gate.gate) for gate in gates))
    for gate in gates:
        line = state(gate.verdict)
        line.append("  ")
        line.append_text(safe(gate.gate, longest))
        line.append(" " * max(0, longest - len(gate.gate)) + "  ")
        line.append_text(safe(gate.why, 400, MUTED))
        text.append_text(fit(line, width))
        text.append("\n")
    return text
