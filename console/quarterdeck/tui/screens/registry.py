"""The registry: every model with what is live, on trial and newest of it; enter lists its versions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

from rich.text import Text
from textual import work
from textual.binding import Binding, BindingType

from quarterdeck.tui.screens.noun import NounScreen
from quarterdeck.tui.screens.version_acts import RemovedKey, UndoKey, command, in_lines, on_a_line, tags_from
from quarterdeck.tui.screens.version_cards import model_card, tags_of
from quarterdeck.tui.screens.versions import VersionsScreen
from quarterdeck.tui.widgets.card_view import Drawing
from quarterdeck.tui.widgets.drawing import ago, faded, glyph, right, safe, state
from quarterdeck.tui.widgets.record_table import Column
from quarterdeck.wording import command_text
from quarterstore.records.models import DescribeModel, RemoveModel, RestoreModel, ShowModel, TagModel
from quarterstore.records.registry import ListModels, ListVersions, Model, Version


class Listed(NamedTuple):
    """A model and its versions, the newest first: those that were removed only of a model that was."""

    model: Model
    versions: tuple[Version, ...]
    gone: int = 0
    """Versions of it that were removed, where they were asked for."""

    def changed(self) -> float:
        """When something of it changed last."""
        return self.model.updated or self.model.created


class RegistryScreen(UndoKey, RemovedKey, NounScreen):
    """Every model; those that were removed when they are asked for."""

    name_of_screen = "registry"
    nouns = frozenset({"registry", "models", "deployments"})
    empty = "no model yet\n\nqd register MODEL.onnx --name NAME\nqd quickstart ROWS.csv --target COLUMN"
    columns = (
        Column("model", 12, flex=2),
        Column("Production", 12, flex=1),
        Column("Staging", 13, drop=1),
        Column("latest", 10),
        Column("versions", 8, right=True, drop=2, value=lambda found: len(found.versions)),
        Column("aliases", 10, flex=2, drop=4),
        Column("tags", 10, flex=2, drop=6),
        Column("description", 12, flex=3, drop=5),
        Column("changed", 10, right=True, drop=3, value=lambda found: found.changed()),
    )
    keys = (
        ("enter", "the model's versions"),
        ("e / t", "edit the description / set tags"),
        RemovedKey.removed,
        ("x", "take it out of sight with its versions, after its name; bring it back"),
        ("U", "take back your own last act, after it is shown"),
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("e", "describe", "describe"),
        Binding("t", "tag", "tags"),
        Binding("x", "remove", "remove", show=False),
    ]

    async def fetch(self) -> Sequence[tuple[str, Listed]]:
        """Models by name, each with its versions."""
        ask = self.deck_app.deck.ask
        models: list[Model] = await ask(ListModels(removed=self.with_removed))
        by_model: dict[str, list[Version]] = {}
        for version in await ask(ListVersions(removed=self.with_removed)):
            by_model.setdefault(version.model, []).append(version)
        return [(model.name, listed(model, by_model.get(model.name, []))) for model in models]

    def cells(self, record: Listed, now: float) -> tuple[Text, ...]:
        """A number and its semantic version in each stage that counts."""
        model, versions, gone = record
        cells = (
            safe(model.name, 80),
            in_stage(versions, "Production") if model.removed is None else state("removed"),
            in_stage(versions, "Staging"),
            safe(numbered(versions[0]) if versions else "-", 40),
            right(f"{len(versions):,}" + (f" ✗{gone}" if gone else "")),
            safe("  ".join(f"{alias} @{at}" for alias, at in sorted(model.aliases.items())) or "-", 100),
            safe(tags_of(model.tags), 100),
            safe(model.description or "-", 100),
            right(ago(record.changed(), now)),
        )
        return cells if model.removed is None else faded(cells)

    async def card(self, record: Listed, now: float) -> Drawing:
        """What it is for, and its versions."""
        return lambda width, height: model_card(record.model, record.versions, now, width)

    def subject(self) -> tuple[str, str] | None:
        """The model under the cursor."""
        found: Listed | None = self.selected()
        return (found.model.name, command_text(ShowModel(model=found.model.name))) if found else None

    def open(self, record: Any) -> None:
        """Its versions."""
        self.app.push_screen(VersionsScreen(record.model.name, self.with_removed))

    @work
    async def action_describe(self) -> None:
        """What the model is for, on one line; a line break is written `\\n`."""
        found: Listed | None = self.selected()
        if found is None:
            return
        name = found.model.name
        words = await self.asked(
            f"description of {name}",
            command(DescribeModel(model=name, description="…")),
            r"what it is for; \n is a new line",
            needed=False,
            value=on_a_line(found.model.description),
        )
        if words is not None:
            await self.act(DescribeModel(model=name, description=in_lines(words)), f"described {name}")

    @work
    async def action_tag(self) -> None:
        """`team=fraud` sets a tag, `-team` takes it away."""
        found: Listed | None = self.selected()
        if found is None:
            return
        name = found.model.name
        body = Text.assemble(safe(tags_of(found.model.tags), 400), "\n\n", command(TagModel(name, {"team": "x"})))
        words = await self.asked(f"tags of {name}", body, "name=value sets one, -name takes it away")
        if words is None:
            return
        try:
            tags = tags_from(words)
        except ValueError as error:
            self.notify(safe(f"tags: got {words}, expected name=value or -name ({error})", 300).plain, markup=False)
            return
        await self.act(TagModel(model=name, tags=tags), f"tagged {name}")

    @work
    async def action_remove(self) -> None:
        """The model and its versions out of sight, once its name was typed; refused while one is live. A removed one:
        back again."""
        found: Listed | None = self.selected()
        if found is None:
            return
        name = found.model.name
        if found.model.removed is not None:
            await self.bring_back(name, RestoreModel(model=name))
            return
        act = RemoveModel(model=name)
        words = f"It and its {len(found.versions)} versions are listed only after `.`. x there, or U, brings them back."
        body = Text.assemble(safe(words, 400), "\n\n", command(act))
        if await self.asked(f"remove {name}", body, f"type {name} to do it", expected=name) is not None:
            await self.act(act, f"{name} is removed; . lists it, U brings it back")


def listed(model: Model, versions: Sequence[Version]) -> Listed:
    """A model with those of its versions that share its fate."""
    kept = tuple(each for each in versions if each.removed is None or model.removed is not None)
    return Listed(model, kept, len(versions) - len(kept))


def numbered(version: Version) -> str:
    """`@3 1.2.0`."""
    return f"@{version.number} {version.semver}"


def in_stage(versions: Sequence[Version], stage: str) -> Text:
    """The newest version in a stage, and how many others are there too (other environments, several in Staging)."""
    found = [each for each in versions if each.stage == stage]
    if not found:
        return safe("-", style="grey62")
    more = f" +{len(found) - 1}" if len(found) > 1 else ""
    return Text.assemble(glyph(stage), " ", safe(f"{numbered(found[0])}{more}", 40))
