"""A stream on a real daemon: its process killed in the middle, its ends restarted, its consumer slow; every message is
answered, and after doubles are dropped by key exactly once."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import httpx
import pytest

from quarterdeckd.proc import born
from quarterdeckd.serving.stream_counts import _NOTE, _RUNNING, _SUSPECT, NOBODY
from quarterstore.records import deployments, jobs, predictions, streams
from tests.faults.test_serving import deployed, live, made, staged, until
from tests.streaming import Consumer, Sender, free_port, rows

pytestmark = pytest.mark.fault
MANY = 10_000


@pytest.fixture(scope="module")
def served(daemon: Any) -> Any:
    """A client of a daemon whose endpoint `small` answers."""
    with daemon.client() as client:
        version = deployed(client, 0.0)
        until(lambda: live(client, version))
        yield client


@pytest.fixture(autouse=True)
def none_left(served: Any) -> Any:
    """No stream of one test runs on into the next."""
    yield
    for stream in served.ask(streams.ListStreams(live=True)):
        served.ask(streams.StopStream(stream=stream.id))


def started(client: Any, model: str = "small", **about: Any) -> tuple[streams.Stream, str, str]:
    """A stream that runs, and the addresses of its two sides."""
    source, sink = (f"tcp://127.0.0.1:{free_port()}" for _ in range(2))
    stream = client.ask(streams.StartStream(model=model, input=source, output=sink, **about))
    until(lambda: process(client, stream))
    return stream, source, sink


def shown(client: Any, stream: streams.Stream) -> streams.Stream:
    """The stream as it is now."""
    found: streams.Stream = client.ask(streams.ShowStream(stream=stream.id))
    return found


def process(client: Any, stream: streams.Stream) -> int:
    """The pid of its process, 0 while there is none."""
    job: jobs.Job = client.ask(jobs.ShowJob(job=shown(client, stream).job))
    return job.pid or 0 if job.state == "RUNNING" else 0


def killed(client: Any, stream: streams.Stream) -> None:
    """Kill its process, and wait until another goes on."""
    before = process(client, stream)
    os.kill(before, signal.SIGKILL)
    until(lambda: process(client, stream) not in (0, before))


def without_ids(body: dict[str, Any]) -> dict[str, Any]:
    """An answer without what is another each time."""
    return {name: value for name, value in body.items() if name != "prediction"}


def by_rest(client: Any, bodies: dict[bytes, bytes]) -> dict[bytes, dict[str, Any]]:
    """What the REST door answers to the same bodies."""
    address = client.ask(deployments.ShowServing()).address
    with httpx.Client(timeout=30) as http:
        return {key: http.post(f"{address}/v1/predict/small", content=body).json() for key, body in bodies.items()}


def test_every_message_is_answered_over_kill_9_of_the_process_in_the_middle(served: Any) -> None:
    stream, source, sink = started(served)
    bodies = rows(MANY)
    with Consumer(sink) as consumer, Sender(source, bodies) as sender:
        for answered in (1000, 4000, 7000):
            until(lambda least=answered: len(consumer.answers) >= least, 60)
            killed(served, stream)
        assert sender.done.wait(60), len(sender.kept)
        until(lambda: shown(served, stream).counts.waiting == 0)
        assert consumer.answers.keys() == bodies.keys()
        assert {status for status, _ in consumer.answers.values()} == {b"ok"}
        sample = {key: bodies[key] for key in list(bodies)[:977]}
        expected = by_rest(served, sample)
        for number, key in enumerate(bodies):
            answer = consumer.answers[key][1]
            assert without_ids(answer) == without_ids(expected[f"k{number % 977}".encode()]), key
        found = shown(served, stream)
        assert len(found.restarts) == 3 and found.state == "RUNNING" and not found.counts.errors
        # a kill between the key's note and the count costs the count one
        assert MANY - 3 <= found.counts.answered <= MANY
        assert found.counts.taken == found.counts.answered + found.counts.duplicates
        print(f"twice answered {sum(n - 1 for n in consumer.times.values())}, sent {sender.sent}, {found.counts}")
        ids = [answer["prediction"] for _, answer in consumer.answers.values()]
        assert len(set(ids)) == MANY
        counted = predictions.CountPredictions(endpoint="small")
        until(lambda: sum(served.ask(counted).versions.values()) >= MANY + len(sample), 60)


def test_what_was_answered_is_not_answered_again_and_ends_may_restart(served: Any) -> None:
    stream, source, sink = started(served)
    bodies = rows(3000)
    consumer, sender = Consumer(sink), Sender(source, bodies)
    consumer.start()
    sender.start()
    until(lambda: len(consumer.answers) > 500, 60)
    sender.stop()
    kept = consumer.answers
    consumer.stop()
    with Consumer(sink) as other:
        other.answers.update(kept)
        with Sender(source, bodies) as again:  # it forgot what was acknowledged, and sends all of it
            assert again.done.wait(60), len(again.kept)
        assert other.answers.keys() == bodies.keys()
        before = other.times.total()
        with Sender(source, bodies) as third:
            assert third.done.wait(60)
        assert other.times.total() == before
        counts = shown(served, stream).counts
        assert counts.duplicates >= 3000 and counts.answered == 3000 and counts.waiting == 0


def test_a_stream_that_calls_finds_both_ends_again(served: Any) -> None:
    """The sender and the consumer bind, the stream connects; each of them dies once."""
    source, sink = (f"tcp://127.0.0.1:{free_port()}" for _ in range(2))
    asked = streams.StartStream(model="small", input=f"connect:{source}", output=f"connect:{sink}")
    stream = served.ask(asked)
    bodies = rows(2000)
    consumer, sender = Consumer(sink, binds=True), Sender(source, bodies, binds=True)
    consumer.start()
    sender.start()
    until(lambda: len(consumer.answers) > 300, 60)
    consumer.stop()
    with Consumer(sink, binds=True) as other:
        until(lambda: len(other.answers) > 300, 60)
        sender.stop()
        with Sender(source, sender.kept, binds=True) as again:
            assert again.done.wait(60), len(again.kept)
        assert (consumer.answers | other.answers).keys() == bodies.keys()
    assert shown(served, stream).counts.answered == 2000


def test_a_slow_consumer_holds_the_senders_up_and_no_memory(served: Any) -> None:
    stream, source, sink = started(served, waiting=200)
    with Sender(source, rows(5000)) as sender:
        until(lambda: shown(served, stream).counts.waiting == 200)
        until(lambda: "full" in shown(served, stream).counts.note)
        until(lambda: shown(served, stream).counts.lag > 0.5)
        memory = resident(process(served, stream))
        sent = sender.sent
        with Consumer(sink, pace=0.01) as consumer:
            until(lambda: len(consumer.answers) > 300, 60)
            assert shown(served, stream).counts.waiting <= 200
            assert len(sender.kept) > 4000 and sent < 5000
            assert resident(process(served, stream)) < memory + 20e6
            assert not [key for key, times in consumer.times.items() if times > 1]


def resident(pid: int) -> int:
    """Bytes of memory that a process holds."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS"))


