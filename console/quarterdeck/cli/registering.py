"""What is registered: a file of this machine, or a file of a run; and the schema that is declared of it."""

from __future__ import annotations

import math
from pathlib import Path

import msgspec
from msgspec.structs import replace

from quarterdeck.cli.context import Context
from quarterstore.records.faults import got, missing
from quarterstore.records.misfits import refuse_unknown
from quarterstore.records.registry import Metric, Signature
from quarterstore.records.runs import Artefact, Run, ShowRun

MODELS = (".onnx", ".safetensors", ".skops", ".joblib", ".pkl", ".pickle", ".pt", ".pth", ".bin")
"""Ends of names by which the model is found among the files of a run; what it is, its bytes say."""


class Source:
    """The uploaded file that `qd register FILE|RUN` means, with the run it came from and that run's metrics."""

    def __init__(self, context: Context, text: str, run_id: str | None, artefact: str | None) -> None:
        path = Path(text)
        if path.is_file():
            self.digest, self.size = context.client.put(path)
            run = context.client.ask(ShowRun(run=run_id)) if run_id else None
        elif path.exists() or "/" in text or path.suffix:
            raise got("file", text, "a model file, or a run")
        else:
            run = context.client.ask(ShowRun(run=text))
            found = _model_of(run, artefact)
            self.digest, self.size = found.digest, found.size
        self.run = run.id if run else None
        last = run.metrics if run else {}
        self.metrics = tuple(Metric(name=name, value=value) for name, value in last.items() if math.isfinite(value))
        for name, value in last.items():
            if not math.isfinite(value):
                context.say(f"{name} is {value}: no metric of the version, and no gate on it will pass")


def _model_of(run: Run, artefact: str | None) -> Artefact:
    paths = {each.path: each for each in run.artefacts}
    if artefact is not None:
        if artefact not in paths:
            raise missing("artefact", artefact, paths)
        return paths[artefact]
    likely = [each for each in run.artefacts if each.path.endswith(MODELS)]
    if len(likely) != 1:
        shown = ", ".join(each.path for each in likely) or f"{len(paths)} files, none of a model"
        raise got("artefact", f"{run.id} with {shown}", "one model among its files, or its path by --artefact")
    return likely[0]


def _meant(signature: Signature, given: dict[str, object]) -> Signature:
    """What the outputs mean where that was left out: as it is read from a file without a schema, by their names."""
    names = [tensor.name for tensor in signature.outputs]
    for role in ("label", "score"):
        if role not in given and role in names:
            signature = replace(signature, **{role: role})
    if "task" not in given:
        signature = replace(signature, task="classification" if signature.label else "regression")
    return signature


def schema_in(path: Path | None) -> Signature:
    """The schema in a JSON file; none where no file is given."""
    if path is None:
        return Signature(inputs=(), outputs=())
    try:
        given = msgspec.json.decode(path.read_bytes())
        refuse_unknown(Signature, given, "schema")
        return _meant(msgspec.convert(given, Signature), given)
    except OSError as error:
        raise got("schema", f"{path} ({error.strerror})", "a JSON file") from error
    except msgspec.MsgspecError as error:
        raise got("schema", str(error), "inputs and outputs as JSON: docs/how-to/register-models.md") from error
