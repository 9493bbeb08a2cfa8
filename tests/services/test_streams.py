"""The rules of streams: one that ends by itself goes on, five times in ten minutes; one that is stopped stays so."""

from __future__ import annotations

from typing import Any

import pytest

from quarterstore.records import deployments, jobs, registry, streams
from quarterstore.records.faults import Conflict, Fault, Refused
from tests.ruling import Ruling
from tests.services.test_registry import version

FROM, TO = "tcp://127.0.0.1:5601", "ipc://answers"


def ruled() -> Ruling:
    """`m@1` is live at `m`; `m@2` is only registered."""
    ruling = Ruling()
    version(ruling)
    version(ruling)
    ruling.act(registry.MoveStage(version="m@1", stage="Production", skip_stage=True, reason="r"))
    ruling.act(deployments.Deploy(version="m@1"))
    ruling.act(deployments.AdmitVersion(endpoint="m", version="m@1", ok=True))
    return ruling


def started(ruling: Ruling, model: str = "m", **about: Any) -> streams.Stream:
    """A stream that was asked for."""
    found: streams.Stream = ruling.act(streams.StartStream(**{"model": model, "input": FROM, "output": TO, **about}))
    return found


def ended(ruling: Ruling, stream: streams.Stream, state: jobs.JobState = "LOST") -> streams.Stream:
    """The stream after its job ended."""
    job = ruling.state.streams[stream.id].job
    ruling.act(jobs.EndJob(job=job, state=state, error="its process was ended by SIGKILL"), actor="daemon")
    return ruling.state.streams[stream.id]  # type: ignore[no-any-return]


def test_a_stream_is_a_job_that_knows_who_answers() -> None:
    ruling = ruled()
    follows = started(ruling)
    job = ruling.state.jobs[follows.job]
    assert (job.kind, job.subject, job.state, job.cause) == ("stream", "m", "QUEUED", follows.id)
    assert (job.spec["endpoint"], job.spec["version"], job.spec["input"]) == ("m", "", f"bind:{FROM}")
    named = started(ruling, "m@latest", input="connect:tcp://a:1", output="connect:tcp://b:1")
    spec = ruling.state.jobs[named.job].spec
    assert named.model == spec["version"] == "m@2" and spec["digest"] == ruling.state.versions["m@2"].digest


def test_what_ended_by_itself_goes_on_until_it_did_so_too_often() -> None:
    ruling = ruled()
    stream = started(ruling)
    jobs_of = {stream.job}
    for _ in range(5):
        found = ended(ruling, stream)
        assert found.state == "RUNNING" and found.why == "its process was ended by SIGKILL"
        assert ruling.state.jobs[found.job].state == "QUEUED"
        assert ruling.state.jobs[found.job].spec == ruling.state.jobs[stream.job].spec
        jobs_of.add(found.job)
    assert len(jobs_of) == 6
    found = ended(ruling, stream, "FAILED")
    assert found.state == "FAILED" and "6 times in 10 min" in found.why
    (alert,) = ruling.state.alerts
    assert (alert.kind, alert.subject, alert.next) == ("stream failed", stream.id, f"qd stream show {stream.id}")


def test_restarts_of_long_ago_do_not_count() -> None:
    ruling = ruled()
    stream = started(ruling)
    for _ in range(12):
        ruling.now += 200
        assert ended(ruling, stream).state == "RUNNING"
    assert len(ruling.state.streams[stream.id].restarts) <= 5


@pytest.mark.parametrize("by_its_job", [False, True])
def test_a_stream_that_is_stopped_stays_stopped(by_its_job: bool) -> None:
    ruling = ruled()
    stream = started(ruling)
    ruling.act(jobs.CancelJob(job=stream.job) if by_its_job else streams.StopStream(stream=stream.id, reason="enough"))
    found = ruling.state.streams[stream.id]
    assert found.state == "STOPPED" and found.ended and ruling.state.jobs[stream.job].state == "CANCELLED"
    assert found.why == ("cancelled by ana" if by_its_job else "enough")
    assert not [job for job in ruling.state.jobs if job.state == "QUEUED" and job.kind == "stream"]
    with pytest.raises(Conflict, match="is STOPPED already"):
        ruling.act(streams.StopStream(stream=stream.id))
    assert started(ruling).state == "RUNNING", "its addresses are free again"


WRONG: list[tuple[dict[str, Any], type[Fault], str]] = [
    ({"model": "n"}, Fault, "got n"),
    ({"model": "m@7"}, Fault, "got m@7"),
    ({"output": FROM}, Fault, "another address"),
    ({"output": f"connect:{FROM}"}, Fault, "another address"),
    ({"input": "tcp://0.0.0.0:1"}, Refused, "other machines"),
    ({"output": "tcp://10.0.0.1:1"}, Refused, "other machines"),
    ({"input": "inproc://x"}, Fault, "got inproc://x"),
    ({"waiting": 0}, Fault, "got 0"),
    ({"waiting": 100_001}, Fault, "got 100001"),
    ({"window": 999}, Fault, "got 999"),
]


@pytest.mark.parametrize(("about", "kind", "words"), WRONG, ids=[each[2] + str(n) for n, each in enumerate(WRONG)])
def test_what_cannot_be_a_stream_changes_nothing(about: dict[str, Any], kind: type[Fault], words: str) -> None:
    ruling = ruled()
    before = ruling.kept()
    with pytest.raises(kind, match=words):
        started(ruling, **about)
    assert ruling.kept() == before
    assert started(ruling, **{**about, "model": "m", "input": FROM, "output": TO, "waiting": 5, "window": 5000})


def test_two_streams_do_not_bind_one_address_and_may_call_one() -> None:
    ruling = ruled()
    first = started(ruling, output="connect:tcp://sink:9")
    with pytest.raises(Conflict, match=f"{first.id} binds {FROM} already"):
        started(ruling)
    started(ruling, input="tcp://127.0.0.1:5602", output="connect:tcp://sink:9")


def test_an_endpoint_without_a_live_version_and_a_version_without_a_file_are_refused() -> None:
    ruling = Ruling()
    version(ruling)
    ruling.act(registry.MoveStage(version="m@1", stage="Production", skip_stage=True, reason="r"))
    ruling.act(deployments.Deploy(version="m@1"))
    with pytest.raises(Refused, match="nothing is live at m"):
        started(ruling)
    version(ruling, format="safetensors")
    with pytest.raises(Refused, match="m@2 is safetensors, expected an ONNX file"):
        started(ruling, "m@2")
