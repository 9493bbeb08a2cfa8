"""Keys do what the help says: filter, sort, compare, propose, approve, reject, roll back, copy, go back."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from textual import events

from quarterdeck.tui.keymap import EVERYWHERE, SCREENS
from quarterdeck.tui.screens.detail import DetailScreen
from quarterdeck.tui.screens.run_compare import CompareScreen
from quarterdeck.tui.widgets import notice_line
from quarterdeck.tui.widgets.ask_dialog import AskDialog
from quarterdeck.tui.widgets.go_dialog import GoDialog
from quarterdeck.tui.widgets.record_table import RecordTable
from quarterstore.records import governance, registry, runs
from quarterstore.records.deployments import ShowDeployment


def proposed(home: Any, made: Any, bias: float) -> str:
    """A new version of `churn` in Staging that the owner wants in Production; the approval's id."""
    with home.client() as owner:
        version = made.register(owner, bias)
        owner.ask(registry.MoveStage(version=version, stage="Staging", reason="looks well"))
        move = registry.MoveStage(version=version, stage="Production", reason="better")
        return str(owner.ask(governance.Propose(act=msgspec.to_builtins(move), reason="better")).id)


def approval(home: Any, found: str) -> governance.Approval:
    """An approval as it is now."""
    with home.client() as owner:
        answer: governance.Approval = owner.ask(governance.ShowApproval(approval=found))
        return answer


async def typed(pilot: Any, made: Any, words: str) -> None:
    """Type into the dialog, and press enter."""
    await made.until(pilot, lambda: isinstance(pilot.app.screen, AskDialog), "the dialog")
    await pilot.pause()
    await pilot.press(*["space" if char == " " else "at" if char == "@" else char for char in words], "enter")


async def test_the_filter_narrows_as_typed_and_escape_clears_it(quiet: Any, made: Any, console: Any) -> None:
    async with console(quiet.home).run_test(notifications=True, size=(120, 30)) as pilot:
        screen = await made.gone_to(pilot, "2", "runs")
        await pilot.press("slash", *"try 03")
        await made.until(pilot, lambda: list(screen.records.values()) and len(screen.records) == 1, "one row")
        assert "try 03" in made.text(pilot) and "try 04" not in made.text(pilot)
        await pilot.press("enter")
        assert isinstance(pilot.app.focused, RecordTable)
        await pilot.press("escape")
        await made.until(pilot, lambda: len(screen.records) == 6, "all rows")
        await pilot.press("slash", *"zzz")
        await made.shown(pilot, "no row has 'zzz' in it")


async def test_s_sorts_by_the_next_column_and_capital_s_turns_it_round(quiet: Any, made: Any, console: Any) -> None:
    """The daemon sorts: the window of 200 is the first 200 of all."""
    async with console(quiet.home).run_test(notifications=True, size=(120, 30)) as pilot:
        screen = await made.gone_to(pilot, "2", "runs")
        assert next(run.name for run in screen.records.values()) == "try 05"
        await pilot.press("s")
        await made.shown(pilot, "name ▲")
        await made.until(
            pilot, lambda: next(run.name for run in screen.records.values()) == "try 00", "the other order"
        )
        await pilot.press("S")
        await made.shown(pilot, "name ▼")
        await made.until(pilot, lambda: next(run.name for run in screen.records.values()) == "try 05", "turned round")


async def test_marked_runs_are_compared_even_after_another_filter(quiet: Any, made: Any, console: Any) -> None:
    """Marks outlive the filter that found the run: two runs that no filter shows together can be compared."""
    async with console(quiet.home).run_test(notifications=True, size=(120, 40)) as pilot:
        screen = await made.gone_to(pilot, "2", "runs")
        await pilot.press("c")
        await made.shown(pilot, "0 runs are marked")
        await pilot.press("space", "slash", *"try", "space", *"01")
        await made.until(pilot, lambda: len(screen.records) == 1, "one row")
        await pilot.press("enter", "space")
        await made.until(pilot, lambda: len(screen.query_one(RecordTable).marked) == 2, "two marks")
        await pilot.press("c")
        await made.until(pilot, lambda: isinstance(pilot.app.screen, CompareScreen), "the comparison")
        found = await made.shown(pilot, "what differs")
        found = await made.shown(pilot, "depth")
        assert "try 05" in found and "try 01" in found and "loss" in found
        assert "runs › compare 2" in found
        await pilot.press("escape")
        await made.until(pilot, lambda: pilot.app.screen is screen, "the runs again")


async def test_enter_drills_and_escape_goes_back_by_the_breadcrumbs(quiet: Any, made: Any, console: Any) -> None:
    async with console(quiet.home).run_test(notifications=True, size=(80, 24)) as pilot:
        screen = await made.gone_to(pilot, "7", "governance")
        await pilot.press("enter")
        await made.until(pilot, lambda: isinstance(pilot.app.screen, DetailScreen), "the card")
        assert "quarterdeck › governance › " in await made.shown(pilot, "entry")
        await pilot.press("escape")
        await made.until(pilot, lambda: pilot.app.screen is screen, "the table")


