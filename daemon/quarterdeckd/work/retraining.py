"""The daemon's eye on continuous training: reads what the triggers need, and speaks what they lead to."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any

from quarterdeckd.api.clock import Clock
from quarterdeckd.api.dispatch import Dispatch
from quarterdeckd.api.permissions import Speaker
from quarterdeckd.bus import Bus, Kept
from quarterdeckd.services.ct import leads, policy_of, standing
from quarterdeckd.services.triggers import counted_from
from quarterdeckd.work.outcomes import Outcomes
from quarterstore.ledger.journal import crash
from quarterstore.ledger.state import State
from quarterstore.records import (
    ct,
    datasets,
    deployments,
    features,
    governance,
    monitoring,
    outcomes,
    pipelines,
    schedules,
)
from quarterstore.records.faults import Conflict, Fault
from quarterstore.records.names import drawn

log = logging.getLogger(__name__)
FRESH = 60.0
"""Seconds for which what was read of the same files is good."""
AGAIN = 8
"""Things that one look may lead to, one after the other."""
WAKES = (
    ct.PolicySet,
    ct.TriggerResumed,
    ct.RetrainBegan,
    monitoring.DriftChecked,
    monitoring.DriftFound,
    datasets.DatasetAdded,
    features.RowsAdded,
    pipelines.PipelineEnded,
    governance.GateSet,
    schedules.MaintenanceEnded,
    deployments.Switched,
    deployments.CanaryFinished,
    deployments.RolledBack,
)
"""What a trigger may fire on; cool-down ends by itself, so there is a look every so often too."""


class Retraining:
    """Looks at every policy when something happened, and every so often. What is decided is decided by the rule of the
    act, on the state as it is then: two looks, or one before and one after a restart, begin one retrain."""

    def __init__(self, view: State, dispatch: Dispatch, bus: Bus, labels: Outcomes, clock: Clock) -> None:
        self._view = view
        self._dispatch = dispatch
        self._labels = labels
        self._clock = clock
        self._woken = asyncio.Event()
        self._read_before: dict[str, tuple[tuple[object, ...], ct.Readings]] = {}
        self._faults: dict[str, str] = {}
        bus.on_kept(self._kept)
        labels.on_added = self._woken.set

    def _kept(self, kept: Kept) -> None:
        if any(isinstance(event, WAKES) for event in kept.events):
            self._woken.set()

    async def run(self, every: float) -> None:
        """Until cancelled."""
        while True:
            self._woken.clear()
            for policy in list(self._view.policies):
                if policy.enabled:
                    await self._look(policy.model)
            try:
                async with asyncio.timeout(every):
                    await self._woken.wait()
            except TimeoutError:
                pass

    async def _look(self, model: str) -> None:
        for _ in range(AGAIN):
            policy = self._view.policies.get(model)
            if policy is None:
                return
            try:
                readings = await asyncio.to_thread(self._read, policy)
                if leads(self._view, policy, readings, self._clock.now()) is None:
                    self._faults.pop(model, None)
                    return
                crash("ct.due")
                await self._dispatch.speak(ct.LookAtTriggers(model=model, readings=readings))
                crash("ct.spoken")
                self._faults.pop(model, None)
            except Conflict as fault:
                log.info("continuous training of %s: %s", model, fault.line())
                return
            except (Fault, OSError) as error:
                self._faults[model] = str(error)
                log.warning("continuous training of %s: %s", model, error)
                return
            except Exception as error:  # Polars on a damaged file raises kinds of its own; other models go on
                self._faults[model] = drawn(f"{type(error).__name__}: {error}", longest=300)
                log.exception("continuous training of %s", model)
                return

    def _read(self, policy: ct.Policy) -> ct.Readings:
        """What is in files; in a thread. What was read lately of the same files is good enough."""
        accuracy, rows = policy.accuracy, policy.rows
        of_labels = rows is not None and rows.of == "labels"
        files = tuple(self._labels.files(outcomes.LABEL)) if accuracy is not None or of_labels else ()
        deployment = self._view.deployments.get(policy.endpoint)
        live = deployment.live if deployment is not None else None
        since = counted_from(policy, "rows")
        asked = (files, live, since, policy.since.get("accuracy"), accuracy)
        known = self._read_before.get(policy.model)
        now = self._clock.now().moment.at
        if known is not None and known[0] == asked and 0 <= now - known[1].at < FRESH:
            return known[1]
        readings = ct.Readings(
            accuracy=self._accuracy(policy, accuracy, list(files), live or "", now) if accuracy is not None else None,
            labels=self._new(list(files), policy.endpoint, since) if of_labels else 0,
            at=now,
        )
        self._read_before[policy.model] = (asked, readings)
        return readings

    def _accuracy(
        self, policy: ct.Policy, rule: ct.OnAccuracy, files: list[Path], live: str, now: float
    ) -> ct.AccuracyReading:
        from quarterdeckd.measures.holding import labelled

        since = max(now - rule.window, counted_from(policy, "accuracy"))
        n, right = labelled(files, policy.endpoint, live, since) if live else (0, 0)
        return ct.AccuracyReading(version=live, n=n, right=right, at=now)

    def _new(self, files: list[Path], endpoint: str, since: float) -> int:
        from quarterdeckd.measures.holding import came_after

        return came_after(files, endpoint, since)

    def readers(self) -> dict[type, Any]:
        """What is asked -> what answers it, in threads."""
        return {ct.ShowPolicy: self.shown, ct.ListPolicies: self.listed}

    def shown(self, query: ct.ShowPolicy, speaker: Speaker, seen: int) -> ct.PolicyStatus:
        """One policy as it stands; reads files."""
        policy = policy_of(self._view, query.model)
        fault = self._faults.get(policy.model, "")
        return standing(self._view, policy, self._read(policy), self._clock.now(), fault)

    def listed(self, query: ct.ListPolicies, speaker: Speaker, seen: int) -> list[ct.PolicyStatus]:
        """Every policy as it stands, by model; reads files."""
        return [
            self.shown(ct.ShowPolicy(model=each.model), speaker, seen)
            for each in sorted(self._view.policies, key=lambda each: each.model)
        ]
