"""One prediction: the arm that answers, its model run on the loop or in a thread, the answer recorded and counted."""

from __future__ import annotations

import asyncio
import difflib
import logging
import os
import time
from collections.abc import Awaitable, Callable
from itertools import count
from typing import Any

import msgspec
import numpy as np

from quarterdeckd.http.server import Request, Response, refusal
from quarterdeckd.serving import rest
from quarterdeckd.serving.features import features_of, scores_of
from quarterdeckd.serving.recorder import Frame, Recorder, kept, kept_key
from quarterdeckd.serving.router import Arm, Routes
from quarterdeckd.serving.status import BUSY, LOOP, Status
from quarterstore.records.faults import MEANINGS, Fault, NotFound, got, missing

log = logging.getLogger("quarterdeck.host")
INLINE = 0.002
"""Seconds: a run expected to be shorter is done on the loop; a thread would cost more than it (0.1 ms here)."""
LARGE = 64 * 1024
"""Bytes of a body from which on it is read, answered and recorded in a thread too (1 ms here)."""
RUN_WITHIN = 30.0
"""Seconds a model has to answer; a version that hangs must fail its canary, not hold it for ever."""


class Asked:
    """A request that was understood: what is asked of which arm."""

    __slots__ = ("arm", "began", "body", "feed", "given_up", "key", "names", "prediction", "rows")

    def __init__(
        self,
        body: rest.InferRequest,
        prediction: str,
        arm: Arm,
        feed: dict[str, Any],
        names: list[str],
        began: float,
        key: str | None = None,
    ) -> None:
        self.body = body
        self.key = key
        self.prediction = prediction
        self.arm = arm
        self.feed = feed
        self.names = names
        self.began = began
        self.rows = max((len(array) for array in feed.values() if array.ndim), default=1)
        self.given_up = False
        """The caller was told that it took too long; what a thread still finds out is nobody's answer."""


class Done:
    """An answer, and how it counts for its arm."""

    __slots__ = ("failed", "milliseconds", "response")

    def __init__(self, response: Response, milliseconds: float, failed: bool) -> None:
        self.response = response
        self.milliseconds = milliseconds
        self.failed = failed


