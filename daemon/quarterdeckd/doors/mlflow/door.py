"""The door itself: it listens, knows who asks, finds what was asked for, and says what was wrong in MLflow's words."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import msgspec

from quarterdeckd.api.dispatch import Dispatch
from quarterdeckd.doors.mlflow import (
    artifacts,
    experiments,
    files,
    histories,
    logged_models,
    promptlab,
    registry,
    runs,
    versions,
)
from quarterdeckd.doors.mlflow.caller import Caller, Newest, speaker_at
from quarterdeckd.doors.mlflow.errors import MlflowError, answered, invalid
from quarterdeckd.http.listening import LOOPBACK, Listening, is_loopback
from quarterdeckd.http.server import Limits, Request, Response
from quarterstore.records.faults import Fault
from quarterstore.shelf.artefacts import Artefacts

log = logging.getLogger(__name__)
VERSION = "3.17.2"
"""The MLflow whose REST this is."""
BODY = 16 * 1024**3
"""Bytes of one request; an artefact comes as one, into a file."""
JSON = 64 * 1024 * 1024
"""Bytes of a request that is read whole."""
SLOW = 600.0
PREFIXES = tuple(f"/{api}/{version}/mlflow" for api in ("api", "ajax-api") for version in ("2.0", "3.0"))
PROXIED = ("/api/2.0/mlflow-artifacts", "/ajax-api/2.0/mlflow-artifacts")
UNSUPPORTED = {
    "mpu/create": "Multipart upload",
    "mpu/complete": "Multipart upload",
    "mpu/abort": "Multipart upload",
    "presigned": "Multipart download",
    "presigned-upload-url": "Presigned upload",
    "presigned-download-url": "Presigned download",
}
"""What MLflow's own server refuses where it keeps the files itself; its clients then send a file as one."""
LISTS = ("order_by", "stages", "experiment_ids", "run_ids")
Handle = Callable[[Caller, dict[str, Any]], Awaitable[dict[str, Any]]]

ROUTES: dict[tuple[str, str], Handle] = {
    ("POST", "experiments/create"): experiments.create,
    ("POST", "experiments/search"): experiments.search,
    ("POST", "experiments/update"): experiments.update,
    ("POST", "experiments/delete"): experiments.delete,
    ("POST", "experiments/restore"): experiments.restore,
    ("POST", "experiments/set-experiment-tag"): experiments.set_tag,
    ("POST", "experiments/delete-experiment-tag"): experiments.delete_tag,
    ("POST", "runs/create"): runs.create,
    ("POST", "runs/update"): runs.update,
    ("POST", "runs/delete"): runs.delete,
    ("POST", "runs/restore"): runs.restore,
    ("POST", "runs/search"): runs.search,
    ("POST", "runs/log-metric"): runs.log_metric,
    ("POST", "runs/log-parameter"): runs.log_parameter,
    ("POST", "runs/log-batch"): runs.log_batch,
    ("POST", "runs/log-model"): runs.log_model,
    ("POST", "runs/log-inputs"): runs.log_inputs,
    ("POST", "runs/outputs"): runs.log_outputs,
    ("POST", "runs/set-tag"): runs.set_tag,
    ("POST", "runs/delete-tag"): runs.delete_tag,
    ("GET", "experiments/get"): experiments.get,
    ("GET", "experiments/get-by-name"): experiments.get_by_name,
    ("GET", "experiments/search"): experiments.search,
    ("GET", "runs/get"): runs.get,
    ("GET", "metrics/get-history"): histories.of_run,
    ("GET", "metrics/get-history-bulk"): histories.of_many,
    ("GET", "metrics/get-history-bulk-interval"): histories.drawn,
    ("POST", "experiments/search-datasets"): experiments.datasets,
    **registry.ROUTES,
    **versions.ROUTES,
}


