"""Pages of a search that are turned by the keys the daemon gives, from either end."""

from __future__ import annotations

from quarterdeck.tui.widgets.record_table import WINDOW
from quarterstore.records.runs import RunPage
from quarterstore.records.search import SearchRuns


class Pages:
    """Which page of a search is in sight; `start` runs come before it."""

    def __init__(self) -> None:
        self.start = 0
        self.total = 0
        self._after: str | None = None
        self._backward = False
        self._limit = WINDOW
        self._next: str | None = None
        self._previous: str | None = None

    def query(self, where: str, order: tuple[str, ...]) -> SearchRuns:
        """What asks for the page."""
        return SearchRuns(where=where, order=order, limit=self._limit, after=self._after, backward=self._backward)

    def took(self, page: RunPage) -> None:
        """The daemon's answer: it knows what comes before and after."""
        if page.previous is None:
            self.first()  # also where it was come to from below: its runs may be fewer than a page
        elif page.next is None:
            self.start = page.total - len(page.runs)
        self.total, self._next, self._previous = page.total, page.next, page.previous

    def further(self) -> set[int]:
        """The sides on which there are more: 1 after this page, -1 before it."""
        return {by for by, key in ((1, self._next), (-1, self._previous)) if key is not None}

    def turn(self, by: int) -> bool:
        """Go on or back by one; whether there is such a page."""
        key = self._next if by > 0 else self._previous
        if key is None:
            return False
        self._to(key, backward=by < 0)
        self.start += WINDOW if by > 0 else -WINDOW  # only the first and the last may hold fewer
        return True

    def first(self) -> bool:
        """To the first page; whether it was another."""
        there = self.start > 0 or self._after is not None
        self._to(None)
        self.start = 0
        return there

    def last(self) -> bool:
        """To the last page, which begins where turning page after page would have begun it; whether it was another."""
        if self._next is None:
            return False
        self._to(None, backward=True, limit=(self.total - 1) % WINDOW + 1)
        return True

    def _to(self, after: str | None, backward: bool = False, limit: int = WINDOW) -> None:
        self._after, self._backward, self._limit = after, backward, limit
        self._next = self._previous = None
