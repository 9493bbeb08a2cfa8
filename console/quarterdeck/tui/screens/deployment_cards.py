"""An endpoint in full: who answers, what is tried and how it stands, what every version did over time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from rich.text import Text

from quarterdeck.tui.snapshot import Snapshot, judged
from quarterdeck.tui.widgets.canary_lines import canary_lines, steps
from quarterdeck.tui.widgets.drawing import age, ago, beside, facts, muted, safe, section, state, title
from quarterdeck.tui.widgets.latency_chart import Look, figures, measure_chart, pace
from quarterdeck.tui.widgets.traffic_bar import shares_of, traffic_bar
from quarterdeck.tui.widgets.trial_lines import ab_lines, bandit_lines, kind, shadow_lines
from quarterdeck.wording import command_text
from quarterstore.records.base import Query
from quarterstore.records.deployments import Deployment, ShowTraffic
from quarterstore.records.histories import TrafficHistory
from quarterstore.records.trials import ReportShadow, ShadowReport, ShowTrial, Trial

Part = tuple[str, Text]
"""A heading and what stands below it."""


class Shown(NamedTuple):
    """What the card of an endpoint is drawn from."""

    deployment: Deployment
    snapshot: Snapshot
    trial: Trial | None = None
    history: TrafficHistory | None = None
    report: ShadowReport | None = None
    look: Look = Look()
    drill: Text | None = None
    """When the way back was rehearsed last, and how that went."""


def deployment_card(shown: Shown, now: float, width: int, height: int) -> Text:
    """The traffic, then a section each of what there is to say, then who asked for it and what is behind it."""
    found = shown.deployment
    trial = shown.trial if shown.trial and shown.trial.state != "ENDED" else None
    word = state(kind(trial) if trial else found.state)
    text = title(found.endpoint, [word], f"epoch {found.epoch} · {ago(found.changed, now)}", width)
    text.append_text(traffic_bar(shares_of(found, trial), width)).append("\n")
    for words, body in _parts(shown, now, width, height):
        text.append_text(section(words, body, width))
    return text.append_text(_about(shown, width))


def _parts(shown: Shown, now: float, width: int, height: int) -> Iterator[Part]:
    """What is tried first, then what was answered; a trial that is over comes last."""
    trial = shown.trial
    tall = max(5, min(14, (height - 20) // 2))
    if shown.deployment.canary is not None:
        yield from _canary(shown, now, width)
    if trial is not None and trial.ended is None:
        yield f"{trial.words()}, for {age(now - trial.since)}", _trial(shown, trial, now, width, tall)
    yield from _traffic(shown, now, width, tall)
    if trial is not None and trial.ended is not None:
        why = safe(trial.why, 600)
        why.no_wrap = False
        body = Text.assemble(why, "\n", _trial(shown, trial, trial.ended, width, tall))
        yield f"{trial.words()}, ended {ago(trial.ended, now)} after {age(trial.ended - trial.since)}", body


def _canary(shown: Shown, now: float, width: int) -> Iterator[Part]:
    canary = shown.deployment.canary
    assert canary is not None
    verdict = judged(shown.snapshot, shown.deployment)
    lines = canary_lines(verdict, width, pace(shown.history, canary.candidate, canary.step_since))
    lines.append("\n").append_text(steps(canary, now, width))
    yield f"canary of {canary.candidate} at {canary.share} %", lines


def _trial(shown: Shown, trial: Trial, now: float, width: int, tall: int) -> Text:
    if trial.state == "ADMITTING":
        return muted("waits until its versions have answered their golden rows\n")
    heard = shown.snapshot.looks.get(trial.id, ())
    asked: Query[Any] = ShowTrial(endpoint=trial.endpoint)
    if trial.kind == "ab":
        body = ab_lines(trial, heard, now, width, tall)
    elif trial.kind == "bandit":
        body = bandit_lines(trial, heard, now, width, tall)
    else:
        asked = ReportShadow(endpoint=trial.endpoint)
        body = shadow_lines(trial, shown.snapshot.trials.get(trial.id), shown.report, width)
    return body.append_text(_command(asked))


def _traffic(shown: Shown, now: float, width: int, tall: int) -> Iterator[Part]:
    history, look = shown.history, shown.look
    span = age(look.window)
    if history is None or not history.arms:
        yield f"traffic, last {span}", muted("no request was heard of\n")
        return
    body = figures(history, width)
    if wrong := _total(shown, "total_refused"):
        body.append_text(muted(f"{wrong:,} wrong requests refused since the routes changed\n"))
    if shed := _total(shown, "total_shed"):
        body.append_text(muted(f"{shed:,} turned away for want of room since the routes changed\n"))
    if history.since > now - look.window:
        body.append_text(muted(f"the daemon listens since {age(now - history.since)}\n"))
    asked = ShowTraffic(endpoint=history.endpoint, window=look.window)
    body.append_text(_command(asked))
    yield f"traffic, last {span}, readings of {history.step:g} s", body
    for measure in dict.fromkeys((look.measure, "errors") if tall > 6 else (look.measure,)):
        rows = tall if measure == look.measure else max(3, tall // 2)
        yield f"{measure} by version", measure_chart(history, measure, width, rows)


def _command(asked: Query[Any]) -> Text:
    return safe("$ " + command_text(asked), 300, "grey62").append("\n")


def _total(shown: Shown, counted: str) -> int:
    """Requests to the endpoint that no version answered, as the last second of any of its versions says."""
    found = shown.deployment
    kept = [readings for (endpoint, _), readings in shown.snapshot.latency.items() if endpoint == found.endpoint]
    return max((getattr(each[-1], counted) for each in kept if each[-1].epoch == found.epoch), default=0)


def _about(shown: Shown, width: int) -> Text:
    found = shown.deployment
    approved = found.approved_by or (found.canary.approved_by if found.canary else None)
    people = facts(
        (("asked by", found.asked_by), ("approved by", approved or "nobody had to"), ("note", found.why or "-"))
    )
    behind = ", ".join(reversed(found.previous)) or "nothing to go back to"
    things = facts((("model", found.model), ("environment", found.environment), ("behind it", behind)))
    card = beside(people, things, width)
    return card.append_text(facts((("rollback", shown.drill),), room=width)) if shown.drill else card
