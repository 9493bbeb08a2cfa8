"""A stream: messages in from senders that keep each until it is acknowledged, answers out to a consumer; a sender is
told once the consumer has the answer."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import msgspec
import zmq
from zmq.utils.monitor import recv_monitor_message

from quarterdeckd.serving.addresses import Address, resolved
from quarterdeckd.serving.answering import Answering
from quarterdeckd.serving.copies import Copies
from quarterdeckd.serving.pending import Answer, Pending
from quarterdeckd.serving.seen import Seen, digest_of
from quarterdeckd.serving.stream_counts import (
    ANSWERED,
    DUPLICATES,
    ERRORS,
    NOBODY,
    REFUSED,
    RESENT,
    TAKEN,
    WAITING,
    Counts,
)
from quarterstore.records.faults import got
from quarterstore.records.names import drawn
from quarterstore.records.places import Home
from quarterstore.records.streams import StreamSpec

log = logging.getLogger("quarterdeck.stream")
LARGEST = 1024 * 1024
"""Bytes of one frame; a larger one ends its sender's connection."""
LONGEST_KEY = 255
QUEUED = 64
"""Messages that ZeroMQ holds for each sender before they are taken."""
BURST = 64
"""Messages taken before acknowledgements are looked for again."""
TICK = 200
"""Milliseconds between two looks at what is late, where nothing else happens."""
FOLLOW = 0.2
SYNC = 0.5
HEARTBEAT = 2000
"""Milliseconds between two heartbeats; a peer that misses five is gone."""
DIED_TWICE = b'{"error":"message: got one in which the process that answers ended twice, expected one it can answer"}'


