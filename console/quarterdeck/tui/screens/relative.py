"""What a lineage leads to, drawn as its own screen draws it: a run, code, an endpoint, predictions, drift, an alert."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any

from textual.app import ComposeResult

from quarterdeck.tui.messages import Console
from quarterdeck.tui.screens.base import DeckScreen
from quarterdeck.tui.screens.deployment_cards import Shown, deployment_card
from quarterdeck.tui.screens.monitoring import alert_card, drift_card
from quarterdeck.tui.screens.run_card import POINTS, run_card
from quarterdeck.tui.widgets.card_view import CardView, Drawing
from quarterdeck.tui.widgets.drawing import clock, facts, grid, muted, number, right, safe, section, title
from quarterdeck.tui.widgets.latency_chart import Look
from quarterdeck.wording import command_text
from quarterstore.records.ct import ListPolicies
from quarterstore.records.deployments import ShowDeployment, ShowTraffic
from quarterstore.records.monitoring import ListAlerts, ShowDrift
from quarterstore.records.predictions import ListPredictions
from quarterstore.records.registry import LineageNode, ListTenures, ShowLineage, ShowVersion
from quarterstore.records.runs import MetricHistory, ShowRun
from quarterstore.records.trials import ListTrials

DEEPEST = 4
"""Words of a way that are shown; of a longer one the first and the last."""
LAST = 50
"""Predictions that are listed."""


def below(path: tuple[str, ...], word: str) -> tuple[str, ...]:
    """The way to something opened from somewhere; the middle of a long one is left out."""
    way = (*(each for each in path if each != "…"), word)
    return way if len(way) <= DEEPEST else (way[0], "…", *way[-2:])


def relative_command(node: LineageNode) -> str:
    """The command that shows the same as a node."""
    ask = COMMANDS.get(node.kind)
    return command_text(ask(node)) if ask else command_text(ShowLineage(version=node.of))


async def relative_card(console: Console, node: LineageNode, now: float) -> Drawing:
    """A node in full."""
    draw = CARDS.get(node.kind)
    return await draw(console, node, now) if draw else _plain(node)


class RelativeScreen(DeckScreen):
    """One relative with the whole screen to itself."""

    AUTO_FOCUS = "CardView"
    name_of_screen = "registry"
    nouns = frozenset({"runs", "deployments", "monitoring", "registry"})

    def __init__(self, node: LineageNode, path: tuple[str, ...]) -> None:
        super().__init__()
        self._node = node
        self._path = below(path, f"{node.kind} {node.id}"[:30])

    def crumbs(self) -> tuple[str, ...]:
        """The way here."""
        return self._path

    def body(self) -> ComposeResult:
        """One card."""
        yield CardView(focus=True, id="full")

    async def fill(self) -> None:
        """The card as it is now."""
        self.query_one(CardView).show(await relative_card(self.deck_app, self._node, time.time()))

    def subject(self) -> tuple[str, str] | None:
        """Its id and its command."""
        return self._node.id, relative_command(self._node)


def _plain(node: LineageNode) -> Drawing:
    """What is known of it stands in the lineage itself."""
    rows = (("kind", node.kind), ("id", node.id), ("of", node.of), ("", node.words))
    return lambda width, height: title(node.id, [], node.kind, width).append_text(facts(rows))


async def _run(console: Console, node: LineageNode, now: float) -> Drawing:
    run = await console.deck.ask(ShowRun(run=node.id))
    curves = await console.deck.ask(MetricHistory(run=node.id, points=POINTS))
    return lambda width, height: run_card(run, curves, now, width, height)


async def _code(console: Console, node: LineageNode, now: float) -> Drawing:
    rows = (("commit", node.id), ("", node.words))
    hint = muted("\nin the code's own folder:\n") + safe(f"git show {node.id}", 100)
    return lambda width, height: title(node.id[:12], [], "code", width).append_text(facts(rows)).append_text(hint)


async def _deployment(console: Console, node: LineageNode, now: float) -> Drawing:
    found = await console.deck.ask(ShowDeployment(endpoint=node.id))
    trial = next((each for each in await console.deck.ask(ListTrials()) if each.endpoint == node.id), None)
    history = await console.deck.ask(ShowTraffic(endpoint=node.id, window=Look().window))
    shown = Shown(found, console.snapshot, trial, history)
    return lambda width, height: deployment_card(shown, now, width, height)


async def _predictions(console: Console, node: LineageNode, now: float) -> Drawing:
    asked = ListPredictions(endpoint=node.id, version=node.of, limit=LAST)
    found = await console.deck.ask(asked)
    head = [muted(word) for word in ("when", "id")] + [right("ms", "grey62"), muted("answer")]
    rows = [
        (safe(clock(each.at, now)), safe(each.id, 40), right(number(each.latency, 3)), safe(each.output, 200))
        for each in found
    ]

    def draw(width: int, height: int) -> Any:
        text = title(f"{node.of} at {node.id}", [], node.words, width)
        widths = (12, min(34, width // 3), 7, max(10, width - 25 - min(34, width // 3)))
        body = grid([head, *rows], widths) if rows else muted("none is kept\n")
        return text.append_text(section(f"the last {len(rows)}", body, width))

    return draw


async def _drift(console: Console, node: LineageNode, now: float) -> Drawing:
    drift = await console.deck.ask(ShowDrift(drift=node.id))
    policies = await console.deck.ask(ListPolicies())
    return lambda width, height: drift_card(drift, policies, now, width)


async def _alert(console: Console, node: LineageNode, now: float) -> Drawing:
    alert = next((each for each in await console.deck.ask(ListAlerts(all=True)) if each.id == node.id), None)
    return _plain(node) if alert is None else lambda width, height: alert_card(alert, now, width)


CARDS: dict[str, Callable[[Console, LineageNode, float], Awaitable[Drawing]]] = {
    "run": _run,
    "code": _code,
    "deployment": _deployment,
    "predictions": _predictions,
    "drift": _drift,
    "alert": _alert,
}
COMMANDS: dict[str, Callable[[LineageNode], Any]] = {
    "run": lambda node: ShowRun(run=node.id),
    "dataset": lambda node: ShowLineage(version=f"data:{node.id}"),
    "parent": lambda node: ShowVersion(version=node.id),
    "child": lambda node: ShowVersion(version=node.id),
    "version": lambda node: ShowVersion(version=node.id),
    "production": lambda node: ListTenures(model=node.of.rpartition("@")[0]),
    "deployment": lambda node: ShowDeployment(endpoint=node.id),
    "predictions": lambda node: ListPredictions(endpoint=node.id, version=node.of, limit=LAST),
    "drift": lambda node: ShowDrift(drift=node.id),
    "alert": lambda node: ListAlerts(all=True),
}
