"""Hooks: dead letters first, then what is called when, then what was told; sent again, paused, tried from here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from rich.text import Text
from textual import work
from textual.binding import Binding, BindingType

from quarterdeck.tui.screens import hook_cards
from quarterdeck.tui.screens.noun import NounScreen
from quarterdeck.tui.screens.version_acts import command
from quarterdeck.tui.widgets.card_view import Drawing
from quarterdeck.tui.widgets.drawing import ago, muted, right, safe, state
from quarterdeck.tui.widgets.record_table import Column, RecordTable
from quarterdeck.wording import command_text
from quarterstore.records.hooks import (
    Delivery,
    Hook,
    ListDeliveries,
    ListHooks,
    PauseHook,
    Redeliver,
    RemoveHook,
    ResumeHook,
    ShowDelivery,
    TestHook,
)

LISTED = 100
"""Deliveries of each kind that are listed."""


class HooksScreen(NounScreen):
    """What failed stands above all: it waits for somebody."""

    name_of_screen = "hooks"
    nouns = frozenset({"hooks"})
    marks = True
    empty = (
        "no hook yet\n\nqd hook add promote exec:./tell.sh\nqd hook add alert https://example.org/hear\nqd hook events"
    )
    columns = (
        Column("state", 10),
        Column("event", 9),
        Column("of", 12, flex=2),
        Column("calls", 16, flex=3, drop=2),
        Column("tries", 5, right=True, drop=4),
        Column("what came of it", 16, flex=4, drop=1),
        Column("when", 10, right=True, drop=3, value=lambda found: _when(found)),
    )
    keys = (
        ("d", "send again what failed: the delivery, or those that are marked"),
        ("space * u", "mark a delivery, all of them, forget the marks"),
        ("t", "try a hook"),
        ("p", "pause a hook, resume it"),
        ("x", "forget a hook with its deliveries, after typing its id"),
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("d", "redeliver", "send again"),
        Binding("t", "try", "try"),
        Binding("p", "pause_hook", "pause"),
        Binding("space", "mark", "mark"),
        Binding("asterisk", "mark_all", "mark all", key_display="*", show=False),
        Binding("u", "unmark", "unmark", show=False),
        Binding("x", "remove", "remove", show=False),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._hooks: dict[str, Hook] = {}

    async def fetch(self) -> Sequence[tuple[str, Hook | Delivery]]:
        """Dead letters, hooks, then what waits or was made."""
        ask = self.deck_app.deck.ask
        hooks: list[Hook] = await ask(ListHooks())
        self._hooks = {each.id: each for each in hooks}
        dead: list[Delivery] = await ask(ListDeliveries(state="FAILED", limit=LISTED))
        told: list[Delivery] = await ask(ListDeliveries(limit=LISTED))
        others = [each for each in told if each.state != "FAILED"]
        found: list[Hook | Delivery] = [*dead, *hooks, *others]
        return [(each.id, each) for each in found]

    def cells(self, record: Hook | Delivery, now: float) -> tuple[Text, ...]:
        """A hook or a delivery on a line."""
        if isinstance(record, Hook):
            return (
                hook_cards.of_hook(record),
                safe(record.event, 20, "bold"),
                safe(f"{record.model or 'any model'}{f' into {record.stage}' if record.stage else ''}", 80),
                safe(hook_cards.called(record), 200),
                right("-"),
                safe(("a gate: " if record.gate else "") + hook_cards.counts(record), 100),
                right(ago(record.last, now) if record.last else "-"),
            )
        hook = self._hooks.get(record.hook)
        return (
            state(record.state),
            safe(record.event, 20),
            safe(record.subject or "-", 80),
            safe(hook_cards.called(hook) if hook else record.hook, 200),
            right(f"{len(record.attempts)}"),
            safe(hook_cards.why(record) or (record.attempts[-1].words if record.attempts else "on its way"), 200),
            right(ago(record.at, now)),
        )

    async def card(self, record: Hook | Delivery, now: float) -> Drawing:
        """A hook with its deliveries; a delivery try by try."""
        if isinstance(record, Delivery):
            delivery, hook = record, self._hooks.get(record.hook)
            return lambda width, height: hook_cards.delivery_card(delivery, hook, now, width)
        told = await self.deck_app.deck.ask(ListDeliveries(hook=record.id, limit=hook_cards.LISTED))
        found = record
        return lambda width, height: hook_cards.hook_card(found, told, now, width)

    def subject(self) -> tuple[str, str] | None:
        """What is under the cursor."""
        found = self.selected()
        if found is None:
            return None
        if isinstance(found, Delivery):
            return found.id, command_text(ShowDelivery(delivery=found.id))
        return found.id, command_text(ListDeliveries(hook=found.id))

    def action_mark(self) -> None:
        """Mark or unmark."""
        self.query_one(RecordTable).mark()

    def action_mark_all(self) -> None:
        """Mark every row."""
        self.query_one(RecordTable).mark_all()

    def action_unmark(self) -> None:
        """Forget every mark."""
        self.query_one(RecordTable).unmark()

    def _hook(self) -> Hook | None:
        """The hook under the cursor, or the one that a delivery under it is for."""
        found = self.selected()
        hook = self._hooks.get(found.hook) if isinstance(found, Delivery) else found
        if hook is None:
            self.notify("no hook is under the cursor", severity="warning")
        return hook

    @work
    async def action_redeliver(self) -> None:
        """Send deliveries again that are over: the marked ones that failed, else the one under the cursor."""
        table = self.query_one(RecordTable)
        marked = [self.records[key] for key in table.marked if key in self.records]
        chosen = marked or [self.selected()]
        over = [each for each in chosen if isinstance(each, Delivery) and each.state != "WAITING"]
        again = [each for each in over if each.state == "FAILED"] if marked else over
        if not again:
            self.notify(
                "expected a delivery that is over under the cursor, or marked ones that failed", severity="warning"
            )
            return
        acts = [Redeliver(delivery=each.id) for each in again]
        lines = [safe(f"{each.event} {each.subject}  {hook_cards.why(each)}", 200) for each in again[:5]]
        lines += [muted(f"and {len(again) - 5} more")] if len(again) > 5 else []
        body = Text("\n").join([*lines, Text(), *(command(act) for act in acts[:3])])
        many = "it" if len(again) == 1 else f"these {len(again)}"
        if await self.asked(f"send {many} again", body, "enter sends under the same id", needed=False) is None:
            return
        for act in acts:
            if await self.answered(act) is None:
                break
        else:
            table.unmark()
            self.notify(f"{len(acts)} on the way again")
        self.load()

    @work
    async def action_try(self) -> None:
        """A delivery that says nothing but that it is a test."""
        hook = self._hook()
        if hook is not None:
            await self._confirmed(hook, TestHook(hook=hook.id), "try", "enter tells it that this is a test")

    @work
    async def action_pause_hook(self) -> None:
        """What happens while it is paused is counted, not told."""
        hook = self._hook()
        if hook is not None:
            act: Any = ResumeHook(hook=hook.id) if hook.paused else PauseHook(hook=hook.id)
            word = "resume" if hook.paused else "pause"
            await self._confirmed(hook, act, word, f"enter {word}s it")

    @work
    async def action_remove(self) -> None:
        """With its deliveries, once its id was typed."""
        hook = self._hook()
        if hook is not None:
            words = "Its deliveries are forgotten too, those that wait are not made. This cannot be undone."
            prompt = f"type {hook.id} to do it"
            await self._confirmed(hook, RemoveHook(hook=hook.id), "forget", prompt, words, expected=hook.id)

    async def _confirmed(self, hook: Hook, act: Any, word: str, prompt: str, words: str = "", **how: Any) -> None:
        """Ask, then do it."""
        about = safe(f"{hook_cards.heard(hook)}: {hook.target}", 300)
        body = Text("\n").join([about, *([safe(words)] if words else []), Text(), command(act)])
        if await self.asked(f"{word} {hook.id}", body, prompt, **(how or {"needed": False})) is not None:
            await self.act(act, f"{hook.id}: done ({word})")


def _when(found: Hook | Delivery) -> float | None:
    return found.at if isinstance(found, Delivery) else found.last
