"""A serving host: one process that answers predictions by the routes it was given, records them and counts."""

from __future__ import annotations

import asyncio
import ctypes
import difflib
import logging
import math
import mmap
import os
import signal
import socket
import sys
import time
from collections.abc import Awaitable
from itertools import count
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import uvloop
import zmq
import zmq.asyncio

from quarterdeckd.http.server import Protocol, Request, Response, refusal
from quarterdeckd.measures import latency
from quarterdeckd.serving import rest
from quarterdeckd.serving.recorder import SYNC_EVERY, Frame, Recorder, kept
from quarterdeckd.serving.router import Arm, Routes
from quarterdeckd.serving.session import Loaded
from quarterstore.records.deployments import HostNews, LatencySummary, RoutingTable
from quarterstore.records.faults import MEANINGS, Fault, got, missing
from quarterstore.records.places import Home
from quarterstore.records.wire import decode, encode

log = logging.getLogger("quarterdeck.host")
DRAIN = 5.0
"""Seconds that requests have to end in when the host is told to stop."""
INLINE = 0.002
"""Seconds: a model whose mean is below this runs on the loop; a thread would cost more than it (0.1 ms here)."""


class Host:
    """Answers requests; told its routes by the launcher."""

    def __init__(self, home: Home, listener: socket.socket, status: mmap.mmap) -> None:
        self._home = home
        self._listener = listener
        self._status = status
        self.routes = Routes()
        self._recorder = Recorder(home.serving / "predictions", os.getpid())
        self._connections: set[Protocol] = set()
        self._prefix = f"p{time.time_ns() // 1_000_000:x}{os.getpid():x}-"
        self._numbers = count()
        self._dropped_told = 0
        self._stopping = asyncio.Event()
        self._routed = asyncio.Event()

    def handle(self, request: Request) -> Response | Awaitable[Response]:
        """One request, by its path."""
        parts = request.path.strip("/").split("/")
        if len(parts) == 4 and parts[:2] == ["v2", "models"] and parts[3] == "infer":
            if request.method != "POST":
                return refusal(405, f"got {request.method}, expected POST")
            return self._infer(request, parts[2])
        if request.method != "GET":
            return refusal(405, f"got {request.method}, expected GET")
        return self._look(parts)

    def _look(self, parts: list[str]) -> Response:
        if parts == ["v2"]:
            body: dict[str, Any] = {"name": "quarterdeck", "version": "0.1.0", "extensions": []}
            return Response(200, msgspec.json.encode(body))
        if parts in (["v2", "health", "live"], ["v2", "health", "ready"]):
            good = parts[2] == "live" or self.routes.whole
            return Response(200 if good else 503, msgspec.json.encode({parts[2]: good}))
        if len(parts) in (3, 4) and parts[:2] == ["v2", "models"]:
            way = self.routes.ways.get(parts[2])
            if way is None:
                return self._absent(parts[2])
            live = way.arms[0]
            if len(parts) == 3:
                return Response(200, msgspec.json.encode(rest.metadata(parts[2], live.slot.version, live.loaded)))
            if parts[3] == "ready":
                return Response(200, msgspec.json.encode({"name": parts[2], "ready": True}))
        return refusal(404, "got an unknown path, expected one of the Open Inference Protocol v2")

    def _absent(self, endpoint: str) -> Response:
        near = difflib.get_close_matches(endpoint, list(self.routes.ways), n=3, cutoff=0.3)
        shown = endpoint[:100] if endpoint.isprintable() else "an unprintable name"
        return refusal(
            404, f"model: got {shown}, expected a known one" + (f"; nearest: {', '.join(near)}" if near else "")
        )

    def _infer(self, request: Request, endpoint: str) -> Response | Awaitable[Response]:
        way = self.routes.ways.get(endpoint)
        if way is None:
            return self._absent(endpoint)
        prediction = f"{self._prefix}{next(self._numbers):x}"
        try:
            asked = rest.decode_request(request.body)
            arm = way.pick(sticky(request, asked) or prediction)
            feed = rest.feed_of(asked, arm.loaded)
            names = [output.name for output in asked.outputs] or arm.loaded.names
            for name in names:
                if name not in arm.loaded.names:
                    raise missing("outputs.name", name, arm.loaded.names)
        except Fault as fault:
            return refusal(MEANINGS[type(fault)].http if type(fault).__name__ != "NotFound" else 400, fault.line())
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            return refusal(400, f"body: got JSON that is no inference request ({str(error)[:200]})")
        if arm.loaded.mean > INLINE:
            return self._in_thread(request, asked, prediction, arm, feed)
        return self._finish(request, asked, prediction, arm, feed, *self._run(arm, feed))

    async def _in_thread(
        self, request: Request, asked: rest.InferRequest, prediction: str, arm: Arm, feed: dict[str, Any]
    ) -> Response:
        found, error = await asyncio.to_thread(self._run, arm, feed)
        return self._finish(request, asked, prediction, arm, feed, found, error)

    def _run(self, arm: Arm, feed: dict[str, Any]) -> tuple[list[Any], str | None]:
        """Run the model, its slot's number in the status byte meanwhile: who crashes is named by it."""
        self._status[0] = arm.number & 0xFF
        began = time.perf_counter()
        try:
            found = arm.loaded.run(feed)
        except Exception as error:
            log.warning("%s: %s", arm.slot.version, " ".join(str(error).split())[:300])
            return [], "the model raised an error on this input"
        finally:
            self._status[0] = 0
        loaded = arm.loaded
        loaded.mean += (time.perf_counter() - began - loaded.mean) * 0.1
        for array in found:
            if array.dtype.kind == "f" and not np.isfinite(array).all():
                return found, "the model's answer is not finite"
        return found, None

    def _finish(
        self,
        request: Request,
        asked: rest.InferRequest,
        prediction: str,
        arm: Arm,
        feed: dict[str, Any],
        found: list[Any],
        error: str | None,
    ) -> Response:
        """Count, record, then answer: a prediction that was answered was written."""
        slot, route = arm.slot, arm.route
        headers = (
            f"quarterdeck-version: {slot.version}\r\nquarterdeck-epoch: {route.epoch}\r\n"
            f"quarterdeck-prediction: {prediction}\r\nquarterdeck-arm: {slot.role}\r\n"
        ).encode("latin-1", "replace")
        names = arm.loaded.names
        outputs = dict(zip(names, found, strict=True)) if error is None else {}
        if error is None:
            wanted = [output.name for output in asked.outputs] or names
            answer = rest.InferResponse(
                model_name=route.endpoint,
                model_version=slot.version,
                id=asked.id or prediction,
                outputs=rest.outputs_of(wanted, [outputs[name] for name in wanted]),
            )
            response = Response(200, rest.encode_response(answer), headers)
        else:
            response = Response(500, msgspec.json.encode({"error": error, "id": prediction}), headers)
        milliseconds = (time.perf_counter() - request.began) * 1000
        arm.count(milliseconds, error is not None)
        self._record(prediction, arm, feed, outputs, response.status, milliseconds, error)
        return response

    def _record(
        self,
        prediction: str,
        arm: Arm,
        feed: dict[str, Any],
        outputs: dict[str, Any],
        status: int,
        milliseconds: float,
        error: str | None,
    ) -> None:
        signature = arm.slot.signature
        label = outputs.get(signature.label or "")
        score = outputs.get(signature.score or "")
        if label is None and score is None and outputs:
            label = next(iter(outputs.values()))
        self._recorder.write(
            Frame(
                prediction,
                time.time(),
                arm.route.endpoint,
                arm.slot.version,
                arm.slot.role,
                arm.route.epoch,
                status,
                milliseconds,
                kept(arm.route.recording, features_of(arm, feed)),
                label.reshape(len(label), -1)[:, 0].tolist() if label is not None and label.ndim else [],
                _scores(score if score is not None else label),
                error,
            )
        )

    async def serve(self, control: Any) -> None:
        """Answer until told to stop: drain, close the segment, leave."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._stop)
        tasks = [asyncio.create_task(each) for each in (self._obey(control), self._tell(control), self._tend())]
        await control.send_multipart([b"hello", str(os.getpid()).encode()])
        for task in tasks:
            task.add_done_callback(self._ended)
        # callers wait in the listener's queue until there are routes: a host that is replaced answers no 404 meanwhile
        await self._routed.wait()
        server = await loop.create_server(lambda: Protocol(self.handle, self._connections), sock=self._listener)
        await self._stopping.wait()
        server.close()
        for connection in list(self._connections):
            connection.drain()
        deadline = loop.time() + DRAIN
        while any(connection.busy for connection in self._connections) and loop.time() < deadline:
            await asyncio.sleep(0.005)
        for task in tasks:
            task.cancel()
        self._recorder.tend(close=True)

    def _ended(self, task: asyncio.Task[None]) -> None:
        """A part of the host that ended by an error takes the host with it; the launcher starts another."""
        if not task.cancelled() and (error := task.exception()) is not None:
            log.critical("the host gives up", exc_info=error)
            self._stop()

    def _stop(self) -> None:
        self._stopping.set()
        self._routed.set()

    async def _obey(self, control: Any) -> None:
        while True:
            kind, payload = await control.recv_multipart()
            if kind != b"routes":
                continue
            table = decode(payload, RoutingTable)
            lacking = self.routes.lacking(table)
            loaded: dict[str, Loaded] = {}
            lost: list[str] = []
            if lacking:
                await control.send_multipart([b"loading", str(table.epoch).encode()])
                loaded, lost = await asyncio.to_thread(self.routes.load, lacking)
            self.routes.swap(table, loaded)
            self._routed.set()
            for words in lost:
                log.error("epoch %d: %s", table.epoch, words)
            slots = [
                f"{each.route.endpoint}\n{each.slot.version}" for way in self.routes.ways.values() for each in way.arms
            ]
            acknowledged = str(table.epoch if not lost else -1).encode()
            await control.send_multipart([b"ack", acknowledged, "; ".join(lost).encode(), encode(slots)])

    async def _tell(self, control: Any) -> None:
        while True:
            await asyncio.sleep(1.0)
            for way in list(self.routes.ways.values()):
                counts = {each.slot.version: each.counts() for each in way.arms}
                for each in way.arms:
                    news = HostNews(
                        kind="latency",
                        latency=_summary(each),
                        counts=counts,
                        endpoint=way.route.endpoint,
                        version=each.slot.version,
                        epoch=way.route.epoch,
                    )
                    await control.send_multipart([b"news", encode(news)])
            if self._recorder.dropped != self._dropped_told:
                self._dropped_told = self._recorder.dropped
                news = HostNews(kind="dropped", dropped=self._dropped_told, detail=self._recorder.why)
                await control.send_multipart([b"news", encode(news)])

    async def _tend(self) -> None:
        while True:
            await asyncio.sleep(SYNC_EVERY)
            try:
                await asyncio.to_thread(self._recorder.tend)
            except OSError as error:
                log.error("the predictions could not be synced: %s", error.strerror)


def sticky(request: Request, asked: rest.InferRequest) -> str | None:
    """What keeps a caller on one arm: the header `quarterdeck-key`, else the parameter `key`. Never the request's `id`:
    a client that sends the same one each time would put all its traffic on one arm."""
    header = request.headers.get(b"quarterdeck-key")
    if header:
        return header.decode("latin-1")
    key = asked.parameters.get("key")
    if key is None or key == "":
        return None
    if isinstance(key, bool) or not isinstance(key, str | int | float):
        raise got("parameters.key", type(key).__name__, "a text or a number")
    return str(key)


def features_of(arm: Arm, feed: dict[str, Any]) -> dict[str, list[Any]]:
    """The values of each feature, a row each, as the signature names them; the tensors' own columns without one."""
    features = arm.slot.signature.features
    if features:
        found = {name: _rows(array).T.tolist() for name, array in feed.items()}
        texts = {name for name, array in feed.items() if array.dtype.kind == "O"}
        return {
            each.name: [_plain(value) for value in found[each.input][each.index]]
            if each.input in texts
            else found[each.input][each.index]
            for each in features
        }
    unnamed: dict[str, list[Any]] = {}
    for name, array in feed.items():
        table = _rows(array)
        for index in range(min(table.shape[1], 64)):
            unnamed[f"{name}_{index}" if table.shape[1] > 1 else name] = [
                _plain(value) for value in table[:, index].tolist()
            ]
    return unnamed


