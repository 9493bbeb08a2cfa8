"""The Features screen on a real daemon: what is late, a look at entities, push and materialise by their keys."""

from __future__ import annotations

import time
from typing import Any

import msgspec
import pytest
from rich.cells import cell_len

from quarterdeck.tui.screens.feature_cards import Known, lag_words, looked_lines, standing, view_card
from quarterdeck.tui.screens.features import FeaturesScreen, Viewed
from quarterdeck.tui.screens.features import _typed as typed
from quarterdeck.wording import command_text
from quarterstore.records import features, online
from quarterstore.records.faults import Fault
from quarterstore.records.feature_checks import CheckParity, FeatureStats, Mismatch, ParityResult, StatsResult
from quarterstore.records.features import (
    DefineView,
    Entity,
    Feature,
    FeatureRows,
    FeatureView,
    Key,
    OnDemand,
    ViewShown,
)
from quarterstore.records.jobs import Job, Progress
from quarterstore.records.names import drawn
from quarterstore.records.online import Generation, Looked, LookUp, Materialise, OnlineStatus
from tests.decks import until
from tests.tui.hostile import ODD

NOW = 1_700_000_000.0
SHOPPER = Entity(name="shopper", keys=(Key("customer", "integer"), Key("shop")))


def view(odd: str = "usage") -> FeatureView:
    return FeatureView(
        odd,
        2,
        (SHOPPER,),
        (Feature("minutes", "number"), Feature(odd, "text")),
        "at",
        "written",
        86_400.0,
        odd,
        odd,
        {odd: odd},
        NOW - 9000,
        odd,
        source=odd,
        requests=(Feature(odd, "number"),),
        on_demand=(OnDemand("share", odd, "number"),),
    )


def status(odd: str = "usage", **more: Any) -> OnlineStatus:
    made = Generation(odd, odd, (), (), (), 500, 2000, NOW - 600, NOW - 300, True, 0.1, 4096, NOW - 300, odd)
    return msgspec.structs.replace(
        OnlineStatus(f"{odd}@2", made, 1, 2, 300, 120.0, 60.0, 3600.0, False, 600.0, rows=2300), **more
    )


def shown(odd: str = "usage", files: int = 20) -> ViewShown:
    rows = FeatureRows(odd, odd, odd, 10, 100, NOW - 90_000, NOW - 5, 3, "now", NOW - 60, odd, odd)
    return ViewShown(view(odd), (1, 2), 2300, 9000, NOW - 90_000, NOW - 5, (rows,) * files)


def known(odd: str = "usage") -> Known:
    wrong = Mismatch([odd, odd], ("minutes", odd), [1.0, odd], [2.0, odd], ("PRESENT", "EXPIRED"), (1.0, None))
    stats = FeatureStats(odd, "text", 100, 34, 2, odd, odd, None, "DRIFT", 0.4, 0.001, odd)
    job = Job("job-1", "materialise", odd, "RUNNING", NOW, odd)
    return Known(
        (ParityResult(odd, 500, 1, (wrong,), odd, odd), NOW - 60),
        (StatsResult(odd, 100, odd, (stats,), "DRIFT", odd), NOW - 90),
        ((job, Progress("job-1", odd, 0.5, odd)),),
    )


def test_lateness_is_a_word_and_a_span_beside_its_limit() -> None:
    assert (standing(status()), lag_words(status())) == ("LAGS", "2 min of 60 min")
    assert standing(status(late=True)) == "LATE"
    fresh = status(rows_waiting=0, lag=0.0)
    assert (standing(fresh), lag_words(fresh)) == ("FRESH", "none of 60 min")
    never = status(generation=None, fresh=None)
    assert (standing(never), lag_words(never)) == ("OFFLINE", "never made")


@pytest.mark.parametrize("width", [50, 57, 78, 150])
def test_a_view_is_drawn_within_the_width(width: int) -> None:
    text = view_card(shown(), status(late=True), known(), NOW, width).plain
    for words in ("▲ LATE", "2 min of 60 min", "✗ DIFFERS", "1.0 offline, 2.0 online", "event time", "34 %", "▲ DRIFT",
                  "and 8 more", "1, 2", "= usage", "▶ RUNNING"):  # fmt: skip
        assert words in text, words
    assert max(map(cell_len, text.splitlines())) <= width
    empty = view_card(shown(files=0), status(generation=None), Known(), NOW, width).plain
    assert "qd features materialise usage" in empty and "qd features load usage FILE" in empty


@pytest.mark.fault
def test_no_hostile_name_gets_out_of_a_view_or_what_was_read_of_it() -> None:
    for odd in ODD:
        for width in (57, 120):
            looked = Looked(odd, odd, (odd,), ([odd],), ("PRESENT",), (5.0,))
            for text in (
                view_card(shown(odd), status(odd), known(odd), NOW, width),
                looked_lines(looked, [{odd: odd}], width),
            ):
                assert all(drawn(line) == line for line in text.plain.split("\n")), odd
        for cell in FeaturesScreen().cells(Viewed(view(odd), status(odd)), NOW):
            assert drawn(cell.plain) == cell.plain, odd


