"""The registry's screens: models, versions, a version in panes; each drills, copies its command and stays live."""

from __future__ import annotations

import shlex
from typing import Any

import msgspec
import pytest
from rich.cells import cell_len

from quarterdeck.async_client import AsyncClient
from quarterdeck.tui.app import DeckApp
from quarterdeck.tui.screens.relative import RelativeScreen
from quarterdeck.tui.screens.version import DataScreen, VersionScreen
from quarterdeck.tui.screens.version_acts import in_lines, on_a_line, tags_from
from quarterdeck.tui.widgets.ask_dialog import AskDialog
from quarterdeck.tui.widgets.record_table import RecordTable
from quarterstore.records import datasets, models, registry, runs
from quarterstore.records.names import drawn
from tests.tui.test_screens import ODD, Poisoned

PANES = ("overview", "signature", "changes", "lineage", "history", "evidence")


@pytest.fixture(scope="module")
def tracked(life: Any, made: Any) -> Any:
    """The team's home, with a version that has a run, data, a child, an alias, tags and another signature."""
    with life.client() as owner:
        data, size = owner.put(b"a,y\n1,2\n2,3\n")
        owner.ask(datasets.AddDataset(digest=data, name="customers.csv", format="csv", size=size))
        with owner.run("churn", name="with rows") as run:
            run.log(loss=0.5)
        owner.ask(runs.LogInputs(run=run.id, inputs=(runs.DatasetInput(name="customers.csv", digest=data),)))
        shape = registry.Signature(
            inputs=made.SIGNATURE.inputs,
            outputs=(*made.SIGNATURE.outputs, registry.Tensor(name="why", datatype="FP32", shape=(-1, 4))),
            features=made.SIGNATURE.features,
            score="y",
        )
        digest, size = owner.put(made.model_bytes(0.5, why=True))
        about: dict[str, Any] = {"digest": digest, "size": size, "format": "onnx", "signature": shape}
        metric = registry.Metric(name="accuracy", value=0.95)
        found = owner.ask(registry.RegisterVersion(model="churn", run=run.id, metrics=(metric,), **about))
        owner.ask(registry.RegisterVersion(model="small", parent=found.id, **about))
        owner.ask(models.SetAlias(version=found.id, alias="challenger"))
        owner.ask(models.DescribeModel(model="churn", description="who leaves"))
    return life


def shown_version(home: Any, version: str) -> registry.Version:
    """A version as the daemon has it."""
    with home.client() as owner:
        found: registry.Version = owner.ask(registry.ShowVersion(version=version))
        return found


async def opened(pilot: Any, made: Any, version: str, pane: str = "overview") -> Any:
    """A version's screen at a pane."""
    screen = await made.versions_of(pilot, version.partition("@")[0])
    table = screen.query_one(RecordTable)
    table.move_cursor(row=table._keys.index(version))
    await pilot.press("enter")
    await made.until(pilot, lambda: isinstance(pilot.app.screen, VersionScreen), "the version")
    for _ in range(PANES.index(pane)):
        await pilot.press("right_square_bracket")
    await made.shown(pilot, f"▸{pane}◂")
    await made.until(pilot, lambda: not pilot.app.screen._filling, "its pane")
    await pilot.pause()
    return pilot.app.screen


async def answered(pilot: Any, made: Any, key: str, words: str) -> None:
    """Press a key that opens a dialog, type, press enter."""
    await pilot.press(key)
    await made.until(pilot, lambda: isinstance(pilot.app.screen, AskDialog), "the dialog")
    box = pilot.app.screen.query_one("#answer")
    box.value = words
    await pilot.press("enter")
    await made.until(pilot, lambda: not isinstance(pilot.app.screen, AskDialog), "the end of the dialog")


