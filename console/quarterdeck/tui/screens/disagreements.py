"""What a shadow would have answered otherwise: the largest disagreements, each with its request and both answers."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text

from quarterdeck.tui.screens.noun import NounScreen
from quarterdeck.tui.widgets.card_view import Drawing
from quarterdeck.tui.widgets.drawing import ago, clock, facts, muted, number, right, safe, section, title
from quarterdeck.tui.widgets.record_table import Column
from quarterdeck.tui.widgets.trial_lines import asked, given, said
from quarterdeck.wording import command_text
from quarterstore.records.faults import NotFound
from quarterstore.records.predictions import ShowPrediction
from quarterstore.records.trials import Disagreement, ReportShadow, ShadowReport

MOST = 200


class DisagreementsScreen(NounScreen):
    """A row a request, the largest difference first."""

    name_of_screen = "deployments"
    nouns = frozenset({"trials"})
    empty = "a shadow answered no request otherwise here\n\nqd shadow VERSION"
    columns = (
        Column("live", 10, flex=1),
        Column("shadow", 10, flex=1),
        Column("score", 7, right=True, drop=1, value=lambda found: found.live_score),
        Column("its", 7, right=True, drop=1, value=lambda found: found.shadow_score),
        Column("inputs", 16, flex=4, drop=2),
        Column("when", 10, right=True, drop=3, value=lambda found: found.at),
    )
    keys = (("enter", "the request, and both answers"), ("r", "look again"))

    def __init__(self, endpoint: str) -> None:
        super().__init__()
        self._endpoint = endpoint
        self._report: ShadowReport | None = None

    def crumbs(self) -> tuple[str, ...]:
        """The endpoint, and how often the two agree."""
        report = self._report
        agree = f", {report.rate:.2%} agree" if report and report.rate is not None else ""
        return ("deployments", self._endpoint, f"disagreements{agree}")

    async def fetch(self) -> Sequence[tuple[str, Disagreement]]:
        """Those of the shadow that runs, else of the last one."""
        try:
            self._report = await self.deck_app.deck.ask(ReportShadow(endpoint=self._endpoint, top=MOST))
        except NotFound:
            return ()
        return [(f"{each.prediction}/{each.row}", each) for each in self._report.disagreements]

    def cells(self, record: Disagreement, now: float) -> tuple[Text, ...]:
        """Both answers, how sure each was, what was asked."""
        return (
            safe(said(record.live, record.live_score), 60),
            safe(said(record.shadow, record.shadow_score), 60, "yellow"),
            right(number(record.live_score, 3)),
            right(number(record.shadow_score, 3)),
            safe(asked(record.inputs) or "-", 200),
            right(ago(record.at, now)),
        )

    async def card(self, record: Disagreement, now: float) -> Drawing:
        """The request and both answers."""
        report = self._report
        return lambda width, height: disagreement_card(record, report, now, width)

    def subject(self) -> tuple[str, str] | None:
        """The prediction under the cursor; without one what lists them."""
        found: Disagreement | None = self.selected()
        if found is None:
            return self._endpoint, command_text(ReportShadow(endpoint=self._endpoint, top=MOST))
        return found.prediction, command_text(ShowPrediction(prediction=found.prediction))


def disagreement_card(found: Disagreement, report: ShadowReport | None, now: float, width: int) -> Text:
    """Who said what of which request."""
    live, shadow = (report.live, report.shadow) if report else ("live", "shadow")
    text = title(found.prediction, [], f"row {found.row} · {clock(found.at, now)}, {ago(found.at, now)}", width)
    answers = (
        (live, _answer(found.live, found.live_score)),
        (shadow, _answer(found.shadow, found.shadow_score)),
    )
    text.append_text(section("answers", facts(answers, 24), width))
    kept = (
        facts([(name, given(value)) for name, value in found.inputs.items()], 24, width)
        if found.inputs
        else muted("no field of it is kept\n")
    )
    return text.append_text(section("inputs", kept, width))


def _answer(label: str | None, score: float | None) -> str:
    return said(label, score) + (f"  (score {number(score, 4)})" if label is not None and score is not None else "")