class Door:
    """Answers MLflow's clients at one address until it is closed."""

    def __init__(self, dispatch: Dispatch, kept: Artefacts, newest: Newest, owner: str) -> None:
        self._dispatch = dispatch
        self._newest = newest
        self._owner = owner
        self._store = artifacts.Store(kept)
        self._incoming = kept.incoming
        self._routes: dict[tuple[str, str], Handle] = {
            **ROUTES,
            ("GET", "artifacts/list"): self._store.of_run,
            ("POST", "runs/create-promptlab-run"): promptlab.Creator(self._store.keep).create,
        }
        self._graph: Any = None
        self._listening = Listening()
        self._hosts: frozenset[str] = frozenset()

    async def open(self, host: str, port: int) -> int:
        """Listen; answers the port. A name that is not this machine's own needs a token from everybody."""
        names = {*LOOPBACK, host.lower()}
        self._hosts = frozenset(names)
        self._open_to_all = not is_loopback(host)
        limits = Limits(body=BODY, slow=SLOW, hosts=self._hosts, spool=self._incoming, admit=self._admit)
        return await self._listening.open("mlflow", (host, port), self.handle, limits)

    async def close(self) -> None:
        """Answer what was asked, take no more."""
        self._listening.close()

    async def handle(self, request: Request) -> Response:
        """One request."""
        try:
            if request.path in ("/health", "/ping"):
                return Response(200, b"OK", kind=b"text/plain")
            if request.path == "/version":
                return Response(200, VERSION.encode(), kind=b"text/plain")
            self._same_origin(request.headers)
            return await self._routed(self._caller(request.headers), request)
        except (MlflowError, Fault) as error:
            return answered(error)

    def _same_origin(self, headers: dict[bytes, bytes]) -> None:
        """A page of another address in somebody's browser may not speak here."""
        origin = headers.get(b"origin", b"").decode("latin-1")
        if origin and (urlsplit(origin).hostname or "") not in {name.strip("[]") for name in self._hosts}:
            raise MlflowError("PERMISSION_DENIED", f"origin: got {origin[:200]}, expected this address")

    def _caller(self, headers: dict[bytes, bytes]) -> Caller:
        authorization = headers.get(b"authorization", b"").decode("latin-1")
        profile = "team" if self._open_to_all else self._dispatch.profile
        speaker = speaker_at(self._dispatch.view, authorization, profile, self._owner)
        if speaker.job is not None or not speaker.roles:
            raise MlflowError("PERMISSION_DENIED", f"{speaker.person} has no role here that may read")
        return Caller(self._dispatch, speaker, self._newest)

    def _admit(self, headers: dict[bytes, bytes]) -> Response | None:
        """Nobody fills the disk who may not speak."""
        try:
            self._same_origin(headers)
            self._caller(headers)
        except (MlflowError, Fault) as error:
            return answered(error)
        return None

    async def _routed(self, caller: Caller, request: Request) -> Response:
        for start in PROXIED:
            if request.path == start or request.path.startswith(start + "/"):
                return await self._proxied(caller, request, request.path[len(start) + 1 :])
        path = re.sub("^/+", "/", request.path)
        if path in ("/get-artifact", "/ajax-api/2.0/mlflow/get-artifact"):
            given = _query(request)
            inside = files.checked(str(given.get("path", "")))
            return await self._store.file(caller.run(given), inside)
        if path in ("/model-versions/get-artifact", "/ajax-api/2.0/mlflow/model-versions/get-artifact"):
            given = _query(request)
            inside = files.checked(str(given.get("path", "")))
            return await self._store.of_source(
                caller, (await versions.download_uri(caller, given))["artifact_uri"], inside
            )
        if path == "/ajax-api/2.0/mlflow/upload-artifact" and request.method == "POST":
            return await self._store.uploaded(caller, _query(request), request)
        if path == "/graphql":
            if self._graph is None:
                self._graph = await asyncio.to_thread(self._make_graph)
            return _json(await self._graph.answer(caller, _body(request)))
        for start in PREFIXES:
            if request.path.startswith(start + "/"):
                return await self._asked(caller, request, request.path[len(start) + 1 :])
        raise MlflowError("ENDPOINT_NOT_FOUND", f"no route {request.method} {request.path[:200]}")

    def _make_graph(self) -> Any:
        """In a thread, and not before somebody asks: graphql-core takes 0.3 s to read."""
        from quarterdeckd.doors.mlflow.graph import Graph

        return Graph(self._store.of_run)

    async def _asked(self, caller: Caller, request: Request, route: str) -> Response:
        if request.method in ("POST", "PUT"):
            _check_kind(request)
        given = _query(request) if request.method == "GET" else _body(request)
        if given.get("experiment_id") == "0":
            await experiments.with_default(caller)
        noun, _, rest = route.rstrip("/").partition("/")
        if noun == "logged-models":
            parts = [unquote(part) for part in rest.split("/")] if rest else []
            if request.method == "GET" and parts[1:] == ["artifacts", "files"]:
                return await self._store.of_model(caller, parts[0], given)
            return _json(await logged_models.answer(caller, request.method, parts, given))
        if noun == "artifacts" and rest in UNSUPPORTED:
            raise _unsupported(rest)
        handle = self._routes.get((request.method, route.rstrip("/")))
        if handle is None:
            raise MlflowError("ENDPOINT_NOT_FOUND", f"no route {request.method} {request.path[:200]}")
        return _json(await handle(caller, given))

    async def _proxied(self, caller: Caller, request: Request, path: str) -> Response:
        for route in ("mpu/create", "mpu/complete", "mpu/abort", "presigned"):
            if path.startswith(route + "/"):
                files.checked(path[len(route) + 1 :])
                raise _unsupported(route)
        if path != "artifacts" and not path.startswith("artifacts/"):
            raise MlflowError("ENDPOINT_NOT_FOUND", f"no route {request.method} {request.path[:200]}")
        path = path.removeprefix("artifacts").removeprefix("/")
        if request.method == "PUT":
            return await self._store.put(caller, path, request)
        if request.method == "DELETE":
            return await self._store.delete(caller, path)
        if request.method != "GET":
            raise MlflowError("ENDPOINT_NOT_FOUND", f"no route {request.method} {request.path[:200]}")
        if path:
            return await self._store.get(caller, path)
        return _json(await self._store.listed(caller, _query(request)))


