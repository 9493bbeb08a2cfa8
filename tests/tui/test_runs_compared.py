"""Behind the runs table: several compared, the best in parallel, one run; their curves."""

from __future__ import annotations

import math
import shlex
from collections import Counter
from typing import Any

import pytest
from rich.cells import cell_len

from quarterdeck.async_client import AsyncClient
from quarterdeck.tui.app import DeckApp
from quarterdeck.tui.screens.run_best import BestScreen
from quarterdeck.tui.screens.run_compare import CompareScreen
from quarterdeck.tui.screens.run_one import PANES, RunScreen
from quarterdeck.tui.widgets.card_view import CardView
from quarterdeck.tui.widgets.name_dialog import NameDialog
from quarterdeck.tui.widgets.parallel import axis_of, parallel
from quarterdeck.tui.widgets.run_curves import Look, series_of, smoothed
from quarterstore.records import runs
from quarterstore.records.names import drawn
from tests.tui.hearing import COUNT, Heard, table
from tests.tui.hostile import ODD, Poisoned


async def test_two_hundred_runs_are_compared_with_twelve_curves_at_a_time(many: Any, made: Any) -> None:
    """`*` marks the page; what differs is in columns, the arrows reach those beyond the edge, `n` the other runs."""
    deck = Heard(AsyncClient(many.home))
    app = DeckApp(deck, "/home/ana/deck")
    async with app.run_test(size=(80, 30), notifications=True) as pilot:
        await made.gone_to(pilot, "2", "runs")
        await pilot.press("asterisk")
        await made.shown(pilot, "◆ 200 marked")
        await pilot.press("c")
        await made.until(pilot, lambda: isinstance(app.screen, CompareScreen), "the comparison")
        found = await made.shown(pilot, "runs 1-12 of 200")
        assert "compare 200" in found and "● try" in found and "☆ try 2" in found and table(app).row_count == 200
        assert Counter(type(each) for each in deck.asked)[runs.MetricHistory] < 20
        assert len([each for each in deck.asked if isinstance(each, runs.CompareRuns)]) == 1
        seen = made.text(pilot).split("\n")[2]
        await pilot.press("right", "right")
        await made.until(pilot, lambda: made.text(pilot).split("\n")[2] != seen, "other columns")
        await pilot.press("n")
        await made.shown(pilot, "runs 13-24 of 200")
        await pilot.press("enter")
        await made.until(pilot, lambda: isinstance(app.screen, RunScreen), "the run of the row")
        await pilot.press("escape", "escape", "space")
        await made.shown(pilot, "◆ 199 marked")
        await pilot.press("u")
        await made.until(pilot, lambda: "marked" not in made.text(pilot), "no mark")


async def test_curves_are_smoothed_scaled_and_drawn_along_another_axis(many: Any, made: Any) -> None:
    """What is done to the points is said above them, and no point is asked for again."""
    deck = Heard(AsyncClient(many.home))
    app = DeckApp(deck, "/home/ana/deck")
    async with app.run_test(size=(120, 40)) as pilot:
        await made.gone_to(pilot, "2", "runs")
        await pilot.press("space", "space", "c")
        found = await made.shown(pilot, "acc  by step")
        assert "● try 428" in found and "▲ try 429" in found and "param depth" in found
        asked = len(deck.asked)
        await pilot.press("e")
        await made.shown(pilot, "acc  by step, EMA 0.5")
        await pilot.press("e", "o", "t")
        await made.shown(pilot, "acc  by time since the start, EMA 0.8, log scale")
        await pilot.press("E", "E", "t")
        await made.shown(pilot, "acc  by wall time, log scale")
        assert len(deck.asked) == asked
        await pilot.press("m")
        await made.shown(pilot, "loss  by wall time")
        await pilot.press("slash")
        await made.until(pilot, lambda: isinstance(app.screen, NameDialog), "the metrics")
        await pilot.press("slash", *"ac", "enter", "enter")
        await made.shown(pilot, "acc  by wall time")
        await pilot.press("T")
        await made.until(pilot, lambda: table(app).row_count == 2, "runs as rows")


