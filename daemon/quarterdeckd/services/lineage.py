"""Lineage: what a version came from, what came of it, and every model that rows of data reached."""

from __future__ import annotations

import time
from collections.abc import Iterator

from quarterdeckd.services.deciding import Answerers, Asking, Rules
from quarterstore.ledger.finding import one_of, version_of
from quarterstore.ledger.state import State
from quarterstore.records import registry
from quarterstore.records.datasets import Dataset
from quarterstore.records.deployments import Deployment
from quarterstore.records.faults import got, missing
from quarterstore.records.features import TrainingSet
from quarterstore.records.registry import Lineage, LineageNode, Version
from quarterstore.records.runs import Run

DATA = "data:"
SET = "set-"
SHORTEST = 8
"""Characters of a hash that name data; fewer name too much."""
DEEPEST = 20
"""Generations of children that are followed."""
Nodes = Iterator[LineageNode]


def _lineage(state: State, query: registry.ShowLineage, asking: Asking) -> Lineage:
    if query.version.startswith(DATA):
        return _of_data(state, query.version.removeprefix(DATA))
    if query.version.startswith(SET):
        return _of_set(state, one_of(state.training_sets, "version", query.version))
    version = version_of(state, query.version, removed=True)
    return Lineage(version=version.id, up=tuple(_up(state, version)), down=tuple(_down(state, version)))


def _up(state: State, version: Version) -> Nodes:
    """What it was made from, then its parent with all of that again, however many generations there are."""
    depth, parent = 1, version.parent
    yield from _made_from(state, version, depth)
    while parent is not None:
        above = state.versions[parent]
        yield LineageNode(kind="parent", id=above.id, words=_words(above), depth=depth, of=version.id)
        depth, version, parent = depth + 1, above, above.parent
        yield from _made_from(state, version, depth)


def _made_from(state: State, version: Version, depth: int) -> Nodes:
    """Its run with code and data, data of its own."""

    def node(kind: str, id_: str, words: str, below: int = 0) -> LineageNode:
        return LineageNode(kind=kind, id=id_, words=words, depth=depth + below, of=version.id)

    seen = set()
    run = state.runs.get(version.run) if version.run else None
    if run is not None:
        yield node("run", run.id, f"{run.experiment} / {run.name}, {run.state}")
        if run.source.commit:
            words = "with changes that are not committed" if run.source.patch else "git commit"
            yield node("code", run.source.commit, words, 1)
        for used in run.inputs:
            seen.add(used.digest)
            yield node("dataset", used.digest, f"{used.name}, {used.source}" if used.source else used.name, 1)
            yield from _joined(state, used.digest, depth + 2, version.id)
        for digest in run.datasets:
            if digest not in seen:
                seen.add(digest)
                yield node("dataset", digest, _rows(state, digest), 1)
                yield from _joined(state, digest, depth + 2, version.id)
    elif version.run:
        yield node("run", version.run, "of another store")
    if version.dataset and version.dataset not in seen:
        yield node("dataset", version.dataset, _rows(state, version.dataset))
        yield from _joined(state, version.dataset, depth + 1, version.id)


def _joined(state: State, digest: str, depth: int, of: str) -> Nodes:
    """The training set that rows of data are, with the versions of its feature views."""
    for made in state.training_sets:
        if made.digest == digest:
            yield LineageNode("training set", made.id, f"{made.rows:,} rows, read as {made.reading.how}", depth, of)
            yield from _views(made, depth + 1, of)


def _views(made: TrainingSet, depth: int, of: str) -> Nodes:
    for view in made.views:
        yield LineageNode("feature view", view.view, ", ".join(view.columns)[:300], depth, of)


def _rows(state: State, digest: str) -> str:
    dataset = state.datasets.get(digest)
    return _told(dataset) if dataset else "rows by hash"


def _told(dataset: Dataset) -> str:
    return f"{dataset.name}, {dataset.rows:,} rows" if dataset.rows else dataset.name


def _words(version: Version) -> str:
    return f"{version.semver}, {'removed' if version.removed is not None else version.stage}"


