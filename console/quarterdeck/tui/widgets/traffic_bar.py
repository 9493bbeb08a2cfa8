"""Who has how much of the traffic of an endpoint; readable without colour."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from rich.text import Text

from quarterdeck.tui.widgets.drawing import MUTED, fit, muted, safe
from quarterstore.records.deployments import Deployment
from quarterstore.records.trials import Trial

FILLS = (
    ("█", "green"),
    ("▒", "yellow"),
    ("░", "cyan"),
    ("▓", "magenta"),
    ("▚", "blue"),
    ("▤", "red"),
    ("▥", "green"),
    ("▦", "yellow"),
    ("▧", "cyan"),
    ("▨", "magenta"),
)
"""Of the live version first; as many as a bandit may have arms."""
Shares = Sequence[tuple[str, float]]
"""Versions with the percent of the requests that each answers, the live one first."""


def shares_of(found: Deployment, trial: Trial | None) -> Shares:
    """Who answers at an endpoint now; a shadow answers nobody."""
    if found.live is None:
        return ()
    if found.canary is not None:
        return ((found.live, 100 - found.canary.share), (found.canary.candidate, found.canary.share))
    if trial is not None and trial.state == "RUNNING" and trial.kind != "shadow":
        return tuple(zip(trial.versions, trial.shares, strict=True))
    return ((found.live, 100),)


def traffic_bar(shares: Shares, width: int) -> Text:
    """`█████████▒▒` over the whole width, and below it who is which, in percent."""
    if not shares:
        return muted("no traffic: nothing is live here\n")
    text = strip([share for _, share in shares], width)
    text.append("\n")
    line = Text(no_wrap=True)
    for (version, share), (mark, colour) in zip(shares, FILLS, strict=False):
        one = Text.assemble((f"{mark} ", colour), safe(version, 60, "bold"), f" {share:.0f} %")
        if line.cell_len and line.cell_len + 3 + one.cell_len > width:
            text.append_text(line).append("\n")
            line = Text(no_wrap=True)
        line.append("   " if line.cell_len else "")
        line.append_text(fit(one, width))
    return text.append_text(line).append("\n")


def strip(shares: Sequence[float], width: int) -> Text:
    """The bar alone; who has any share has at least one cell of it."""
    ends = [round(sum(shares[: index + 1]) / 100 * width) for index in range(len(shares))]
    cells = [end - start for start, end in itertools.pairwise((0, *ends))]
    for index, share in enumerate(shares):
        if share and not cells[index]:
            cells[index] = 1
            cells[cells.index(max(cells))] -= 1
    text = Text(no_wrap=True)
    for count, (mark, colour) in zip(cells, FILLS, strict=False):
        text.append(mark * count, style=colour)
    return text if text.plain else Text("·" * width, style=MUTED, no_wrap=True)
