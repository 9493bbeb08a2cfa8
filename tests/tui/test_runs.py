"""The runs screen at work: pages by key, expressions, columns, live rows, comparison, the best in parallel, one run."""

from __future__ import annotations

import json
import math
import shlex
import time
from array import array
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len

from quarterdeck.async_client import AsyncClient
from quarterdeck.tui.app import DeckApp
from quarterdeck.tui.kept import Kept, state_file
from quarterdeck.tui.screens.run_best import BestScreen
from quarterdeck.tui.screens.run_compare import CompareScreen
from quarterdeck.tui.screens.run_one import PANES, RunScreen
from quarterdeck.tui.widgets.card_view import CardView
from quarterdeck.tui.widgets.column_dialog import ColumnDialog
from quarterdeck.tui.widgets.name_dialog import NameDialog
from quarterdeck.tui.widgets.record_table import WINDOW, RecordTable
from quarterstore.records import runs
from quarterstore.records.names import drawn
from quarterstore.records.places import Home
from quarterstore.records.search import SearchRuns
from tests.tui.hostile import ODD, Poisoned

COUNT = 430


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


@pytest.fixture(scope="module")
def many(daemon: Any) -> Any:
    """430 finished runs in two experiments; the last has a parent, a child, artefacts, notes, a dirty tree."""
    with daemon.client() as owner:
        for number in range(COUNT):
            run = f"run-{number:04}"
            owner.ask(
                runs.StartRun(
                    experiment="churn" if number % 2 else "fraud",
                    run=run,
                    name=f"try {number:03}",
                    params={"lr": 10.0 ** -(number % 5), "depth": number % 7, "kind": "ab"[number % 2]},
                    tags={"team": "risk"},
                    source=runs.Source(command="python train.py", commit="c0ffee", patch="-a\n+b", host="box", seed=7),
                    parent="run-0001" if number == COUNT - 1 else None,
                    started=1e9 + number,
                )
            )
            best = math.nan if number == 3 else number / COUNT
            owner.ask(points(run, {"acc": [best / 2, best], "loss": [1.0, 0.001 + 1 / (1 + number)]}))
            owner.ask(runs.EndRun(run=run))
        last = f"run-{COUNT - 1:04}"
        owner.ask(runs.StartRun(experiment="nested", run="run-child", name="child", parent=last, started=1.0))
        owner.ask(runs.EndRun(run="run-child"))
        digest, size = owner.put(b"x" * 2048)
        owner.ask(runs.LogArtefact(run=last, path="plots/roc [b].png", digest=digest, size=size))
        owner.ask(runs.NoteRun(run=last, notes="with the cleaned rows\nand more"))
    return daemon


def table(app: Any) -> RecordTable:
    """The table in sight."""
    found: RecordTable = app.screen.query_one(RecordTable)
    return found


async def test_pages_are_turned_by_key_both_ways_and_never_hold_more_than_the_window(many: Any, made: Any) -> None:
    """Down from the last row begins the next page, up from its first ends the former; no page is asked by a number."""
    deck = Heard(AsyncClient(many.home))
    app = DeckApp(deck, "/home/ana/deck")
    async with app.run_test(size=(120, 30)) as pilot:
        screen: Any = await made.gone_to(pilot, "2", "runs")
        assert f"1-200 of {COUNT + 1}" in made.text(pilot)
        first = list(screen.records)
        await pilot.press("G", "j")
        await made.shown(pilot, f"201-400 of {COUNT + 1}")
        assert table(app).row_count == WINDOW and table(app).cursor_row == 0
        second = list(screen.records)
        assert not set(first) & set(second)
        await pilot.press("G", "pagedown")
        await made.shown(pilot, f"401-{COUNT + 1} of {COUNT + 1}")
        assert {*first, *second, *screen.records} == {f"run-{n:04}" for n in range(COUNT)} | {"run-child"}
        await pilot.press("k")
        await made.until(pilot, lambda: list(screen.records) == second, "the page before")
        await made.until(pilot, lambda: screen.selected().id == second[-1], "its last row")
        assert "try " + second[-1][-3:] in made.text(pilot), "the cursor is in sight"
        await pilot.press("g", "g")
        await made.until(pilot, lambda: list(screen.records) == first, "the first page")
        keys = [each.after for each in deck.searches()]
        assert keys[0] is None and len({key for key in keys if key}) == 2
        assert all(each.limit == WINDOW for each in deck.searches())