def _down(state: State, version: Version, depth: int = 1, *, children: bool = True) -> Nodes:
    """Its children with what came of each, when it was Production, where it answers, what was found there."""

    def node(kind: str, id_: str, words: str, below: int = 0) -> LineageNode:
        return LineageNode(kind=kind, id=id_, words=words, depth=depth + below, of=version.id)

    for other in [other for other in state.versions if children and other.parent == version.id]:
        yield node("child", other.id, _words(other))
        if depth < DEEPEST:
            yield from _down(state, other, depth + 1)
    for tenure in state.tenures:
        if tenure.version == version.id:
            yield node("production", tenure.environment, _span(tenure))
    endpoints = {}
    for deployment in state.deployments:
        place = _place(deployment, version.id)
        if place:
            endpoints[deployment.endpoint] = place
    for endpoint, words in endpoints.items():
        yield node("deployment", endpoint, words)
        for alert in state.alerts:
            if alert.subject == endpoint:
                yield node("alert", alert.id, f"{alert.severity}: {alert.words}", 1)
    for drift in state.drifts:
        if drift.version == version.id:
            yield node("drift", drift.id, f"{drift.verdict} at {drift.endpoint}")
    for alert in state.alerts:
        if alert.subject == version.id:
            yield node("alert", alert.id, f"{alert.severity}: {alert.words}")


def _span(tenure: registry.Tenure) -> str:
    """When it was Production, by the clock of the world: two readers see the same words."""
    since, until = (
        time.strftime("%Y-%m-%d %H:%M", time.gmtime(at)) if at is not None else ""
        for at in (tenure.since, tenure.until)
    )
    return f"{since} to {until} UTC" if until else f"since {since} UTC"


def _place(deployment: Deployment, version: str) -> str:
    """What a version is to an endpoint; nothing where it is nothing."""
    canary = deployment.canary
    if deployment.live == version:
        return f"{deployment.state}, answers live"
    if canary is not None and canary.candidate == version:
        return f"{deployment.state}, on trial at {canary.share} %"
    if deployment.pending == version:
        return f"{deployment.state}, waits to be admitted"
    return f"{deployment.state}, answered before" if version in deployment.previous else ""


def _of_set(state: State, made: TrainingSet) -> Lineage:
    """The views of a training set, and every version that it reached."""
    return Lineage(
        version=made.id, up=tuple(_views(made, 1, made.id)), down=_reached_by(state, made.digest, made.id)[1]
    )


def _of_data(state: State, start: str) -> Lineage:
    """Every version that was trained on the data or made from one that was, and what came of each."""
    if len(start) < SHORTEST:
        raise got("version", DATA + start, f"data: and at least {SHORTEST} characters of its hash")
    any_, down = _reached_by(state, start, DATA + start)
    if not any_ and not any(each.id.startswith(start) for each in state.datasets):
        raise missing("version", DATA + start, [DATA + each.id for each in state.datasets])
    up = (
        LineageNode("dataset", each.id, _told(each), 1, DATA + start)
        for each in state.datasets
        if each.id.startswith(start)
    )
    return Lineage(version=DATA + start, up=tuple(up), down=down)


def _reached_by(state: State, start: str, data: str) -> tuple[bool, tuple[LineageNode, ...]]:
    """Whether any run or version was given the data, and the tree below it."""
    reached = {run.id for run in state.runs if any(each.startswith(start) for each in _used(run))}
    versions = [
        version
        for version in state.versions
        if (version.dataset or "").startswith(start) or (version.run is not None and version.run in reached)
    ]
    any_ = bool(reached or versions)
    found = {version.id for version in versions}
    for version in state.versions:  # a parent is always registered before its child
        if version.parent in found and version.id not in found:
            found.add(version.id)
            versions.append(version)
    below: dict[str | None, list[Version]] = {}
    for version in versions:
        below.setdefault(version.run if version.run in reached else None, []).append(version)
    down: list[LineageNode] = []
    for run in sorted(reached):
        down.append(LineageNode("run", run, state.runs[run].experiment, 1, data))
        for version in below.get(run, ()):
            down += _reached(state, version, 2, data)
    for version in below.get(None, ()):
        down += _reached(state, version, 1, data)
    return any_, tuple(down)


def _reached(state: State, version: Version, depth: int, data: str) -> Nodes:
    """A version that data reached, once: its children are listed as versions of their own."""
    made = f", made from {version.parent}" if version.parent else ""
    yield LineageNode("version", version.id, _words(version) + made, depth, data)
    yield from _down(state, version, depth + 1, children=False)


def _used(run: Run) -> Iterator[str]:
    yield from run.datasets
    for given in run.inputs:
        yield given.digest


RULES: Rules = {}
ANSWERS: Answerers = {registry.ShowLineage: _lineage}
