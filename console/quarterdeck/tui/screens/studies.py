"""Studies: what is searched, how far it is, and the card of one: the winner beside itself, curve, front, trials."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from rich.text import Text
from textual.binding import Binding, BindingType

from quarterdeck.tui.screens.noun import NounScreen
from quarterdeck.tui.screens.study_cards import study_card
from quarterdeck.tui.widgets.card_view import Drawing
from quarterdeck.tui.widgets.drawing import ago, right, safe, state
from quarterdeck.tui.widgets.record_table import Column
from quarterdeck.wording import command_text
from quarterstore.records.jobs import Progress
from quarterstore.records.studies import ListStudies, ListTrials, ResumeStudy, ShowStudy, StopStudy, Study

TRIALS = 2000
"""Trials that a card looks at, the newest."""


class StudiesScreen(NounScreen):
    """Tuning studies, the newest first."""

    name_of_screen = "studies"
    nouns = frozenset({"studies"})
    pulses = (Progress,)
    empty = "no space was searched yet\n\nqd tune run STUDY.toml"
    columns = (
        Column("study", 8, drop=3),
        Column("name", 10, flex=2),
        Column("state", 11),
        Column("how far", 16, flex=6, drop=1),
        Column("asked", 10, right=True, drop=2, value=lambda found: found.created),
    )
    keys = (("enter", "the winner, the curve, every trial"), ("x", "stop the search"), ("c", "go on with it"))
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("x", "stop", "stop"),
        Binding("c", "resume", "go on"),
    ]

    async def fetch(self) -> Sequence[tuple[str, Study]]:
        """Every study."""
        found = await self.deck_app.deck.ask(ListStudies())
        return [(study.id, study) for study in found]

    def cells(self, record: Study, now: float) -> tuple[Text, ...]:
        """Where it is now."""
        return (
            safe(record.id[-8:]),
            safe(record.name, 80),
            state(record.state),
            safe(how_far(record, self.deck_app.snapshot.progress.get(record.job)), 200),
            right(ago(record.created, now)),
        )

    async def card(self, record: Study, now: float) -> Drawing:
        """The study in full, with its trials."""
        trials = await self.deck_app.deck.ask(ListTrials(study=record.id, limit=TRIALS))
        progress = self.deck_app.snapshot.progress.get(record.job) if record.state == "RUNNING" else None
        return lambda width, height: study_card(record, trials, progress, now, width)

    def subject(self) -> tuple[str, str] | None:
        """The study under the cursor."""
        found = self.selected()
        return None if found is None else (found.id, command_text(ShowStudy(study=found.id)))

    async def action_stop(self) -> None:
        """End its job; what ended is kept."""
        found = self.selected()
        if found is not None:
            await self.act(StopStudy(study=found.id), f"stopped {found.name}")

    async def action_resume(self) -> None:
        """Go on with it."""
        found = self.selected()
        if found is not None:
            await self.act(ResumeStudy(study=found.id), f"{found.name} goes on")


def how_far(study: Study, progress: Progress | None) -> str:
    """A running study by its last progress, an ended one by what it found, one that failed by why."""
    if study.state == "RUNNING":
        return progress.words if progress is not None else "is being started"
    return study.error or (study.result.words if study.result is not None else "")