async def test_an_expression_finds_and_a_mistake_is_pointed_at_while_the_rows_stay(many: Any, made: Any) -> None:
    """Between the operator and its value there is always a mistake: it must not blink the table away, nor crash."""
    app = DeckApp(AsyncClient(many.home), "/home/ana/deck")
    async with app.run_test(size=(100, 30), notifications=True) as pilot:
        screen: Any = await made.gone_to(pilot, "2", "runs")
        await pilot.press("slash", *"acc", "space", "greater_than_sign")
        found = await made.shown(pilot, "where: got the end, expected a value")
        caret = next(line for line in found.split("\n") if line.strip() == "^")
        assert caret.index("^") == next(line for line in found.split("\n") if "acc >" in line).index("acc") + 5
        await pilot.press("space", *"0.9", "space", *"and", "space", *"params.lr", "space", "less_than_sign", "space")
        await pilot.press(*"0.1")
        await made.until(pilot, lambda: screen._searched == "acc > 0.9 and params.lr < 0.1", "the whole expression")
        assert screen.records and all(
            run.metrics["acc"] > 0.9 and float(run.params["lr"]) < 0.1 for run in screen.records.values()
        )
        assert "expected" not in made.text(pilot)
        assert "qd runs --where 'acc > 0.9 and params.lr < 0.1'" in made.text(pilot)
        await pilot.press("escape", "slash", *"nosuch", "space", "greater_than_sign", *"1")
        await made.shown(pilot, "got nosuch, expected a column that a run has")
        await pilot.press("escape")
        await made.until(pilot, lambda: "expected" not in made.text(pilot), "the mistake is gone")


async def test_a_text_with_signs_of_the_language_is_found_as_a_text(many: Any, made: Any) -> None:
    """Quotes and per cents of a plain text are never words of the expression."""
    app = DeckApp(AsyncClient(many.home), "/home/ana/deck")
    async with app.run_test(size=(100, 30)) as pilot:
        screen: Any = await made.gone_to(pilot, "2", "runs")
        await pilot.press("slash", *"o'brien")
        await made.shown(pilot, "no row has")
        await pilot.press("escape", "slash", *"TRY", "space", *"42")
        await made.until(pilot, lambda: len(screen.records) == 10, "try 420 to 429")


async def test_the_sort_is_the_daemons_and_its_arrow_is_in_the_heading(many: Any, made: Any) -> None:
    """The best of all runs come first, not the best of the window; NaN is last either way."""
    app = DeckApp(AsyncClient(many.home), "/home/ana/deck")
    async with app.run_test(size=(160, 30)) as pilot:
        screen: Any = await made.gone_to(pilot, "2", "runs")
        while "acc ▲" not in made.text(pilot):
            await pilot.press("s")
            await pilot.pause(0.05)
        await made.until(pilot, lambda: next(iter(screen.records)) == "run-0000", "the lowest")
        await pilot.press("S")
        await made.shown(pilot, "acc ▼")
        await made.until(pilot, lambda: next(iter(screen.records)) == f"run-{COUNT - 1:04}", "the highest")
        assert "--sort -metrics.acc" in made.text(pilot)
        for _ in range(2):
            last = next(reversed(screen.records))
            await pilot.press("G", "j")
            await made.until(pilot, lambda last=last: last not in screen.records, "the next page")
        assert list(screen.records)[-2:] in (["run-0003", "run-child"], ["run-child", "run-0003"])
        values = [run.metrics.get("acc") for run in screen.records.values()][:-2]
        assert values == sorted(values, reverse=True)


