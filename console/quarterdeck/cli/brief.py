"""What a person wants of an answer at once: a version, a deployment, a pipeline run, a status, in lines that fit."""

from __future__ import annotations

from typing import Any

from quarterdeck.cli.context import Context
from quarterdeck.cli.printing import lines, plain
from quarterdeck.units import size
from quarterstore.records.deployments import Deployment
from quarterstore.records.names import drawn
from quarterstore.records.pipelines import PipelineRun
from quarterstore.records.registry import Metric, Version
from quarterstore.records.store import Status

METRICS = 2
LONGEST_TAG = 24
"""Of a tag what says which it is; a warning of an evaluation is a sentence, and was said when it was made."""
LARGEST = 3
"""Files and folders of the store that are named, of those that take room."""
DEPLOYED = ("endpoint", "environment", "state", "live", "pending", "pending_plan", "epoch", "approved_by", "why")
COUNTED = (
    ("runs", "runs"),
    ("models", "models"),
    ("versions", "versions"),
    ("endpoints", "deployments"),
    ("pipeline runs", "pipeline_runs"),
    ("studies", "studies"),
    ("feature views", "feature_views"),
    ("schedules", "schedules"),
    ("policies", "policies"),
    ("hooks", "hooks"),
)
"""What a person counts, and what the counter is called."""


def brief(context: Context, answer: Any) -> None:
    """Print an answer in short, and say which command has all of it; as JSON the whole record."""
    if context.json:
        context.out(answer)
    elif isinstance(answer, Version):
        lines(version(answer))
        context.say(f"all of it: qd version show {answer.id}")
    elif isinstance(answer, Deployment) and answer.canary is None:
        found = plain(answer)
        lines({name: found[name] for name in DEPLOYED if name != "pending_plan" or found["pending"]})
    elif isinstance(answer, PipelineRun):
        from quarterdeck.cli.steps import show

        show(context, answer)
    else:
        context.out(answer)


def version(found: Version) -> dict[str, Any]:
    """A version: what it is, where it stands, its first metrics with their intervals."""
    metrics = [_metric(each) for each in found.metrics[:METRICS]]
    more = len(found.metrics) - len(metrics)
    return {
        "version": found.id,
        "semver": f"{found.semver}, {found.reason}",
        "stage": found.stage,
        "file": f"{found.format}, {size(found.size)}, {found.digest[:12]}",
        "metrics": ", ".join(metrics) + (f" and {more} more" if more else ""),
        "from": ", ".join(filter(None, (found.run, found.parent, found.dataset and f"data {found.dataset[:12]}"))),
        "tags": ", ".join(f"{name}={drawn(value, longest=LONGEST_TAG)}" for name, value in found.tags.items()),
    }


def _metric(found: Metric) -> str:
    span = f" ({found.low:.3g} to {found.high:.3g})" if found.low is not None and found.high is not None else ""
    return f"{found.name} {found.value:.4g}{span}"


def status(found: Status) -> dict[str, Any]:
    """The daemon: whether it is well and what waits for a person, then what there is; no counter that is 0."""
    return {
        "home": found.home,
        "daemon": f"{found.version}, profile {found.profile}, pid {found.pid}",
        "started": found.started,
        "read only": found.read_only,
        "stale": ", ".join(found.stale),
        "recovered": found.recovered,
        "maintenance": found.maintenance,
        "serving": found.serving,
        "waiting": f"alerts {found.alerts}, approvals {found.approvals}, jobs {found.jobs}",
        "kept": ", ".join(f"{words} {found.counts[name]:,}" for words, name in COUNTED if found.counts.get(name)),
        "lost": ", ".join(f"{name} {count:,}" for name, count in found.dropped.items() if count),
        "disk": f"{size(found.disk_free)} free{_used(found.disk_used)}",
    }


def _used(places: dict[str, int]) -> str:
    """What the store takes, and which of its files and folders most of it; nothing before it was measured."""
    if not places:
        return ""
    most = ", ".join(f"{drawn(name)} {size(taken)}" for name, taken in list(places.items())[:LARGEST] if taken)
    return f", {size(sum(places.values()))} taken" + (f": {most}" if most else "")