async def test_y_copies_the_id_and_capital_y_the_command(quiet: Any, made: Any, console: Any) -> None:
    """What is copied is a command that runs."""
    app = console(quiet.home)
    async with app.run_test(notifications=True, size=(120, 30)) as pilot:
        screen = await made.gone_to(pilot, "2", "runs")
        run = screen.selected()
        await pilot.press("y")
        await made.until(pilot, lambda: app.clipboard == run.id, "the id")
        await pilot.press("Y")
        await made.until(
            pilot, lambda: app.clipboard == f"qd --home {quiet.home.root} run show {run.id}", "the command"
        )
        for key, name in (("3", "registry"), ("7", "governance")):
            await made.gone_to(pilot, key, name)
            before = app.clipboard
            await pilot.press("Y")
            await made.until(pilot, lambda before=before: app.clipboard != before, "another command")
            done = quiet.qd(*app.clipboard.split()[1:])
            assert done.returncode == 0, (app.clipboard, done.stderr)


async def test_colon_goes_to_a_screen_and_question_mark_shows_its_keys(quiet: Any, made: Any, console: Any) -> None:
    async with console(quiet.home).run_test(notifications=True, size=(100, 40)) as pilot:
        await made.gone_to(pilot, "2", "runs")
        await pilot.press("question_mark")
        found = await made.shown(pilot, "keys of runs")
        assert all(words in found for _, words in EVERYWHERE) and "compare the marked runs" in found
        await pilot.press("escape", "colon", *"gover")
        await made.shown(pilot, "go to")
        await pilot.press("enter")
        await made.until(pilot, lambda: pilot.app.screen.name_of_screen == "governance", "governance")


@pytest.mark.parametrize("typed_ahead", [":gov", ":vern", ":gvrn", "::governance"])
async def test_what_is_pasted_behind_a_colon_goes_where_it_says(
    quiet: Any, made: Any, console: Any, typed_ahead: str
) -> None:
    """All keys are there before the first is answered, as a paste or a slow line brings them."""
    async with console(quiet.home).run_test(size=(100, 40)) as pilot:
        await made.gone_to(pilot, "2", "runs")
        for char in typed_ahead:
            pilot.app.post_message(events.Key("colon" if char == ":" else char, char))
        pilot.app.post_message(events.Key("enter", "\r"))
        await made.until(pilot, lambda: getattr(pilot.app.screen, "name_of_screen", "") == "governance", "governance")


async def test_the_palette_also_does_what_a_key_of_the_screen_does(quiet: Any, made: Any, console: Any) -> None:
    async with console(quiet.home).run_test(size=(100, 40)) as pilot:
        screen = await made.gone_to(pilot, "2", "runs")
        await pilot.press("colon", *"mark all", "enter")
        await made.until(pilot, lambda: len(screen.query_one(RecordTable).marked) == 6, "six marks")
        await pilot.press("colon", *"nowhere", "enter")
        assert isinstance(pilot.app.screen, GoDialog), "nothing is so called: nothing is done"
        await pilot.press("escape")
        await made.until(pilot, lambda: pilot.app.screen is screen, "the runs again")