async def test_columns_are_chosen_moved_and_kept_for_the_next_console(many: Any, made: Any, tmp_path: Path) -> None:
    """What was chosen is there after a new start, in its order, in a file of this home's own."""
    environ = {"XDG_STATE_HOME": str(tmp_path)}
    path = state_file(many.home, environ)
    assert path.name == "state.json" and path != state_file(Home(tmp_path / "other"), environ)
    for again in (False, True):
        app = DeckApp(AsyncClient(many.home), "/home/ana/deck", kept=Kept(path))
        async with app.run_test(size=(160, 40), notifications=True) as pilot:
            screen: Any = await made.gone_to(pilot, "2", "runs")
            if not again:
                await pilot.press("vertical_line")
                await made.until(pilot, lambda app=app: isinstance(app.screen, ColumnDialog), "the dialog")
                await pilot.press("slash", *"tags.team", "enter", "space")
                for _ in range(20):
                    await pilot.press("K")
                await pilot.press("slash", *["backspace"] * 9, *"loss", "enter", "space", "enter")
            await made.until(pilot, lambda screen=screen: screen.columns[0].title == "team", "the first column")
            titles = [column.title for column in screen.columns]
            assert "loss" not in titles and "acc" in titles
            await made.shown(pilot, "risk")
    assert json.loads(path.read_text())["runs.columns"][0] == "tags.team"
    path.write_text('{"runs.columns": [3, "metrics.')
    app = DeckApp(AsyncClient(many.home), "/home/ana/deck", kept=Kept(path))
    async with app.run_test(size=(160, 40), notifications=True) as pilot:
        screen = await made.gone_to(pilot, "2", "runs")
        await made.shown(pilot, "the columns begin anew")
        assert screen.columns[1].title == "experiment"


async def test_the_cursor_stays_on_its_run_while_others_come_and_go(many: Any, made: Any) -> None:
    """New runs come in above; the row under the cursor is the same run, and in sight."""
    app = DeckApp(AsyncClient(many.home), "/home/ana/deck")
    async with app.run_test(size=(100, 24)) as pilot:
        screen: Any = await made.gone_to(pilot, "2", "runs")
        await pilot.press("j", "j", "j")
        here = screen.selected().id
        with many.client() as owner:
            for number in range(30):
                owner.ask(runs.StartRun(experiment="late", run=f"run-late-{number}", name="late", beats=False))
        try:
            await made.until(pilot, lambda: sum(key.startswith("run-late") for key in screen.records) == 30, "them")
            assert screen.selected().id == here and table(app).row_count == WINDOW
            await pilot.pause()
            assert "try " + here[-3:] in made.text(pilot).split("─" * 20)[0]
        finally:
            with many.client() as owner:
                for number in range(30):
                    owner.ask(runs.RemoveRun(run=f"run-late-{number}"))
        await made.until(pilot, lambda: not any(key.startswith("run-late") for key in screen.records), "the former")
        assert screen.selected().id == here


async def test_points_patch_their_row_and_entries_ask_four_times_a_second_at_most(many: Any, made: Any) -> None:
    """A client's own points are pulses: the row and the curve follow without a search; entries lead to few searches."""
    deck = Heard(AsyncClient(many.home))
    app = DeckApp(deck, "/home/ana/deck")
    with many.client() as owner:
        owner.ask(runs.StartRun(experiment="live", run="run-live", name="live", beats=False))
        try:
            owner.ask(points("run-live", {"acc": [0.5]}))
            async with app.run_test(size=(120, 30)) as pilot:
                screen: Any = await made.gone_to(pilot, "2", "runs")
                await made.until(pilot, lambda: screen.selected().id == "run-live", "the run")
                before = len(deck.searches())
                for number in range(1, 6):
                    owner.ask(points("run-live", {"acc": [0.5 + number / 1000]}, start=number))
                    await made.shown(pilot, f"{0.5 + number / 1000:g}")
                assert len(deck.searches()) == before, "a point is no reason to search"
                curve = [each for each in deck.asked if isinstance(each, runs.MetricHistory)][-1]
                assert curve.run == "run-live" and "step 0" in made.text(pilot)
                began = time.monotonic()
                for number in range(100):
                    owner.ask(runs.SetTags(run="run-live", tags={"n": str(number)}))
                await made.until(pilot, lambda: screen.records["run-live"].tags.get("n") == "99", "the last tag")
                took = time.monotonic() - began
                assert len(deck.searches()) - before <= took * 4 + 2, (len(deck.searches()) - before, took)
        finally:
            owner.ask(runs.EndRun(run="run-live"))
            owner.ask(runs.RemoveRun(run="run-live"))


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
        "family": ("try 001", "└─ try 429", "◀ here", "└─ child"),
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
            assert command.startswith("qd run")
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
