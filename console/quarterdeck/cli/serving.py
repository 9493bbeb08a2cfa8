"""`qd serving`: the launcher asked directly, so that serving can be looked at and stopped without the daemon."""

from __future__ import annotations

from typing import Any

import zmq

from quarterdeck.cli.context import Context
from quarterdeck.transport import listened
from quarterstore.records.deployments import AskServing, ServingState, StopServing
from quarterstore.records.faults import Fault, Unreachable
from quarterstore.records.places import Home
from quarterstore.records.wire import decode, encode

NOTHING = ServingState(launcher=None, address=None, epoch=0, hosts=())


def ask_launcher(home: Home, what: str, timeout: float) -> ServingState:
    """What the launcher says of itself and its hosts; nothing when none runs."""
    if not listened(home.serving_socket):
        return NOTHING
    context: zmq.Context[Any] = zmq.Context()
    socket: zmq.Socket[bytes] = context.socket(zmq.DEALER)
    socket.setsockopt(zmq.LINGER, 0)
    try:
        socket.connect(home.serving_address)
        socket.send_multipart([b"ask", encode(AskServing(what=what))])  # type: ignore[arg-type]
        while socket.poll(round(min(timeout, 5.0) * 1000)):
            kind, payload = socket.recv_multipart()
            if kind == b"state":
                state: ServingState = decode(payload, ServingState)
                return state
        raise Unreachable("the serving launcher does not answer", field="serving")
    finally:
        socket.close(0)
        context.term()


def stop_serving(context: Context) -> ServingState:
    """Tell the daemon, so that it does not start serving again; without one, tell the launcher."""
    try:
        context.client.ask(StopServing())
    except Fault as fault:
        context.say(f"the daemon was not told ({fault.line()}); it serves again when it starts")
    ask_launcher(context.place(), "stop", context.timeout)
    return NOTHING
