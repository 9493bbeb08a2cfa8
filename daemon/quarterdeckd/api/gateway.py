"""The gateway: the ROUTER socket, its CURVE keys and who may shake hands; frames in, frames out, nothing decided."""

from __future__ import annotations

import asyncio
import functools
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import zmq
from zmq.utils import z85

from quarterdeckd.api.dispatch import Dispatch
from quarterdeckd.api.permissions import speaker_of
from quarterdeckd.api.writer import Outcome
from quarterstore.records.faults import Fault, FaultRecord, Invalid, Protocol, TooLarge, got, missing
from quarterstore.records.messages import ASKABLE, BY_TAG, one_of
from quarterstore.records.misfits import misfit
from quarterstore.records.names import drawn
from quarterstore.records.wire import MAX_MESSAGE, NIL, PROTOCOL, Answer, Ask, encode

log = logging.getLogger(__name__)
LONGEST_FAULT = 1000
DOMAIN = b"quarterdeck"
EVENTS, POLLIN, NOBLOCK = int(zmq.EVENTS), int(zmq.POLLIN), int(zmq.NOBLOCK)
SENDMORE = NOBLOCK | int(zmq.SNDMORE)
"""Plain integers: an enum's `&` costs a microsecond and a half, five times a request."""
_ASKABLE = frozenset(ASKABLE)
UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError, OverflowError)
"""What bytes that are no message end a decoder with."""
BURST = 64
"""Requests taken in one go before the loop may do something else."""


def curve_server(context: zmq.Context[Any], kind: int, secret: bytes) -> zmq.Socket[bytes]:
    """A socket that only known keys can talk to; limits as in libzmq's options."""
    socket: zmq.Socket[bytes] = context.socket(kind)
    socket.curve_server = True
    socket.curve_secretkey = secret
    socket.zap_domain = DOMAIN
    socket.setsockopt(zmq.HANDSHAKE_IVL, 2000)
    socket.setsockopt(zmq.MAXMSGSIZE, MAX_MESSAGE)
    socket.setsockopt(zmq.LINGER, 500)
    return socket


def bind_privately(socket: zmq.Socket[bytes], address: str, path: Path) -> None:
    """Bind an ipc socket as 0600 in a 0700 folder that is ours; a stale file goes, a link is not followed."""
    path.parent.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.parent.mkdir(mode=0o700, exist_ok=True)
    folder = path.parent.lstat()
    if folder.st_uid != os.getuid() or not path.parent.is_dir() or path.parent.is_symlink():
        raise got("runtime folder", str(path.parent), "a folder of your own")
    path.parent.chmod(0o700)
    path.unlink(missing_ok=True)
    before = os.umask(0o177)
    try:
        socket.bind(address)
    finally:
        os.umask(before)


def _pending(socket: zmq.Socket[bytes]) -> bool:
    return bool(int(socket.get(EVENTS)) & POLLIN)


def _received(socket: zmq.Socket[bytes]) -> list[zmq.Frame]:
    """The frames of one message, when one is pending; half the time of `recv_multipart` (5 against 10 us)."""
    frame = socket.recv(NOBLOCK, copy=False)
    parts = [frame]
    while frame.more:
        frame = socket.recv(NOBLOCK, copy=False)
        parts.append(frame)
    return parts


class Handshakes:
    """The ZAP handler (ZeroMQ RFC 27): a CURVE key shakes hands when the state knows it; its text becomes the
    User-Id."""

    def __init__(self, context: zmq.Context[Any], known: Callable[[str], bool]) -> None:
        self.refused = 0
        self._known = known
        self._socket: zmq.Socket[bytes] = context.socket(zmq.REP)
        self._socket.bind("inproc://zeromq.zap.01")
        asyncio.get_running_loop().add_reader(self._socket.FD, self._readable)
        self._readable()

    def _readable(self) -> None:
        while _pending(self._socket):
            version, request, domain, _, _, mechanism, *credentials = self._socket.recv_multipart()
            key = z85.encode(credentials[0]).decode() if mechanism == b"CURVE" and credentials else ""
            if domain == DOMAIN and key and self._known(key):
                self._socket.send_multipart([version, request, b"200", b"OK", key.encode(), b""])
                continue
            self.refused += 1
            if self.refused & (self.refused - 1) == 0:
                log.warning("refused %d handshakes so far, the last one from key %s", self.refused, key[:8] or "none")
            self._socket.send_multipart([version, request, b"400", b"unknown key", b"", b""])

    def close(self) -> None:
        """Answer no more handshakes."""
        asyncio.get_running_loop().remove_reader(self._socket.FD)
        self._socket.close(0)


