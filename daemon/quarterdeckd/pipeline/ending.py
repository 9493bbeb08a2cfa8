"""How a run of steps ends before its end."""

from __future__ import annotations


class StepEnded(Exception):
    """A step ended and the run with it; `lost` where nobody knows why."""

    def __init__(self, why: str, lost: bool = False) -> None:
        super().__init__(why)
        self.lost = lost