def test_a_stream_outlives_its_daemon_and_stops_when_told(absent: Any) -> None:
    absent.start()
    with absent.client() as client:
        version = deployed(client, 0.0)
        until(lambda: live(client, version))
        stream, source, sink = started(client)
        pid = process(client, stream)
    absent.stop(signal.SIGKILL)
    bodies = rows(300)
    with Consumer(sink) as consumer, Sender(source, bodies) as sender:
        assert sender.done.wait(30), "the stream needs no daemon"
        assert consumer.answers.keys() == bodies.keys()
        absent.start()
        with absent.client() as client:
            assert process(client, stream) == pid and shown(client, stream).counts.answered == 300
            assert client.ask(streams.StopStream(stream=stream.id, reason="over")).state == "STOPPED"
            until(lambda: born(pid) is None)
            assert client.ask(streams.ListStreams(live=True)) == []
            assert shown(client, stream).why == "over"


def test_a_poison_message_is_an_answer_of_its_own_and_stops_nothing(served: Any) -> None:
    stream, source, sink = started(served)
    good = rows(1)[b"k0"]
    v2 = {"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4]}]}
    wrong = {
        b"text": (b"{", "body: got JSON that is no"),
        b"nothing": (b"", "body: got"),
        b"value": (json.dumps({"rows": [{"f0": "much", "f1": 1, "f2": 1, "f3": 1}]}).encode(), "rows[0].f0: got"),
        b"name": (json.dumps({"rows": [{"age": 1}]}).encode(), "rows[0]: got age"),
        b"tensor": (json.dumps({"inputs": [{**v2["inputs"][0], "shape": [1, 3]}]}).encode(), "inputs.x.shape: got"),
        b"list": (b"[1]", "body: got JSON that is no"),
        b"\xff\x00\x1b[31m": (b'{"rows": []}', "rows: got none"),
    }
    bodies = {**{key: body for key, (body, _) in wrong.items()}, b"good": good, b"v2": json.dumps(v2).encode()}
    with Consumer(sink) as consumer, Sender(source, bodies) as sender:
        assert sender.done.wait(30), sender.kept
        for key, (_, words) in wrong.items():
            status, body = consumer.answers[key]
            assert status == b"error" and words in body["error"] and "expected" in body["error"], (key, body)
        assert consumer.answers[b"good"][0] == b"ok"
        assert consumer.answers[b"v2"][1]["model_version"] == "small@1"
        assert consumer.answers[b"v2"][1]["outputs"][0]["data"] == [2.5, 2.5]
    with Sender(source, {b"": good, b"x" * 256: good}) as sender:
        until(lambda: len(sender.refused) >= 2)
        assert {words.partition(":")[0] for words in sender.refused} == {"key"}
    counts = shown(served, stream).counts
    assert (counts.errors, counts.answered) == (len(wrong), len(bodies)) and counts.refused >= 2
    assert "expected" in counts.last_error


@pytest.mark.slow
def test_a_process_that_was_told_to_end_as_its_daemon_died_is_ended_by_the_next_one(absent: Any) -> None:
    absent.start()
    with absent.client() as client:
        version = deployed(client, 0.0)
        until(lambda: live(client, version))
        stream, _, _ = started(client)
        pid = process(client, stream)
        os.kill(pid, signal.SIGSTOP)  # it does not hear the SIGTERM
        assert client.ask(streams.StopStream(stream=stream.id)).state == "STOPPED"
    absent.stop(signal.SIGKILL)
    assert born(pid) is not None
    absent.start()
    until(lambda: born(pid) is None)


def suspected(counts: Path) -> tuple[bytes, bytes]:
    """The digest that is being answered, and that of the message in which the process before ended."""
    data = counts.read_bytes() if counts.exists() else bytes(_NOTE)
    return data[_RUNNING:_SUSPECT], data[_SUSPECT:_NOTE]


def test_a_message_that_ends_the_process_twice_is_an_error_and_not_tried_a_third_time(served: Any, daemon: Any) -> None:
    """As the memory killer does it: SIGKILL while that message is being answered."""
    version = staged(served, made.loop_bytes(4_000_000), made.Signature((), ()))
    stream, source, sink = started(served, version)
    slow = json.dumps({"rows": [{"x": [1, 2, 3, 4]}]}).encode()
    counts = daemon.home.streams / stream.id / "counts"
    with Consumer(sink) as consumer, Sender(source, {b"deadly": slow}) as sender:
        until(lambda: suspected(counts)[0] != NOBODY)
        killed(served, stream)
        until(lambda: NOBODY not in suspected(counts))
        killed(served, stream)
        assert sender.done.wait(60)
        status, body = consumer.answers[b"deadly"]
        assert status == b"error" and "ended twice" in body["error"], body
        assert consumer.times[b"deadly"] == 1
    found = shown(served, stream)
    assert (found.state, found.counts.errors, len(found.restarts)) == ("RUNNING", 1, 2)


def test_a_stream_that_cannot_stay_up_is_given_up_with_its_reason(served: Any) -> None:
    taken = Consumer(f"tcp://127.0.0.1:{(port := free_port())}", binds=True)
    with taken:
        sink = f"tcp://127.0.0.1:{free_port()}"
        stream = served.ask(streams.StartStream(model="small", input=f"tcp://127.0.0.1:{port}", output=sink))
        until(lambda: shown(served, stream).state == "FAILED", 60)
        found = shown(served, stream)
        assert "6 times" in found.why and "Address already in use, by " in found.why and len(found.restarts) == 5
        assert f"(process {os.getpid()}: " in found.why, found.why


BAD: list[tuple[tuple[str, ...], str]] = [
    (("nothing", "--in", "tcp://127.0.0.1:1", "--out", "tcp://127.0.0.1:2"), "endpoint: got nothing"),
    (("small@9", "--in", "tcp://127.0.0.1:1", "--out", "tcp://127.0.0.1:2"), "version: got small@9"),
    (("small", "--in", "tcp://0.0.0.0:1", "--out", "tcp://127.0.0.1:2"), "other machines"),
    (("small", "--in", "inproc://a", "--out", "tcp://127.0.0.1:2"), "input: got inproc://a"),
    (("small", "--in", "ipc:///etc/passwd", "--out", "tcp://127.0.0.1:2"), "input: got /etc/passwd"),
    (("small", "--in", "tcp://127.0.0.1:0", "--out", "tcp://127.0.0.1:2"), "input: got port 0"),
    (("small", "--in", "tcp://127.0.0.1:1", "--out", "tcp://127.0.0.1:1"), "output: got bind:tcp://127.0.0.1:1"),
    (("small", "--in", "tcp://127.0.0.1:1"), "output: got none"),
    (("small", "--in", "ipc://a", "--out", "ipc://b", "--waiting", "0"), "waiting: got 0"),
    (("small", "--in", "ipc://a", "--out", "ipc://b", "--window", "5"), "window: got 5"),
    (("stop", "stream-nothing"), "stream: got stream-nothing"),
    (("show", "nothing"), "stream: got nothing"),
    (("small", "twice"), "model: got small twice"),
]


def test_what_cannot_be_asked_is_said_and_starts_nothing(served: Any, daemon: Any) -> None:
    before = served.ask(jobs.ListJobs(limit=1000))
    for words, said in BAD:
        done = daemon.qd("stream", *words)
        assert done.returncode not in (0, 1) and said in done.stderr, (words, done)
        assert "Traceback" not in done.stderr and not done.stdout
    assert served.ask(streams.ListStreams(live=True)) == []
    assert [job.id for job in served.ask(jobs.ListJobs(limit=1000))] == [job.id for job in before]


def test_the_command_line_starts_lists_and_stops_over_sockets_in_the_home(served: Any, daemon: Any) -> None:
    made = daemon.qd("--json", "stream", "small", "--in", "ipc://orders", "--out", "ipc://answers")
    assert made.returncode == 0, made.stderr
    stream = json.loads(made.stdout)
    sockets = daemon.home.streams
    until(lambda: (sockets / "orders.sock").exists() and (sockets / "answers.sock").exists())
    bodies = rows(50)
    with (
        Consumer(f"ipc://{sockets}/answers.sock") as consumer,
        Sender(f"ipc://{sockets}/orders.sock", bodies) as sender,
    ):
        assert sender.done.wait(30)
        assert consumer.answers.keys() == bodies.keys()
    taken = daemon.qd("stream", "small", "--in", "ipc://orders", "--out", "ipc://more")
    assert taken.returncode == 5 and "binds ipc://orders already" in taken.stderr
    listed = daemon.qd("stream", "list")
    assert "bind" not in listed.stdout and stream["id"] in listed.stdout and " 50 " in listed.stdout, listed.stdout
    assert json.loads(daemon.qd("--json", "stream", "show", stream["id"]).stdout)["counts"]["answered"] == 50
    stopped = daemon.qd("--json", "stream", "stop", stream["id"])
    assert json.loads(stopped.stdout)["state"] == "STOPPED", stopped.stderr
    assert daemon.qd("stream", "stop", stream["id"]).returncode == 5


def test_the_live_version_is_followed_and_one_that_is_named_is_kept(served: Any) -> None:
    """The last one here: it takes the endpoint down."""
    follows, source, sink = started(served)
    named, other_source, other_sink = started(served, "small@1")
    with Consumer(sink) as consumer, Consumer(other_sink) as other:
        second = deployed(served, 7.0)
        until(lambda: live(served, second))

        def version_of_next() -> str:
            key = os.urandom(8)
            for address, body in ((source, bodies), (other_source, bodies)):
                with Sender(address, {key: body}) as sender:
                    assert sender.done.wait(30)
            return str(consumer.answers[key][1]["version"])

        bodies = rows(1)[b"k0"]
        until(lambda: version_of_next() == second)
        answers = [answer for _, answer in other.answers.values()]
        assert {answer["version"] for answer in answers} == {"small@1"}
        assert len(answers) == shown(served, named).counts.answered
        served.ask(deployments.StopEndpoint(endpoint="small", reason="a test"))
        until(lambda: "no version is live" in shown(served, follows).counts.note)
