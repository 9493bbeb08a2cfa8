"""Who has how much of the traffic, and how far a canary is; readable without colour."""

from __future__ import annotations

from rich.text import Text

from quarterdeck.tui.widgets.drawing import MUTED, bar, fit, muted, safe, state
from quarterstore.records.canaries import GateVerdict
from quarterstore.records.deployments import Canary, CanaryVerdict


def traffic_bar(live: str | None, candidate: str | None, share: int, width: int) -> Text:
    """`█████████▒▒` over the whole width, and below it who is which, in percent."""
    if live is None and candidate is None:
        return muted("no traffic: nothing is live here\n")
    text = strip(live, candidate, share, width)
    text.append("\n")
    names = Text(no_wrap=True)
    if live is not None:
        names.append("█ ", style="green")
        names.append_text(safe(live, 60, "bold"))
        names.append(f" {100 - share if candidate else 100} %")
    if candidate is not None:
        names.append("   ▒ ", style="yellow")
        names.append_text(safe(candidate, 60, "bold"))
        names.append(f" {share} %", style="yellow")
    text.append_text(fit(names, width))
    text.append("\n")
    return text


def strip(live: str | None, candidate: str | None, share: int, width: int) -> Text:
    """The bar alone; a candidate with any share has at least one cell of it."""
    if live is None and candidate is None:
        return Text("·" * width, style=MUTED, no_wrap=True)
    taken = 0 if candidate is None else max(1 if share else 0, round(share / 100 * width))
    text = Text("█" * (width - taken), style="green", no_wrap=True)
    text.append("▒" * taken, style="yellow")
    return text


def ladder(steps: tuple[int, ...], at: int) -> Text:
    """The steps of a canary with the one it is at."""
    text = Text(no_wrap=True)
    for index, step in enumerate(steps):
        done, here = index < at, index == at
        mark = "✓" if done else "◉" if here else "○"
        text.append(f"{mark} {step} %", style="green" if done else "bold yellow" if here else MUTED)
        if index < len(steps) - 1:
            text.append(" ── ", style="green" if done else MUTED)
    return text


def canary_lines(canary: Canary, judged: CanaryVerdict | None, width: int) -> Text:
    """The ladder, the verdict on its step and why, and how many requests there are of those it needs."""
    text = fit(ladder(canary.ladder, canary.step), width)
    text.append("\n")
    if judged is None:
        text.append_text(muted("this step was not judged yet\n"))
        return text
    text.append_text(state(judged.verdict))
    text.append("  ")
    why = safe(judged.why, 400)
    why.no_wrap = False
    text.append_text(why)
    text.append("\n")
    text.append_text(bar(judged.have / max(1, judged.need), max(8, min(40, width - 40))))
    text.append(f" {judged.have:,} of {judged.need:,} {judged.unit} needed\n")
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
