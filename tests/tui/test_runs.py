"""The runs table at work: pages by key, expressions, columns, live rows."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from quarterdeck.async_client import AsyncClient
from quarterdeck.tui.app import DeckApp
from quarterdeck.tui.kept import Kept, state_file
from quarterdeck.tui.screens.paging import Pages
from quarterdeck.tui.widgets.column_dialog import ColumnDialog
from quarterdeck.tui.widgets.record_table import WINDOW
from quarterstore.records import runs
from quarterstore.records.places import Home
from tests.tui.hearing import COUNT, Heard, points, table


async def test_pages_are_turned_by_key_both_ways_and_never_hold_more_than_the_window(many: Any, made: Any) -> None:
    """Down from the last row begins the next page, up from its first ends the former; no page is asked by a number."""
    deck = Heard(AsyncClient(many.home))
    app = DeckApp(deck, "/home/ana/deck")
    async with app.run_test(size=(120, 30)) as pilot:
        screen: Any = await made.gone_to(pilot, "2", "runs")
        assert f"1-200 of {COUNT + 2}" in made.text(pilot)
        first = list(screen.records)
        await pilot.press(">")
        await made.shown(pilot, f"201-400 of {COUNT + 2}")
        assert table(app).row_count == WINDOW and table(app).cursor_row == 0
        second = list(screen.records)
        assert not set(first) & set(second)
        table(app).move_cursor(row=WINDOW - 1)
        await pilot.press("pagedown")
        await made.shown(pilot, f"401-{COUNT + 2} of {COUNT + 2}")
        assert {*first, *second, *screen.records} == {f"run-{n:04}" for n in range(COUNT)} | {"run-child", "run-theirs"}
        await pilot.press("k")
        await made.until(pilot, lambda: list(screen.records) == second, "the page before")
        await made.until(pilot, lambda: screen.selected().id == second[-1], "its last row")
        assert "try " + second[-1][-3:] in made.text(pilot), "the cursor is in sight"
        await pilot.press("g")
        await made.until(pilot, lambda: list(screen.records) == first, "the first page")
        keys = [each.after for each in deck.searches()]
        assert keys[0] is None and len({key for key in keys if key}) == 3
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
            await pilot.press(">")
            await made.until(pilot, lambda last=last: last not in screen.records, "the next page")
        assert set(list(screen.records)[-3:]) == {"run-0003", "run-child", "run-theirs"}
        values = [run.metrics.get("acc") for run in screen.records.values()][:-3]
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
        await pilot.press("2")
        await made.shown(pilot, "the columns begin anew")  # for some seconds, so before all records are there
        screen = await made.gone_to(pilot, "2", "runs")
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


def page(first: int, size: int, total: int) -> runs.RunPage:
    """A daemon's answer: `size` runs from the `first` on, with the keys that it would give."""
    found = [
        runs.Run(id=f"r{first + n}", experiment="e", name="", state="FINISHED", started=0.0, actor="a")
        for n in range(size)
    ]
    more = first + size < total
    return runs.RunPage(found, total, f"k{first + size - 1}" if more else None, f"k{first}" if first else None)


def test_pages_go_on_and_back_by_the_keys_the_daemon_gave_and_count_what_lies_before() -> None:
    pages = Pages()
    assert not pages.turn(1) and not pages.turn(-1) and not pages.first() and not pages.last()
    pages.took(page(0, 200, 430))
    assert pages.turn(1) and pages.start == 200 and pages.query("", ()).after == "k199"
    assert not pages.turn(1), "nobody said yet what comes after this page"
    pages.took(page(200, 200, 430))
    assert pages.turn(-1) and pages.start == 0
    asked = pages.query("", ())
    assert (asked.after, asked.backward, asked.limit) == ("k200", True, WINDOW)
    pages.took(page(0, 200, 430))
    assert pages.query("", ()).after is None, "the first page is that whatever comes in before it"
    assert pages.last()
    asked = pages.query("", ())
    assert (asked.after, asked.backward, asked.limit) == (None, True, 30)
    pages.took(page(400, 30, 430))
    assert pages.start == 400 and not pages.last() and pages.turn(-1) and pages.start == 200
    assert pages.first() and pages.start == 0 and pages.query("", ()).limit == WINDOW


async def test_capital_g_goes_to_the_last_run_of_all_and_g_to_the_first(many: Any, made: Any) -> None:
    """One key each, whatever the order; going on from the end leads back over the same pages."""
    deck = Heard(AsyncClient(many.home))
    app = DeckApp(deck, "/home/ana/deck")
    async with app.run_test(size=(120, 30)) as pilot:
        screen: Any = await made.gone_to(pilot, "2", "runs")
        first = list(screen.records)
        await pilot.press("G")
        await made.shown(pilot, f"401-{COUNT + 2} of {COUNT + 2}")
        await made.until(pilot, lambda: screen.selected().id == "run-theirs", "the oldest of all")
        assert table(app).cursor_row == COUNT + 2 - 400 - 1
        await pilot.press("j")
        await pilot.press("<")
        await made.shown(pilot, f"201-400 of {COUNT + 2}")
        await made.until(pilot, lambda: table(app).cursor_row == 0, "its first row")
        await pilot.press("k")
        await made.until(pilot, lambda: list(screen.records) == first, "the page before it")
        await made.until(pilot, lambda: screen.selected().id == first[-1], "its last run")
        await pilot.press("G")
        await made.shown(pilot, f"401-{COUNT + 2} of {COUNT + 2}")
        await pilot.press("g")
        await made.until(pilot, lambda: list(screen.records) == first, "the first page")
        await made.until(pilot, lambda: screen.selected().id == first[0], "the newest of all")
        assert all(each.limit <= WINDOW for each in deck.searches())
