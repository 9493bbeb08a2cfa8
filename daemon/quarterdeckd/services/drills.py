"""The rules of drills: a rehearsal asked for with the routes as they are, and what it found kept."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from quarterdeckd.services.deciding import Answerers, Asking, Decision, Rules
from quarterdeckd.services.queueing import queued
from quarterdeckd.services.routing import route_of, slot_of
from quarterstore.ledger.finding import deployment_of, one_of, rollback_target
from quarterstore.ledger.state import State
from quarterstore.records import deployments, drills, jobs, monitoring
from quarterstore.records.base import Act
from quarterstore.records.faults import Conflict, NotFound, got

ALERT = "rollback drill failed"
LIMITS = jobs.Limits(seconds=600.0)
MOST = 1000


def _rollback(state: State, act: drills.DrillRollback, asking: Asking) -> Decision:
    deployment = deployment_of(state, act.endpoint)
    target = rollback_target(state, deployment)
    if deployment.live is None or target is None:
        raise NotFound(f"{act.endpoint} has no version to go back to", field="endpoint")
    for field, value, (least, most) in (
        ("rate", act.rate, (1.0, 500.0)),
        ("seconds", act.seconds, (0.5, 60.0)),
        ("hosts", act.hosts, (1, 8)),
        ("within", act.within, (0.01, 60.0)),
    ):
        if not least <= value <= most:
            raise got(field, value, f"{least:g} to {most:g}")
    for job in state.jobs:
        if (job.kind, job.subject) == ("drill", act.endpoint) and job.state in ("QUEUED", "RUNNING"):
            raise Conflict(f"{job.id} does this already", field="endpoint")
    before, after = _routes(state, deployment, target.id)
    spec = drills.DrillSpec(
        endpoint=act.endpoint,
        live=deployment.live,
        to=target.id,
        before=before,
        after=after,
        rate=act.rate,
        seconds=act.seconds,
        hosts=act.hosts,
        within=act.within,
        golden=target.golden,
        golden_digest=target.golden,
    )
    words = f"drilling the rollback of {act.endpoint} from {deployment.live} to {target.id}"
    return queued(asking, "drill", act.endpoint, spec, words, LIMITS)


def _routes(state: State, deployment: deployments.Deployment, to: str) -> tuple[deployments.Route, deployments.Route]:
    """The routes as they are, without a shadow, whom no caller hears, and as a rollback would make them; the place of
    each file is its hash until the job starts."""
    route = route_of(state, deployment, str)
    assert route is not None
    slots = tuple(slot for slot in route.slots if slot.role != "shadow")
    before = deployments.Route(
        endpoint=route.endpoint, epoch=route.epoch, slots=slots, salt=route.salt, weights=route.weights
    )
    alone = (slot_of(state, to, 100, "live", str),)
    after = deployments.Route(endpoint=route.endpoint, epoch=route.epoch + 1, slots=alone, salt=route.salt)
    return before, after


def _record(state: State, act: drills.RecordDrill, asking: Asking) -> Decision:
    drill = drills.Drill(
        id=asking.id("drill"),
        kind="rollback",
        endpoint=act.endpoint,
        at=asking.now,
        live=act.live,
        to=act.to,
        rate=act.rate,
        seconds=act.seconds,
        hosts=act.hosts,
        within=act.within,
        found=act.found,
        job=act.job,
    )

    def then(after: State, asked: Asking) -> Iterator[tuple[Act[Any], Asking]]:
        if not act.found.ok:
            yield (
                monitoring.RaiseAlert(
                    kind=ALERT,
                    subject=act.endpoint,
                    severity="critical",
                    words=act.found.words[:500],
                    next=f"qd drill rollback {act.endpoint}",
                ),
                asked,
            )
            return
        for alert in after.alerts:
            if (alert.kind, alert.subject, alert.resolved) == (ALERT, act.endpoint, None):
                yield monitoring.ResolveAlert(alert=alert.id, note=f"{drill.id} was good"), asked

    words = f"drill of {act.endpoint}: {act.found.words[:200]}"
    return Decision([drills.RollbackDrilled(drill=drill)], words, lambda after: after.drills[drill.id], then)


def _list(state: State, query: drills.ListDrills, asking: Asking) -> list[drills.Drill]:
    found = [each for each in state.drills if query.endpoint in (None, each.endpoint)]
    return sorted(found, key=lambda each: each.at, reverse=True)[: max(1, min(query.limit, MOST))]


def _show(state: State, query: drills.ShowDrill, asking: Asking) -> drills.Drill:
    found: drills.Drill = one_of(state.drills, "drill", query.drill)
    return found


RULES: Rules = {drills.DrillRollback: _rollback, drills.RecordDrill: _record}
ANSWERS: Answerers = {drills.ListDrills: _list, drills.ShowDrill: _show}