async def test_a_notice_covers_nothing_and_gives_the_command_its_line_back(
    quiet: Any, made: Any, console: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At 80x24 the rows, the card and the keys stay where they are; the command is back when it was read."""
    monkeypatch.setitem(notice_line.SIGNS, "information", ("·", "cyan", 600.0))
    async with console(quiet.home).run_test(size=(80, 24)) as pilot:
        await made.gone_to(pilot, "2", "runs")
        before = made.lines(pilot)
        assert "$ qd run show" in before[-2]
        await pilot.press("c")
        await made.shown(pilot, "0 runs are marked")
        during = made.lines(pilot)
        assert during[:-2] == before[:-2] and during[-1] == before[-1]
        monkeypatch.setitem(notice_line.SIGNS, "information", ("·", "cyan", 0.05))
        await pilot.press("c")  # said once more, for less than it stands already
        await made.shown(pilot, "$ qd run show")
        assert "are marked" not in made.text(pilot)


async def test_j_k_and_capital_g_move_and_z_pauses(quiet: Any, made: Any, console: Any) -> None:
    """Paused, a new run is not drawn; live again, it is."""
    async with console(quiet.home).run_test(notifications=True, size=(100, 30)) as pilot:
        screen = await made.gone_to(pilot, "2", "runs")
        await pilot.press("G")
        assert screen.selected().name == "try 00"
        await pilot.press("k")
        assert screen.selected().name == "try 01"
        await pilot.press("g")
        assert screen.selected().name == "try 05"
        await pilot.press("z")
        with quiet.client() as owner, owner.run("churn", name="late") as late:
            late.log(loss=1.0)
        await pilot.pause(0.6)  # two of the console's own quiet times: it would have been drawn by now
        assert not any(run.name == "late" for run in screen.records.values())
        await pilot.press("z")
        await made.shown(pilot, "late")
        assert screen.selected().name == "try 05", "the cursor stays on its record"
        with quiet.client() as owner:
            owner.ask(runs.RemoveRun(run=late.id))


async def test_p_shows_the_gate_and_asks_another_person(life: Any, made: Any, console: Any) -> None:
    """In a team, Production needs somebody else: the key ends in an approval that waits, not in a refusal."""
    with life.client() as owner:
        version = made.register(owner, 0.7)
    async with console(life.home).run_test(notifications=True, size=(120, 30)) as pilot:
        screen = await made.versions_of(pilot, "churn")
        assert screen.selected().id == version
        await pilot.press("p")
        found = await made.shown(pilot, f"promote {version} to Staging")
        assert "no gate is set" in found and f"qd promote {version} Staging" in found
        await typed(pilot, made, "better")
        await made.until(pilot, lambda: pilot.app.screen.selected().stage == "Staging", "Staging")
        await pilot.press("p")
        await typed(pilot, made, "")
        await made.shown(pilot, "got nothing, expected a few words")
        await typed(pilot, made, "better")
        await made.shown(pilot, "another person has to approve it")
    with life.client() as owner:
        waiting = owner.ask(governance.ListApprovals())
        assert any(each.act["version"] == version for each in waiting), waiting
        assert owner.ask(registry.ShowVersion(version=version)).stage == "Staging"


async def test_a_approves_on_the_evidence_and_capital_r_needs_a_reason(life: Any, made: Any, console: Any) -> None:
    """ana decides; the owner's own key is refused by the daemon, and the console says so."""
    first = proposed(life, made, 1.0)
    async with console(life.home, "ana").run_test(notifications=True, size=(120, 30)) as pilot:
        screen = await made.gone_to(pilot, "7", "governance")
        await made.shown(pilot, "asks to")
        assert screen.selected().id == first
        await pilot.press("a")
        await made.shown(pilot, "approve: ")
        await typed(pilot, made, "fine")
        await made.until(pilot, lambda: approval(life, first).state == "APPROVED", "the approval")
        second = proposed(life, made, 1.25)
        await made.until(pilot, lambda: second in screen.records, "the second")
        await pilot.press("g", "R")
        await made.shown(pilot, "reject: ")
        await typed(pilot, made, "")
        await made.shown(pilot, "got nothing, expected a few words")
        assert approval(life, second).state == "WAITING"
        await typed(pilot, made, "too early")
        await made.until(pilot, lambda: approval(life, second).state == "REJECTED", "the rejection")
        assert approval(life, second).note == "too early"
    third = proposed(life, made, 1.5)
    async with console(life.home).run_test(notifications=True, size=(120, 30)) as pilot:
        screen = await made.gone_to(pilot, "7", "governance")
        await made.until(pilot, lambda: third in screen.records, "the third")
        await pilot.press("g", "a")
        await typed(pilot, made, "mine")
        await made.shown(pilot, "expected another person")
        assert approval(life, third).state == "WAITING"


async def test_x_rolls_back_only_when_the_name_is_typed(life: Any, made: Any, console: Any) -> None:
    """Escape and a wrong name change nothing; the right one moves all traffic."""

    def live() -> Any:
        with life.client() as owner:
            return owner.ask(ShowDeployment(endpoint="churn")).live

    async with console(life.home).run_test(notifications=True, size=(120, 40)) as pilot:
        await made.gone_to(pilot, "4", "deployments")
        await made.shown(pilot, "churn@2")
        await pilot.press("x")
        await made.shown(pilot, "churn@2 is taken out, churn@1 answers everything")
        await typed(pilot, made, "chur")
        await made.shown(pilot, "got chur, expected churn")
        await pilot.press("escape")
        assert live() == "churn@2"
        await pilot.press("x")
        await typed(pilot, made, "churn")
        await made.until(pilot, lambda: live() == "churn@1", "the roll back")
        await made.shown(pilot, "churn is rolled back")


async def test_no_key_harms_an_empty_home(made: Any, console: Any, absent: Any) -> None:
    """Nothing to act on: each key is a hint or nothing, on every screen; what is missing is said."""
    absent.start()
    pressed = ("a", "R", "p", "x", "c", "l", "enter", "Y", "space", "s", "escape")
    async with console(absent.home).run_test(notifications=True, size=(80, 24)) as pilot:
        for digit, name in SCREENS:
            await made.gone_to(pilot, digit, name)
            if name == "governance":  # the journal of a new home has its first key in it
                continue
            await pilot.press(*pressed[:6], *pressed[7:] if name == "bridge" else pressed[6:])
            await pilot.pause()
            assert pilot.app.screen.name_of_screen == name
            hint = {"runs": "deck.run(", "registry": "qd register", "deployments": "qd deploy"}.get(name, "qd")
            await made.shown(pilot, hint)
