"""Messages answered as the REST door answers the same body: by the live version of an endpoint, or by one version."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable
from pathlib import Path

import msgspec
from msgspec import UNSET, UnsetType
from msgspec.structs import replace

from quarterdeckd.http.server import Request, Response
from quarterdeckd.serving import last_routes, status
from quarterdeckd.serving.copies import Copies
from quarterdeckd.serving.inference import Inference, Keeper
from quarterdeckd.serving.load import Single
from quarterdeckd.serving.plain import Predict
from quarterdeckd.serving.recorder import Frame, Recorder
from quarterdeckd.serving.rest import Infer
from quarterdeckd.serving.router import Routes
from quarterstore.records.deployments import BatchingRule, Route, RoutingTable, Slot
from quarterstore.records.faults import Fault
from quarterstore.records.places import Home
from quarterstore.records.registry import Signature
from quarterstore.records.streams import StreamSpec


class Kind(msgspec.Struct):
    """Which of the two bodies it is: that of Open Inference has `inputs`."""

    inputs: msgspec.Raw | UnsetType = UNSET


_kind = msgspec.json.Decoder(Kind)


class Unrecorded:
    """A version that is named has no endpoint, and so no rule that says what may be kept: nothing is."""

    def write(self, frame: Frame) -> bool:
        """Keep nothing."""
        return True


def live_only(table: RoutingTable, endpoint: str) -> RoutingTable:
    """The route of one endpoint with its live version alone. What is on trial there is judged by the requests that the
    hosts count; a stream's are not among them, so none of them goes to it. No batches: one message is answered at a
    time, so there is none to be run with it."""
    routes = []
    for route in table.routes:
        live = next((slot for slot in route.slots if slot.role == "live"), None)
        if route.endpoint == endpoint and live is not None:
            routes.append(replace(route, slots=(replace(live, share=100),), weights=(), batching=BatchingRule()))
    return replace(table, routes=tuple(routes))


def fixed(spec: StreamSpec) -> RoutingTable:
    """A table for one version that is no endpoint's."""
    slot = Slot(spec.version, spec.model, spec.digest, spec.signature or Signature((), ()), 100, "live")
    return RoutingTable(epoch=0, routes=(Route(endpoint=spec.endpoint, epoch=0, slots=(slot,), salt=""),))


class Answering:
    """One stream's model. `follow` and `tend` belong to a thread beside the one that answers."""

    def __init__(self, spec: StreamSpec, home: Home, copies: Copies) -> None:
        self._spec, self._home = spec, home
        self.routes = Routes(home.pushed)
        self._recorder = None if spec.version else Recorder(home.serving / "predictions", os.getpid())
        self._seen: tuple[int, int] | None = None
        self.why = ""
        """Why the newest routes could not be taken, if so."""
        marks = Path("status").absolute()
        status.fresh(marks)
        keeper: Keeper = self._recorder or Unrecorded()
        self._inference = Inference(self.routes, keeper, status.Status(marks), copies, lambda: None, Single())
        self._loop = asyncio.new_event_loop()
        self.follow()

    @property
    def ready(self) -> bool:
        """Whether a version answers."""
        return self._spec.endpoint in self.routes.ways

    def follow(self) -> None:
        """Take the newest routes, if they are others than before; a version that cannot be loaded leaves the one before
        it in place."""
        changed = self._changed()
        if changed is None:
            return
        table = (
            fixed(self._spec) if self._spec.version else live_only(last_routes.kept(self._home), self._spec.endpoint)
        )
        if self._recorder is not None:
            self._recorder.limit(table.waiting)
        self.why = ""
        for slot in self.routes.lacking(table):
            try:
                self.routes.hold(self.routes.load(slot))
            except Fault as fault:
                self.why = f"{slot.version} could not be loaded: {fault.line()}"
        self.routes.swap(table)
        self._seen = changed

    def _changed(self) -> tuple[int, int] | None:
        """What tells the routes of now from those taken last, None where nothing does."""
        if self._spec.version:
            return None if self._seen else (1, 1)
        try:
            found = (self._home.serving / "routes.json").stat()
        except FileNotFoundError:
            return None
        now = (found.st_mtime_ns, found.st_ino)
        return now if now != self._seen else None

    def answer(self, body: bytes) -> Response:
        """One body, answered; what is wrong with it is the answer too."""
        began = time.perf_counter()
        door = self._door(Request("POST", "", {}, body, began))
        found = self._inference.answer(door, len(body), began)
        # the loop only for what takes long: 50 us a message, where a small one takes 160
        return found if isinstance(found, Response) else self._loop.run_until_complete(_awaited(found))

    def _door(self, request: Request) -> Infer | Predict:
        try:
            inputs = _kind.decode(request.body).inputs
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            inputs = UNSET  # the door says what is wrong
        return Predict(request, self._spec.endpoint) if inputs is UNSET else Infer(request, self._spec.endpoint)

    def tend(self) -> None:
        """Bring to the disk what was recorded."""
        if self._recorder is not None:
            self._recorder.tend()


async def _awaited(found: Awaitable[Response]) -> Response:
    return await found
