"""What is tried beside the live version: its kind, the share of each arm, the verdict and why."""

from __future__ import annotations

from rich.text import Text

from quarterdeck.tui.widgets.drawing import bar, fit, muted, safe, state
from quarterstore.records.trials import KINDS, Trial, TrialReading


def kind(trial: Trial) -> str:
    """`SHADOW`, `A/B` or `BANDIT`; `ADMITTING` while it waits for its versions."""
    return "ADMITTING" if trial.state == "ADMITTING" else KINDS[trial.kind].upper()


def trial_lines(trial: Trial, reading: TrialReading | None, width: int) -> Text:
    """A bar an arm, then how it stands: of a shadow what it was shown, of others the last verdict and why."""
    text = Text()
    for version, share in zip(trial.versions, trial.shares, strict=True):
        line = Text(no_wrap=True)
        line.append_text(bar(share / 100, max(8, min(24, width - 40))))
        line.append(f" {share:3.0f} % ")
        line.append_text(safe(version, 60, "bold"))
        text.append_text(fit(line, width))
        text.append("\n")
    if trial.kind == "shadow":
        copied, dropped = (reading.copied, reading.dropped) if reading else (0, 0)
        shown = f"shown {copied:,} requests, {dropped:,} dropped for want of room" if reading else "nothing copied yet"
        return text.append_text(muted(f"{shown}; qd shadow report {trial.endpoint}\n"))
    judged = reading.verdict if reading and reading.verdict else trial.judged
    if judged is None:
        return text.append_text(muted(f"not judged yet: outcomes of {trial.metric} are awaited\n"))
    text.append_text(state(judged.verdict))
    text.append("  ")
    why = safe(judged.why, 600)
    why.no_wrap = False
    text.append_text(why)
    text.append("\n")
    return text
