"""Schedules: what is due next, what was missed, what came of it last; paused, resumed, forgotten from here."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, ClassVar

from rich.text import Text
from textual import work
from textual.binding import Binding, BindingType

from quarterdeck.tui.screens.noun import NounScreen
from quarterdeck.tui.screens.version_acts import command
from quarterdeck.tui.widgets.card_view import Drawing
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
from quarterdeck.tui.widgets.record_table import Column
from quarterdeck.wording import act_words, command_text
from quarterstore.records.schedules import (
    DueTime,
    Firing,
    ListFirings,
    ListSchedules,
    NextFirings,
    PauseAll,
    PauseSchedule,
    RemoveSchedule,
    ResumeAll,
    Schedule,
    when_words,
)

LISTED = 1000
"""Firings that are asked for, for what came of each schedule last."""
ON_CARD = 20
SPANS = {"m": 60, "h": 3600, "d": 86_400}


class SchedulesScreen(NounScreen):
    """What went wrong last stands above all, then what is due first."""

    name_of_screen = "schedules"
    nouns = frozenset({"schedules", "jobs"})
    empty = (
        "no schedule yet\n\n"
        "qd schedule add nightly --cron '30 2 * * *' --zone Europe/Berlin --act pipelines.rerun --set pipeline=churn\n"
        "qd schedule add --help"
    )
    columns = (
        Column("state", 9),
        Column("name", 10, flex=2),
        Column("when", 12, flex=2, drop=3),
        Column("next", 10, right=True, value=lambda found: found.next),
        Column("fired", 5, right=True, drop=4, value=lambda found: found.fired),
        Column("missed", 6, right=True, drop=2, value=lambda found: found.missed_count),
        Column("last outcome", 14, flex=4, drop=1),
    )
    keys = (
        ("p", "pause the schedule, resume it"),
        ("m", "maintenance: no schedule fires until a time; end it"),
        ("x", "forget a schedule with its history, after typing its name"),
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("p", "pause_schedule", "pause"),
        Binding("m", "maintenance", "maintenance"),
        Binding("x", "remove", "remove", show=False),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._last: dict[str, Firing] = {}

    async def fetch(self) -> Sequence[tuple[str, Schedule]]:
        """Failed ones first, then by the time they are due."""
        ask = self.deck_app.deck.ask
        found: list[Schedule] = await ask(ListSchedules())
        firings: list[Firing] = await ask(ListFirings(limit=LISTED))
        self._last = {firing.schedule: firing for firing in reversed(firings)}
        found.sort(key=lambda each: (each.last_error is None, each.next is None, each.next or 0.0, each.name))
        return [(each.name, each) for each in found]

    def cells(self, record: Schedule, now: float) -> tuple[Text, ...]:
        """A schedule on a line."""
        last = self._last.get(record.name)
        return (
            state("paused" if record.paused else "on"),
            safe(record.name, 80, "bold"),
            safe(when_words(record), 100),
            right(ago(record.next, now)),
            right(f"{record.fired:,}"),
            right(f"{record.missed_count:,}", "yellow" if record.missed_count else ""),
            outcome(last) if last is not None else muted("not fired yet"),
        )

    async def card(self, record: Schedule, now: float) -> Drawing:
        """Its next due times, then its history."""
        ask = self.deck_app.deck.ask
        coming: list[DueTime] = await ask(NextFirings(name=record.name))
        firings: list[Firing] = await ask(ListFirings(name=record.name, limit=ON_CARD))
        return lambda width, height: schedule_card(record, coming, firings, now, width)

    def subject(self) -> tuple[str, str] | None:
        """What is under the cursor."""
        found = self.selected()
        return None if found is None else (found.name, command_text(ListFirings(name=found.name)))

    @work
    async def action_pause_schedule(self) -> None:
        """What is due while it is paused is not made up for."""
        found = self._chosen()
        if found is None:
            return
        act = PauseSchedule(name=found.name, paused=not found.paused)
        word = "pause" if act.paused else "resume"
        body = Text("\n").join([safe(when_words(found), 300), Text(), command(act)])
        if await self.asked(f"{word} {found.name}", body, f"enter {word}s it", needed=False) is not None:
            await self.act(act, f"{found.name}: done ({word})")

    @work
    async def action_maintenance(self) -> None:
        """Begin it with a span and a reason, or end it."""
        if self.deck_app.maintenance is not None:
            body = Text("\n").join([safe("Schedules fire and reactions react again."), Text(), command(ResumeAll())])
            if await self.asked("end the maintenance", body, "enter ends it", needed=False) is not None:
                await self.act(ResumeAll(), "the maintenance is over")
            return
        words = "No schedule fires and nothing reacts to an event until then; each makes up for what it missed."
        body = Text("\n").join(
            [safe(words), Text(), safe("$ qd pause --all --until 2h --reason 'a new disk'", 200, MUTED)]
        )
        text = await self.asked("maintenance", body, "for how long and why: 2h a new disk")
        if text is None:
            return
        span, _, reason = text.partition(" ")
        if not span[:-1].isdecimal() or span[-1] not in SPANS or not reason:
            self.notify("expected a span such as 30m, 2h or 1d, then why", severity="warning")
            return
        until = time.time() + int(span[:-1]) * SPANS[span[-1]]
        await self.act(PauseAll(until=until, reason=reason.strip()), "maintenance is on")

    @work
    async def action_remove(self) -> None:
        """With its history, once its name was typed."""
        found = self._chosen()
        if found is None:
            return
        act: Any = RemoveSchedule(name=found.name)
        words = "Its history is forgotten too; jobs it started go on. This cannot be undone."
        body = Text("\n").join([safe(words), Text(), command(act)])
        prompt = f"type {found.name} to do it"
        if await self.asked(f"forget {found.name}", body, prompt, expected=found.name) is not None:
            await self.act(act, f"{found.name} is forgotten")

    def _chosen(self) -> Schedule | None:
        found: Schedule | None = self.selected()
        if found is None:
            self.notify("no schedule is under the cursor:  qd schedule add --help", severity="warning")
        return found


def outcome(firing: Firing) -> Text:
    """What came of a firing: how its job stands where it has one, why where it did not run."""
    found = state(firing.ended or firing.state)
    words = firing.why or (f"{firing.missed:,} missed before it" if firing.missed else "")
    return Text.assemble(found, ("  ", ""), safe(words, 300, MUTED)) if words else found


def schedule_card(
    schedule: Schedule, coming: Sequence[DueTime], firings: Sequence[Firing], now: float, width: int
) -> Text:
    """What it does, when it is due next on the wall of its zone and in UTC, what came of the last firings."""
    paused = state("paused" if schedule.paused else "on")
    about = f"{when_words(schedule)} · {schedule.zone} · by {schedule.created_by}"
    text = title(schedule.name, [paused], about, width)
    rows: list[tuple[str, object]] = [
        ("speaks", schedule.act.get("type", "")),
        *act_words(schedule.act),
        ("missed", f"{schedule.missed_count:,} so far; {MISSED.get(schedule.missed, schedule.missed)}"),
        ("overlap", OVERLAP.get(schedule.overlap, schedule.overlap)),
        ("lost job", "done again, up to two times" if schedule.lost == "again" else "left"),
    ]
    rows += [("jitter", f"up to {age(schedule.jitter)}")] if schedule.jitter else []
    rows += [("last error", safe(schedule.last_error, 300, "red"))] if schedule.last_error else []
    text.append_text(facts(rows, room=width)).append("\n")
    times = grid([(safe(each.local), safe(each.utc, style=MUTED)) for each in coming], (31, max(10, width - 33)))
    words = "when that happens\n" if schedule.on is not None else "none: it is paused, or its dates are over\n"
    text.append_text(section("due next", times if coming and not schedule.paused else muted(words), width))
    head = (muted("due"), right("late", MUTED), right("missed", MUTED), muted("what came of it"))
    widths = (14, 7, 6, max(10, width - 33))
    lines = grid([head, *(_line(each, now) for each in firings)], widths)
    text.append_text(section("fired", lines if firings else muted("not yet\n"), width))
    return text.append_text(muted(f"p {'resumes' if schedule.paused else 'pauses'} it · m is maintenance\n"))


def _line(firing: Firing, now: float) -> tuple[Text, ...]:
    late = age(max(0.0, firing.at - firing.due))
    return (safe(clock(firing.due, now)), right(late), right(f"{firing.missed:,}"), outcome(firing))


MISSED = {
    "once": "made up for once",
    "skip": "skipped beyond the grace",
    "all": "each is made up for",
}
OVERLAP = {
    "skip": "skipped while its job runs",
    "queue": "waits for its job",
    "kill": "ends the job before it",
}
