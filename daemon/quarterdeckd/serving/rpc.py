"""The Open Inference Protocol over gRPC: its six calls on the host's own loop, by the same way as REST."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NoReturn

import grpc
from google.protobuf.message import DecodeError

from quarterdeckd.http.server import LIMITS
from quarterdeckd.serving import rest
from quarterdeckd.serving.bodies import checked_key
from quarterdeckd.serving.inference import Inference, Question, Stamp
from quarterdeckd.serving.protocol import MESSAGES, SERVICE, ModelInferRequest, ModelInferResponse
from quarterdeckd.serving.router import Arm, Routes
from quarterdeckd.serving.session import name_of
from quarterdeckd.serving.tensors import Given, feed_of, flat, label, packed
from quarterdeckd.serving.web import SERVER
from quarterstore.records.faults import MEANINGS, Failed, Fault, NotFound, Overloaded, got

log = logging.getLogger("quarterdeck.host")
CONTENTS = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}
"""The typed list of each datatype; FP16 has none and is raw."""
OPTIONS = [
    ("grpc.so_reuseport", 1),  # every host of a home answers on the same port
    ("grpc.max_receive_message_length", LIMITS.body),
    ("grpc.max_send_message_length", -1),
]


class Infer:
    """One ModelInfer request; its answer is the message's bytes, or the fault."""

    def __init__(self, data: bytes, metadata: Mapping[str, str | bytes]) -> None:
        self.endpoint = ""
        self._data = data
        self._metadata = metadata
        self._message: Any

    def read(self) -> Question:
        """What is asked; raises `Invalid`."""
        message = self._message = _parsed(ModelInferRequest, self._data)
        self.endpoint = message.model_name
        if "keys" in message.parameters:
            raise got("parameters.keys", "keys over gRPC", "tensors, or keys over REST (/v1/predict, /v2)")
        given = _given(message)
        key = self._metadata.get("quarterdeck-key") or _parameter(message.parameters, "key")
        return Question(
            lambda loaded, signature: feed_of(given, loaded, signature),
            [output.name for output in message.outputs],
            checked_key(key, "parameters.key"),
            message.model_version,
        )

    def answered(self, stamp: Stamp, outputs: dict[str, Any]) -> bytes | Refusal:
        """Raw tensors to a request that had some, typed lists to one that had those; FP16 is raw always."""
        answer = ModelInferResponse(
            model_name=stamp.endpoint, model_version=stamp.version, id=self._message.id or stamp.prediction
        )
        answer.parameters["prediction"].string_param = stamp.prediction
        answer.parameters["epoch"].int64_param = stamp.epoch
        answer.parameters["arm"].string_param = stamp.arm
        names = {name: name_of(array) for name, array in outputs.items()}
        raw = bool(self._message.raw_input_contents) or "FP16" in names.values()
        for name, array in outputs.items():
            tensor = answer.outputs.add(name=name, datatype=names[name], shape=array.shape)
            if raw:
                answer.raw_output_contents.append(packed(array))
            else:
                values = flat(array)
                if names[name] == "BYTES":
                    values = [value.encode() for value in values]
                getattr(tensor.contents, CONTENTS[names[name]]).extend(values)
        data: bytes = answer.SerializeToString()
        return data

    def refused(self, fault: Fault, stamp: Stamp | None) -> bytes | Refusal:
        """The fault, to end the call with."""
        return Refusal(fault, stamp)


class Refusal(Exception):
    """A call that ends with a status, and the version that failed, if one did."""

    def __init__(self, fault: Fault, stamp: Stamp | None = None) -> None:
        super().__init__(fault.line())
        self.fault = fault
        self.stamp = stamp


def _parsed(kind: Any, data: bytes) -> Any:
    try:
        return kind.FromString(data)
    except DecodeError as error:
        raise got("message", f"{len(data)} bytes that are none", f"a {kind.DESCRIPTOR.name}") from error


def _parameter(parameters: Any, name: str) -> Any:
    if name not in parameters:
        return None
    chosen = parameters[name].WhichOneof("parameter_choice")
    return getattr(parameters[name], chosen) if chosen else None


def _given(message: Any) -> list[Given]:
    """The tensors with their data; raises `Invalid`."""
    raw = message.raw_input_contents
    if raw and len(raw) != len(message.inputs):
        raise got("raw_input_contents", f"{len(raw)} of them", f"{len(message.inputs)}, one an input")
    found = []
    for number, each in enumerate(message.inputs):
        if each.parameters:
            rest.refuse_elsewhere(label("inputs", number, each.name), each.parameters)
        if raw and not (each.HasField("contents") and each.contents.ListFields()):
            found.append(Given(each.name, each.datatype, each.shape, raw[number]))
        else:
            found.append(Given(each.name, each.datatype, each.shape, _typed(each, number, bool(raw))))
    return found


