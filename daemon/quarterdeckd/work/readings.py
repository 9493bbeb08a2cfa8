"""The readings of canaries' gates, measured behind the judging: a judge takes the newest and never waits."""

from __future__ import annotations

import asyncio
import logging
import time
from pathlib import Path

from quarterdeckd.work.outcomes import Outcomes
from quarterdeckd.work.predictions import Predictions
from quarterstore.ledger.state import State
from quarterstore.records.canaries import GateReading
from quarterstore.records.deployments import Canary, Deployment
from quarterstore.records.outcomes import LABEL

log = logging.getLogger(__name__)
EVERY = 2.0
"""Seconds between two readings, and at least `PART` of the time that one takes."""
PART = 10


class Readings:
    """One canary at an endpoint: what was measured for its gates, again when there are more rows."""

    def __init__(self, view: State, predictions: Predictions, outcomes: Outcomes) -> None:
        self._view = view
        self._predictions = predictions
        self._outcomes = outcomes
        self._newest: dict[str, tuple[float, tuple[GateReading, ...]]] = {}
        self._files: dict[str, tuple[float, list[Path]]] = {}
        self._due: dict[str, float] = {}
        self._measuring: dict[str, asyncio.Task[None]] = {}

    def newest(self, deployment: Deployment) -> tuple[GateReading, ...]:
        """What was measured last for the canary that runs; more is under way where it is due."""
        canary, endpoint = deployment.canary, deployment.endpoint
        if canary is None or deployment.live is None or not canary.rule.gates:
            return ()
        if endpoint not in self._measuring and time.monotonic() >= self._due.get(endpoint, 0.0):
            task = asyncio.get_running_loop().create_task(self._measure(endpoint, deployment.live, canary))
            self._measuring[endpoint] = task
        since, found = self._newest.get(endpoint, (-1.0, ()))
        return found if since == canary.since else ()

    async def _measure(self, endpoint: str, live: str, canary: Canary) -> None:
        began = time.monotonic()
        try:
            await asyncio.to_thread(self._read, endpoint, live, canary)
        except Exception:
            log.exception("the gates of the canary at %s could not be measured", endpoint)
        finally:
            now = time.monotonic()
            self._due[endpoint] = now + max(EVERY, PART * (now - began))
            del self._measuring[endpoint]

    def _read(self, endpoint: str, live: str, canary: Canary) -> None:
        from quarterdeckd.pipeline.readings import Arms, readings

        first = time.strftime("%Y-%m-%d", time.gmtime(canary.since))
        kept = self._predictions.paths(endpoint)
        predictions = [path for path in kept if path.parent.name.partition("=")[2] >= first]
        before = kept if any(gate.kind == "disagreement" for gate in canary.rule.gates) else ()
        metrics = {LABEL, *(gate.of for gate in canary.rule.gates if gate.kind == "metric")}
        outcomes = {metric: self._outcomes.files(metric) for metric in sorted(metrics)}
        files = (canary.since, [*predictions, *before, *(path for paths in outcomes.values() for path in paths)])
        if files == self._files.get(endpoint):
            return
        arms = Arms(
            endpoint=endpoint,
            live=live,
            candidate=canary.candidate,
            since=canary.since,
            signatures={version: self._view.versions[version].signature for version in (live, canary.candidate)},
            predictions=predictions,
            outcomes=outcomes,
            before=before,
        )
        self._newest[endpoint] = (canary.since, readings(arms, canary.rule.gates))
        self._files[endpoint] = files