def test_a_row_is_typed_as_the_command_takes_it() -> None:
    row, command = typed(view(), "customer=7,shop=s1 minutes=3.5 'usage=a b' at=2026-01-01")
    assert row == {"customer": 7, "shop": "s1", "minutes": 3.5, "usage": "a b", "at": "2026-01-01"}
    assert command == (
        "qd features push usage --key customer=7,shop=s1 --value minutes=3.5 --value 'usage=a b' --at 2026-01-01"
    )
    for wrong, said in (
        ("customer=7,shop='s", "words such as in a shell"),
        ("7", "customer=VALUE,shop=VALUE"),
        ("customer=7,shop=s minutes", "NAME=VALUE"),
        ("customer=7,shop=s hours=1", "minutes"),
        ("", "customer=VALUE,shop=VALUE"),
    ):
        with pytest.raises(Fault, match=said):
            typed(view(), wrong)


def test_the_commands_of_views_are_the_short_ones() -> None:
    keys = ({"customer": 7, "shop": "s 1"}, {"customer": 8, "shop": "a,b"})
    assert command_text(LookUp(view="usage", keys=keys)) == (
        'qd features online usage --key \'customer=7,shop=s 1\' --key \'{"customer":8,"shop":"a,b"}\''
    )
    assert command_text(Materialise(view="usage", full=True)) == "qd features materialise usage --full"
    assert command_text(CheckParity(view="usage")) == "qd features parity usage"


@pytest.fixture(scope="module")
def viewed(daemon: Any) -> Any:
    """A home with a view that is online and has rows that wait for longer than they may, and one that is not online."""
    with daemon.client() as owner:
        for name, max_lag in (("usage", 0.001), ("prices", None)):
            owner.ask(
                DefineView(
                    name=name,
                    entities=(Entity(name="customer", keys=(Key("customer", "integer"),)),),
                    features=(Feature("minutes", "number"), Feature("plan", "text")),
                    event_time="at",
                    max_lag=max_lag,
                )
            )
        for day in (1, 2):
            rows = "".join(f"{n},2026-01-0{day}T00:00:0{n}Z,{n / 2 + day},p{n}\n" for n in range(9))
            digest, _ = owner.put(f"customer,at,minutes,plan\n{rows}".encode())
            owner.ask(features.AddRows(view="usage", digest=digest, format="csv"))
            until(lambda day=day: owner.ask(features.ShowView(view="usage")).rows == 9 * day)
            if day == 1:
                owner.ask(Materialise(view="usage"))
                until(lambda: owner.ask(online.ShowOnline(view="usage"))[0].generation)
    return daemon


@pytest.mark.parametrize("size", [(80, 24), (160, 48)])
async def test_what_is_late_stands_first(viewed: Any, made: Any, console: Any, size: tuple[int, int]) -> None:
    async with console(viewed.home).run_test(size=size) as pilot:
        screen = await made.gone_to(pilot, "f", "features")
        assert list(screen.records) == ["usage", "prices"]
        await made.shown(pilot, "▲ LATE")
        await made.shown(pilot, "○ OFFLINE")
        await made.shown(pilot, "not compared yet")
        assert "18" in made.text(pilot) and "qd features show usage" in made.text(pilot)
        assert {cell_len(line) for line in made.lines(pilot)} == {size[0]}


async def test_entities_are_looked_up_pushed_and_made_ready_by_keys(viewed: Any, made: Any, console: Any) -> None:
    def stands() -> OnlineStatus:
        with viewed.client() as owner:
            found: OnlineStatus = owner.ask(online.ShowOnline(view="usage"))[0]
            return found

    async with console(viewed.home).run_test(size=(120, 48)) as pilot:
        await made.gone_to(pilot, "f", "features")
        await pilot.press("l", *"x", "enter")
        await made.shown(pilot, "got x (str), expected a whole number")
        await pilot.press("backspace", *"7", "space", *"customer=99", "enter")
        await made.shown(pilot, "$ qd features online usage --key customer=7 --key customer=99")
        found = await made.shown(pilot, "customer=7  ✓ PRESENT")
        assert "customer=99  ? NOT_FOUND  no row" in found and "4.5" in found and "p7" in found
        await pilot.press("escape", "p")
        await made.shown(pilot, "push a row of usage")
        for _ in range(40):
            await pilot.press("backspace")
        await pilot.press(*"customer=7", "space", *"minutes=9.5", "space", *"plan=", "enter")
        await made.shown(pilot, "$ qd features push usage --key customer=7 --value minutes=9.5")
        await pilot.press("enter")
        await made.shown(pilot, "a row of usage is kept and read")
        await pilot.press("l", *"7", "enter")
        await made.shown(pilot, "9.5")
        assert "null" in made.text(pilot)
        before = stands().generation
        await pilot.press("escape", "m")
        await made.shown(pilot, "$ qd features materialise usage")
        await pilot.press("enter")
        await made.until(pilot, lambda: stands().generation != before, "another generation")
        await pilot.press("c", "enter")
        await made.shown(pilot, "✓ SAME")
        await pilot.press("v", "enter")
        await made.shown(pilot, "lowest")
    assert time.time() - stands().generation.made < 60
