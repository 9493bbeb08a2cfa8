"""Artefacts at the MLflow door: `mlflow-artifacts:` paths are `<experiment>/<run>/artifacts/<path>`, or
`<experiment>/models/<logged model>/artifacts/<path>`."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import uuid
from typing import Any

from quarterdeckd.doors.mlflow.caller import Caller, text
from quarterdeckd.doors.mlflow.errors import MlflowError, absent, invalid
from quarterdeckd.doors.mlflow.files import attachment, below, checked, kind
from quarterdeckd.doors.mlflow.logged_models import model_of
from quarterdeckd.http.server import Request, Response
from quarterstore.records.faults import Conflict
from quarterstore.records.logged_models import LoggedModel, LogModelArtefact
from quarterstore.records.runs import EndRun, LogArtefact, RemoveArtefact, Run, StartRun
from quarterstore.shelf.artefacts import Artefacts

LARGEST_UPLOADED = 10 * 1024 * 1024
"""Bytes of a file that a page sends; mlflow.server.handlers, 3.17."""
LOOSE = uuid.uuid5(uuid.NAMESPACE_URL, "mlflow-artifacts:/").hex
"""The run of the files that were put outside of every run: clients may put a file anywhere."""


def _holder(caller: Caller, path: str) -> tuple[Run | LoggedModel | None, str]:
    """The run or the logged model of a proxied path, and the path inside it; nobody's where the path names neither."""
    path = checked(path.rstrip("/"))
    parts = path.split("/")
    if len(parts) > 3 and parts[1] == "models" and parts[3] == "artifacts":
        return model_of(caller, parts[2]), "/".join(parts[4:])
    if len(parts) > 2 and parts[2] == "artifacts":
        return caller.run({"run_id": parts[1]}), "/".join(parts[3:])
    return caller.view.runs.get(LOOSE), path


async def _with_loose(caller: Caller) -> Run:
    """The run that keeps what is put outside of every run."""
    if (found := caller.view.runs.get(LOOSE)) is not None:
        return found
    try:
        await caller.ask(StartRun(experiment="mlflow-artifacts", run=LOOSE, name="files of no run", beats=False))
        await caller.ask(EndRun(run=LOOSE))
    except Conflict:
        pass  # another request was quicker
    return caller.view.runs[LOOSE]


class Store:
    """Files of runs and logged models: put, read, listed and taken off."""

    def __init__(self, artefacts: Artefacts) -> None:
        self._artefacts = artefacts

    async def put(self, caller: Caller, path: str, request: Request) -> Response:
        """PUT of one file."""
        holder, inside = _holder(caller, path)
        if not inside:
            raise invalid("Invalid path: no file is named")
        await self._kept(caller, holder or await _with_loose(caller), inside, request)
        return Response(200, b"{}")

    async def uploaded(self, caller: Caller, given: dict[str, Any], request: Request) -> Response:
        """`upload-artifact`: one file of a run, as a browser sends it."""
        for name, value in (("run_uuid", given.get("run_uuid")), ("path", given.get("path"))):
            if not value:
                raise invalid(f"Request must specify {name}.")
        inside = checked(str(given["path"]))
        if (request.spooled.size if request.spooled else len(request.body)) > LARGEST_UPLOADED:
            raise invalid("Artifact size is too large. Max size is 10MB.")
        if not request.body and request.spooled is None:
            raise invalid("Request must specify data.")
        await self._kept(caller, caller.run(given, active=True), inside, request)
        return Response(200, b"{}")

    async def of_source(self, caller: Caller, source: str, inside: str) -> Response:
        """A file of the run or the logged model that a version was made of; other sources are never opened."""
        scheme, _, rest = source.partition(":")
        name, _, start = rest.lstrip("/").partition("/")
        path = "/".join(filter(None, (start, inside)))
        if scheme == "mlflow-artifacts" and not rest.startswith("//"):
            holder, inside = _holder(caller, "/".join(filter(None, (rest.strip("/"), inside))))
            return await self.file(holder, inside)
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

    async def _kept(self, caller: Caller, holder: Run | LoggedModel, inside: str, request: Request) -> None:
        loop, spooled, body = asyncio.get_running_loop(), request.spooled, request.body
        if spooled is not None:
            upload, size, digest = spooled.path.name, spooled.size, spooled.digest
            await loop.run_in_executor(None, self._artefacts.receive, upload, size, b"", digest)
        else:
            upload, size, digest = secrets.token_hex(12), len(body), hashlib.sha256(body).hexdigest()
            await loop.run_in_executor(None, self._artefacts.receive, upload, 0, body, digest)
        if isinstance(holder, LoggedModel):
            await caller.ask(LogModelArtefact(model=holder.id, path=inside, digest=digest, size=size))
        else:
            await caller.ask(LogArtefact(run=holder.id, path=inside, digest=digest, size=size))

    async def keep(self, caller: Caller, run: str, path: str, body: bytes) -> None:
        """A file of a run that the door itself writes."""
        await self._kept(caller, caller.run({"run_id": run}), path, Request("PUT", "", {}, body, 0.0))

    async def get(self, caller: Caller, path: str) -> Response:
        """GET of one file."""
        return await self.file(*_holder(caller, path))

    async def file(self, holder: Run | LoggedModel | None, inside: str) -> Response:
        """One file of a run or a logged model, checked against its hash before the first byte is sent."""
        found = next((each for each in holder.artefacts if each.path == inside), None) if holder else None
        if found is None:
            if holder is not None and below(holder.artefacts, inside):
                raise invalid(f"Artifact path refers to a directory, not a file: '{inside[:200]}'")
            raise absent(f"No such artifact: {inside[:200]}")
        path = await asyncio.get_running_loop().run_in_executor(None, self._artefacts.checked, found.digest)
        quiet = f"x-content-type-options: nosniff\r\ncontent-disposition: {attachment(inside)}\r\n"
        return Response(200, b"", quiet.encode("ascii"), kind(inside).encode(), path, found.size)

    async def delete(self, caller: Caller, path: str) -> Response:
        """DELETE of a run's file, or of all below a path; what is not there is gone already."""
        holder, inside = _holder(caller, path)
        if holder is None:
            return Response(200, b"{}")
        if isinstance(holder, LoggedModel):
            raise invalid("the files of a logged model go with it: delete the logged model")
        for each in holder.artefacts:
            if not inside or each.path == inside or each.path.startswith(f"{inside}/"):
                await caller.ask(RemoveArtefact(run=holder.id, path=each.path))
        return Response(200, b"{}")

    async def listed(self, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
        """GET of a proxied folder: names relative to it."""
        holder, inside = _holder(caller, text(given, "path", ""))
        found = below(holder.artefacts, inside) if holder else []
        return {"files": [{**each, "path": each["path"].rpartition("/")[2]} for each in found]}

    async def of_run(self, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
        """`artifacts/list`: names relative to the run."""
        run = caller.run(given)
        known = caller.view.experiments.get(run.experiment)
        root = f"mlflow-artifacts:/{known.id if known else ''}/{run.id}/artifacts"
        return {"root_uri": root, "files": below(run.artefacts, text(given, "path", ""))}
