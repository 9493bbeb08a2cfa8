"""The paths of the serving port: Open Inference v2 and the plain door; no verb of management is among them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import lru_cache
from importlib.metadata import version
from typing import Any
from urllib.parse import unquote

import msgspec

from quarterdeckd.http.server import Request, Response, refusal
from quarterdeckd.serving import bodies, plain, rest
from quarterdeckd.serving.inference import Inference
from quarterdeckd.serving.router import Routes, Way
from quarterstore.records.faults import Fault

SERVER = {"name": "quarterdeck", "version": version("quarterdeck"), "extensions": ["binary_tensor_data"]}
Answer = Response | Awaitable[Response]


class FeaturesRequest(msgspec.Struct, forbid_unknown_fields=True):
    """The body of `POST /v1/features/VIEW`: the keys of an entity each; all features unless some are named."""

    keys: list[dict[str, Any]]
    features: list[str] = []


_features = msgspec.json.Decoder(FeaturesRequest)


@lru_cache(256)
def _parts(path: str) -> tuple[str, ...]:
    return tuple(unquote(part) for part in path.strip("/").split("/"))


class Web:
    """Answers each request by its path; `ready` says whether everything is served as it was told."""

    def __init__(self, routes: Routes, inference: Inference, ready: Callable[[], bool]) -> None:
        self._routes = routes
        self._inference = inference
        self._ready = ready

    def handle(self, request: Request) -> Answer:
        """One request; a path in another method than its own is 405, an unknown one 404."""
        parts = _parts(request.path)
        post = self._posted(request, parts)
        wanted = "GET" if post is None else "POST"
        if request.method != wanted:
            return refusal(405, f"method: got {request.method}, expected {wanted}")
        try:
            return post() if post is not None else self._looked(parts)
        except Fault as fault:
            return bodies.refused(fault)

    def _posted(self, request: Request, parts: Sequence[str]) -> Callable[[], Answer] | None:
        size, began = len(request.body), request.began
        match parts:
            case ["v2", "models", endpoint, "infer"]:
                return lambda: self._inference.answer(rest.Infer(request, endpoint), size, began)
            case ["v2", "models", endpoint, "versions", wanted, "infer"]:
                return lambda: self._inference.answer(rest.Infer(request, endpoint, wanted), size, began)
            case ["v1", "predict", endpoint]:
                return lambda: self._inference.answer(plain.Predict(request, endpoint), size, began)
            case ["v1", "features", view]:
                return lambda: self._features(request, view)
            case ["v2", "repository", "index"]:
                return self._index
        return None

    def _looked(self, parts: Sequence[str]) -> Response:
        match parts:
            case ["v2"]:
                return _json(SERVER)
            case ["v2", "health", "live"]:
                return _json({"live": True})
            case ["v2", "health", "ready"]:
                ready = self._ready()
                return _json({"ready": ready}, 200 if ready else 503)
            case ["v2", "models", endpoint, *rest_of_it]:
                return self._model(self._routes.way(endpoint), rest_of_it)
        return refusal(
            404,
            "path: got an unknown one, "
            "expected one of the Open Inference Protocol v2, /v1/predict/NAME or /v1/features/VIEW",
        )

    def _model(self, way: Way, parts: list[str]) -> Response:
        arm = way.arms[0]
        if len(parts) >= 2 and parts[0] == "versions":
            arm, parts = way.named(parts[1]), parts[2:]
        if not parts:
            return _json(rest.metadata(arm, way.versions))
        if parts == ["ready"]:
            return _json({"name": way.route.endpoint, "ready": True})
        return refusal(404, f"path: got {'/'.join(parts)[:100]}, expected ready or infer")

    def _features(self, request: Request, view: str) -> Response:
        """What is read online of some entities."""
        bodies.refuse_encoded(request)
        form = '{"keys": [{"NAME": VALUE, ...}, ...], "features": [NAME, ...]}'
        body = bodies.decoded(request.body, FeaturesRequest, _features, "request for features", form)
        return _json(self._routes.views.answer(view, body.keys, body.features))

    def _index(self) -> Response:
        """What is served, as Triton's clients list it."""
        return _json(
            [
                {"name": name, "version": each, "state": "READY", "reason": ""}
                for name, way in self._routes.ways.items()
                for each in way.versions
            ]
        )


def _json(body: Any, status: int = 200) -> Response:
    return Response(status, msgspec.json.encode(body))
