"""No colour at all, for NO_COLOR: what stands out by its background is drawn reversed instead."""

from __future__ import annotations

from functools import lru_cache

from rich.color import Color as RichColor
from rich.segment import Segment
from rich.style import Style
from textual.color import Color
from textual.filter import LineFilter

STANDS_OUT = 0.13
"""Difference of brightness (0 to 1) from the widget's own background above which a background is a mark, such as the
cursor's, and no shade."""


class Colourless(LineFilter):
    """Takes the place of Textual's filter for NO_COLOR, which turns colours into greys and still sends them."""

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        """The segments with the marks of their text, without a colour."""
        return [
            Segment(text, None if style is None else _plain(style, background), control)
            for text, style, control in segments
        ]


@lru_cache(1024)
def _plain(style: Style, background: Color) -> Style:
    marked = style.bgcolor is not None and _apart(style.bgcolor, background) > STANDS_OUT
    meta = style.meta
    plain = style.without_color + Style(meta=meta) if meta else style.without_color  # what a click is for
    return plain + Style(reverse=not style.reverse) if marked else plain


def _apart(colour: RichColor, background: Color) -> float:
    return abs(Color.from_rich_color(colour).brightness - background.brightness)