class Inference:
    """Answers requests by the routes; `written` is called when something was recorded."""

    def __init__(self, routes: Routes, recorder: Recorder, status: Status, written: Callable[[], None]) -> None:
        self._routes = routes
        self._recorder = recorder
        self._status = status
        self._written = written
        self._prefix = f"p{time.time_ns() // 1_000_000:x}{os.getpid():x}-"
        self._numbers = count()

    def absent(self, endpoint: str) -> Response:
        """There is no such endpoint here."""
        near = difflib.get_close_matches(endpoint, list(self._routes.ways), n=3, cutoff=0.3)
        shown = endpoint[:100] if endpoint.isprintable() else "an unprintable name"
        return refusal(
            404, f"model: got {shown}, expected a known one" + (f"; nearest: {', '.join(near)}" if near else "")
        )

    def answer(self, request: Request, endpoint: str) -> Response | Awaitable[Response]:
        """Answer one request, at once where that is quick."""
        if endpoint not in self._routes.ways:
            return self.absent(endpoint)
        prediction = f"{self._prefix}{next(self._numbers):x}"
        if len(request.body) > LARGE:
            return self._answer_large(request, endpoint, prediction)
        asked = self._understood(request, endpoint, prediction)
        if isinstance(asked, Response):
            return asked
        if asked.arm.loaded.expected(asked.rows) > INLINE:
            return self._in_thread(asked)
        return self._counted(asked, self._done(asked, LOOP, 0))

    async def _answer_large(self, request: Request, endpoint: str, prediction: str) -> Response:
        asked = await asyncio.to_thread(self._read_large, request, endpoint, prediction)
        return asked if isinstance(asked, Response) else await self._in_thread(asked)

    def _read_large(self, request: Request, endpoint: str, prediction: str) -> Asked | Response:
        with self._status.entry() as entry:
            self._status.mark(entry, BUSY)
            return self._understood(request, endpoint, prediction)

    def _understood(self, request: Request, endpoint: str, prediction: str) -> Asked | Response:
        """The request as tensors for one arm, or what is wrong with it in words."""
        way = self._routes.ways.get(endpoint)
        if way is None:
            return self.absent(endpoint)
        try:
            body = rest.decode_request(request.body)
            key = sticky(request, body)
            arm = way.pick(key or prediction)
            feed = rest.feed_of(body, arm.loaded, arm.slot.signature)
            names = [output.name for output in body.outputs] or arm.loaded.names
            for name in names:
                if name not in arm.loaded.names:
                    raise missing("outputs.name", name, arm.loaded.names)
            return Asked(body, prediction, arm, feed, names, request.began, key)
        except Fault as fault:
            # 404 is for an endpoint; an unknown tensor is a bad request
            return refusal(400 if isinstance(fault, NotFound) else MEANINGS[type(fault)].http, fault.line())
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            return refusal(400, f"body: got JSON that is no inference request ({str(error)[:200]})")

    async def _in_thread(self, asked: Asked) -> Response:
        work = asyncio.get_running_loop().run_in_executor(asked.arm.loaded.threads, self._run_aside, asked)
        try:
            return self._counted(asked, await asyncio.wait_for(work, RUN_WITHIN))
        except TimeoutError:
            asked.given_up = True
            error = f"the model gave no answer within {RUN_WITHIN:g} s"
            return self._counted(asked, self._refused(asked, 504, error, {}))

    def _run_aside(self, asked: Asked) -> Done:
        with self._status.entry() as entry:
            return self._done(asked, entry, BUSY if asked.rows > 1 else 0)

    def _done(self, asked: Asked, entry: int, meanwhile: int) -> Done:
        """Run, record, then render: a prediction that was answered was written. The status entry holds `meanwhile`
        before and after the run."""
        found, error = self._run(asked, entry)
        self._status.mark(entry, meanwhile)
        try:
            outputs = dict(zip(asked.arm.loaded.names, found, strict=True)) if found else {}
            if error is not None:
                return self._refused(asked, 500, error, outputs)
            answer = rest.InferResponse(
                model_name=asked.arm.route.endpoint,
                model_version=asked.arm.slot.version,
                id=asked.body.id or asked.prediction,
                outputs=rest.outputs_of(asked.names, [outputs[name] for name in asked.names]),
            )
            return self._recorded(asked, Response(200, rest.encode_response(answer), _headers(asked)), outputs, None)
        finally:
            self._status.mark(entry, 0)

    def _run(self, asked: Asked, entry: int) -> tuple[list[Any], str | None]:
        """Run the model, its slot's number in the status file meanwhile: who crashes is named by it."""
        arm, loaded = asked.arm, asked.arm.loaded
        self._status.mark(entry, arm.number)
        began = time.perf_counter()
        try:
            found = loaded.run(asked.feed)
        except Exception as error:
            log.warning("%s: %s", arm.slot.version, " ".join(str(error).split())[:300])
            return [], "the model raised an error on this input"
        loaded.took(asked.rows, time.perf_counter() - began)
        for array in found:
            if array.dtype.kind == "f" and not np.isfinite(array).all():
                return [], "the model's answer is not finite"
        return found, None

    def _refused(self, asked: Asked, status: int, error: str, outputs: dict[str, Any]) -> Done:
        body = msgspec.json.encode({"error": error, "id": asked.prediction})
        return self._recorded(asked, Response(status, body, _headers(asked)), outputs, error)

    def _recorded(self, asked: Asked, response: Response, outputs: dict[str, Any], error: str | None) -> Done:
        milliseconds = (time.perf_counter() - asked.began) * 1000
        if not asked.given_up or response.status == 504:
            self._recorder.write(_frame(asked, response.status, milliseconds, outputs, error))
        return Done(response, milliseconds, error is not None)

    def _counted(self, asked: Asked, done: Done) -> Response:
        """Count an answer; on the loop only, the counts have no lock."""
        asked.arm.count(done.milliseconds, done.failed)
        self._written()
        return done.response


def sticky(request: Request, body: rest.InferRequest) -> str | None:
    """What keeps a caller on one arm: the header `quarterdeck-key`, else the parameter `key`. Never the request's `id`:
    a client that sends the same one each time would put all its traffic on one arm."""
    header = request.headers.get(b"quarterdeck-key")
    if header:
        return header.decode("latin-1")
    key = body.parameters.get("key")
    if key is None or key == "":
        return None
    if isinstance(key, bool) or not isinstance(key, str | int | float):
        raise got("parameters.key", type(key).__name__, "a text or a number")
    return str(key)


def _headers(asked: Asked) -> bytes:
    slot = asked.arm.slot
    return (
        f"quarterdeck-version: {slot.version}\r\nquarterdeck-epoch: {asked.arm.route.epoch}\r\n"
        f"quarterdeck-prediction: {asked.prediction}\r\nquarterdeck-arm: {slot.role}\r\n"
    ).encode("latin-1", "replace")


def _frame(asked: Asked, status: int, milliseconds: float, outputs: dict[str, Any], error: str | None) -> Frame:
    arm = asked.arm
    signature = arm.slot.signature
    label = outputs.get(signature.label or "")
    score = outputs.get(signature.score or "")
    if label is None and score is None and outputs:
        label = next(iter(outputs.values()))
    return Frame(
        asked.prediction,
        time.time(),
        arm.route.endpoint,
        arm.slot.version,
        arm.slot.role,
        arm.route.epoch,
        status,
        milliseconds,
        kept(arm.route.recording, features_of(arm, asked.feed)),
        label.reshape(len(label), -1)[:, 0].tolist() if label is not None and label.ndim else [],
        scores_of(score if score is not None else label),
        error,
        kept_key(arm.route.recording, asked.key),
    )