def _typed(tensor: Any, number: int, raw: bool) -> list[Any]:
    """The one typed list of a tensor, that of its datatype; raises `Invalid`."""
    field = f"{label('inputs', number, tensor.name)}.contents"
    names = [which.name for which, _ in tensor.contents.ListFields()]
    if raw:
        raise got(field, f"{', '.join(names)} beside raw_input_contents", "one of the two")
    wanted = CONTENTS.get(tensor.datatype, "raw_input_contents")
    if names != [wanted]:
        raise got(field, ", ".join(names) or "none", f"{wanted} for {tensor.datatype}")
    return list(getattr(tensor.contents, wanted))


class Rpc:
    """A gRPC server of one host; several hosts listen on one port, and the kernel deals the connections."""

    def __init__(self, routes: Routes, inference: Inference, ready: Callable[[], bool], routed: asyncio.Event) -> None:
        self._routed = routed
        """Calls wait for it: a host that is replaced answers no NOT_FOUND meanwhile."""
        self._routes = routes
        self._inference = inference
        self._ready = ready
        self._server: Any
        self._running: set[asyncio.Future[Any]] = set()

    async def start(self, address: str) -> None:
        """Answer at HOST:PORT; raises `RuntimeError` where that cannot be had."""
        self._server = grpc.aio.server(options=OPTIONS)
        calls = {
            "ServerLive": self._said(lambda asked: {"live": True}),
            "ServerReady": self._said(lambda asked: {"ready": self._ready()}),
            "ModelReady": self._said(self._model_ready),
            "ServerMetadata": self._said(lambda asked: SERVER),
            "ModelMetadata": self._said(self._metadata),
            "ModelInfer": self._infer,
        }
        handlers = {name: grpc.unary_unary_rpc_method_handler(self._called(name, call)) for name, call in calls.items()}
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
        self._server.add_insecure_port(address)
        await self._server.start()

    async def stop(self, grace: float) -> None:
        """Take no more calls, and give those that run so many seconds."""
        await self._server.stop(grace)

    def _called(self, name: str, call: Call) -> Callable[[bytes, Any], Awaitable[bytes]]:
        """A call whose faults are statuses; an error of our own goes to the log under a number, that to the caller."""

        async def handled(data: bytes, context: Any) -> bytes:
            if not self._routed.is_set():
                await self._routed.wait()
            try:
                return await call(name, data, context)
            except Refusal as refusal:
                await _end(context, refusal.fault, refusal.stamp)
            except Fault as fault:
                await _end(context, fault, None)
            except Exception as error:
                number = secrets.token_hex(6)
                log.error("%s", number, exc_info=error)
                await _end(context, Failed(f"the request met an error of our own, logged as {number}"), None)

        return handled

    def _said(self, say: Callable[[Any], Mapping[str, Any]]) -> Call:
        async def call(name: str, data: bytes, context: Any) -> bytes:
            asked = _parsed(MESSAGES[f"{name}Request"], data)
            answer: bytes = MESSAGES[f"{name}Response"](**say(asked)).SerializeToString()
            return answer

        return call

    def _model_ready(self, asked: Any) -> dict[str, bool]:
        try:
            self._arm(asked)
        except (NotFound, Overloaded):
            return {"ready": False}
        return {"ready": True}

    def _metadata(self, asked: Any) -> dict[str, Any]:
        return rest.metadata(self._arm(asked), self._routes.way(asked.name).versions)

    def _arm(self, asked: Any) -> Arm:
        way = self._routes.way(asked.name)
        return way.named(asked.version) if asked.version else way.arms[0]

    async def _infer(self, name: str, data: bytes, context: Any) -> bytes:
        door = Infer(data, dict(context.invocation_metadata() or ()))
        answer = self._inference.answer(door, len(data), time.perf_counter())
        if not isinstance(answer, bytes | Refusal):
            # a caller that gives up ends its call, not what runs for it: a version that hangs is counted as one
            running = asyncio.ensure_future(answer)
            self._running.add(running)
            running.add_done_callback(self._running.discard)
            answer = await asyncio.shield(running)
        if isinstance(answer, Refusal):
            raise answer
        return answer


Call = Callable[[str, bytes, Any], Awaitable[bytes]]


async def _end(context: Any, fault: Fault, stamp: Stamp | None) -> NoReturn:
    about = stamp._asdict() if stamp is not None else {}
    trailing = tuple(
        (f"quarterdeck-{name}", str(value).encode("ascii", "backslashreplace").decode())
        for name, value in about.items()
        if name != "endpoint"
    )
    if isinstance(fault, Overloaded):
        # gRFC A6: a client with a retry policy waits that long
        trailing = (*trailing, ("grpc-retry-pushback-ms", str(fault.after * 1000)))
    code = getattr(grpc.StatusCode, MEANINGS[type(fault)].grpc)
    await context.abort(code, fault.line(), trailing)
    raise AssertionError("a call goes on after its end")
