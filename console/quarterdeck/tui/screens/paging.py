"""Pages that are turned by the keys the daemon gave, forward by the newest, back by those that were kept."""

from __future__ import annotations


class Pages:
    """Where we are in a search of which only one page is in sight."""

    def __init__(self) -> None:
        self._keys: list[str | None] = [None]
        self.following: str | None = None
        """The key of the page after this one; `None` at the end."""

    @property
    def number(self) -> int:
        """Pages before this one."""
        return len(self._keys) - 1

    @property
    def after(self) -> str | None:
        """The key that this page is asked for with."""
        return self._keys[-1]

    def turn(self, by: int) -> bool:
        """Go on or back by one; whether there is such a page."""
        if by < 0 and self.number:
            self.following = self._keys.pop()
            return True
        if by > 0 and self.following is not None:
            self._keys.append(self.following)
            self.following = None
            return True
        return False

    def first(self) -> bool:
        """Back to the first page; whether it was another."""
        there = bool(self.number)
        self._keys, self.following = [None], None if there else self.following
        return there