async def test_the_best_are_in_parallel_and_nan_is_never_one_of_them(many: Any, made: Any) -> None:
    app = DeckApp(AsyncClient(many.home), "/home/ana/deck")
    async with app.run_test(size=(80, 24)) as pilot:
        await made.gone_to(pilot, "2", "runs")
        await pilot.press("b")
        found = await made.shown(pilot, "best 10 by acc, highest first")
        screen: Any = app.screen
        assert isinstance(screen, BestScreen)
        found = await made.shown(pilot, "in parallel")
        assert [row.key for row in screen.rows] == [f"run-{n:04}" for n in range(COUNT - 1, COUNT - 11, -1)]
        assert "◆" in found and "├" in found and "log" in found and "●" in found
        await made.shown(pilot, "1 without a finite value left out")
        await pilot.press("S")
        await made.shown(pilot, "best 10 by acc, lowest first")
        await made.until(pilot, lambda: screen.rows[0].key == "run-0000", "the lowest")
        assert "run-0003" not in {row.key for row in screen.rows}
        await pilot.press("m", "minus")
        await made.shown(pilot, "best 5 by loss, lowest first")
        await made.until(pilot, lambda: len(screen.rows) == 5, "five")
        command = screen.subject()[1].split(" ", 1)
        assert "--sort metrics.loss" in command[1] and "metrics.loss is not null" in command[1]


async def test_a_run_has_its_curves_artefacts_environment_family_and_log(many: Any, made: Any) -> None:
    """Each pane says its own, is reached by `[` and `]`, and has the command that shows the same."""
    app = DeckApp(AsyncClient(many.home), "/home/ana/deck")
    expected = {
        "curves": ("acc", "params", "notes", "with the cleaned rows"),
        "artefacts": ("plots/roc [b].png", "2.0 kB", "sha256", "1 artefacts"),
        "environment": ("python train.py", "c0ffee", "yes, 2 lines", "box", "seed", "+b", "datasets"),
        "family": ("try 001", "└─ try 429", "◀ here", "├─ theirs", "└─ child"),
        "log": ("belongs to no job",),
    }
    async with app.run_test(size=(100, 60)) as pilot:
        await made.gone_to(pilot, "2", "runs")
        await pilot.press("enter")
        await made.until(pilot, lambda: isinstance(app.screen, RunScreen), "the run")
        for place, pane in enumerate(PANES):
            if place:
                await pilot.press("right_square_bracket")
            for words in expected[pane]:
                await made.shown(pilot, words)
            assert f"runs › run-{COUNT - 1:04} › {pane}" in made.text(pilot)
            await pilot.press("Y")
            command = app.clipboard
            assert command.startswith(f"qd --home {many.home.root} run")
        await pilot.press("left_square_bracket", "Y")
        await made.until(pilot, lambda: "parent" in app.clipboard, "the search for the children")
        done = many.qd("--json", *shlex.split(app.clipboard)[1:])
        assert done.returncode == 0 and "run-child" in done.stdout, (app.clipboard, done.stderr)


@pytest.mark.fault
async def test_hostile_names_never_reach_the_terminal_behind_the_runs_screen(many: Any, made: Any) -> None:
    """V18 on the screens of one run, of several and of the best: no control, no link, no line of another width."""
    deck = Poisoned(AsyncClient(many.home))
    app = DeckApp(deck, "/home/ana/deck")
    wrong = []
    async with app.run_test(size=(120, 30)) as pilot:
        await made.gone_to(pilot, "2", "runs")
        marked = (f"run-{COUNT - 1:04}", f"run-{COUNT - 2:04}", f"run-{COUNT - 3:04}")
        screens: list[Any] = [CompareScreen(marked), BestScreen("", ("acc", "loss"))]
        screens += [RunScreen(marked[0], pane) for pane in PANES]
        for screen in screens:
            deck.names = ()
            app.push_screen(screen)
            await made.until(
                pilot, lambda screen=screen: any(card._drawing for card in screen.query(CardView)), "its card"
            )
            for first in range(0, len(ODD), 6):
                deck.names = odd = ODD[first : first + 6]
                await screen.fill()
                screen.tell()
                await pilot.pause()
                for strip in screen._compositor.render_strips():
                    line = "".join(segment.text for segment in strip)
                    styles = [segment.style for segment in strip if segment.style]
                    if drawn(line) != line or any(style.link for style in styles) or cell_len(line) != 120:
                        wrong.append((type(screen).__name__, odd, line))
            deck.names = ()
            app.pop_screen()
            await pilot.pause()
    assert not wrong, wrong[:3]


