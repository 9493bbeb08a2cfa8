"""A running MLflow server, asked over its REST interface."""

from __future__ import annotations

import base64
import math
import os
import shutil
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from http.client import HTTPException
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from quarterdeck.mlflow import answers
from quarterdeck.mlflow.left import Left
from quarterdeck.mlflow.shapes import LARGEST, PROMPT, Experiment, Fetch, LoggedModel, Model, Point, Run, Version
from quarterstore.records.faults import Invalid, Unreachable, got
from quarterstore.records.logged_models import ModelStatus
from quarterstore.records.names import LONGEST_KEY, checked_path, checked_text
from quarterstore.records.runs import DatasetInput, ModelOutput

PAGE, SMALL_PAGE, LONG_PAGE = 1000, 100, 25_000
PATIENCE = 60.0
DEEPEST = 20
LARGEST_ANSWER = 256 * 1024 * 1024
MODEL_STATUS: dict[str, ModelStatus] = {"LOGGED_MODEL_READY": "READY", "LOGGED_MODEL_UPLOAD_FAILED": "FAILED"}
PROXY = "mlflow-artifacts:"
Answer = TypeVar("Answer")


class _Stay(urllib.request.HTTPRedirectHandler):
    """Follows nothing: a token is for the server that was named."""

    def redirect_request(self, *_: Any) -> None:
        return None


