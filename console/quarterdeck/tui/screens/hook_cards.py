"""Hooks and what they were told, as they are drawn: what is called when, what came of it, what failed and why."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text

from quarterdeck.tui.screens.version_cards import headed
from quarterdeck.tui.widgets.drawing import (
    MUTED,
    age,
    ago,
    clock,
    facts,
    grid,
    muted,
    right,
    safe,
    section,
    state,
    title,
)
from quarterdeck.wording import command_text
from quarterstore.records.hooks import Attempt, Delivery, Hook, Redeliver
from quarterstore.records.registry import Version

LISTED = 20
"""Deliveries of a hook that a card asks for."""


def hooks_card(version: Version, hooks: Sequence[Hook], deliveries: Sequence[Delivery], now: float, width: int) -> Text:
    """Each hook of a model with its figures, then what they were told, the newest first."""
    text = headed(version, now, width)
    told = Text().join(_hook(each, now) for each in hooks)
    words = f"hooks that hear of {version.model}"
    text.append_text(section(words, told if hooks else muted("none: qd hook add --help\n"), width))
    newest = sorted(deliveries, key=lambda each: each.at, reverse=True)
    text.append_text(section("deliveries", deliveries_grid(newest, now, width), width))
    return text


def hook_card(hook: Hook, deliveries: Sequence[Delivery], now: float, width: int) -> Text:
    """One hook, then what it was told, the newest first."""
    text = title(hook.target, [of_hook(hook)], f"{hook.id} · by {hook.created_by} · {clock(hook.created, now)}", width)
    rows: list[tuple[str, object]] = [("hears of", heard(hook)), ("asked", _when(hook)), ("deliveries", counts(hook))]
    rows += [("skipped", f"{hook.skipped:,} while it was paused")] if hook.skipped else []
    rows += [("arguments", " ".join(hook.args))] if hook.args else []
    rows += [("last", ago(hook.last, now))] if hook.last else []
    rows += [("last error", safe(hook.last_error, 300, "red"))] if hook.last_error else []
    text.append_text(facts(rows)).append("\n")
    text.append_text(section("deliveries", deliveries_grid(deliveries, now, width), width))
    return text.append_text(muted(f"t tries it · p {'resumes' if hook.paused else 'pauses'} it\n"))


def delivery_card(delivery: Delivery, hook: Hook | None, now: float, width: int) -> Text:
    """One delivery: what was told to whom, try by try, and what to do where it failed."""
    words = f"{delivery.event} {delivery.subject}".strip()
    text = title(
        words, [state(delivery.state)], f"{delivery.id} · entry {delivery.seq} · {clock(delivery.at, now)}", width
    )
    rows: list[tuple[str, object]] = [("why", safe(why(delivery), 300, "red"))] if delivery.error else []
    rows += [("asked again", f"{delivery.rounds} times")] if delivery.rounds else []
    rows += [("hook", delivery.hook), ("calls", hook.target if hook else "-")]
    text.append_text(facts(rows, room=width)).append("\n")
    head = (muted("state"), muted("when"), right("took", MUTED), right("said", MUTED), muted("what came of it"))
    tries = Text().join([grid([head], _tried(width)), *(_attempt(each, now, width) for each in delivery.attempts)])
    text.append_text(section("tries", tries if delivery.attempts else muted("none yet\n"), width))
    if delivery.state != "WAITING":
        again = f"d sends it again under the same id: $ {command_text(Redeliver(delivery=delivery.id))}\n"
        text.append_text(muted(again))
    return text


def _attempt(each: Attempt, now: float, width: int) -> Text:
    """When, for how long, what came of it; below it what the program or the receiver said."""
    status = "-" if each.status is None else f"{each.status}"
    row = (
        state("MADE" if each.ok else "FAILED"),
        safe(clock(each.at, now)),
        right(age(each.seconds)),
        right(status),
        safe(each.words, 300),
    )
    text = grid([row], _tried(width))
    for line in each.output.splitlines():
        text.append_text(safe(f"   {line}", width, MUTED)).append("\n")
    return text


def _tried(width: int) -> tuple[int, ...]:
    return (8, 12, 6, 4, max(10, width - 38))


def deliveries_grid(deliveries: Sequence[Delivery], now: float, width: int) -> Text:
    """A line each."""
    if not deliveries:
        return muted("nothing was told yet\n")
    rows: list[tuple[Text, ...]] = [
        (
            state(each.state),
            safe(clock(each.at, now)),
            safe(each.event, 20),
            safe(each.subject or "-", 60),
            right(f"{len(each.attempts)}"),
            safe(why(each), 200, "red"),
        )
        for each in deliveries
    ]
    head = [muted(word) for word in ("state", "when", "event", "of")] + [right("tries", MUTED), muted("why")]
    room = max(20, width - 9 - 12 - 10 - 5 - 10)
    return grid([head, *rows], (9, 12, 10, room // 2, 5, room - room // 2))


def why(delivery: Delivery) -> str:
    """What went wrong at the last try, with the last that the program or the receiver said."""
    said = delivery.attempts[-1].output.strip().splitlines() if delivery.attempts else []
    return ": ".join(part for part in (delivery.error or "", *said[-1:]) if part)


def called(hook: Hook) -> str:
    """What is called, by its last part: a program without its folder, an address without its scheme."""
    return hook.target.rpartition("/")[2] if hook.kind == "exec" else hook.target.partition("//")[2]


def of_hook(hook: Hook) -> Text:
    """Whether it is called."""
    return state("paused" if hook.paused else "on")


def heard(hook: Hook) -> str:
    """What a hook is called for."""
    return f"{hook.event}{f' into {hook.stage}' if hook.stage else ''} of {hook.model or 'any model'}"


def counts(hook: Hook) -> str:
    """How its deliveries fared."""
    return f"{hook.made:,} made, {hook.waiting:,} waiting, {hook.failed:,} failed"


def _when(hook: Hook) -> str:
    return "asked before, its no refuses the move" if hook.gate else "told afterwards"


def _hook(each: Hook, now: float) -> Text:
    """A hook, and how it fared."""
    text = Text.assemble(of_hook(each), "  ", safe(heard(each), 100, "bold"), f"  {_when(each)}\n")
    rows: list[tuple[str, object]] = [("calls", safe(each.target, 300)), ("deliveries", counts(each))]
    rows += [("last", ago(each.last, now))] if each.last else []
    rows += [("last error", safe(each.last_error, 300, "red"))] if each.last_error else []
    return text.append_text(facts(rows)).append("\n")
