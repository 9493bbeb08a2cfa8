"""A job asked for: the decision that leaves it in the queue."""

from __future__ import annotations

from quarterdeckd.services.deciding import Asking, Decision
from quarterstore.records import jobs
from quarterstore.records.base import Record
from quarterstore.records.wire import plain

LIMITS = jobs.Limits()


def queued(
    asking: Asking, kind: jobs.JobKind, subject: str, spec: Record, words: str, limits: jobs.Limits = LIMITS
) -> Decision:
    """Queue a job of a kind with what it is given; it is answered as it waits."""
    job = jobs.Job(
        id=asking.id("job"),
        kind=kind,
        subject=subject,
        state="QUEUED",
        created=asking.now,
        actor=asking.actor,
        spec=plain(spec),
        limits=limits,
    )
    return Decision([jobs.JobQueued(job=job)], words, lambda after: after.jobs[job.id])
