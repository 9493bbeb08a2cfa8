"""A book of records in memory."""

from __future__ import annotations

from quarterstore.ledger.state import Cursor, State


def test_a_book_that_changes_while_it_is_read_gives_what_was_in_it_at_the_start() -> None:
    """Threads read the view that the loop changes: a dictionary that grows under an iterator is an error of ours."""
    cursors = State().cursors
    cursors.put(Cursor(name="one", value="1"))
    cursors.put(Cursor(name="two", value="2"))
    seen = []
    for each in cursors:
        seen.append(each.name)
        cursors.put(Cursor(name=f"after {each.name}", value=""))
        cursors.drop(each.name)
    assert seen == ["one", "two"]
    assert [each.name for each in cursors] == ["after one", "after two"]
