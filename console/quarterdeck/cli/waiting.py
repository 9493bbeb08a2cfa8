"""`--wait`: a job, a pipeline run, a deployment or the start of a trial followed on the feed to its end."""

from __future__ import annotations

import time
from typing import Any

import msgspec

from quarterdeck.cli.context import Context
from quarterdeck.cli.printing import ProgressBar
from quarterdeck.cli.steps import Told, goes_on
from quarterdeck.feed import follow
from quarterstore.records.base import Query
from quarterstore.records.checks import Finding
from quarterstore.records.deployments import Deployment, ShowDeployment, ShowServing
from quarterstore.records.faults import Failed, TimedOut
from quarterstore.records.jobs import Job, Progress, ShowJob
from quarterstore.records.pipelines import PipelineRun, ShowPipelineRun
from quarterstore.records.store import ShowStatus
from quarterstore.records.studies import ShowStudy, Study
from quarterstore.records.trials import ShowTrial, Trial

GOING = ("QUEUED", "RUNNING", "ADMITTING", "CANARY")
PATIENCE = 3600.0
TRIED_AGAIN = 3.0
"""Seconds in which the daemon has tried again to start the serving side, whatever it said before."""
STARTING = 30.0
"""Seconds a host may take to start and load; the first one is there about 0.7 s after its routes are."""


def to_the_end(context: Context, answer: Any) -> Any:
    """The record as it ends; raises `Failed` with its error when the end is not a good one."""
    question = _question(answer)
    bar, told, deadline = ProgressBar(), Told(), time.monotonic() + max(PATIENCE, context.timeout)
    since = context.client.ask(ShowStatus()).seq  # before the question: what comes between the two is on the feed
    found = context.client.ask(question)
    feed = follow(context.client, since)
    try:
        while _going(found):
            item = next(feed)
            if isinstance(item, Progress):
                bar.show(item.step, item.fraction, item.words)
                continue
            found = context.client.ask(question)
            if isinstance(found, PipelineRun) and not (context.quiet or context.json):
                bar.done()
                told.tell(found)
            if time.monotonic() > deadline:
                raise TimedOut(f"it still goes on after {PATIENCE:g} s", field="wait")
    finally:
        bar.done()
        feed.close()  # type: ignore[attr-defined]
    if isinstance(found, PipelineRun) and not (context.quiet or context.json):
        told.tell(found)
    _show_findings(context, found)
    judged = _judged(found)
    if isinstance(judged, PipelineRun) and judged.state == "WAITING":
        context.say(f"next: qd pipeline show {judged.id}, then qd pipeline approve {judged.id} --note WHY, or reject")
    if isinstance(judged, Deployment):
        _wait_for_hosts(context, judged)
    return judged


def _show_findings(context: Context, found: Any) -> None:
    """The table of checks, where a pipeline ended with them."""
    for step in found.steps if isinstance(found, PipelineRun) and found.state == "FAILED" else ():
        if step.state == "FAILED" and "checks" in step.figures:
            from quarterdeck.cli.findings import show

            show(context, msgspec.convert(step.figures["checks"], list[Finding]))


def check_gate(answer: Any) -> None:
    """Raise `Failed` where a pipeline ran to its end and the gate said no: its version is registered and goes nowhere
    by itself."""
    if not isinstance(answer, PipelineRun):
        return
    for step in answer.steps:
        if step.name == "gate" and step.state == "FAILED":
            raise Failed(f"{answer.version} is registered, gate failed: {step.words}", field="gate")


def _wait_for_hosts(context: Context, found: Deployment) -> None:
    """Until the hosts acknowledge the routes, so that the first request after a `--wait` is answered."""
    began = time.monotonic()
    deadline = began + STARTING
    while not (serving := context.client.ask(ShowServing())).hosts or serving.epoch < found.epoch:
        # what went wrong before we asked may be over by now: the daemon tries again each second
        if serving.error and not serving.hosts and time.monotonic() > began + TRIED_AGAIN:
            raise Failed(serving.error, field="serving")
        if time.monotonic() > deadline:
            raise TimedOut(f"no host answers yet after {STARTING:g} s", field=found.endpoint, next="qd serving status")
        time.sleep(0.05)


def _question(answer: Any) -> Query[Any]:
    if isinstance(answer, Study):
        return ShowStudy(study=answer.id)
    if isinstance(answer, Job):
        return ShowJob(job=answer.id)
    if isinstance(answer, PipelineRun):
        return ShowPipelineRun(pipeline_run=answer.id)
    if isinstance(answer, Trial):
        return ShowTrial(endpoint=answer.endpoint)
    assert isinstance(answer, Deployment)
    return ShowDeployment(endpoint=answer.endpoint)


def _going(found: Any) -> bool:
    if isinstance(found, Trial):  # one that runs goes on until it is stopped
        return found.state == "ADMITTING"
    return found.state in GOING or (isinstance(found, Deployment) and found.pending is not None)


def _judged(found: Any) -> Any:
    if isinstance(found, Job | PipelineRun | Study) and found.state not in ("SUCCEEDED", "WAITING"):
        words = f"{found.state.lower()}: {found.error or 'no reason was given'}"
        raise Failed(words, field=found.id, next=goes_on(found) if isinstance(found, PipelineRun) else None)
    if isinstance(found, Trial) and found.state == "ENDED":
        raise Failed(found.why or "it was ended", field=found.endpoint)
    if isinstance(found, Deployment) and (found.state == "REFUSED" or found.why):
        raise Failed(found.why or "it was refused", field=found.endpoint)
    return found
