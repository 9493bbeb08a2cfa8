"""A daemon that remembers what it was asked, and points to log."""

from __future__ import annotations

from array import array
from collections.abc import AsyncIterator
from typing import Any

from quarterdeck.async_client import AsyncClient
from quarterdeck.tui.widgets.record_table import RecordTable
from quarterstore.records import runs
from quarterstore.records.search import SearchRuns

COUNT = 430
"""Finished runs of the home `many`."""


class Heard:
    """A real connection that remembers what was asked."""

    def __init__(self, deck: AsyncClient) -> None:
        self._deck = deck
        self.asked: list[Any] = []

    async def ask(self, message: Any) -> Any:
        """Ask, and remember."""
        self.asked.append(message)
        return await self._deck.ask(message)

    def searches(self) -> list[SearchRuns]:
        """The searches among them."""
        return [each for each in self.asked if isinstance(each, SearchRuns)]

    async def follow(self) -> AsyncIterator[Any]:
        """The feed as it is."""
        async for item in self._deck.follow():
            yield item

    def on_state(self, callback: Any) -> None:
        """As it is."""
        self._deck.on_state(callback)

    async def close(self) -> None:
        """Let go."""
        await self._deck.close()


def points(run: str, values: dict[str, list[float]], start: int = 0) -> runs.LogMetrics:
    """One batch."""
    rows = [
        (key, start + step, 1e9 + start + step, value)
        for key, each in enumerate(values.values())
        for step, value in enumerate(each)
    ]
    return runs.LogMetrics(
        run=run,
        batch=f"{run}.{start}",
        keys=tuple(values),
        key=array("H", [row[0] for row in rows]).tobytes(),
        step=array("q", [row[1] for row in rows]).tobytes(),
        time=array("d", [row[2] for row in rows]).tobytes(),
        value=array("d", [row[3] for row in rows]).tobytes(),
    )


def table(app: Any) -> RecordTable:
    """The table in sight."""
    found: RecordTable = app.screen.query_one(RecordTable)
    return found
