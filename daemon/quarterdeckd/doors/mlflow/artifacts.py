"""Artefacts at the MLflow door: `mlflow-artifacts:` paths are `<experiment>/<run>/artifacts/<path>`, or
`<experiment>/models/<logged model>/artifacts/<path>`."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from typing import Any

from quarterdeckd.doors.mlflow.caller import Caller, text
from quarterdeckd.doors.mlflow.errors import MlflowError, absent, invalid
from quarterdeckd.doors.mlflow.files import attachment, below, checked, kind
from quarterdeckd.doors.mlflow.logged_models import model_of
from quarterdeckd.http.server import Response
from quarterstore.records.logged_models import LoggedModel, LogModelArtefact
from quarterstore.records.runs import Artefact, LogArtefact, RemoveArtefact, Run
from quarterstore.shelf.artefacts import Artefacts

CHUNK = 4 * 1024 * 1024


def _holder(caller: Caller, path: str) -> tuple[Run | LoggedModel, str]:
    """The run or the logged model of a proxied path, and the path inside it."""
    parts = checked(path.strip("/")).split("/")
    if len(parts) > 3 and parts[1] == "models" and parts[3] == "artifacts":
        return model_of(caller, parts[2]), "/".join(parts[4:])
    if len(parts) < 3 or parts[2] != "artifacts":
        raise invalid(f"Invalid path: {path[:200]}, expected <experiment>/<run>/artifacts/<path>")
    return caller.run({"run_id": parts[1]}), "/".join(parts[3:])


class Store:
    """Files of runs and logged models: put, read, listed and taken off."""

    def __init__(self, artefacts: Artefacts) -> None:
        self._artefacts = artefacts

    async def put(self, caller: Caller, path: str, body: bytes) -> Response:
        """PUT of one file."""
        holder, inside = _holder(caller, path)
        if not inside:
            raise invalid("Invalid path: no file is named")
        await self._kept(caller, holder, inside, body)
        return Response(200, b"{}")

    async def uploaded(self, caller: Caller, given: dict[str, Any], body: bytes) -> Response:
        """`upload-artifact`: one file of a run, as a browser sends it."""
        for name, value in (("run_uuid", given.get("run_uuid")), ("path", given.get("path"))):
            if not value:
                raise invalid(f"Request must specify {name}.")
        inside = checked(str(given["path"]))
        if not body:
            raise invalid("Request must specify data.")
        await self._kept(caller, caller.run(given, active=True), inside, body)
        return Response(200, b"{}")

    async def of_source(self, caller: Caller, source: str, inside: str) -> Response:
        """A file of the run or the logged model that a version was made of; other sources are never opened."""
        scheme, _, rest = source.partition(":")
        name, _, start = rest.lstrip("/").partition("/")
        path = "/".join(filter(None, (start, inside)))
        if scheme == "runs":
            return await self.file(caller.run({"run_id": name}), checked(path))
        if scheme == "models":
            return await self.file(model_of(caller, name), checked(path))
        raise absent(f"No such artifact: {inside[:200]} of {source[:200]}, which is not kept here")

    async def of_model(self, caller: Caller, model: str, given: dict[str, Any]) -> Response:
        """A file of a logged model."""
        if not given.get("artifact_file_path"):
            raise MlflowError("BAD_REQUEST", 'Request must include the "artifact_file_path" query parameter.')
        return await self.file(model_of(caller, model), checked(text(given, "artifact_file_path")))

    async def _kept(self, caller: Caller, holder: Run | LoggedModel, inside: str, body: bytes) -> None:
        digest = hashlib.sha256(body).hexdigest()
        upload = secrets.token_hex(12)
        await asyncio.get_running_loop().run_in_executor(None, self._artefacts.receive, upload, 0, body, digest)
        if isinstance(holder, LoggedModel):
            await caller.ask(LogModelArtefact(model=holder.id, path=inside, digest=digest, size=len(body)))
        else:
            await caller.ask(LogArtefact(run=holder.id, path=inside, digest=digest, size=len(body)))

    async def get(self, caller: Caller, path: str) -> Response:
        """GET of one file."""
        return await self.file(*_holder(caller, path))

    async def file(self, holder: Run | LoggedModel, inside: str) -> Response:
        """One file of a run or a logged model, checked against its hash."""
        found = next((each for each in holder.artefacts if each.path == inside), None)
        if found is None:
            raise absent(f"No such artifact: {inside[:200]}")
        body = await asyncio.get_running_loop().run_in_executor(None, self._read, found)
        quiet = f"x-content-type-options: nosniff\r\ncontent-disposition: {attachment(inside)}\r\n"
        return Response(200, body, quiet.encode("ascii"), kind(inside).encode())

    def _read(self, found: Artefact) -> bytes:
        self._artefacts.checked(found.digest)
        chunks, size = [], 0
        while size < found.size:
            data, _ = self._artefacts.read(found.digest, size, CHUNK)
            chunks.append(data)
            size += len(data)
        return b"".join(chunks)

    async def delete(self, caller: Caller, path: str) -> Response:
        """DELETE of a run's file, or of all below a path."""
        holder, inside = _holder(caller, path)
        if isinstance(holder, LoggedModel):
            raise invalid("the files of a logged model go with it: delete the logged model")
        for name in [inside] if inside else [each.path for each in holder.artefacts]:
            await caller.ask(RemoveArtefact(run=holder.id, path=name))
        return Response(200, b"{}")

    async def listed(self, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
        """GET of a proxied folder: names relative to it."""
        holder, inside = _holder(caller, text(given, "path"))
        return {
            "files": [{**each, "path": each["path"].rpartition("/")[2]} for each in below(holder.artefacts, inside)]
        }

    async def of_run(self, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
        """`artifacts/list`: names relative to the run."""
        run = caller.run(given)
        known = caller.view.experiments.get(run.experiment)
        root = f"mlflow-artifacts:/{known.id if known else ''}/{run.id}/artifacts"
        return {"root_uri": root, "files": below(run.artefacts, text(given, "path", ""))}
