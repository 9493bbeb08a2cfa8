"""Lineage: what a version came from, what came of it, and every model that rows of data reached."""

from __future__ import annotations

import time
from collections.abc import Iterator

from quarterdeckd.services.deciding import Answerers, Asking, Rules
from quarterstore.ledger.finding import version_of
from quarterstore.ledger.state import State
from quarterstore.records import registry
from quarterstore.records.faults import got, missing
from quarterstore.records.registry import Lineage, Version
from quarterstore.records.runs import Run

DATA = "data:"
SHORTEST = 8
"""Characters of a hash that name data; fewer name too much."""
Row = tuple[str, str, str]


def _lineage(state: State, query: registry.ShowLineage, asking: Asking) -> Lineage:
    if query.version.startswith(DATA):
        return _of_data(state, query.version.removeprefix(DATA))
    version = version_of(state, query.version, removed=True)
    return Lineage(version=version.id, up=tuple(_up(state, version)), down=tuple(_down(state, version)))


def _up(state: State, version: Version) -> Iterator[Row]:
    parent = version.parent
    while parent is not None:
        above = state.versions[parent]
        yield "parent", above.id, f"{above.semver}, {above.stage}"
        parent = above.parent
    run = state.runs.get(version.run) if version.run else None
    if run is not None:
        yield "run", run.id, f"{run.experiment} / {run.name}, {run.state}"
        if run.source.commit:
            yield "code", run.source.commit, "with changes that are not committed" if run.source.patch else "git commit"
        for used in run.inputs:
            yield "dataset", used.digest, f"{used.name}, {used.source}" if used.source else used.name
    for digest in dict.fromkeys(filter(None, (version.dataset, *(run.datasets if run else ())))):
        dataset = state.datasets.get(digest)
        yield "dataset", digest, f"{dataset.name}, {dataset.rows} rows" if dataset else "rows by hash"


def _down(state: State, version: Version) -> Iterator[Row]:
    for other in state.versions:
        if other.parent == version.id:
            yield "child", other.id, f"{other.semver}, {other.stage}"
    for tenure in state.tenures:
        if tenure.version == version.id:
            since = time.strftime("%Y-%m-%d %H:%M", time.gmtime(tenure.since))
            yield "production", tenure.environment, f"since {since} UTC"
    endpoints = set()
    for deployment in state.deployments:
        if version.id in (deployment.live, deployment.canary.candidate if deployment.canary else None):
            endpoints.add(deployment.endpoint)
            yield "deployment", deployment.endpoint, deployment.state
    for drift in state.drifts:
        if drift.version == version.id:
            yield "drift", drift.id, drift.verdict
    for alert in state.alerts:
        if alert.subject == version.id or alert.subject in endpoints:
            yield "alert", alert.id, f"{alert.severity}: {alert.words}"


def _of_data(state: State, start: str) -> Lineage:
    """Every version that was trained on the data or made from one that was, and what came of each."""
    if len(start) < SHORTEST:
        raise got("version", DATA + start, f"data: and at least {SHORTEST} characters of its hash")
    reached = {run.id for run in state.runs if any(each.startswith(start) for each in _used(run))}
    versions = [
        version
        for version in state.versions
        if (version.dataset or "").startswith(start) or (version.run is not None and version.run in reached)
    ]
    if not reached and not versions and not any(each.id.startswith(start) for each in state.datasets):
        raise missing("version", DATA + start, [DATA + each.id for each in state.datasets])
    found = {version.id for version in versions}
    for version in state.versions:  # a parent is always registered before its child
        if version.parent in found and version.id not in found:
            found.add(version.id)
            versions.append(version)
    down: list[Row] = [("run", run, state.runs[run].experiment) for run in sorted(reached)]
    for version in versions:
        down.append(("version", version.id, f"{version.semver}, {version.stage}"))
        down += [row for row in _down(state, version) if row[0] != "child"]
    up = [
        ("dataset", each.id, f"{each.name}, {each.rows} rows") for each in state.datasets if each.id.startswith(start)
    ]
    return Lineage(version=DATA + start, up=tuple(up), down=tuple(down))


def _used(run: Run) -> Iterator[str]:
    yield from run.datasets
    for given in run.inputs:
        yield given.digest


RULES: Rules = {}
ANSWERS: Answerers = {registry.ShowLineage: _lineage}
