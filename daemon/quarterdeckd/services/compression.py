"""The rules of compression: a job asked for, and what it measured kept."""

from __future__ import annotations

from quarterdeckd.services.deciding import Answerers, Asking, Decision, Rules
from quarterdeckd.services.queueing import queued
from quarterstore.ledger.finding import version_of
from quarterstore.ledger.state import State
from quarterstore.records import compression
from quarterstore.records.faults import Conflict, Refused


def _optimise(state: State, act: compression.Optimise, asking: Asking) -> Decision:
    version = version_of(state, act.version)
    if version.format != "onnx":
        raise Refused(f"{version.id} is {version.format}, expected onnx", field="version")
    if version.golden is None:
        raise Refused(
            f"{version.id} has no golden rows to measure on", field="version", next="register it with golden rows"
        )
    for job in state.jobs:
        if job.kind == "optimise" and job.subject == version.id and job.state in ("QUEUED", "RUNNING"):
            raise Conflict(f"{job.id} does this already", field="version")
    spec = compression.OptimiseSpec(
        version=version.id,
        recipe=act.recipe,
        model=version.digest,
        golden=version.golden,
        signature=version.signature,
    )
    words = f"optimising {version.id}: {act.recipe}"
    return queued(asking, "optimise", version.id, spec, words)


def _record(state: State, act: compression.RecordOptimisation, asking: Asking) -> Decision:
    optimisation = compression.Optimisation(
        id=asking.id("opt"),
        parent=act.parent,
        child=act.child,
        recipe=act.recipe,
        at=asking.now,
        measured=act.measured,
        recommended=act.recommended,
        words=act.words,
        job=act.job,
    )
    return Decision(
        [compression.OptimisationMeasured(optimisation=optimisation)],
        f"{act.recipe} of {act.parent}: {act.words[:200]}",
        lambda after: optimisation,
    )


def _list(state: State, query: compression.ListOptimisations, asking: Asking) -> list[compression.Optimisation]:
    wanted = version_of(state, query.version, removed=True).id if query.version else None
    found = [each for each in state.optimisations if wanted in (None, each.parent, each.child)]
    return sorted(found, key=lambda each: each.at, reverse=True)


RULES: Rules = {compression.Optimise: _optimise, compression.RecordOptimisation: _record}
ANSWERS: Answerers = {compression.ListOptimisations: _list}
