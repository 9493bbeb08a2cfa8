"""What runs say while they go: points and beats, taken at once, and the last values that are kept with their end."""

from __future__ import annotations

from msgspec.structs import replace

from quarterdeckd.api.dispatch import Prepare, Quick
from quarterdeckd.api.intake import Intake
from quarterdeckd.api.permissions import Speaker
from quarterdeckd.services import runs as rules
from quarterstore.ledger.state import State
from quarterstore.records.runs import Beat, EndRun, Logged, LogMetrics, LoseRun


def taken(view: State, intake: Intake) -> dict[type, Quick]:
    """What is said -> what takes it, on the loop; `NotFound` or `Conflict` for a run that takes no more."""

    def points(batch: LogMetrics, speaker: Speaker) -> Logged:
        rules.writable(view, batch.run, speaker.run)
        return intake.take(rules.composed_keys(batch))

    def beat(sign: Beat, speaker: Speaker) -> None:
        rules.writable(view, sign.run, speaker.run)
        intake.beat(sign.run)

    return {LogMetrics: points, Beat: beat}


def ended(intake: Intake) -> dict[type, Prepare]:
    """An act that ends a run -> what adds the last value of each of its metrics."""

    def with_last(act: EndRun | LoseRun) -> EndRun | LoseRun:
        return replace(act, metrics=intake.latest.get(act.run, {}))

    return {EndRun: with_last, LoseRun: with_last}
