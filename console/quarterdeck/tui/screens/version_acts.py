"""What can be done to a version from any screen that has one: propose, describe, tag, name, take away, take back."""

from __future__ import annotations

import re
import shlex
from typing import Any, ClassVar

import msgspec
from rich.text import Text
from textual import work
from textual.binding import Binding, BindingType

from quarterdeck.tui.screens.base import DeckScreen
from quarterdeck.tui.screens.version_cards import aliases_of, proposal, tags_of
from quarterdeck.tui.widgets.drawing import muted, safe
from quarterdeck.wording import command_text
from quarterstore.records.faults import Fault, NeedsApproval
from quarterstore.records.governance import JudgeGate, Propose
from quarterstore.records.models import RemoveAlias, SetAlias, ShowModel
from quarterstore.records.registry import (
    DescribeVersion,
    MoveStage,
    RemoveVersion,
    RestoreVersion,
    Stage,
    TagVersion,
    Version,
)
from quarterstore.records.store import ShowUndo, Undo

NEXT: dict[str, Stage] = {"None": "Staging", "Staging": "Production", "Archived": "Staging", "Production": "Archived"}


class UndoKey(DeckScreen):
    """`U`: what would be taken back is shown before it is; what was removed comes back however long ago that was."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("U", "undo", "undo", show=False)]

    @work
    async def action_undo(self) -> None:
        """Take back one's own last act, if it still is the one that was shown."""
        found = await self.answered(ShowUndo())
        if found is None:
            return
        act = Undo(entry=found.entry)
        body = Text.assemble(safe(f"entry {found.entry}: {found.words}", 400), "\n\n", command(act))
        if await self.asked("take back your last act", body, "enter takes it back", needed=False) is not None:
            await self.act(act, f"taken back: {found.words}")

    async def bring_back(self, name: str, act: Any) -> None:
        """Ask, then restore what was removed."""
        body = Text.assemble(safe("It comes back as it was, and is listed and named again."), "\n\n", command(act))
        if await self.asked(f"bring back {name}", body, "enter brings it back", needed=False) is not None:
            await self.act(act, f"{name} is back")