async def test_without_colour_curves_and_the_best_can_be_told_apart(
    many: Any, made: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NO_COLOR at 80x24: each run has a mark of its own in legend and chart, each value a place on its axis."""
    monkeypatch.setenv("NO_COLOR", "1")
    app = DeckApp(AsyncClient(many.home), "/home/ana/deck")
    async with app.run_test(size=(80, 24)) as pilot:
        await made.gone_to(pilot, "2", "runs")
        await pilot.press("space", "space", "space", "c")
        found = await made.shown(pilot, "by step")
        await pilot.pause()
        assert all(found.count(mark) >= 2 for mark in "●▲■"), found
        await pilot.press("escape", "u", "b")
        found = await made.shown(pilot, "in parallel")
        assert found.count("●") >= 8 and found.count("├") >= 4
        hues = {
            segment.style.color.triplet
            for strip in app.screen._compositor.render_strips()
            for segment in strip
            if segment.style and segment.style.color and segment.style.color.triplet
        }
        assert all(abs(hue.red - hue.green) < 3 and abs(hue.green - hue.blue) < 3 for hue in hues), hues


def test_a_smoothed_curve_does_not_lean_to_zero_and_keeps_its_gaps() -> None:
    """The average of equal values is that value from the first point on; NaN is passed over, not spread."""
    assert smoothed([5.0] * 4, 0.99) == pytest.approx([5.0] * 4)
    found = smoothed([1.0, math.nan, 3.0], 0.5)
    assert found[0] == 1.0 and math.isnan(found[1]) and found[2] == pytest.approx((0.25 * 1 + 0.5 * 3) / 0.75)
    values = [1.0, 2.0]
    assert smoothed(values, 0.0) == values


def test_a_curve_is_in_the_order_of_what_x_is() -> None:
    """Points may arrive in any order; by time each run begins at zero."""
    curve = runs.Curve("r", "k", steps=[2, 1, 3], times=[110.0, 130.0, 120.0], values=[20.0, 10.0, 30.0])
    assert series_of("r", curve, Look()).ys == [10.0, 20.0, 30.0]
    since = series_of("r", curve, Look(axis="since"))
    assert (since.xs, since.ys) == ([0.0, 10.0, 20.0], [20.0, 30.0, 10.0])
    assert series_of("r", curve, Look(axis="clock")).xs == [110.0, 120.0, 130.0]


def test_an_axis_has_a_place_for_numbers_texts_and_nothing_for_what_is_missing() -> None:
    wide = axis_of("lr", ["1e-4", 0.01, 1.0, None, math.nan])
    assert wide.log and wide.place(0.01) == pytest.approx(0.5) and wide.place("1") == 1.0
    assert wide.place(None) is None and wide.place(math.nan) is None
    words = axis_of("kind", ["b", "a", True, 3])
    assert (
        words.words == ("3", "a", "b", "true") and words.place(True) == 1.0 and words.place("a") == pytest.approx(1 / 3)
    )
    assert axis_of("one", [2, 2]).place(2) == 0.5
    assert axis_of("none", [None]).place(None) is None
    drawn_axes = parallel([wide, words], [["1e-4", "b"], [1.0, "a"], [1.0, "a"]], 0, 60).plain
    assert drawn_axes.count("◆") == 2 and drawn_axes.count("2") == 2
    assert all(cell_len(line) <= 60 for line in drawn_axes.split("\n"))
