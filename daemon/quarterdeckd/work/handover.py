"""What goes into a job's folder and what comes out of it: hashes become paths on the way in, files become hashes on the
way out."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from quarterstore.ledger.state import State
from quarterstore.records import jobs
from quarterstore.records.faults import got
from quarterstore.records.outcomes import LABEL
from quarterstore.records.places import Home
from quarterstore.shelf.artefacts import Artefacts
from quarterstore.shelf.parquet import checked

PATHS_IN: dict[jobs.JobKind, tuple[str, ...]] = {
    "pipeline": ("data", "code", "reference", "schema"),
    "drift": ("reference",),
    "optimise": ("model", "golden"),
    "admission": ("model", "golden"),
    "convert": ("model", "golden"),
    "batch": ("model", "data"),
    "feature_rows": ("data",),
    "training_set": ("entities",),
    "materialise": (),
    "compaction": (),
    "forgetting": ("entity",),
    "feature_stats": ("baseline",),
    "feature_parity": (),
    "stream": ("model",),
    "replay": ("model", "live_model"),
    "drill": (),
    "study": ("data", "code"),
}
FILES_OUT: dict[jobs.JobKind, tuple[str, ...]] = {
    "pipeline": ("model", "reference", "golden"),
    "drift": (),
    "optimise": ("model", "golden"),
    "admission": (),
    "convert": ("model", "golden"),
    "batch": ("output",),
    "feature_rows": ("output",),
    "training_set": ("output",),
    "materialise": (),
    "compaction": (),
    "forgetting": (),
    "feature_stats": (),
    "feature_parity": (),
    "stream": (),
    "replay": (),
    "drill": (),
    "study": (),
}


class Handover:
    """Resolves specs and takes over results, for each kind of job."""

    def __init__(self, home: Home, view: State, artefacts: Artefacts) -> None:
        self._home = home
        self._view = view
        self._artefacts = artefacts

    def forget_chunks(self, before: float) -> None:
        """Drop the finished chunks of batches that nobody went on with: those last written before an instant."""
        live = {job.spec.get("key") for job in self._view.jobs if job.state in ("QUEUED", "RUNNING")}
        for folder in self._home.batches.glob("*"):
            if folder.name not in live and folder.stat().st_mtime < before:
                shutil.rmtree(folder)

    def resolved(self, job: jobs.Job) -> dict[str, Any]:
        """The spec with every hash replaced by the path of a file that was checked just now."""
        spec = dict(job.spec)
        for field in PATHS_IN[job.kind]:
            if spec.get(field):
                spec[field] = str(self._artefacts.checked(spec[field]))
        if job.kind == "drift":
            spec["current"] = [str(checked(path)) for path in self.predictions(spec["endpoint"])]
        if job.kind == "materialise":
            spec["lumps"] = self._lumps(spec["lumps"])
            spec |= {"folder": str(self._home.online / job.subject), "generation": job.id}
        if job.kind in ("training_set", "forgetting"):
            spec["views"] = [view | {"lumps": self._lumps(view["lumps"])} for view in spec["views"]]
        if job.kind == "forgetting":
            spec["sets"] = [each | {"file": str(self._artefacts.checked(each["file"]))} for each in spec["sets"]]
        if job.kind in ("feature_stats", "feature_parity"):
            spec["wanted"] = spec["wanted"] | {"lumps": self._lumps(spec["wanted"]["lumps"])}
        if job.kind == "feature_parity":
            place = spec["online"]["folder"]
            folder = str(self._home.online / place) if place else ""
            spec |= {"online": spec["online"] | {"folder": folder}, "pushed": str(self._home.pushed)}
        if job.kind == "compaction":
            spec["lumps"] = self._lumps(spec["lumps"])
        if job.kind in ("batch", "compaction"):
            spec["work"] = str(self._home.batches / spec["key"])
        if job.kind == "stream":
            spec |= {"folder": str(self._home.streams / spec["stream"]), "home": str(self._home.root)}
        if job.kind == "study":
            spec["folder"] = str(self._home.studies / spec["study"])
        if job.kind == "replay":
            spec |= self._traffic(spec["endpoint"]) | {"labels": self._labels()}
        if job.kind == "drill":
            spec |= self._traffic(spec["endpoint"]) | self._placed(spec)
        return spec

    def _lumps(self, lumps: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [lump | {"file": str(self._artefacts.checked(lump["file"]))} for lump in lumps]

    def _traffic(self, endpoint: str) -> dict[str, Any]:
        """What is recorded of an endpoint, and what each version takes that may have answered there."""
        model = self._view.deployments[endpoint].model
        return {
            "predictions": [str(checked(path)) for path in self.predictions(endpoint)],
            "features": {
                each.id: [feature.name for feature in each.signature.features]
                for each in self._view.versions
                if each.model == model and each.signature.features
            },
        }

    def _labels(self) -> list[str]:
        labels = sorted((self._home.samples / "outcomes" / f"metric={LABEL}").glob("*.parquet"))
        return [str(checked(path)) for path in labels]

    def _placed(self, spec: dict[str, Any]) -> dict[str, Any]:
        """Routes and golden rows with the places of their files, unchecked: whether they are sound is what a drill
        finds out."""
        found: dict[str, Any] = {}
        for side in ("before", "after"):
            slots = [slot | {"path": str(self._artefacts.path(slot["digest"]))} for slot in spec[side]["slots"]]
            found[side] = spec[side] | {"slots": slots}
        if spec.get("golden"):
            found["golden"] = str(self._artefacts.path(spec["golden"]))
        return found

    def predictions(self, endpoint: str) -> list[Path]:
        """The Parquet files of an endpoint's recorded predictions, oldest first."""
        return sorted((self._home.samples / "predictions" / f"endpoint={endpoint}").glob("day=*/*.parquet"))

    def taken_over(self, job: jobs.Job, folder: Path, result: dict[str, Any]) -> dict[str, Any]:
        """The result with every file replaced by the hash it is kept under, and the size of the model file."""
        taken = dict(result)
        for field in FILES_OUT[job.kind]:
            if result[field] is None:
                continue  # the golden rows of a model that nobody here can ask
            taken[field], size = self._adopted(field, result[field], folder)
            if field == "model" or job.kind == "feature_rows":
                taken["size"] = size
        if job.kind == "compaction":
            taken["parts"] = [self._made(each, folder) for each in result["parts"]]
        if job.kind == "forgetting":
            taken["files"] = [
                each | {"made": self._made(each["made"], folder)} if each["made"] else each for each in result["files"]
            ]
        if job.kind in ("batch", "compaction"):
            shutil.rmtree(self._home.batches / job.spec["key"], ignore_errors=True)  # the chunks are one file now
        return taken

    def _made(self, made: dict[str, Any], folder: Path) -> dict[str, Any]:
        digest, size = self._adopted("output", made["output"], folder)
        return made | {"output": digest, "size": size}

    def _adopted(self, field: str, name: object, folder: Path) -> tuple[str, int]:
        path = (folder / str(name)).resolve()
        if not path.is_relative_to(folder.resolve()):
            raise got(field, name, "a file inside the job's folder")
        return self._artefacts.adopt(path)
