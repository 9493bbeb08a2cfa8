"""What is longer than its room goes on below its own beginning, with nothing lost."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.text import Text

from quarterdeck.tui.keymap import SCREENS, SHORT
from quarterdeck.tui.snapshot import worst_first
from quarterdeck.tui.widgets.drawing import facts, folded
from quarterdeck.tui.widgets.frame import TabLine
from quarterstore.records.monitoring import Alert


@given(st.text(alphabet="ab c…漢", max_size=200), st.integers(4, 60))
def test_a_folded_line_holds_every_letter_in_lines_that_fit(words: str, width: int) -> None:
    lines = folded(Text(words), width)
    assert all(cell_len(line.plain) <= width for line in lines)
    assert "".join(line.plain for line in lines).replace(" ", "") == words.replace(" ", "")


def test_a_long_fact_is_indented_under_its_first_line() -> None:
    found = facts((("tags", "team=fraud " * 10), ("next", "-")), room=60).plain.splitlines()
    assert found[0].startswith("tags         team=fraud") and found[1].startswith(" " * 13 + "team=fraud")
    assert found[-1].startswith("next         -") and all(len(line) <= 60 for line in found)


def test_every_tab_and_what_waits_in_it_fits_into_80_columns() -> None:
    """The badges stay where names have to be short, however much waits."""
    line = TabLine("monitoring")
    line._waiting = {"monitoring": 120, "governance": 11, "hooks": 3}
    text = line.line(78).plain
    assert len(text) <= 78 and "6 mon▲9+" in text and "7 gov▲9+" in text and "8 hooks▲3" in text
    assert all(f"{key} {SHORT.get(name, name)[:3]}" in text for key, name in SCREENS)
    assert "6 monitoring 120▲" in line.line(158).plain


def test_the_gravest_alert_stands_first_and_of_equal_ones_the_newest() -> None:
    found = [
        Alert(f"alert-{n}", "drift", "churn", word, "", 5.0)
        for n, word in enumerate(("info", "warning", "critical", "warning"))
    ]
    assert [each.id for each in worst_first(found)] == ["alert-2", "alert-1", "alert-3", "alert-0"]
