"""What the hosts are told: the routing table worked out from the deployments."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from quarterstore.ledger.features import view_of
from quarterstore.ledger.finding import trial_at
from quarterstore.ledger.online import newest_of
from quarterstore.ledger.retention import retention_of
from quarterstore.ledger.state import Recording, State
from quarterstore.records import deployments, features, online, retention


def table_of(state: State, path_of: Any, generations: Path) -> deployments.RoutingTable:
    """The routing table that the deployments ask for; `path_of(digest)` is where a model's file lies,
    `generations` the folder of features online. Level-triggered:
    it is worked out from the state whenever it may have changed, and pushed when it differs from what the hosts
    have."""
    routes = [route for found in state.deployments if (route := route_of(state, found, path_of)) is not None]
    epoch = max((route.epoch for route in routes), default=0)
    stopped = max((found.epoch for found in state.deployments), default=0)
    views = tuple(online_view(state, view, generations) for view in _read(state, routes))
    waiting = retention.waiting(retention_of(state, "predictions"))
    return deployments.RoutingTable(epoch=max(epoch, stopped), routes=tuple(routes), waiting=waiting, views=views)


def _read(state: State, routes: Sequence[deployments.Route]) -> list[features.FeatureView]:
    """Every view by its newest version, and by those that versions of models were made with."""
    newest = {view_of(state, each.name).id for each in state.feature_views}
    needed = {need.id for route in routes for slot in route.slots for need in slot.views}
    return [view_of(state, each) for each in sorted(newest | needed)]


def online_view(state: State, view: features.FeatureView, generations: Path) -> online.OnlineView:
    """A version of a view as it is read online: from the newest generation of the view."""
    newest = newest_of(state, view.name)
    return online.OnlineView(
        name=view.name,
        version=view.version,
        keys=view.keys,
        features=view.features,
        ttl=view.ttl,
        folder=str(generations / view.name / newest.id) if newest else "",
        columns=newest.columns if newest else (),
        made=newest.made if newest else 0.0,
        generation=newest.id if newest else "",
        requests=view.requests,
        on_demand=view.on_demand,
    )


def route_of(state: State, deployment: deployments.Deployment, path_of: Any) -> deployments.Route | None:
    """The route of one endpoint, None where nothing is live there."""
    if deployment.live is None:
        return None
    share = deployment.canary.share if deployment.canary else 0
    slots = [slot_of(state, deployment.live, 100 - share, "live", path_of)]
    if deployment.canary is not None:
        slots.append(slot_of(state, deployment.canary.candidate, share, "candidate", path_of))
    trial = trial_at(state, deployment.endpoint)
    if trial is not None and trial.state == "RUNNING" and trial.kind == "shadow":
        slots.append(slot_of(state, trial.versions[1], round(trial.shares[1]), "shadow", path_of))
    salt = deployment.salt
    weights: tuple[float, ...] = ()
    if trial is not None and trial.state == "RUNNING" and trial.kind != "shadow":
        roles = ("live", *("candidate" for _ in trial.versions[1:]))
        arms = zip(trial.versions, trial.shares, roles, strict=True)
        slots = [slot_of(state, version, round(share), role, path_of) for version, share, role in arms]
        salt = trial.salt
        if trial.bandit is not None:
            salt, weights = f"bandit/{trial.bandit.seed}", tuple(share / 100 for share in trial.shares)
    recording: Recording | None = state.recordings.get(deployment.endpoint)
    return deployments.Route(
        endpoint=deployment.endpoint,
        epoch=deployment.epoch,
        slots=tuple(slots),
        salt=salt,
        weights=weights,
        batching=deployment.batching,
        recording=recording.rule if recording else deployments.RecordingRule(salt=deployment.salt),
    )


def slot_of(state: State, version_id: str, share: int, role: Any, path_of: Any) -> deployments.Slot:
    """One version as hosts are given it."""
    version = state.versions[version_id]
    return deployments.Slot(
        version=version.id,
        path=str(path_of(version.digest)),
        digest=version.digest,
        signature=version.signature,
        share=share,
        role=role,
        views=version.views,
        on_expired=version.on_expired,
    )
