"""The rules of batches: a job asked for, the same one for the same rows, version and chunks."""

from __future__ import annotations

import hashlib

from quarterdeckd.services.deciding import Answerers, Asking, Decision, Rules
from quarterdeckd.services.queueing import queued
from quarterstore.ledger.finding import version_of
from quarterstore.ledger.state import State
from quarterstore.records import batches, jobs
from quarterstore.records.faults import Refused, got
from quarterstore.records.names import checked_text
from quarterstore.records.wire import encode

LIMITS = jobs.Limits(seconds=7 * 86_400.0, disk=256 * 1024**3)
GOOD = ("QUEUED", "RUNNING", "SUCCEEDED")
CHUNK = (1, 4_194_304)


def spec_of(state: State, act: batches.StartBatch) -> batches.BatchSpec:
    """What the job of a batch is given, files by their hashes; a fault where the act is wrong by itself."""
    version = version_of(state, act.version)
    if version.format != "onnx" or not version.digest:
        raise Refused(f"{version.id} is {version.format}, expected an ONNX file that is here", field="version")
    if not CHUNK[0] <= act.chunk <= CHUNK[1]:
        raise got("chunk", act.chunk, f"{CHUNK[0]} to {CHUNK[1]} rows")
    keep = tuple(checked_text("keep", name) for name in act.keep)
    if len(set(keep)) < len(keep):
        raise got("keep", ", ".join(keep), "each column once")
    asked = (version.id, version.digest, act.digest, act.format, keep, act.chunk)
    key = hashlib.sha256(encode(asked)).hexdigest()[:32]
    return batches.BatchSpec(
        version=version.id,
        model=version.digest,
        digest=version.digest,
        data=act.digest,
        format=act.format,
        signature=version.signature,
        keep=keep,
        chunk=act.chunk,
        key=key,
        views=version.views,
    )


def _start(state: State, act: batches.StartBatch, asking: Asking) -> Decision:
    spec = spec_of(state, act)
    same = next((job for job in state.jobs if job.spec.get("key") == spec.key and job.state in GOOD), None)
    if same is not None:
        return Decision([], f"{same.id} is this batch already", lambda after: after.jobs[same.id])
    words = f"batch of {spec.version} over {act.digest[:16]}"
    return queued(asking, "batch", spec.version, spec, words, LIMITS)


RULES: Rules = {batches.StartBatch: _start}
ANSWERS: Answerers = {}