@pytest.mark.parametrize("size", [(80, 24), (160, 48)])
async def test_models_lead_to_versions_and_a_version_to_its_panes(
    tracked: Any, made: Any, console: Any, size: tuple[int, int]
) -> None:
    """Every screen on the way fills the terminal line by line, with help and the way back in view."""
    expected = {
        "overview": ("why 1.1.0", "minor: output why added", "accuracy", "challenger"),
        "signature": ("inputs", "outputs", "features: 4", "required"),
        "changes": ("signature against churn@2", "+ added", "why", "minor", "difference", "+0.05"),
        "lineage": ("┌─ ▤ dataset", "▶ run", "◆ · None", "◇ child", "small@1"),
        "history": ("Production of churn", "churn@2", "approved by ana", "dep-", "it is where it was registered"),
        "evidence": ("gate, as it stands now", "no gate is set", "nobody was asked"),
    }
    async with console(tracked.home).run_test(size=size) as pilot:
        await made.gone_to(pilot, "3", "registry")
        for words in ("● @2 1.0.1", "who leaves", "qd model show churn", "challenger"):
            await made.shown(pilot, words)
        await made.versions_of(pilot, "churn")
        found = await made.shown(pilot, "registry › churn")
        assert "1.1.0" in found and "challenger" in found and "qd version show churn@3" in found
        screen = await opened(pilot, made, "churn@3")
        for pane in PANES:
            await made.shown(pilot, f"▸{pane}◂")
            for words in expected[pane]:
                await made.shown(pilot, words)
            lines = made.lines(pilot)
            assert {cell_len(line) for line in lines} == {size[0]} and len(lines) == size[1]
            assert "registry › churn › churn@3" in lines[0] and "? help" in lines[-1]
            await pilot.press("right_square_bracket")
        for _ in range(len(screen._panes) - len(PANES)):  # hooks, where the daemon knows them
            await pilot.press("right_square_bracket")
        assert screen is pilot.app.screen and "▸overview◂" in await made.shown(pilot, "why 1.1.0")


async def test_every_command_that_capital_y_copies_runs(tracked: Any, made: Any, console: Any) -> None:
    app = console(tracked.home)
    async with app.run_test(notifications=True, size=(120, 40)) as pilot:
        copied = []

        async def copy() -> None:
            await pilot.press("Y")
            copied.append(app.clipboard)

        await made.gone_to(pilot, "3", "registry")
        await copy()
        await opened(pilot, made, "churn@3")
        for pane in PANES:
            await made.shown(pilot, f"▸{pane}◂")
            await made.until(pilot, lambda: not app.screen._filling, pane)
            await copy()
            await pilot.press("right_square_bracket")
        assert copied[1:3] == [f"qd --home {tracked.home.root} version show churn@3"] * 2
        screen = await opened(pilot, made, "churn@2", "lineage")
        table = screen.query_one(RecordTable)
        for row in range(table.row_count):
            table.move_cursor(row=row)
            await pilot.pause(0.05)
            await copy()
        assert len(set(copied)) >= 9
        for command in dict.fromkeys(copied):
            done = tracked.qd(*shlex.split(command)[1:])
            assert done.returncode == 0, (command, done.stderr)


async def test_enter_opens_each_kind_of_node_and_escape_leads_back(tracked: Any, made: Any, console: Any) -> None:
    """A run, data with what it reached, the child; the way stands in the first line."""
    async with console(tracked.home).run_test(size=(120, 40)) as pilot:
        screen = await opened(pilot, made, "churn@3", "lineage")
        table = screen.query_one(RecordTable)
        kinds = {branch.node.kind: int(key) for key, branch in screen._lines.items() if branch.node}
        table.move_cursor(row=kinds["run"])
        await pilot.press("enter")
        await made.until(pilot, lambda: isinstance(pilot.app.screen, RelativeScreen), "the run")
        assert "with rows" in await made.shown(pilot, "qd run show run-")
        await pilot.press("escape")
        await made.until(pilot, lambda: pilot.app.screen is screen, "the version")
        table.move_cursor(row=kinds["dataset"])
        await pilot.press("enter")
        await made.until(pilot, lambda: isinstance(pilot.app.screen, DataScreen), "the data")
        assert "◇ version" in await made.shown(pilot, "small@1")
        await pilot.press("escape")
        table.move_cursor(row=kinds["child"])
        await pilot.press("enter")
        await made.until(pilot, lambda: pilot.app.screen.crumbs()[-1] == "small@1", "the child")
        assert "registry › churn › churn@3 › small@1" in await made.shown(pilot, "parent")
        for _ in range(3):
            await pilot.press("escape")
        await made.until(pilot, lambda: type(pilot.app.screen).__name__ == "RegistryScreen", "the models")


