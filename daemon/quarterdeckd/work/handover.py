"""What goes into a job's folder and what comes out of it: hashes become paths on the way in, files become hashes on the
way out."""

from __future__ import annotations

import heapq
import shutil
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace

from quarterstore.ledger.features import check_unforgotten
from quarterstore.ledger.state import State
from quarterstore.records import jobs, pipelines
from quarterstore.records.faults import Corrupt, got
from quarterstore.records.features import JoinSpec
from quarterstore.records.outcomes import LABEL
from quarterstore.records.pipeline_results import PipelineOutcome
from quarterstore.records.places import Home
from quarterstore.shelf.artefacts import Artefacts
from quarterstore.shelf.parquet import checked

PATHS_IN: dict[jobs.JobKind, tuple[str, ...]] = {
    "pipeline": ("data",),
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
    "study": ("data",),
}
FILES_OUT: dict[jobs.JobKind, tuple[str, ...]] = {
    "pipeline": (),
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
CACHED_RUNS = 40
"""Runs of a pipeline whose steps may be taken for those of the next."""


def placed(artefacts: Artefacts, join: dict[str, Any]) -> dict[str, Any]:
    """A `JoinSpec` whose files are paths, checked just now."""
    entities = str(artefacts.checked(join["digest"]))
    return join | {"entities": entities, "views": _views(artefacts, join["views"])}


def _views(artefacts: Artefacts, views: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [view | {"lumps": _lumps(artefacts, view["lumps"])} for view in views]


def _lumps(artefacts: Artefacts, lumps: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [lump | {"file": str(artefacts.checked(lump["file"]))} for lump in lumps]


class Handover:
    """Resolves specs and takes over results, for each kind of job."""

    def __init__(self, home: Home, view: State, artefacts: Artefacts) -> None:
        self._home = home
        self._view = view
        self._artefacts = artefacts

    def forget_chunks(self, before: float) -> None:
        """Drop the finished chunks of batches, and the checkpoints of steps, that nobody went on with: those last
        written before an instant."""
        live = {job.spec.get("key") for job in self._view.jobs if job.state in ("QUEUED", "RUNNING")}
        for folder in (*self._home.batches.glob("*"), *self._home.checkpoints.glob("*")):
            if folder.name not in live and folder.stat().st_mtime < before:
                shutil.rmtree(folder)

    def resolved(self, job: jobs.Job) -> dict[str, Any]:
        """The spec with every hash replaced by the path of a file that was checked just now."""
        spec = dict(job.spec)
        for field in PATHS_IN[job.kind]:
            if spec.get(field):
                spec[field] = str(self._artefacts.checked(spec[field]))
        if job.kind == "pipeline":
            spec |= {"store": str(self._artefacts.folder), "checkpoints": str(self._home.checkpoints)}
            spec["cache"] = msgspec.to_builtins(self._cached(job.subject))
            if spec.get("join"):
                spec["join"] = placed(self._artefacts, spec["join"])
        if job.kind == "drift":
            spec["current"] = [str(checked(path)) for path in self.predictions(spec["endpoint"])]
        if job.kind == "materialise":
            spec["lumps"] = _lumps(self._artefacts, spec["lumps"])
            spec |= {"folder": str(self._home.online / job.subject), "generation": job.id}
        if job.kind in ("training_set", "forgetting"):
            spec["views"] = _views(self._artefacts, spec["views"])
        if job.kind == "forgetting":
            spec["sets"] = [each | {"file": str(self._artefacts.checked(each["file"]))} for each in spec["sets"]]
        if job.kind in ("feature_stats", "feature_parity"):
            [spec["wanted"]] = _views(self._artefacts, [spec["wanted"]])
        if job.kind == "feature_parity":
            place = spec["online"]["folder"]
            folder = str(self._home.online / place) if place else ""
            spec |= {"online": spec["online"] | {"folder": folder}, "pushed": str(self._home.pushed)}
        if job.kind == "compaction":
            spec["lumps"] = _lumps(self._artefacts, spec["lumps"])
        if job.kind in ("batch", "compaction"):
            spec["work"] = str(self._home.batches / spec["key"])
        if job.kind == "stream":
            spec |= {"folder": str(self._home.streams / spec["stream"]), "home": str(self._home.root)}
        if job.kind == "study":
            spec |= {"folder": str(self._home.studies / spec["study"]), "store": str(self._artefacts.folder)}
        if job.kind == "replay":
            spec |= self._traffic(spec["endpoint"]) | {"labels": self._labels()}
        if job.kind == "drill":
            spec |= self._traffic(spec["endpoint"]) | self._placed(spec)
        return spec

    def _cached(self, pipeline_run: str) -> dict[str, pipelines.Done]:
        """What steps of earlier runs of the same pipeline left, by their key, the newest of each."""
        name = self._view.pipeline_runs[pipeline_run].pipeline
        of_it = (run for run in self._view.pipeline_runs if run.pipeline == name)
        return {
            step.key: pipelines.Done(step.outputs, step.words, step.figures, run.id)
            for run in reversed(heapq.nlargest(CACHED_RUNS, of_it, key=lambda run: run.created))
            for step in run.steps
            if step.state == "DONE" and step.key
        }

    def step_kept(self, job: jobs.Job, step: pipelines.Step) -> pipelines.Step:
        """A step as its worker told it, once the files it left are kept; a fault where they are not what it said."""
        out = self._home.jobs / job.id / "steps" / step.name / "out"
        for name, digest in step.outputs.items():
            if self._artefacts.path(digest).is_file():
                continue
            path = (out / name).resolve()
            if not path.is_relative_to(out.resolve()):
                raise got(name, "a path elsewhere", "a file inside the step's folder")
            if step.uses == "features":
                check_unforgotten(self._view, msgspec.convert(job.spec["join"], JoinSpec))
            found, _ = self._artefacts.adopt(path)
            if found != digest:
                raise Corrupt(f"{step.name}/{name}: got {found}, expected {digest}", field="artefact")
        return replace(step, job=job.id) if step.attempts and not step.how else step

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
        if job.kind == "pipeline" and (made := msgspec.convert(result, PipelineOutcome).result) is not None:
            for digest in (made.model, made.reference, made.golden):
                if digest is not None:  # there are no golden rows of a model that nobody here can ask
                    self._artefacts.checked(digest)
        if job.kind == "training_set":
            check_unforgotten(self._view, msgspec.convert(job.spec, JoinSpec))
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
