"""Counts as bars that stand beside each other, in eighths of a cell."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rich.text import Text

from quarterdeck.tui.widgets.drawing import MUTED, number

BLOCKS = " ▁▂▃▄▅▆▇█"
WIDEST = 5


def histogram(counts: Sequence[int], reach: float, width: int, height: int) -> Text:
    """Rows by their difference, from `-reach` to `reach`; the bars grow with the logarithm, so that a few rows far out
    are seen beside the many that did not change. Below them the ends, and the middle where there is an odd number."""
    broad = max(1, min(WIDEST, width // max(1, len(counts))))
    top = math.log1p(max(counts, default=0)) or 1.0
    eighths = [max(1, round(math.log1p(count) / top * height * 8)) if count else 0 for count in counts]
    text = Text(no_wrap=True)
    for row in range(height - 1, -1, -1):
        for index, tall in enumerate(eighths):
            middle = index == len(counts) // 2
            cell = BLOCKS[max(0, min(8, tall - row * 8))]
            text.append(cell * max(1, broad - 1) + " " * (broad > 1), style="green" if middle else "yellow")
        text.append("\n")
    whole = broad * len(counts)
    text.append("─" * whole + "\n", style=MUTED)
    ends = (f"-{number(reach, 3)}", "0", f"+{number(reach, 3)}")
    room = max(2, whole - sum(map(len, ends)))
    text.append(ends[0] + " " * (room // 2) + ends[1] + " " * (room - room // 2) + ends[2] + "\n", style=MUTED)
    return text