async def test_a_version_is_compared_with_a_marked_one_and_with_any(tracked: Any, made: Any, console: Any) -> None:
    async with console(tracked.home).run_test(notifications=True, size=(120, 40)) as pilot:
        screen = await made.versions_of(pilot, "churn")
        await pilot.press("c")
        await made.shown(pilot, "0 versions are marked")
        table = screen.query_one(RecordTable)
        table.move_cursor(row=table._keys.index("churn@1"))
        await pilot.press("space")
        table.move_cursor(row=table._keys.index("churn@3"))
        await pilot.press("c")
        await made.shown(pilot, "signature against churn@1, 1.0.0: minor")
        await made.shown(pilot, "qd version diff churn@1 churn@3")
        await answered(pilot, made, "c", "9")
        await made.shown(pilot, "got churn@9, expected a known one")
        await answered(pilot, made, "c", "1.0.1")
        await made.shown(pilot, "signature against churn@2")
        await answered(pilot, made, "c", "small@1")
        await made.shown(pilot, "the same inputs, outputs and features")


async def test_a_stage_that_moves_elsewhere_appears_and_the_cursor_stays(tracked: Any, made: Any, console: Any) -> None:
    """On the versions and on a version's own screen, without a key."""
    with tracked.client() as owner:
        made.register(owner, 3.0)
        version = made.register(owner, 3.25)
    async with console(tracked.home).run_test(size=(120, 30)) as pilot:
        screen = await made.versions_of(pilot, "churn")
        table = screen.query_one(RecordTable)
        table.move_cursor(row=table._keys.index("churn@2"))
        with tracked.client() as owner:
            owner.ask(registry.MoveStage(version=version, stage="Staging", reason="elsewhere"))
            newest = made.register(owner, 3.5)
        await made.until(pilot, lambda: newest in table._keys, "the new row")
        await made.until(pilot, lambda: screen.records[version].stage == "Staging", "the stage")
        assert screen.selected().id == "churn@2"
        await opened(pilot, made, version, "history")
        await made.shown(pilot, "elsewhere")
        with tracked.client() as owner:
            owner.ask(registry.MoveStage(version=version, stage="Archived", reason="and back"))
        await made.shown(pilot, "and back")


async def test_notes_tags_and_aliases_are_edited_and_taken_back(tracked: Any, made: Any, console: Any) -> None:
    with tracked.client() as owner:
        version = made.register(owner, 4.0)
    async with console(tracked.home).run_test(notifications=True, size=(120, 40)) as pilot:
        await opened(pilot, made, version)
        await answered(pilot, made, "e", r"one\ntwo \\n")
        await made.until(pilot, lambda: shown_version(tracked, version).notes == "one\ntwo \\n", "the notes")
        await pilot.press("e")
        await made.until(pilot, lambda: isinstance(pilot.app.screen, AskDialog), "the dialog")
        assert pilot.app.screen.query_one("#answer").value == r"one\ntwo \\n"
        await pilot.press("escape")
        await answered(pilot, made, "t", "team=a 'why=b c'")
        await made.until(pilot, lambda: shown_version(tracked, version).tags == {"team": "a", "why": "b c"}, "tags")
        await answered(pilot, made, "t", "-team")
        await made.until(pilot, lambda: shown_version(tracked, version).tags == {"why": "b c"}, "one tag less")
        await answered(pilot, made, "t", "nonsense")
        await made.shown(pilot, "expected name=value or -name")
        await answered(pilot, made, "A", "best")
        await made.until(pilot, lambda: shown_version(tracked, "churn@best").id == version, "the alias")
        await made.shown(pilot, f"best is {version}")
        await answered(pilot, made, "A", "latest")
        await made.shown(pilot, "a word that is no number")
        await answered(pilot, made, "U", "")
        await made.shown(pilot, "taken back: churn@best")
        await answered(pilot, made, "A", "-best")
        await made.shown(pilot, "alias: got best")


async def test_x_removes_once_the_id_is_typed_and_capital_u_brings_back(tracked: Any, made: Any, console: Any) -> None:
    """What is live is refused by the daemon; what was removed comes back as it was."""
    with tracked.client() as owner:
        version = made.register(owner, 5.0)
    before = shown_version(tracked, version)
    async with console(tracked.home).run_test(notifications=True, size=(120, 30)) as pilot:
        screen = await made.versions_of(pilot, "churn")
        assert screen.selected().id == version
        await answered(pilot, made, "x", version)
        await made.until(pilot, lambda: version not in screen.records, "its end")
        await pilot.press("U")
        await made.shown(pilot, f"removed {version}")
        await pilot.press("enter")
        await made.until(pilot, lambda: version in screen.records, "the row again")
        assert msgspec.structs.replace(shown_version(tracked, version), updated=None) == before
        table = screen.query_one(RecordTable)
        table.move_cursor(row=table._keys.index("churn@2"))
        await answered(pilot, made, "x", "churn@2")
        await made.shown(pilot, "churn@2 is live at churn")


