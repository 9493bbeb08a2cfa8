"""Where a version at the MLflow door comes from: a URI that is never opened, and what it says of run and model."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple
from urllib.parse import unquote_plus, urlsplit

from quarterdeckd.doors.mlflow.caller import Caller
from quarterdeckd.doors.mlflow.errors import MlflowError, absent, invalid
from quarterdeckd.doors.mlflow.files import MOST_QUOTED
from quarterstore.records.registry import Version
from quarterstore.records.runs import Artefact

LOCAL = re.compile(r"(?:file:|/|\.|[A-Za-z]:\\|[^:]*\Z)")
"""Sources on this machine's disk: none is opened, and none is taken."""
LONGEST_SOURCE = 1000
"""Characters that the registry keeps; beyond them none is looked at."""


class Source(NamedTuple):
    """A source with the run that made it and the logged model that it is, as far as they are known, and the model file
    in it where there is one ONNX file."""

    uri: str
    run: str | None
    logged: str | None
    file: Artefact | None = None
    beside: tuple[Artefact, ...] = ()
    """What lies in the same folder: the weights may be in it."""


def resolved(caller: Caller, uri: str, run: str, logged: str) -> Source:
    """A source that may be, with its lineage. One that lies in a run or a logged model of the deck belongs to that one;
    what lies elsewhere belongs to whatever the client says."""
    _check(uri)
    if logged and logged not in caller.view.logged_models:
        raise _stranger(uri, "model_id")
    scheme, _, path = uri.partition(":")
    parts = [part for part in path.split("/") if part]
    if scheme == "models" and (len(parts) > 1 or "@" in path):
        return _of_version(caller, uri, run, logged)
    holder, inside = "", ""
    if scheme in ("runs", "models") and parts:
        holder, inside = parts[0], "/".join(parts[1:])
    elif scheme == "mlflow-artifacts" and not path.startswith("//") and len(parts) > 2:
        place = 2 if parts[1] == "models" else 1
        holder, inside = parts[place], "/".join(parts[place + 2 :])
    if (model := caller.view.logged_models.get(holder)) is not None:
        if logged not in ("", holder):
            raise _stranger(uri, "model_id")
        return Source(uri, run or model.run, holder, *_onnx(model.artefacts, inside))
    if holder in caller.view.runs:
        if run not in ("", holder):
            raise _stranger(uri, "run_id")
        return Source(uri, holder, logged or None, *_onnx(caller.view.runs[holder].artefacts, inside))
    return Source(uri, run or None, logged or None)


def _of_version(caller: Caller, uri: str, run: str, logged: str) -> Source:
    above = version_at(caller, uri)
    if above is None:
        raise absent(f"Invalid model version source: '{uri}'. It names no version of a registered model.")
    if (run and run != (above.run or "")) or (logged and logged != (above.logged_model or "")):
        raise invalid(
            f"Invalid model version source: '{uri}'. The run_id and model_id request parameters must match the "
            "referenced model version."
        )
    file = Artefact(path="", digest=above.digest, size=above.size) if above.format == "onnx" else None
    return Source(f"models:/{above.model}/{above.number}", above.run, above.logged_model, file)


def _onnx(artefacts: Sequence[Artefact], folder: str) -> tuple[Artefact | None, tuple[Artefact, ...]]:
    """The one ONNX file that lies in a folder itself, as MLflow's onnx flavour writes it, and what lies beside it. One
    that lies deeper is a part of something else (what a pyfunc loads), and would answer otherwise."""
    there = [each for each in artefacts if each.path.rpartition("/")[0] == folder]
    found = [each for each in there if each.path.endswith(".onnx")]
    return (found[0], tuple(each for each in there if each is not found[0])) if len(found) == 1 else (None, ())


def version_at(caller: Caller, uri: str) -> Version | None:
    """The version that `models:/name/number`, `/latest`, `/Stage` or `models:/name@alias` names."""
    name, _, which = uri.removeprefix("models:").strip("/").rpartition("/")
    if not name:
        name, _, alias = which.partition("@")
        model = caller.view.models.get(name)
        which = str(model.aliases.get(alias, "")) if model is not None else ""
    there = [each for each in caller.view.versions if each.model == name and each.removed is None]
    if which.isdecimal():
        return next((each for each in there if each.number == int(which)), None)
    fit = [each for each in there if which.lower() in ("latest", each.stage.lower())]
    return max(fit, key=lambda each: each.number, default=None)


def _stranger(uri: str, name: str) -> MlflowError:
    return invalid(
        f"Invalid model version source: '{uri}'. The {name} request parameter must identify the resource that contains "
        "the source."
    )


def _check(source: str) -> None:
    if len(source) > LONGEST_SOURCE:
        raise invalid(f"Invalid model version source of {len(source)} characters: at most {LONGEST_SOURCE} are kept.")
    if LOCAL.match(source):
        raise invalid(
            f"Invalid model version source: '{source}'. To use a local path as a model version source, the run_id "
            "request parameter has to be specified and the local path has to be contained within the artifact "
            "directory of the run specified by the run_id."
        )
    path = source
    for _ in range(MOST_QUOTED):  # a client may have quoted it more than once
        if (plainer := unquote_plus(path)) == path:
            break
        path = plainer
    else:
        raise invalid(f"Invalid model version source: '{source[:200]}'. It is quoted too often.")
    try:
        parts = urlsplit(path).path.split("/")
    except ValueError as error:
        raise invalid(f"Invalid model version source: '{source}'. It is no URI: {error}") from error
    if "\0" in path or ".." in path.split("/") or "." in parts:
        raise invalid(
            f"Invalid model version source: '{source}'. If supplying a source as an http, https, local file path, "
            "ftp, objectstore, or mlflow-artifacts uri, an absolute path must be provided without relative path "
            "references present. Please provide an absolute path."
        )