class RemovedKey(DeckScreen):
    """`.`: what was removed is listed too, marked as such, to be looked at and brought back."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("full_stop", "with_removed", "removed", key_display=".")]
    removed: ClassVar[tuple[str, str]] = (".", "list what was removed too, or no longer; x brings one back")
    with_removed = False

    def action_with_removed(self) -> None:
        """The other way round."""
        self.with_removed = not self.with_removed
        self.load()


class VersionActs(UndoKey):
    """The keys of a version; `target` says of which."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("p", "propose", "propose"),
        Binding("A", "alias", "alias"),
        Binding("t", "tag", "tags", show=False),
        Binding("e", "describe", "notes", show=False),
        Binding("x", "remove", "remove", show=False),
    ]
    acts: ClassVar[tuple[tuple[str, str], ...]] = (
        ("p", "propose the next stage, after what the gate says"),
        ("A", "set or take away an alias, a word for this version"),
        ("t / e", "set tags / edit the notes"),
        ("x", "take it out of sight, after typing its id; bring it back"),
        ("U", "take back your own last act, after it is shown"),
    )

    def target(self) -> Version | None:
        """The version that a key acts on."""
        return None

    @work
    async def action_propose(self) -> None:
        """Show what the gate says, ask for a reason, then move, or ask for approval where one is needed."""
        version = self.target()
        if version is None:
            return
        outcome = await self.answered(JudgeGate(version=version.id))
        if outcome is None:
            return
        after = NEXT[version.stage]
        needed = "Production" in (after, version.stage)
        prompt = "reason (kept in the audit trail)" if needed else "reason (kept in the audit trail, may stay empty)"
        body = proposal(version, after, outcome)
        reason = await self.asked(f"promote {version.id} to {after}", body, prompt, needed=needed)
        if reason is None:
            return
        act = MoveStage(version=version.id, stage=after, reason=reason)
        try:
            await self.deck_app.deck.ask(act)
            self.notify(safe(f"{version.id} is in {after}", 120).plain, markup=False)
        except NeedsApproval:
            await self.act(
                Propose(act=msgspec.to_builtins(act), reason=reason), "asked: another person has to approve it"
            )
        except Fault as fault:
            self.notify(safe(fault.line(), 300).plain, severity="error", markup=False)
        self.load()

    @work
    async def action_describe(self) -> None:
        """Edit the notes on one line; a line break is written `\\n`."""
        version = self.target()
        if version is None:
            return
        body = Text.assemble(muted("what people should know of it"), "\n\n", command(DescribeVersion(version.id, "…")))
        words = await self.asked(
            f"notes of {version.id}", body, r"notes; \n is a new line", needed=False, value=on_a_line(version.notes)
        )
        if words is not None:
            await self.act(DescribeVersion(version=version.id, notes=in_lines(words)), f"described {version.id}")

    @work
    async def action_tag(self) -> None:
        """`team=fraud` sets a tag, `-team` takes it away."""
        version = self.target()
        if version is None:
            return
        body = Text.assemble(safe(tags_of(version.tags), 400), "\n\n", command(TagVersion(version.id, {"team": "x"})))
        words = await self.asked(f"tags of {version.id}", body, "name=value sets one, -name takes it away")
        if words is None:
            return
        try:
            tags = tags_from(words)
        except ValueError as error:
            self.notify(safe(f"tags: got {words}, expected name=value or -name ({error})", 300).plain, markup=False)
            return
        await self.act(TagVersion(version=version.id, tags=tags), f"tagged {version.id}")

    @work
    async def action_alias(self) -> None:
        """A word names this version from now on, also where it named another one; `-word` takes it away."""
        version = self.target()
        if version is None:
            return
        model = await self.answered(ShowModel(model=version.model))
        if model is None:
            return
        named = "  ".join(f"{alias} is @{at}" for alias, at in sorted(model.aliases.items())) or "no alias yet"
        body = Text.assemble(safe(named, 400), "\n\n", command(SetAlias(version=version.id, alias="WORD")))
        mine = ", ".join(aliases_of(model, version)) or "none"
        prompt = f"a word for this version (it has {mine}); -word takes one away"
        word = await self.asked(f"alias of {version.id}", body, prompt)
        if word is None:
            return
        if word.startswith("-"):
            alias = word[1:].strip()
            await self.act(RemoveAlias(model=version.model, alias=alias), f"{alias} names nothing any more")
            return
        former = model.aliases.get(word)
        was = f", no longer @{former}" if former not in (None, version.number) else ""
        await self.act(SetAlias(version=version.id, alias=word), f"{word} is {version.id}{was}")

    @work
    async def action_remove(self) -> None:
        """Out of sight, once its id was typed; refused by the daemon while it is live. A removed one: back again."""
        version = self.target()
        if version is None:
            return
        if version.removed is not None:
            await self.bring_back(version.id, RestoreVersion(version=version.id))
            return
        act = RemoveVersion(version=version.id)
        words = (
            "It is no longer named, and listed only after `.`. Its number is never given again; x or U brings it back."
        )
        body = Text.assemble(safe(words, 400), "\n\n", command(act))
        typed = await self.asked(f"remove {version.id}", body, f"type {version.id} to do it", expected=version.id)
        if typed is not None:
            await self.act(act, f"{version.id} is removed; . lists it, U brings it back")


def command(act: object) -> Text:
    """The command that does the same."""
    return safe("$ " + command_text(act), 300, "grey62")


def on_a_line(words: str) -> str:
    """Text of many lines as one; `in_lines` is the way back."""
    return words.replace("\\", "\\\\").replace("\n", "\\n")


def in_lines(words: str) -> str:
    """`\\n` as a line break, two backslashes as one."""
    return re.sub(r"\\(\\|n)", lambda found: "\n" if found[1] == "n" else "\\", words)


def tags_from(words: str) -> dict[str, str | None]:
    """Tags as a shell would split them. Raises `ValueError` for a word that is neither `name=value` nor `-name`."""
    tags: dict[str, str | None] = {}
    for word in shlex.split(words):
        name, is_set, value = word.partition("=")
        if is_set and name and not name.startswith("-"):
            tags[name] = value
        elif word.startswith("-") and len(word) > 1 and not is_set:
            tags[word[1:]] = None
        else:
            raise ValueError(word)
    return tags
