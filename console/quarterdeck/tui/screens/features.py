"""Features: views, how fresh each is online against its limit; looked up, pushed, materialised, compared from here."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import Any, ClassVar

import msgspec
from rich.text import Text
from textual import work
from textual.binding import Binding, BindingType

from quarterdeck.entity_words import keys_of, row_of
from quarterdeck.tui.screens.feature_cards import Known, lag_words, looked_lines, standing, view_card
from quarterdeck.tui.screens.noun import NounScreen
from quarterdeck.tui.screens.version_acts import command
from quarterdeck.tui.widgets.card_view import Drawing
from quarterdeck.tui.widgets.drawing import MUTED, ago, right, safe, state
from quarterdeck.tui.widgets.look_dialog import LookDialog
from quarterdeck.tui.widgets.record_table import Column
from quarterdeck.wording import command_text
from quarterstore.records.base import Record
from quarterstore.records.faults import Fault, got
from quarterstore.records.feature_checks import CheckParity, MeasureView, ParityResult, StatsResult
from quarterstore.records.features import FeatureView, ListViews, ShowView
from quarterstore.records.jobs import Job, JobKind, ListJobs, Progress
from quarterstore.records.online import LookUp, Materialise, OnlineStatus, PushRows, ShowOnline

KINDS: tuple[JobKind, ...] = ("feature_stats", "feature_parity")
LISTED = 50
"""Jobs of a kind that are looked through for the last of a view."""


class Viewed(Record, frozen=True):
    """A view with how it stands."""

    view: FeatureView
    status: OnlineStatus


class FeaturesScreen(NounScreen):
    """What is late stands above, then what lags."""

    name_of_screen = "features"
    nouns = frozenset({"features", "online", "jobs"})
    pulses = (Progress,)
    empty = "no view was defined yet\n\nqd features apply FEATURES.toml\nqd features load VIEW ROWS.csv"
    columns = (
        Column("state", 9),
        Column("view", 12, flex=3),
        Column("of", 8, flex=2, drop=3),
        Column("features", 8, right=True, drop=5, value=lambda found: len(found.view.kinds)),
        Column("rows", 9, right=True, drop=2, value=lambda found: found.status.rows),
        Column("newest", 10, right=True, drop=4, value=lambda found: found.status.fresh),
        Column("lag, allowed", 16, value=lambda found: found.status.lag),
        Column("generation", 12, flex=1, drop=6),
    )
    keys = (
        ("enter", "the view with the whole screen"),
        ("l", "look entities up, as a serving host reads them"),
        ("m", "materialise: make what came ready to be read online"),
        ("p", "push a row"),
        ("c", "compare what is read online with what is kept"),
        ("v", "look at the values: nulls, range, drift"),
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("l", "look_up", "look up"),
        Binding("m", "materialise", "materialise"),
        Binding("p", "push", "push"),
        Binding("c", "compare", "compare"),
        Binding("v", "values", "values"),
    ]

    async def fetch(self) -> Sequence[tuple[str, Viewed]]:
        """Every view, the worst first."""
        ask = self.deck_app.deck.ask
        views: list[FeatureView] = await ask(ListViews())
        statuses = {each.view: each for each in await ask(ShowOnline())}
        found = [Viewed(view, statuses[view.id]) for view in views if view.id in statuses]
        order = ("LATE", "LAGS", "FRESH", "OFFLINE")
        found.sort(key=lambda each: (order.index(standing(each.status)), each.view.name))
        return [(each.view.name, each) for each in found]

    def cells(self, record: Viewed, now: float) -> tuple[Text, ...]:
        """A view on a line."""
        view, status = record.view, record.status
        newest = status.generation.newest if status.generation else None
        return (
            state(standing(status)),
            safe(view.id, 80, "bold"),
            safe(", ".join(key.name for key in view.keys), 80),
            right(f"{len(view.kinds):,}"),
            right(f"{status.rows:,}"),
            right(ago(newest, now)),
            safe(lag_words(status), style="bold red" if status.late else ""),
            safe(status.generation.id if status.generation else "-", 40),
        )

    async def card(self, record: Viewed, now: float) -> Drawing:
        """The view in full."""
        ask = self.deck_app.deck.ask
        shown = await ask(ShowView(view=record.view.name))
        jobs: list[Job] = await ask(ListJobs(live=True))
        for kind in KINDS:
            jobs += [each for each in await ask(ListJobs(kind=kind, limit=LISTED)) if each not in jobs]
        mine = [each for each in jobs if each.subject == record.view.name]
        known = _known(mine, self.deck_app.snapshot.progress)
        return lambda width, height: view_card(shown, record.status, known, now, width)

    def subject(self) -> tuple[str, str] | None:
        """The view under the cursor."""
        found: Viewed | None = self.selected()
        return None if found is None else (found.view.id, command_text(ShowView(view=found.view.name)))

    @work
    async def action_look_up(self) -> None:
        """Keys are typed, values with status and age are shown, as often as one likes."""
        view = self._chosen()
        if view is None:
            return

        async def look(words: str, width: int) -> Text:
            keys = keys_of(view, words.split())
            if not keys:
                raise got("key", "nothing", _example(view))
            asked = LookUp(view=view.name, keys=keys)
            found = await self.deck_app.deck.ask(asked)
            return Text("\n").join([command(asked), looked_lines(found, keys, width)])

        prompt = f"keys, more than one entity with spaces between: {_example(view)}"
        await self.app.push_screen_wait(LookDialog(f"look up {view.name}", prompt, look))

    @work
    async def action_materialise(self) -> None:
        """A job makes the rows that came ready to be read."""
        view = self._chosen()
        if view is not None:
            await self._queued(Materialise(view=view.name), f"materialise {view.name}", "enter makes it")

    @work
    async def action_compare(self) -> None:
        """A job reads a sample both ways."""
        view = self._chosen()
        if view is not None:
            await self._queued(CheckParity(view=view.name), f"compare {view.name}", "enter compares")

    @work
    async def action_values(self) -> None:
        """A job looks at the values."""
        view = self._chosen()
        if view is not None:
            await self._queued(MeasureView(view=view.name), f"the values of {view.name}", "enter looks at them")

    async def _queued(self, act: Any, heading: str, prompt: str) -> None:
        if await self.asked(heading, command(act), prompt, needed=False) is not None:
            await self.act(act, f"{heading}: its job is queued")

    @work
    async def action_push(self) -> None:
        """One row, typed as the command takes it; what will be kept is shown before it is."""
        view = self._chosen()
        if view is None:
            return
        example = " ".join([_example(view), *(f"{each.name}=" for each in view.features)])
        words = f"Every feature, nothing behind = is null; {view.event_time}= says since when, now without it."
        typed = await self.asked(f"push a row of {view.name}", safe(words, 400), "a row", value=example)
        if typed is None:
            return
        try:
            row, said = _typed(view, typed)
        except Fault as fault:
            self.notify(safe(fault.line(), 300).plain, severity="error", markup=False)
            return
        values = safe(msgspec.json.encode(row).decode(), 600)
        body = Text("\n").join([values, Text(), safe(f"$ {said}", 600, MUTED)])
        if await self.asked(f"push to {view.name}", body, "enter pushes it", needed=False) is not None:
            await self.act(PushRows(view=view.name, rows=(row,)), f"a row of {view.name} is kept and read")

    def _chosen(self) -> FeatureView | None:
        found: Viewed | None = self.selected()
        if found is None:
            self.notify("no view is under the cursor:  qd features apply --help", severity="warning")
            return None
        return found.view


def _known(jobs: Sequence[Job], progress: dict[str, Progress]) -> Known:
    """The last answer of each kind of look, and what runs."""
    running = tuple((job, progress.get(job.id)) for job in jobs if job.state in ("QUEUED", "RUNNING"))
    return Known(_last(jobs, "feature_parity", ParityResult), _last(jobs, "feature_stats", StatsResult), running)


def _last(jobs: Sequence[Job], kind: JobKind, result: type[Any]) -> Any:
    done = [job for job in jobs if job.kind == kind and job.state == "SUCCEEDED" and job.result is not None]
    newest = max(done, key=lambda job: job.ended or 0.0, default=None)
    return None if newest is None else (msgspec.convert(newest.result, result), newest.ended)


def _example(view: FeatureView) -> str:
    return ",".join(f"{key.name}={'7' if key.kind == 'integer' else 'NAME'}" for key in view.keys)


def _typed(view: FeatureView, words: str) -> tuple[dict[str, Any], str]:
    """A typed row, and the command that pushes the same: the key first, then `NAME=VALUE`, quoted as in a shell."""
    try:
        said = shlex.split(words)
    except ValueError as error:
        raise got("row", f"{words} ({error})", "words such as in a shell") from None
    key, values = (said[0] if said else ""), said[1:]
    at = [value.partition("=")[2] for value in values if value.startswith(f"{view.event_time}=")]
    values = [value for value in values if not value.startswith(f"{view.event_time}=")]
    row = row_of(view, key, values, at[-1] if at else None)
    said = ["qd", "features", "push", view.name, "--key", key]
    for value in values:
        said += ["--value", value]
    return row, shlex.join([*said, *(["--at", at[-1]] if at else [])])