def _rows(array: Any) -> Any:
    """An array as rows and columns; a scalar is one row."""
    return array.reshape(len(array) if array.ndim else 1, -1)


def _plain(value: Any) -> Any:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def _scores(array: Any) -> list[float]:
    """One number a row: the highest score, or the value itself."""
    if array is None or not array.ndim or array.dtype.kind not in "fiu":
        return []
    table = array.reshape(len(array), -1)
    return [
        float(value)
        for value in (table.max(axis=1) if table.shape[1] > 1 else table[:, 0]).tolist()
        if math.isfinite(value)
    ]


def _summary(arm: Arm) -> LatencySummary:
    recent, errors = arm.recent, arm.recent_errors
    arm.recent, arm.recent_errors = latency.empty(), 0
    total = latency.total(recent)
    return LatencySummary(
        endpoint=arm.route.endpoint,
        version=arm.slot.version,
        role=arm.slot.role,
        epoch=arm.route.epoch,
        at=time.time(),
        requests=total,
        errors=errors,
        p50=latency.percentile(recent, 50) if total else None,
        p95=latency.percentile(recent, 95) if total else None,
        p99=latency.percentile(recent, 99) if total else None,
        total_requests=arm.requests,
        total_errors=arm.errors,
    )


def main(argv: list[str]) -> int:
    """`python -m quarterdeckd.serving.host HOME LISTENER_FD STATUS_FILE CONTROL_ADDRESS`, started by the launcher."""
    logging.basicConfig(stream=sys.stderr, level="INFO", format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    # a host without its launcher would hold the port and know no routes but its last
    ctypes.CDLL(None, use_errno=True).prctl(1, signal.SIGTERM)
    if os.getppid() == 1:
        return 1
    home = Home(Path(argv[1]))
    listener = socket.socket(fileno=int(argv[2]))
    with open(argv[3], "r+b") as file:
        status = mmap.mmap(file.fileno(), 1)

    async def run() -> None:
        context = zmq.asyncio.Context()
        control: Any = context.socket(zmq.DEALER)
        control.setsockopt(zmq.LINGER, 200)
        control.connect(argv[4])
        await Host(home, listener, status).serve(control)
        control.close()
        context.term()

    uvloop.run(run())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