def run(spec: StreamSpec, report: Any) -> NoReturn:
    """Answer until the process ends; raises a `Fault` where it cannot begin."""
    logging.basicConfig(level="INFO", format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    folder, home = Path(spec.folder), Home(Path(spec.home))
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    context: zmq.Context[Any] = zmq.Context()
    stream = Stream(spec, folder, home, context)
    stream.open(home.streams)
    report.progress("stream", words=f"{spec.input} to {spec.output}")
    threading.Thread(target=stream.beside, name="beside", daemon=True).start()
    while True:
        stream.turn()


class Stream:
    """One stream's sockets and what they are told; every method but `beside` runs in one thread."""

    def __init__(self, spec: StreamSpec, folder: Path, home: Home, context: zmq.Context[Any]) -> None:
        self._spec = spec
        self._context = context
        self._folder = folder
        self._counts = Counts(folder / "counts")
        self._died_of = self._counts.begin()
        self._seen = Seen(folder, spec.window)
        self._pending = Pending(spec.waiting)
        self._answering = Answering(spec, home, Copies(context, home.shadow_address))
        self._poller = zmq.Poller()
        self._disk = ""
        """Why keys cannot be kept on disk, if so."""
        self._noted = 0.0

    def open(self, sockets: Path) -> None:
        """Bind or connect both sides; raises `Invalid` for an address that cannot be had."""
        source, sink = (resolved(name, getattr(self._spec, name), sockets) for name in ("input", "output"))
        self._routed = source.binds
        self._input = self._context.socket(zmq.ROUTER if source.binds else zmq.DEALER)
        self._input.setsockopt(zmq.RCVHWM, QUEUED)
        if source.binds:
            # a sender that restarted under its own name is taken at once
            self._input.setsockopt(zmq.ROUTER_HANDOVER, 1)
        self._output = self._context.socket(zmq.DEALER)
        # nothing is queued for a consumer that is not there: what waits is held, counted and bounded here
        self._output.setsockopt(zmq.IMMEDIATE, 1)
        self._monitor = self._output.get_monitor_socket(zmq.EVENT_DISCONNECTED)
        _attach("input", self._input, source)
        _attach("output", self._output, sink)
        self._poller.register(self._monitor, zmq.POLLIN)

    def beside(self) -> None:
        """In a thread: follow the routes, bring predictions to the disk, leave with the home."""
        tended = 0.0
        while True:
            time.sleep(FOLLOW)
            if not self._folder.exists():
                log.critical("the home is gone: there is nobody to answer for")
                os._exit(1)
            try:
                self._answering.follow()
                if time.monotonic() - tended >= SYNC:
                    tended = time.monotonic()
                    self._answering.tend()
            except OSError as error:
                log.error("predictions or routes: %s", error.strerror)
            except Exception:
                log.critical("the routes are followed no more; the stream gives up", exc_info=True)
                os._exit(1)

    def turn(self) -> None:
        """Whatever can be done now, or a moment's wait for it."""
        taking = self._pending.room() and self._answering.ready
        self._poller.register(self._input, zmq.POLLIN if taking else 0)
        self._poller.register(self._output, zmq.POLLIN | (zmq.POLLOUT if self._pending.next() else 0))
        ready = dict(self._poller.poll(TICK))
        if self._monitor in ready:
            recv_monitor_message(self._monitor)
            self._pending.lost()
        if ready.get(self._output, 0) & zmq.POLLIN:
            self._hear()
        if ready.get(self._input, 0) & zmq.POLLIN:
            self._take()
        self._pending.late(time.monotonic())
        self._send()
        self._note()

    def _take(self) -> None:
        """Some messages: each is answered at once and waits for the consumer."""
        for _ in range(BURST):
            if not self._pending.room():
                return
            try:
                frames = self._input.recv_multipart(zmq.DONTWAIT)
            except zmq.Again:
                return
            sender = frames.pop(0) if self._routed else b""
            if len(frames) != 2 or not 0 < len(frames[0]) <= LONGEST_KEY:
                self._refuse(sender, frames)
                continue
            self._one(sender, *frames)

    def _one(self, sender: bytes, key: bytes, body: bytes) -> None:
        digest, numbers = digest_of(key), self._counts.numbers
        numbers[TAKEN] += 1
        if digest in self._seen:
            numbers[DUPLICATES] += 1
            self._tell(sender, [key])
        elif self._pending.again(key, sender):
            numbers[DUPLICATES] += 1
        else:
            came = time.time()
            self._pending.add(Answer(key, digest, sender, self._answered(key, digest, body), came))
            numbers[WAITING] += 1

    def _answered(self, key: bytes, digest: bytes, body: bytes) -> list[bytes]:
        """The frames for the consumer. The digest stands in the counts meanwhile: a process that dies here leaves it,
        and a message that was left so twice in a row is not tried a third time."""
        if digest == self._died_of:
            self._died_of = NOBODY
            return self._wrong(key, DIED_TWICE)
        self._counts.running(digest)
        answer = self._answering.answer(body)
        self._counts.running(NOBODY)
        return [key, b"ok", answer.body] if answer.status == 200 else self._wrong(key, answer.body)

    def _wrong(self, key: bytes, body: bytes) -> list[bytes]:
        self._counts.numbers[ERRORS] += 1
        self._counts.error(msgspec.json.decode(body, type=dict[str, str])["error"])
        return [key, b"error", body]

    def _refuse(self, sender: bytes, frames: list[bytes]) -> None:
        """A message that cannot be acknowledged, as it has no key: its sender is told what is wrong."""
        self._counts.numbers[REFUSED] += 1
        if len(frames) != 2:
            fault = got("message", f"{len(frames)} frames", "2: a key and a JSON body")
        else:
            fault = got("key", f"{len(frames[0])} bytes", f"1 to {LONGEST_KEY}")
        self._tell(sender, [b"", drawn(fault.line()).encode()])

    def _tell(self, sender: bytes, frames: list[bytes]) -> None:
        """To a sender; one that is gone or does not listen sends again what it was not told of."""
        try:
            self._input.send_multipart([sender, *frames] if self._routed else frames, zmq.DONTWAIT)
        except zmq.ZMQError as error:
            log.debug("a sender could not be told: %s", error)

    def _hear(self) -> None:
        """Acknowledgements: the key is noted, then the sender may forget its message."""
        for _ in range(BURST * 4):
            try:
                key, *_ = self._output.recv_multipart(zmq.DONTWAIT)
            except zmq.Again:
                return
            answer = self._pending.acknowledged(key)
            if answer is None:
                continue
            self._on_disk(partial(self._seen.add, answer.digest))
            self._counts.numbers[WAITING] -= 1
            self._counts.numbers[ANSWERED] += 1
            self._tell(answer.sender, [key])

    def _on_disk(self, work: Callable[[], None]) -> None:
        """A disk that is full costs the memory of keys over a restart, and no message."""
        try:
            work()
            self._disk = ""
        except OSError as error:
            self._disk = f"keys cannot be kept on disk ({error.strerror}): they are remembered until it ends"

    def _send(self) -> None:
        while (answer := self._pending.next()) is not None:
            try:
                self._output.send_multipart(answer.frames, zmq.DONTWAIT)
            except zmq.Again:
                return
            if self._pending.sent(time.monotonic()):
                self._counts.numbers[RESENT] += 1

    def _note(self) -> None:
        self._counts.oldest(self._pending.oldest())
        now = time.monotonic()
        if now - self._noted < SYNC:
            return
        self._noted = now
        self._counts.note(self._holding())
        self._on_disk(self._seen.sync)

    def _holding(self) -> str:
        """What holds the stream up, the worst first."""
        if not self._answering.ready:
            return self._answering.why or f"no version is live at {self._spec.endpoint}: no message is taken"
        if self._disk or self._answering.why:
            return self._disk or self._answering.why
        if not self._pending.room():
            return "full: the consumer is slower than the senders, no message is taken"
        return "no consumer takes answers" if self._pending.next() is not None else ""


def _attach(field: str, socket: zmq.Socket[Any], address: Address) -> None:
    socket.setsockopt(zmq.LINGER, 0)
    socket.setsockopt(zmq.MAXMSGSIZE, LARGEST)
    socket.setsockopt(zmq.IPV6, address.url.startswith("tcp://["))
    socket.setsockopt(zmq.HEARTBEAT_IVL, HEARTBEAT)
    socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, 5 * HEARTBEAT)
    socket.setsockopt(zmq.RECONNECT_IVL, 50)
    socket.setsockopt(zmq.RECONNECT_IVL_MAX, 1000)
    before = os.umask(0o177)
    try:
        socket.bind(address.url) if address.binds else socket.connect(address.url)
    except zmq.ZMQError as error:
        raise got(field, f"{address.url} ({_why(error, address.url)})", "an address that can be had") from None
    finally:
        os.umask(before)


def _why(error: zmq.ZMQError, url: str) -> str:
    """Of an address that is taken, who has it as well."""
    if error.errno != zmq.EADDRINUSE or not url.startswith("tcp://"):
        return error.strerror
    from quarterdeckd.serving.listener import owner_of  # only for a complaint

    return f"{os.strerror(error.errno)}, by {owner_of(int(url.rpartition(':')[2]))}"