@pytest.mark.fault
async def test_hostile_names_reach_no_terminal_from_any_screen_of_the_registry(tracked: Any, made: Any) -> None:
    """V18: in every free text of every answer, on the versions and on each pane of a version."""
    deck = Poisoned(AsyncClient(tracked.home))
    app = DeckApp(deck, "/home/ana/deck")
    failures, drawn_once = [], 0
    async with app.run_test(size=(120, 40)) as pilot:
        for pane in ("versions", *PANES):
            deck.names = ()
            if pane == "versions":
                await made.versions_of(pilot, "churn")
            else:
                await opened(pilot, made, "churn@2", pane)
            for first in range(0, len(ODD), 6):
                deck.names = ODD[first : first + 6]
                await app.screen.fill()
                await pilot.pause()
                app.clear_notifications()
                drawn_once += "\ufffd" in made.text(pilot)
                for strip in app.screen._compositor.render_strips():
                    line = "".join(segment.text for segment in strip)
                    linked = any(segment.style and segment.style.link for segment in strip)
                    if drawn(line) != line or linked or strip.cell_length != 120:
                        failures.append((pane, first, line))
        deck.names = ()
    assert not failures
    assert drawn_once > len(PANES)


@pytest.mark.parametrize("words", ["", "a", "a\nb", "\\", "\\n", "a\\\\nb\n", "\n\n\\\n"])
def test_notes_on_a_line_come_back_as_they_were(words: str) -> None:
    assert "\n" not in on_a_line(words) and in_lines(on_a_line(words)) == words


def test_tags_are_split_as_a_shell_would() -> None:
    assert tags_from("a=1 'b=x y' -c d=") == {"a": "1", "b": "x y", "c": None, "d": ""}
    for wrong in ("a", "=1", "-", "-a=1", "'a=1"):
        with pytest.raises(ValueError):
            tags_from(wrong)


async def test_the_command_in_each_dialog_runs(tracked: Any, made: Any, console: Any) -> None:
    """What a dialog says it will do is a line for the shell, words of its own put in."""
    with tracked.client() as owner:
        version = made.register(owner, 6.0)
    async with console(tracked.home).run_test(size=(120, 40)) as pilot:
        await opened(pilot, made, version)
        for key in ("e", "t", "A", "x", "U"):
            await pilot.press(key)
            await made.until(pilot, lambda: isinstance(pilot.app.screen, AskDialog), "the dialog")
            await pilot.pause()
            found = pilot.app.screen._body.plain.rpartition("$ ")[2].strip()
            await pilot.press("escape")
            done = tracked.qd(*shlex.split(found)[1:])
            assert done.returncode == 0, (found, done.stderr)
    assert shown_version(tracked, version).removed is None, "U took back what x did"


async def test_what_was_removed_is_listed_after_a_dot_and_comes_back_by_x(daemon: Any, made: Any, console: Any) -> None:
    """A removed version is marked where its stage stands; so is a model, with the versions that went with it."""
    with daemon.client() as owner:
        version = made.register(owner, 7.5)
        owner.ask(registry.RemoveVersion(version=version))
        async with console(daemon.home).run_test(size=(120, 30)) as pilot:
            screen = await made.versions_of(pilot, "churn")
            assert version not in screen.records
            await pilot.press("full_stop")
            await made.until(pilot, lambda: version in screen.records, "the removed one")
            await made.shown(pilot, "✗ removed")
            table = screen.query_one(RecordTable)
            table.move_cursor(row=list(screen.records).index(version))
            await pilot.press("x")
            await made.shown(pilot, f"$ qd registry restore --version {version}")
            await pilot.press("enter")
            await made.until(
                pilot, lambda: owner.ask(registry.ShowVersion(version=version)).removed is None, "the version back"
            )
            await made.until(pilot, lambda: "✗ removed" not in made.text(pilot), "no mark any more")
            owner.ask(models.RemoveModel(model="churn"))
            models_ = await made.gone_to(pilot, "3", "registry")
            await made.until(pilot, lambda: "churn" not in models_.records, "the model out of sight")
            await pilot.press("full_stop")
            await made.shown(pilot, "✗ removed")
            models_.query_one(RecordTable).move_cursor(row=list(models_.records).index("churn"))
            await pilot.press("x")
            await made.shown(pilot, "$ qd models restore --model churn")
            await pilot.press("enter")
            await made.until(pilot, lambda: owner.ask(models.ShowModel(model="churn")).removed is None, "it back")