class Gateway:
    """Reads requests from the ROUTER and hands them to the dispatch; writes each answer to whoever asked."""

    def __init__(self, context: zmq.Context[Any], secret: bytes, dispatch: Dispatch) -> None:
        self.dropped = 0
        self._dispatch = dispatch
        self._loop = asyncio.get_running_loop()
        self._socket = curve_server(context, zmq.ROUTER, secret)
        self._socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
        self._ask = msgspec.msgpack.Decoder(Ask).decode

    def bind(self, address: str, path: Path | None = None) -> None:
        """Listen at an ipc path of ours, or at a tcp address."""
        if path is not None:
            bind_privately(self._socket, address, path)
        else:
            self._socket.bind(address)

    def start(self) -> None:
        """Begin to read."""
        self._loop.add_reader(self._socket.FD, self._readable)
        self._readable()

    def stop(self) -> None:
        """Read no more; answers still go out."""
        self._loop.remove_reader(self._socket.FD)

    def close(self) -> None:
        """Send what is left and close."""
        self._socket.close()

    def _readable(self) -> None:
        """The FD is edge-triggered: read until nothing is left, or come back after the others had their turn."""
        for _ in range(BURST):
            if not _pending(self._socket):
                return
            self._take(_received(self._socket))
        self._loop.call_soon(self._readable)

    def _take(self, parts: list[zmq.Frame]) -> None:
        peer = parts[0].bytes
        ask: Ask | None = None
        try:
            if len(parts) != 2:
                raise Invalid(f"got {len(parts) - 1} frames, expected 1", field="message")
            if len(parts[1]) > MAX_MESSAGE:
                raise TooLarge(f"got {len(parts[1])} bytes, expected at most {MAX_MESSAGE}", field="message")
            ask = self._ask(parts[1].buffer)
            if ask.protocol != PROTOCOL:
                raise Protocol(f"got version {ask.protocol}, expected {PROTOCOL}", field="protocol")
            if not 0 < len(ask.id) <= 200:
                raise got("id", f"{len(ask.id)} characters", "1 to 200")
            message = _decoder(_tagged(ask.body).type).decode(ask.body)
            speaker = speaker_of(self._dispatch.view, str(parts[1].get("User-Id")))
        except Fault as fault:
            self._answer(peer, ask.id if ask else "", Outcome(None, self._dispatch.seq, fault))
            return
        except UNREADABLE as error:
            self._answer(peer, ask.id if ask else "", Outcome(None, self._dispatch.seq, _undecoded(ask, error)))
            return
        request = ask.id
        self._dispatch.ask(message, request, speaker, ask.seen, lambda outcome: self._answer(peer, request, outcome))

    def _answer(self, peer: bytes, request: str, outcome: Outcome) -> None:
        body = msgspec.Raw(outcome.answer) if outcome.answer is not None else NIL
        record = _harmless(outcome.fault.record()) if outcome.fault is not None else None
        frame = encode(Answer(PROTOCOL, request, body, record, outcome.seq))
        try:
            self._socket.send(peer, SENDMORE)
            self._socket.send(frame, NOBLOCK)
        except zmq.ZMQError:
            self.dropped += 1  # the asker has gone, or does not read; it asks again by its request id
        if _pending(self._socket):
            self._loop.call_soon(self._readable)


class _Tagged(msgspec.Struct):
    """A message as nothing but its tag."""

    type: str


_tagged = msgspec.msgpack.Decoder(_Tagged).decode


@functools.cache
def _one_of_all() -> msgspec.msgpack.Decoder[Any]:
    """Knows every message there is, to say what is wrong with one that is none: 30 ms to make, which no start needs."""
    return msgspec.msgpack.Decoder(one_of(ASKABLE))


def _decoder(tag: str) -> msgspec.msgpack.Decoder[Any]:
    """What reads messages of this tag, made when the first one comes."""
    return _decoder_of(BY_TAG[tag]) if BY_TAG.get(tag) in _ASKABLE else _one_of_all()


@functools.cache
def _decoder_of(kind: type) -> msgspec.msgpack.Decoder[Any]:
    return msgspec.msgpack.Decoder(kind)


def _harmless(record: FaultRecord) -> FaultRecord:
    """A fault as it goes out: whatever it quotes, it is one line that can be drawn."""
    return FaultRecord(
        kind=record.kind,
        message=drawn(" ".join(record.message.split()), longest=LONGEST_FAULT),
        field=record.field and drawn(record.field, longest=200),
        nearest=tuple(drawn(name, longest=200) for name in record.nearest),
        next=record.next and drawn(record.next, longest=500),
        place=record.place and (drawn(record.place[0], longest=LONGEST_FAULT), record.place[1]),
    )


def _undecoded(ask: Ask | None, error: Exception) -> Fault:
    """What was wrong with a body, with the nearest tags when the tag is unknown; no detail that is not the asker's
    own."""
    if ask is not None and isinstance(error, msgspec.ValidationError):
        try:
            tag = _tagged(ask.body).type
        except UNREADABLE:
            return got("type", "none", "a message that says what it is")
        return missing("type", tag, BY_TAG) if tag not in BY_TAG else misfit(BY_TAG[tag], str(error))
    return Invalid(f"got bytes that are no message ({str(error)[:200]})", field="message")
