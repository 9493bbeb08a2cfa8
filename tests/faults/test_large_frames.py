"""F17: frames too large, frames that only say they are, messages of ten thousand parts; each is refused, nobody else
notices, and memory stays near the limit."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest
import zmq

from quarterdeck.keys import load
from quarterdeck.transport import dealer
from quarterstore.records import people, runs
from quarterstore.records.faults import Fault, FaultRecord
from quarterstore.records.wire import MAX_MESSAGE, PROTOCOL, Answer, Ask, decode, encode

pytestmark = pytest.mark.fault
PATIENCE = 20.0


@contextmanager
def peer(daemon: Any, address: str | None = None) -> Iterator[zmq.Socket[bytes]]:
    """A socket with the owner's keys, that sends what it is told to."""
    context: zmq.Context[Any] = zmq.Context()
    made = dealer(context, daemon.home, load(daemon.home, "owner"))
    made.connect(address or daemon.home.ask_address)
    try:
        yield made
    finally:
        made.close(0)
        context.term()


def asking(body: bytes, request: str = "x") -> bytes:
    """A request with some body."""
    return encode(Ask(PROTOCOL, request, msgspec.Raw(body)))


WHO = encode(people.WhoAmI())


def answered(made: zmq.Socket[bytes], request: str) -> bool:
    """Whether the peer is answered, at the latest after it has connected again."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        made.send(asking(WHO, request))
        if made.poll(1000) and decode(made.recv(), Answer).id == request:
            return True
    return False


def peak(daemon: Any) -> int:
    """The most memory the daemon ever held since `forget`, in bytes."""
    status = Path(f"/proc/{daemon.process.pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def forget(daemon: Any) -> int:
    """Begin to measure the peak anew; answers what is held now."""
    Path(f"/proc/{daemon.process.pid}/clear_refs").write_text("5")
    return peak(daemon)


class Others(threading.Thread):
    """Somebody else, who asks all the time."""

    def __init__(self, daemon: Any) -> None:
        super().__init__(daemon=True)
        self._daemon = daemon
        self.stopping = False
        self.count = 0
        self.slowest = 0.0
        self.failed: list[str] = []

    def run(self) -> None:
        with self._daemon.client() as client:
            while not self.stopping:
                began = time.monotonic()
                try:
                    client.ask(runs.ListRuns(limit=1))
                except Fault as fault:
                    self.failed.append(fault.line())
                self.slowest = max(self.slowest, time.monotonic() - began)
                self.count += 1


def wait_for(found: Callable[[], bool], what: str) -> None:
    """Return when something is so."""
    deadline = time.monotonic() + PATIENCE
    while not found():
        assert time.monotonic() < deadline, f"no {what} within {PATIENCE:g} s"
        threading.Event().wait(0.05)


@contextmanager
def watched(daemon: Any, report: Any, name: str) -> Iterator[None]:
    """Somebody else is answered meanwhile, and memory grows by no more than twice the limit."""
    with daemon.client() as client:
        client.ask(runs.ListRuns(limit=1))
    others = Others(daemon)
    others.start()
    wait_for(lambda: others.count > 0, "somebody else")
    before = forget(daemon)
    yield
    least = others.count + 20
    wait_for(lambda: others.count >= least or bool(others.failed), "answers to somebody else")
    grown = peak(daemon) - before
    others.stopping = True
    others.join()
    bad = len(others.failed) + (grown > 2 * MAX_MESSAGE)
    report(
        "F17",
        others.count,
        bad,
        None,
        what=name,
        grown=f"{grown / 1e6:.1f}MB",
        slowest=f"{others.slowest * 1000:.0f}ms",
    )
    assert others.failed == []
    assert others.count > 0
    assert others.slowest < 5.0
    assert grown <= 2 * MAX_MESSAGE
    assert daemon.process.poll() is None


def test_a_frame_of_ten_megabytes_that_is_no_message_is_told_so(daemon: Any, report: Any) -> None:
    """Below the limit it is parsed, and refused by what it holds."""
    with watched(daemon, report, "10 MB"), peer(daemon) as made:
        made.send(b"\xc4" + bytes(10_000_000))
        assert made.poll(30_000)
        fault: FaultRecord | None = decode(made.recv(), Answer).fault
        assert fault is not None and fault.kind == "Invalid"
        made.send(asking(b"\xc6" + struct.pack(">I", 9_000_000) + bytes(9_000_000), "y"))
        assert made.poll(30_000)
        fault = decode(made.recv(), Answer).fault
        assert fault is not None and fault.kind == "Invalid"
        assert answered(made, "after")


def test_a_frame_beyond_the_limit_drops_its_sender_who_may_come_again(daemon: Any, report: Any) -> None:
    """ZeroMQ drops the connection without a word; it connects again by itself."""
    with watched(daemon, report, "100 MB"), peer(daemon) as made:
        assert answered(made, "before")
        made.send(bytes(100_000_000))
        assert not made.poll(500)
        assert answered(made, "after")


def test_a_message_of_ten_thousand_parts_is_told_how_many_are_expected(daemon: Any, report: Any) -> None:
    """ZeroMQ's limit counts a frame, not a message; what it gathers before the last part comes nobody can bound, so
    ten thousand large parts of a known key would be held until then."""
    with watched(daemon, report, "10,000 parts"), peer(daemon) as made:
        made.send_multipart([b"x" * 1000] * 10_000)
        assert made.poll(30_000)
        fault = decode(made.recv(), Answer).fault
        assert fault is not None and fault.kind == "Invalid" and "10000 frames" in fault.message
        made.send_multipart([asking(WHO), asking(WHO)])
        assert made.poll(30_000)
        fault = decode(made.recv(), Answer).fault
        assert fault is not None and "expected 1" in fault.message
        assert answered(made, "after")


class Between(threading.Thread):
    """Stands between a peer and the daemon's socket; lets the handshake pass and can add bytes of its own."""

    def __init__(self, daemon: Any, path: Path) -> None:
        super().__init__(daemon=True)
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen(1)
        self._daemon = daemon
        self.server = socket.socket(socket.AF_UNIX)
        self.dropped = threading.Event()

    def run(self) -> None:
        client, _ = self._listener.accept()
        self.server.connect(str(self._daemon.home.ask_socket))
        threading.Thread(target=self._pass, args=(client, self.server), daemon=True).start()
        self._pass(self.server, client)
        self.dropped.set()
        client.close()
        self._listener.close()

    def _pass(self, source: socket.socket, target: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                target.sendall(data)
        except OSError:
            return


def test_a_frame_that_says_eight_gibibytes_after_the_handshake_is_not_waited_for(
    daemon: Any, report: Any, tmp_path: Path
) -> None:
    """A known key, and then a header (flag 2: eight bytes of length) that promises more than there is memory."""
    path = daemon.folder / "b"
    between = Between(daemon, path)
    between.start()
    with watched(daemon, report, "8 GiB declared"), peer(daemon, f"ipc://{path}") as made:
        assert answered(made, "before")
        with suppress(BrokenPipeError, ConnectionResetError):  # it may hang up at the header, before the rest is out
            between.server.sendall(b"\x02" + struct.pack(">Q", 8 * 1024**3) + bytes(100_000))
        assert between.dropped.wait(30), "the daemon still waits for eight gibibytes"
    with peer(daemon) as made:
        assert answered(made, "after")


GREETING = b"\xff" + bytes(8) + b"\x7f" + b"\x03\x01" + b"CURVE".ljust(20, b"\0") + b"\0" + bytes(31)


@pytest.mark.parametrize("flags", [0x06, 0x02], ids=["command", "message"])
def test_a_stranger_who_declares_eight_gibibytes_before_the_handshake_is_dropped(
    daemon: Any, report: Any, flags: int
) -> None:
    """Raw ZMTP 3.1: a greeting, and a frame that never ends."""
    name = f"8 GiB before the handshake, flags {flags}"
    with watched(daemon, report, name), socket.socket(socket.AF_UNIX) as raw:
        raw.settimeout(6.0)
        raw.connect(str(daemon.home.ask_socket))
        raw.sendall(GREETING + bytes([flags]) + struct.pack(">Q", 8 * 1024**3))
        assert drained(raw, 40_000_000) < 40_000_000, "forty megabytes were taken of a stranger"


def drained(raw: socket.socket, most: int) -> int:
    """Bytes that could be sent until the other side dropped the connection."""
    sent = 0
    try:
        while sent < most:
            sent += raw.send(bytes(65536))
    except (BrokenPipeError, ConnectionResetError, TimeoutError):
        return sent
    return sent


def test_a_hundred_strangers_with_random_bytes_change_nothing(daemon: Any, report: Any) -> None:
    """F16, a little of it: each is dropped, and the files it held are given back."""
    import random

    chance = random.Random(17)

    def files() -> int:
        return len(list(Path(f"/proc/{daemon.process.pid}/fd").iterdir()))

    with watched(daemon, report, "100 strangers"):
        before = files()
        for _ in range(100):
            with socket.socket(socket.AF_UNIX) as raw:
                raw.connect(str(daemon.home.ask_socket))
                try:
                    raw.sendall(chance.randbytes(chance.randrange(1, 4000)))
                except (BrokenPipeError, ConnectionResetError):
                    continue
        wait_for(lambda: files() <= before, "end of the strangers' connections")
