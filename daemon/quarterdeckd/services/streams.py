"""The rules of streams: a job that is started again when it ends by itself, until somebody stops it or it ends too
often."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from msgspec.structs import replace

from quarterdeckd.services.deciding import Answerers, Asking, Decision, Rules
from quarterdeckd.serving.addresses import parsed, refuse_public
from quarterstore.ledger.finding import deployment_of, one_of, version_of
from quarterstore.ledger.state import State
from quarterstore.records import jobs, monitoring, streams
from quarterstore.records.base import Act
from quarterstore.records.faults import Conflict, Refused, got
from quarterstore.records.names import checked_text
from quarterstore.records.wire import plain

LIMITS = jobs.Limits(seconds=100 * 365 * 86_400.0)
"""A stream lasts: its time is not limited, its memory is."""
RESTARTS, WITHIN = 5, 600.0
"""A stream whose process ended more often in so many seconds is left alone."""
MOST_WAITING = 100_000
WINDOWS = (1000, 4_194_304)


def _start(state: State, act: streams.StartStream, asking: Asking) -> Decision:
    source, sink = parsed("input", act.input), parsed("output", act.output)
    refuse_public("input", source, act.public)
    refuse_public("output", sink, act.public)
    if source.url == sink.url:
        raise got("output", sink.text(), "another address than the input's")
    if not 1 <= act.waiting <= MOST_WAITING:
        raise got("waiting", act.waiting, f"1 to {MOST_WAITING} messages")
    if not WINDOWS[0] <= act.window <= WINDOWS[1]:
        raise got("window", act.window, f"{WINDOWS[0]} to {WINDOWS[1]} keys")
    for other in state.streams:
        for address in {source.text(), sink.text()} & {other.input, other.output}:
            if other.state == "RUNNING" and address.startswith("bind:"):
                raise Conflict(f"{other.id} binds {address.removeprefix('bind:')} already", field="input")
    stream = streams.Stream(
        id=asking.id("stream"),
        model=_answering(state, act.model),
        input=source.text(),
        output=sink.text(),
        waiting=act.waiting,
        window=act.window,
        state="RUNNING",
        job=asking.id("job"),
        created=asking.now,
        actor=asking.actor,
    )
    return Decision(
        [streams.StreamStarted(stream=stream), jobs.JobQueued(job=_job(state, stream, asking))],
        f"stream {stream.id} of {stream.model} from {stream.input} to {stream.output}",
        lambda after: after.streams[stream.id],
    )


def _answering(state: State, model: str) -> str:
    """An endpoint with a live version, or the id of a version whose file is here."""
    if "@" not in model:
        if deployment_of(state, model).live is None:
            raise Refused(f"nothing is live at {model}", field="model", next=f"qd deploy {model}@VERSION")
        return model
    version = version_of(state, model)
    if version.format != "onnx" or not version.digest:
        raise Refused(f"{version.id} is {version.format}, expected an ONNX file that is here", field="model")
    return version.id


def _job(state: State, stream: streams.Stream, asking: Asking) -> jobs.Job:
    version = state.versions.get(stream.model) if "@" in stream.model else None
    spec = streams.StreamSpec(
        stream=stream.id,
        endpoint=stream.model.partition("@")[0],
        version=version.id if version else "",
        model=version.digest if version else "",
        digest=version.digest if version else "",
        signature=version.signature if version else None,
        input=stream.input,
        output=stream.output,
        waiting=stream.waiting,
        window=stream.window,
    )
    return jobs.Job(
        id=stream.job,
        kind="stream",
        subject=stream.model,
        state="QUEUED",
        created=asking.now,
        actor=stream.actor,
        spec=plain(spec),
        limits=LIMITS,
        cause=stream.id,
    )


def _stop(state: State, act: streams.StopStream, asking: Asking) -> Decision:
    stream: streams.Stream = one_of(state.streams, "stream", act.stream)
    if stream.state != "RUNNING":
        raise Conflict(f"{stream.id} is {stream.state} already", field="stream")
    reason = checked_text("reason", act.reason, longest=1000) if act.reason else ""

    def then(after: State, asked: Asking) -> Iterator[tuple[Act[Any], Asking]]:
        yield jobs.CancelJob(job=stream.job, reason=reason or f"stopped by {asking.actor}"), asked

    return Decision([], f"stopped {stream.id}", lambda after: after.streams[stream.id], then)


def _resume(state: State, act: streams.ResumeStream, asking: Asking) -> Decision:
    stream = state.streams[act.stream]
    if act.stopped:
        return _ended(stream, "STOPPED", act.why, asking)
    recent = tuple(at for at in stream.restarts if at > asking.now - WITHIN)
    if len(recent) >= RESTARTS:
        why = f"ended {RESTARTS + 1} times in {WITHIN / 60:g} min, the last time: {act.why}"
        return _ended(stream, "FAILED", why, asking)
    job = _job(state, replace(stream, job=asking.id("job")), asking)
    again = streams.StreamRestarted(stream=stream.id, job=job.id, restarts=(*recent, asking.now), why=act.why)
    return Decision(
        [again, jobs.JobQueued(job=job)],
        f"started {stream.id} again",
        lambda after: after.streams[stream.id],
    )


def _ended(stream: streams.Stream, to: streams.StreamState, why: str, asking: Asking) -> Decision:
    """A stream is over; one that nobody stopped is somebody's concern."""

    def then(after: State, asked: Asking) -> Iterator[tuple[Act[Any], Asking]]:
        if to == "FAILED":
            alert = monitoring.RaiseAlert(
                kind="stream failed",
                subject=stream.id,
                severity="warning",
                words=f"the stream of {stream.model} {why}"[:500],
                next=f"qd stream show {stream.id}",
            )
            yield alert, asked._replace(chained=True)

    event = streams.StreamEnded(stream=stream.id, state=to, at=asking.now, why=why)
    return Decision([event], f"{to.lower()} {stream.id}", lambda after: after.streams[stream.id], then)


RULES: Rules = {streams.StartStream: _start, streams.StopStream: _stop, streams.ResumeStream: _resume}
ANSWERS: Answerers = {}
