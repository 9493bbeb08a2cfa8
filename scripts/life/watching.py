"""Watching what is live: an int8 child measured, drift found, a retrain by the model's policy, the audit trail."""

from __future__ import annotations

import time

from life.play import MODEL, Figures, Play
from quarterstore.records import compression, ct, governance, monitoring, pipelines, predictions, registry

SHIFT = {"mean radius": 1.6, "mean texture": 1.5, "mean area": 2.2, "worst radius": 1.6}


def int8(play: Play) -> Figures:
    """A child measured against its parent here; whether it pays is said either way."""
    job = play.done(play.deck.ask(compression.Optimise(version=play.second)))
    found = next(each for each in play.deck.ask(compression.ListOptimisations()) if each.job == job.id)
    measured = found.measured
    return {
        "child": found.child,
        "bytes": f"{measured.size_before} -> {measured.size_after}",
        "P50 ms": f"{measured.p50_before:.4f} -> {measured.p50_after:.4f}",
        "verdict": found.words,
    }


def drift(play: Play) -> Figures:
    """Shifted traffic is found against the training rows; the model is retrained; a new version is registered."""
    on = {"drift": ct.OnDrift(window=3600.0), "accuracy": ct.OnAccuracy(), "rows": ct.OnRows(least=5000)}
    play.deck.ask(ct.SetPolicy(model=MODEL, pipeline=f"{MODEL}-mlp", **on))
    play.deck.ask(ct.SwitchPolicy(model=MODEL, enabled=True))
    record = play.deck.ask(registry.ShowVersion(version=play.second))
    factors = [SHIFT.get(feature.name, 1.0) for feature in record.signature.features]
    before = {run.id for run in play.deck.ask(pipelines.ListPipelineRuns())}
    plain = play.traffic.rows
    play.traffic.rows = [[value * factor for value, factor in zip(row, factors, strict=True)] for row in plain]
    began, mark = time.time(), time.monotonic()
    play.until(lambda: len(play.traffic.since(mark)) >= 600, "600 shifted requests")
    play.until(lambda: _recorded(play, began) >= 600, "their records")
    play.done(play.deck.ask(monitoring.CheckDrift(endpoint=MODEL, window=time.time() - began)))
    play.traffic.rows = plain
    found = play.deck.ask(monitoring.ShowDrift(drift=MODEL))
    if found.verdict != "DRIFT":
        raise RuntimeError(f"{found.verdict}: {found.words}")
    play.until(lambda: bool(_new_runs(play, before)), "the retrain")
    run = play.ended(_new_runs(play, before)[0].id)
    drifted = [feature.feature for feature in found.features if feature.verdict == "DRIFT"]
    policy = play.deck.ask(ct.ShowPolicy(model=MODEL))
    return {
        "drift": found.id,
        "rows": f"{found.n_current} against {found.n_reference}",
        "drifted": ", ".join(drifted),
        "words": found.words,
        "retrained because of": run.cause,
        "new version": run.version,
        "its policy": ", ".join(f"{each.trigger} {each.state}" for each in policy.triggers),
    }


def _recorded(play: Play, since: float) -> int:
    """Predictions that are kept of those answered since a moment; those of the last second are on their way."""
    kept = play.deck.ask(predictions.CountPredictions(endpoint=MODEL, since=since)).versions
    return kept.get(play.second, 0)


def _new_runs(play: Play, before: set[str]) -> list[pipelines.PipelineRun]:
    return [run for run in play.deck.ask(pipelines.ListPipelineRuns()) if run.id not in before]


def audit(play: Play) -> Figures:
    """The whole journal read and checked; every span of Production with who asked and who approved."""
    verdict = play.deck.ask(governance.VerifyAudit())
    if not verdict.ok:
        raise RuntimeError(verdict.why)
    tenures = play.deck.ask(registry.ListTenures(model=MODEL))
    spans = {
        f"Production {index + 1}": f"{tenure.version}, asked by {tenure.asked_by}, "
        + (f"approved by {tenure.approved_by}" if tenure.approved_by else "a rollback needs nobody")
        for index, tenure in enumerate(tenures)
    }
    return {"entries": verdict.entries, "head": verdict.head.hash[:16], **spans}
