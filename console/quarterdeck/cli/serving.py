"""`qd serving`: the launcher asked directly, so that serving can be looked at and stopped without the daemon."""

from __future__ import annotations

import os
import select
import time
from urllib.parse import quote

import zmq

from quarterdeck.cli.context import Context
from quarterdeck.cli.printing import lines, plain, table
from quarterdeck.cli.waiting import to_the_end
from quarterdeck.transport import Sockets
from quarterstore.records.base import Record
from quarterstore.records.deployments import (
    BatchingRule,
    Deploy,
    Deployment,
    ListDeployments,
    SetBatching,
    ShowServing,
    StopServing,
)
from quarterstore.records.faults import Fault, TimedOut, Unreachable
from quarterstore.records.hosts import AskServing
from quarterstore.records.places import Home, listened
from quarterstore.records.registry import ShowVersion, Version
from quarterstore.records.serving import HostState, ServingState
from quarterstore.records.wire import decode, encode

LOOK = 200
"""Milliseconds of silence after which to see whether the launcher is still there."""
NOTHING = ServingState(launcher=None, address=None, epoch=0, hosts=())


def ask_launcher(home: Home, what: str, timeout: float) -> ServingState:
    """What the launcher says of itself and its hosts; nothing when none runs, or when it ends before it answers."""
    if not listened(home.serving_socket):
        return NOTHING
    sockets = Sockets()
    socket: zmq.Socket[bytes] = sockets.keep(sockets.context.socket(zmq.DEALER))
    try:
        socket.connect(home.serving_address)
        socket.send_multipart([b"ask", encode(AskServing(what=what))])  # type: ignore[arg-type]
        deadline = time.monotonic() + min(timeout, 5.0)
        while time.monotonic() < deadline:
            if not socket.poll(LOOK):
                if not listened(home.serving_socket):
                    return NOTHING
                continue
            kind, payload = socket.recv_multipart()
            if kind == b"state":
                state: ServingState = decode(payload, ServingState)
                return state
        raise Unreachable("the serving launcher does not answer", field="serving")
    finally:
        sockets.close()


def show(context: Context, state: ServingState) -> None:
    """The serving side for a person: what is known, then a row a host; nothing runs is said as that."""
    if context.json:
        context.out(state)
        return
    if state.launcher is None:
        context.say(f"nothing is served at {context.place().root}; qd serving start, or qd serve VERSION")
        return
    fields = {name: value for name, value in plain(state).items() if name not in ("hosts", "least", "most", "wanted")}
    number = f"{state.wanted} wanted, {state.least} to {state.most} by load"
    lines({**fields, "epoch": _epoch(state.epoch), "hosts": number if state.least < state.most else str(state.least)})
    columns = ("pid", "state", "epoch", "started", "requests", "shed", "busy", "waiting")
    table([{**plain(host), "state": _doing(host), "epoch": _epoch(host.epoch)} for host in state.hosts], columns)


def _epoch(number: int) -> str:
    return "-" if number < 0 else str(number)


def _doing(host: HostState) -> str:
    return "draining" if host.leaving else "ready" if host.ready else "starting"


class Served(Record, frozen=True):
    """A version that answers: where, over the Open Inference Protocol (`infer`, `grpc`) and in rows by name
    (`predict`)."""

    version: str
    endpoint: str
    epoch: int
    infer: str
    predict: str
    grpc: str | None


def served(context: Context, version: str, endpoint: str | None, batching: BatchingRule | None = None) -> Served:
    """Deploy a version unless it is live there already; returns once the hosts answer by it, with these batches where
    they are given."""
    client = context.client
    wanted: Version = client.ask(ShowVersion(version=version))
    place = endpoint or wanted.model
    live = [each for each in client.ask(ListDeployments()) if each.endpoint == place and each.live == wanted.id]
    asked: Deployment
    if not live:
        asked = client.ask(
            Deploy(version=wanted.id, endpoint=endpoint, environment=wanted.environment, batching=batching)
        )
    elif batching is not None and batching != live[0].batching:
        asked = client.ask(SetBatching(endpoint=place, batching=batching))
    else:
        asked = live[0]
    found: Deployment = to_the_end(context, asked)
    state = client.ask(ShowServing())
    return Served(
        version=wanted.id,
        endpoint=found.endpoint,
        epoch=found.epoch,
        infer=f"{state.address}/v2/models/{quote(found.endpoint)}/infer",
        predict=f"{state.address}/v1/predict/{quote(found.endpoint)}",
        grpc=state.grpc,
    )


def stop_serving(context: Context) -> ServingState:
    """Tell the daemon, so that it does not start serving again, and the launcher; returns when that has ended."""
    try:
        context.client.ask(StopServing())
    except Fault as fault:
        context.say(f"the daemon was not told ({fault.line()}); it serves again when it starts")
    told = ask_launcher(context.place(), "stop", context.timeout)
    if told.launcher is not None:
        _ended(told.launcher, context.timeout)
    return NOTHING


def start_serving(context: Context) -> ServingState:
    """Take back `stop_serving`; returns once the hosts answer, at once where nothing is deployed."""
    context.client.ask(StopServing(resume=True))
    deadline = time.monotonic() + context.timeout
    wanted = [each.epoch for each in context.client.ask(ListDeployments()) if each.live is not None]
    state: ServingState = context.client.ask(ShowServing())
    # what the daemon last heard before it was stopped has an epoch too, and no hosts
    while wanted and not (any(host.ready for host in state.hosts) and state.epoch >= max(wanted)):
        if time.monotonic() > deadline:
            raise TimedOut(f"the hosts do not answer after {context.timeout:g} s", field="serving")
        time.sleep(LOOK / 1000)
        state = context.client.ask(ShowServing())
    return state


def _ended(pid: int, timeout: float) -> None:
    """Wait for a process that is not our child."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        if not select.select([descriptor], [], [], timeout)[0]:
            raise Unreachable(f"the serving launcher {pid} did not end within {timeout:g} s", field="serving")
    finally:
        os.close(descriptor)