def _unsupported(route: str) -> MlflowError:
    return MlflowError("NOT_IMPLEMENTED", f"{UNSUPPORTED[route]} is not supported for the current artifact repository")


def _json(told: dict[str, Any]) -> Response:
    return Response(200, msgspec.json.encode(told))


def _query(request: Request) -> dict[str, Any]:
    """The query; a name that comes several times is a list, one of `LISTS` always."""
    found = parse_qs(request.query, keep_blank_values=True)
    return {name: values if len(values) > 1 or name in LISTS else values[0] for name, values in found.items()}


def _check_kind(request: Request) -> None:
    """JSON only: what a page of another address may send unasked is a form or a plain text."""
    kind = request.headers.get(b"content-type", b"").decode("latin-1")
    if not kind:
        raise invalid("Bad Request. Content-Type header is missing.")
    if kind.partition(";")[0].strip().lower() != "application/json":
        raise invalid("Bad Request. Content-Type must be one of ['application/json'].")


def _body(request: Request) -> dict[str, Any]:
    """The JSON object of a body; an empty one is empty. Old clients send it as a text of JSON."""
    body = request.body
    if request.spooled is not None:
        if request.spooled.size > JSON:
            raise MlflowError("BAD_REQUEST", f"the body has {request.spooled.size} bytes, expected at most {JSON}")
        body = request.spooled.path.read_bytes()
    if not body:
        return {}
    try:
        given = msgspec.json.decode(body)
        given = msgspec.json.decode(given) if isinstance(given, str) else given
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MlflowError("BAD_REQUEST", f"the body is no JSON: {error}") from error
    if not isinstance(given, dict):
        raise invalid("the body is no JSON object")
    return given