class Server:
    """`http://HOST:PORT`; `MLFLOW_TRACKING_TOKEN`, or `MLFLOW_TRACKING_USERNAME` and `_PASSWORD`, are sent as MLflow's
    own client does."""

    def __init__(self, url: str, left: Left) -> None:
        parts = urllib.parse.urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
            expected = (
                "a folder, or http://HOST:PORT (a name and a password go into MLFLOW_TRACKING_USERNAME, _PASSWORD)"
            )
            raise got("folder", parts.scheme if "@" in parts.netloc else url, expected)
        self._url = url.rstrip("/")
        self._left = left
        self._headers = _authorization()
        self._opener = urllib.request.build_opener(_Stay())

    def _open(self, route: str, asked: dict[str, Any] | None, *, body: bytes | None = None) -> Any:
        headers = dict(self._headers)
        if body is not None:
            headers["Content-Type"] = "application/json"
        query = f"?{urllib.parse.urlencode(asked)}" if asked else ""
        try:
            request = urllib.request.Request(f"{self._url}/{route}{query}", body, headers)
            return self._opener.open(request, timeout=PATIENCE)
        except urllib.error.HTTPError as error:
            told = error.read(300).decode(errors="replace")
            raise got("server", f"{error.code} for {route}: {' '.join(told.split())}", "200") from None
        except (OSError, ValueError, HTTPException) as error:
            raise Unreachable(f"{self._url}: {error}", field="server") from None

    def _ask(self, route: str, kind: type[Answer], asked: dict[str, Any], *, body: bool = False) -> Answer:
        told = msgspec.json.encode(asked) if body else None
        with self._open(f"api/2.0/mlflow/{route}", None if body else asked, body=told) as answer:
            try:
                data = answer.read(LARGEST_ANSWER + 1)
            except (OSError, HTTPException) as error:
                raise Unreachable(f"{self._url}: {error}", field="server") from None
        if len(data) > LARGEST_ANSWER:
            raise got("server", f"more for {route}", f"at most {LARGEST_ANSWER} bytes")
        try:
            return msgspec.json.decode(data, type=kind, strict=False)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise got("server", f"{route}: {error}", "JSON of MLflow") from None

    def _pages(
        self, route: str, kind: type[answers.Page], asked: dict[str, Any], *, body: bool = False
    ) -> Iterator[Any]:
        token = ""
        while True:
            page = self._ask(route, kind, {**asked, "page_token": token} if token else asked, body=body)
            yield from page.items()
            if not page.next_page_token:
                return
            if page.next_page_token == token:
                raise got("server", f"the same page of {route} again", "the next one")
            token = page.next_page_token

    def experiments(self) -> Iterator[Experiment]:
        """All of them, by number."""
        asked = {"view_type": "ALL", "max_results": PAGE}
        found = list(self._pages("experiments/search", answers.Experiments, asked, body=True))
        for each in sorted(found, key=lambda each: each.experiment_id.zfill(20)):
            removed = each.lifecycle_stage == "deleted"
            yield Experiment(each.experiment_id, each.name, _pairs(each.tags), removed, _seconds(each.creation_time))

    def runs(self, experiment: Experiment) -> Iterator[Run]:
        """The runs of one experiment, oldest first."""
        asked = {
            "experiment_ids": [experiment.id],
            "run_view_type": "ALL",
            "max_results": PAGE,
            "order_by": ["attributes.start_time ASC"],
        }
        for each in self._pages("runs/search", answers.Runs, asked, body=True):
            info = each.info
            yield Run(
                info.run_id,
                info.run_name,
                info.status,
                _seconds(info.start_time),
                _seconds(info.end_time),
                _pairs(each.data.params),
                _pairs(each.data.tags),
                info.lifecycle_stage == "deleted",
                info.artifact_uri,
                tuple(_dataset(given) for given in each.inputs.dataset_inputs),
                tuple(given.model_id for given in each.inputs.model_inputs),
                tuple(ModelOutput(model=made.model_id, step=made.step) for made in each.outputs.model_outputs),
            )

    def points(self, run: Run) -> Iterator[Point]:
        """Every point of every metric."""
        newest = self._ask("runs/get", answers.OneRun, {"run_id": run.id}).run.data.metrics
        for key in sorted({each.key for each in newest}):
            with self._left.over(f"metric of run {run.id} {key[:80]}"):
                checked_text("metric", key, longest=LONGEST_KEY)
                asked = {"run_id": run.id, "metric_key": key, "max_results": LONG_PAGE}
                for each in self._pages("metrics/get-history", answers.History, asked):
                    yield key, each.step, each.timestamp / 1000, _value(each.value)

    def files(self, holder: Run | LoggedModel) -> Iterator[tuple[str, Fetch]]:
        """The files of a run or a logged model; each is fetched when it is wanted."""
        if isinstance(holder, Run):
            route, asked, word = "artifacts/list", {"run_id": holder.id}, "path"
        else:
            route, asked = f"logged-models/{_quoted(holder.id)}/artifacts/directories", {}
            word = "artifact_directory_path"
        what = f"the artefacts of {'run' if isinstance(holder, Run) else 'logged model'} {holder.id}"
        with self._left.over(what):
            for path in self._listed(route, asked, word, "", DEEPEST):
                yield path, lambda room, path=path: self._fetched(holder, path, room)  # type: ignore[misc]

    def _listed(self, route: str, asked: dict[str, Any], word: str, path: str, deep: int) -> Iterator[str]:
        for each in self._ask(route, answers.Files, {**asked, **({word: path} if path else {})}).files:
            with self._left.over(f"artefact {each.path[:80]!r}"):
                if checked_path(each.path) == path or not each.path.startswith(f"{path}/" if path else ""):
                    raise got("path", each.path, f"one below {path}")
                if not each.is_dir:
                    yield each.path
                elif not deep:
                    raise got("path", each.path, f"at most {DEEPEST} folders")
                else:
                    yield from self._listed(route, asked, word, each.path, deep - 1)

    def _fetched(self, holder: Run | LoggedModel, path: str, room: Path) -> Path:
        asked: dict[str, Any] = {}
        if isinstance(holder, Run):
            route, asked = "get-artifact", {"run_uuid": holder.id, "path": path}
        elif holder.uri.startswith(PROXY):
            inside = urllib.parse.urlsplit(holder.uri).path.strip("/")
            route = f"api/2.0/mlflow-artifacts/artifacts/{_quoted(checked_path(inside))}/{_quoted(path)}"
        else:
            route = f"ajax-api/2.0/mlflow/logged-models/{_quoted(holder.id)}/artifacts/files"
            asked = {"artifact_file_path": path}
        target = room / "fetched"
        with self._open(route, asked) as answer, target.open("wb") as file:
            try:
                shutil.copyfileobj(answer, file, 1 << 20)
            except HTTPException as error:
                raise Unreachable(f"{self._url}: {error}", field="server") from None
            told = answer.headers.get("Content-Length")
            if told is not None and told.isdecimal() and int(told) != file.tell():
                raise Unreachable(f"{self._url}: got {file.tell()} of {told} bytes of {path}", field="server")
        return target

    def logged_models(self, experiment: Experiment) -> Iterator[LoggedModel]:
        """The logged models of one experiment; a server of before 3.0 has none."""
        if experiment.removed:
            return  # a server does not search removed experiments for them
        asked = {"experiment_ids": [experiment.id], "max_results": SMALL_PAGE}
        if not self._has_logged_models(asked):
            return
        for each in self._pages("logged-models/search", answers.LoggedModels, asked, body=True):
            info = each.info
            yield LoggedModel(
                info.model_id,
                info.name,
                MODEL_STATUS.get(info.status, "PENDING"),
                _seconds(info.creation_timestamp_ms),
                info.source_run_id or None,
                info.model_type,
                _pairs(each.data.params),
                _pairs(info.tags),
                False,
                info.artifact_uri,
            )

    def _has_logged_models(self, asked: dict[str, Any]) -> bool:
        try:
            self._open("api/2.0/mlflow/logged-models/search", None, body=msgspec.json.encode(asked)).close()
        except Invalid as fault:
            if "404" not in str(fault) and "405" not in str(fault):
                raise
            return False
        return True

    def models(self) -> Iterator[Model]:
        """Registered models by name."""
        found = self._pages("registered-models/search", answers.Models, {"max_results": PAGE})
        for each in sorted(found, key=lambda each: each.name):
            with self._left.over(f"model {each.name[:80]!r}"):
                tags = _pairs(each.tags)
                if tags.get(PROMPT) == "true":
                    raise got("model", "a prompt", "a model: prompts are not taken")
                aliases = {pair.alias: pair.version for pair in each.aliases}
                yield Model(each.name, each.description, tags, aliases, _seconds(each.creation_timestamp))

    def versions(self, model: Model) -> Iterator[Version]:
        """Versions by number."""
        if "'" in model.name:
            raise got("model", model.name, "a name without ', which a filter of MLflow cannot hold")
        asked = {"filter": f"name='{model.name}'", "max_results": PAGE}
        found = self._pages("model-versions/search", answers.Versions, asked)
        for each in sorted(found, key=lambda each: each.version):
            if each.name == model.name:
                yield Version(
                    each.version,
                    each.source,
                    each.run_id or None,
                    each.current_stage or "None",
                    each.description,
                    _pairs(each.tags),
                    _seconds(each.creation_timestamp),
                    each.user_id,
                )


def _authorization() -> dict[str, str]:
    if token := os.environ.get("MLFLOW_TRACKING_TOKEN"):
        return {"Authorization": f"Bearer {token}"}
    name, password = os.environ.get("MLFLOW_TRACKING_USERNAME"), os.environ.get("MLFLOW_TRACKING_PASSWORD")
    if name is None or password is None:
        return {}
    return {"Authorization": "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()}


def _quoted(text: str) -> str:
    return urllib.parse.quote(text)


def _dataset(given: answers.DatasetInput) -> DatasetInput:
    told = given.dataset
    return DatasetInput(
        name=told.name,
        digest=told.digest,
        source_type=told.source_type,
        source=told.source,
        schema=told.schema,
        profile=told.profile,
        tags=_pairs(given.tags),
    )


def _value(value: float) -> float:
    return math.copysign(math.inf, value) if abs(value) >= LARGEST else value


def _pairs(pairs: list[answers.Pair]) -> dict[str, str]:
    return {pair.key: pair.value for pair in pairs}


def _seconds(milliseconds: int | None) -> float | None:
    return milliseconds / 1000 if milliseconds else None
