"""`qd deploy MODEL --for kserve -o DIR`: the files, and what to do with them."""

from __future__ import annotations

from pathlib import Path

from quarterdeck import kserve
from quarterdeck.cli.context import Context
from quarterstore.records.faults import Conflict, Refused
from quarterstore.records.registry import ShowVersion


def written(context: Context, version: str, endpoint: str | None, out: Path, storage_uri: str | None) -> None:
    """Write the manifest and the model repository of a Production version into an empty folder."""
    found = context.client.ask(ShowVersion(version=version))
    if found.stage != "Production":
        raise Refused(
            f"{found.id} is in {found.stage}, expected Production",
            field="version",
            next=f"qd promote {found.id} Production",
        )
    name = kserve.service_name(endpoint or found.model)
    uri = storage_uri or f"{kserve.STORAGE}/{name}"
    manifest, config = kserve.inference_service(found, name, uri), kserve.config(found, name)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise Conflict(f"{out} is there and not empty", field="out")
    folder = out / "repository" / name / str(found.number)
    folder.mkdir(parents=True)
    context.client.get(found.digest, folder / "model.onnx")
    (folder.parent / "config.pbtxt").write_text(config)
    (out / "inferenceservice.yaml").write_text(kserve.yaml(manifest))
    context.out(kserve.Written(name, str(out / "inferenceservice.yaml"), str(out / "repository"), uri))
    context.say(f"put {out / 'repository'} where {uri} is, then: kubectl apply -f {out / 'inferenceservice.yaml'}")
