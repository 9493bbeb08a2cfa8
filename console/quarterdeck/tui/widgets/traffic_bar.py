"""Who has how much of the traffic, readable without colour."""

from __future__ import annotations

from rich.text import Text

from quarterstore.records.names import drawn


def traffic_bar(live: str | None, candidate: str | None, share: int, width: int) -> Text:
    """`live ██████████▒▒ candidate 10 %`."""
    text = Text(no_wrap=True)
    if live is None:
        return Text("no traffic", style="grey62")
    taken = round(share / 100 * width)
    if candidate is not None and share:
        taken = max(1, taken)
    text.append("█" * (width - taken), style="green")
    text.append("▒" * taken, style="yellow")
    text.append(f" {drawn(live)} {100 - share} %")
    if candidate is not None:
        text.append(f"  ▒ {drawn(candidate)} {share} %", style="yellow")
    return text


def ladder(steps: tuple[int, ...], at: int) -> Text:
    """The steps of a canary with the one it is at."""
    text = Text(no_wrap=True)
    for index, step in enumerate(steps):
        mark = "●" if index < at else "◉" if index == at else "○"
        text.append(f"{mark} {step} %", style="bold yellow" if index == at else "grey62" if index > at else "green")
        text.append(" › " if index < len(steps) - 1 else "")
    return text
