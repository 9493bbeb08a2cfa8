"""The asking socket: one DEALER, a deadline on every request, the same request id on a retry."""

from __future__ import annotations

import os
import time
import weakref
from collections.abc import Sequence
from typing import Any

import zmq

from quarterdeck.keys import Pair, load
from quarterstore.records.faults import Fault, Forbidden, TimedOut, Unreachable, raised
from quarterstore.records.places import Home, listened
from quarterstore.records.wire import Answer, decode, framed

LOOK = 0.25
"""Seconds between two looks at the deadline and the monitor while no answer comes."""
RETRY = 2.0
"""Seconds without an answer after which the request is sent again, under its id: it has one effect."""


def dealer(context: zmq.Context[Any], pair: Pair, kind: int = zmq.DEALER) -> zmq.Socket[bytes]:
    """A socket with the caller's keys, not connected yet."""
    made: zmq.Socket[bytes] = context.socket(kind)
    made.curve_publickey, made.curve_secretkey, made.curve_serverkey = pair.public, pair.secret, pair.server
    made.setsockopt(zmq.LINGER, 0)
    made.setsockopt(zmq.RECONNECT_IVL, 50)
    made.setsockopt(zmq.RECONNECT_IVL_MAX, 500)
    made.setsockopt(zmq.MAXMSGSIZE, 64 * 1024 * 1024)
    return made


class Sockets:
    """A context and the sockets made in it, let go of together, also where they are forgotten: when a cycle is
    collected, pyzmq no longer knows the sockets of the context that it closes, and would wait for them for ever."""

    def __init__(self, kind: type[zmq.Context[Any]] = zmq.Context) -> None:
        self.context = kind()
        self._open: list[zmq.Socket[bytes]] = []
        self._let_go = weakref.finalize(self, _let_go, self.context, self._open)
        self._let_go.atexit = False  # pyzmq leaves them at the end of the process

    def keep(self, socket: Any) -> Any:
        """A socket of this context, held until it is dropped or all are closed."""
        self._open.append(socket)
        return socket

    def drop(self, socket: Any) -> None:
        """Close one."""
        socket.close(0)
        self._open.remove(socket)

    def close(self) -> None:
        """Close all of them, then the context."""
        for each in self._open:
            each.close(0)
        self._let_go()


def _let_go(context: zmq.Context[Any], sockets: list[zmq.Socket[bytes]]) -> None:
    for each in sockets:
        zmq.Socket.close(each, 0)  # not the loop's own close: the loop may be gone
    context.term()


def unreachable(home: Home) -> Unreachable:
    """What to say when nobody answers."""
    return Unreachable(f"no daemon answers at {home.root}", next=f"start one with: quarterdeckd --home {home.root}")


def new_request() -> str:
    """An id that no other request has."""
    return os.urandom(12).hex()


class Transport:
    """One connection of one caller; not for several threads at once."""

    def __init__(self, home: Home, caller: str) -> None:
        self.home = home
        self.seen = 0
        if not listened(home.ask_socket):  # before the keys: a daemon that starts makes them one by one
            raise unreachable(home)
        pair = load(home, caller)
        self._sockets = Sockets()
        self._socket: zmq.Socket[bytes] = self._sockets.keep(dealer(self._sockets.context, pair))
        self._monitor: zmq.Socket[bytes] = self._sockets.keep(
            self._socket.get_monitor_socket(zmq.EVENT_HANDSHAKE_FAILED_AUTH)
        )
        self._socket.setsockopt(zmq.RCVTIMEO, round(LOOK * 1000))
        self._socket.connect(home.ask_address)
        self._early: dict[str, Answer] = {}

    def send(self, message: Any, request: str) -> None:
        """Send a request; `receive` waits for its answer."""
        self._socket.send(framed(message, request, self.seen))

    def receive(self, request: str, timeout: float, again: Any = None) -> Answer:
        """The answer to a request. With `again` the message is sent again when none comes; raises `TimedOut`, or
        `Unreachable` when the daemon's socket is gone."""
        deadline = time.monotonic() + timeout
        resend = time.monotonic() + RETRY
        while request not in self._early:
            left = deadline - time.monotonic()
            if left <= 0:
                raise (
                    unreachable(self.home)
                    if not listened(self.home.ask_socket)
                    else TimedOut(f"no answer within {timeout:g} s; whether it was done is not known", field="timeout")
                )
            if left < LOOK and not self._socket.poll(round(left * 1000)):
                continue
            try:
                answer: Answer = decode(self._socket.recv(), Answer)
                self.seen = max(self.seen, answer.seq)
                self._early[answer.id] = answer
                continue
            except zmq.Again:
                pass
            self._check_refused()
            if again is not None and time.monotonic() >= resend:
                self.send(again, request)
                resend = time.monotonic() + RETRY
        return self._early.pop(request)

    def _check_refused(self) -> None:
        if self._monitor.poll(0):
            self._monitor.recv_multipart()
            raise Forbidden("the daemon does not know this key", field="as", next="an admin can add it: qd keys add")

    def ask(self, message: Any, kind: Any, timeout: float, request: str | None = None) -> Any:
        """Ask and wait: the answer decoded as `kind`, or the fault raised."""
        request = request or new_request()
        self.send(message, request)
        answer = self.receive(request, timeout, message)
        if answer.fault is not None:
            raise raised(answer.fault)
        return decode(answer.body, kind)

    def ask_all(self, asked: Sequence[tuple[str, Any]], timeout: float) -> list[Fault | None]:
        """Send several messages (request id, message) at once and wait for each; what each was refused with, `None`
        where it was not. The daemon takes them in this order."""
        for request, message in asked:
            self.send(message, request)
        answers = [self.receive(request, timeout, message) for request, message in asked]
        return [None if answer.fault is None else raised(answer.fault) for answer in answers]

    def close(self) -> None:
        """Let go of the sockets."""
        self._sockets.close()
