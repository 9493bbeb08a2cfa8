"""The rules of looking at feature views: which rows, against which version."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from quarterdeckd.services.clock_words import utc
from quarterdeckd.services.deciding import Answerers, Asking, Decision, Rules
from quarterdeckd.services.queueing import queued
from quarterdeckd.services.routing import online_view
from quarterdeckd.services.wanting import wanted_views
from quarterstore.ledger.features import rows_of, view_of
from quarterstore.ledger.finding import version_of
from quarterstore.ledger.online import newest_of
from quarterstore.ledger.state import State
from quarterstore.records import feature_checks, features
from quarterstore.records.faults import Refused, got
from quarterstore.records.registry import Version

MOST_SAMPLED: Final = 100_000


def _stats(state: State, act: feature_checks.MeasureView, asking: Asking) -> Decision:
    view = view_of(state, act.view)
    if act.since is not None and not (math.isfinite(act.since) and 0 <= act.since <= asking.now):
        raise got("since", utc(act.since), f"a time that is past (it is {utc(asking.now)})")
    if act.until is not None and not (math.isfinite(act.until) and act.until > (act.since or 0)):
        raise got("until", utc(act.until), f"a time after {utc(act.since or 0)}")
    [wanted] = wanted_views(state, [act.view])
    sets = [each for each in state.training_sets if any(_of(each_view, view.name) for each_view in each.views)]
    found = _against(state, act.against, sets, view.name)
    spec = feature_checks.StatsSpec(
        wanted=wanted,
        since=act.since,
        until=act.until,
        rule=act.rule,
        against=found[0].id if found else None,
        baseline=found[1].digest if found else None,
    )
    return queued(asking, "feature_stats", view.name, spec, f"look at {view.id}")


def _of(wanted: features.Wanted, view: str) -> bool:
    return wanted.view.partition("@")[0] == view


def _against(
    state: State, named: str | None, sets: list[features.TrainingSet], view: str
) -> tuple[Version, features.TrainingSet] | None:
    """The version that is named, or the newest of those that were trained on a set of the view, with its set."""
    versions = [version_of(state, named)] if named else sorted(state.versions, key=lambda each: -each.created)
    for version in versions:
        for trained in trained_on(state, version):
            if trained in sets:
                return version, trained
    if named:
        raise got("against", named, f"a version that was trained on a set of {view}")
    return None


def trained_on(state: State, version: Version) -> Iterator[features.TrainingSet]:
    """The training sets that were the rows of a version, or of its run."""
    run = state.runs.get(version.run or "")
    digests = {version.dataset, *(run.datasets if run is not None else ())}
    return (each for each in state.training_sets if each.digest in digests)


def _parity(state: State, act: feature_checks.CheckParity, asking: Asking) -> Decision:
    view = view_of(state, act.view)
    if not 1 <= act.sample <= MOST_SAMPLED:
        raise got("sample", act.sample, f"1 to {MOST_SAMPLED:,}")
    [wanted] = wanted_views(state, [view.name])
    generation = newest_of(state, view.name)
    if generation is None:
        raise Refused(f"{view.name} is not online", field="view", next=f"qd features materialise {view.name}")
    spec = feature_checks.ParitySpec(
        wanted=wanted,
        sample=act.sample,
        seed=asking.seq,
        at=asking.now,
        files=generation.files,
        pushed_files=tuple(each.digest for each in rows_of(state, view.name) if each.source == each.digest),
        online=online_view(state, view, Path()),
    )
    return queued(asking, "feature_parity", view.name, spec, f"compare {act.sample} of {view.id}")


RULES: Rules = {feature_checks.MeasureView: _stats, feature_checks.CheckParity: _parity}
ANSWERS: Answerers = {}
