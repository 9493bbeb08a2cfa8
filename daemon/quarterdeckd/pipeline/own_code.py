"""A person's training code in an environment of its own: a child that knows none of our packages is given files and
leaves files; what it says of itself while it runs are the live curves."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import polars as pl
from numpy.typing import NDArray

from quarterdeckd.formats import recognise
from quarterdeckd.learning import user_code
from quarterdeckd.learning.fitted import Fitted, Kept, Meaning, Points, tensor_names
from quarterdeckd.pipeline import own_process, training
from quarterdeckd.pipeline.crossing import Indices
from quarterdeckd.pipeline.files import Rows
from quarterstore.records.faults import Failed, Invalid, Refused, got
from quarterstore.records.names import drawn
from quarterstore.records.pipelines import TrainSection
from quarterstore.records.tables import unquoted
from quarterstore.records.training import called, filled, named_code

FOLDER: Final = Path("own")
PREDICTIONS: Final = ("predictions.csv", "predictions.parquet")
HARMLESS: Final = frozenset({"numpy.dtype"})
"""Types that skops leaves to be vouched for and that are in most preparations: constructing one runs nothing."""


def train(
    rows: Rows, sides: tuple[Indices, Indices], section: TrainSection, code: Path, points: Points, checkpoint: Path
) -> Fitted:
    """Lay out rows and code below the working folder, run the child, take the model it left.

    `sides` are the rows to learn from, which are given with their target, and the held-out rows, which are given
    without it, each as Parquet and as CSV; `code` is the folder of the user's own files. An ONNX file, or a skops file
    whose types are trusted, is asked as any model; of another the code says itself what it predicts for the held-out
    rows. What goes wrong in the child is one line with the line of its file.
    """
    meaning = training.meaning_of(rows)
    environment = own_process.about(section.interpreter) if section.interpreter else None
    shutil.rmtree(FOLDER, ignore_errors=True)
    places = _laid_out(rows, sides, section, meaning, code, checkpoint)
    own_process.run_well(
        section.run or "train.command",
        _words(section, places),
        FOLDER / "code" / (section.code or "."),
        own_process.environ(section.interpreter, places),
        points,
    )
    found = _taken(section, meaning, len(sides[1]))
    return found._replace(environment=environment, params=dict(section.params))


def _laid_out(
    rows: Rows,
    sides: tuple[Indices, Indices],
    section: TrainSection,
    meaning: Meaning,
    code: Path,
    checkpoint: Path,
) -> dict[str, str]:
    """The folder of the child: code, rows, what is asked of it; answers its places by name."""
    for name in ("output", "temporary"):
        (FOLDER / name).mkdir(parents=True)
    shutil.copytree(code, FOLDER / "code")
    learnt = training.features_of(rows, sides[0]).with_columns(rows.frame[rows.plan.target][sides[0]])
    _write_rows("rows", learnt)
    _write_rows("held_out", training.features_of(rows, sides[1]))
    places = {
        "rows": "rows.parquet",
        "rows_csv": "rows.csv",
        "held_out": "held_out.parquet",
        "held_out_csv": "held_out.csv",
        "params": "params.json",
        "task": "task.json",
        "failure": "failure.json",
        "output": "output",
        "temporary": "temporary",
        "metrics": "metrics",
    }
    found = {name: str((FOLDER / place).absolute()) for name, place in places.items()}
    found["checkpoint"] = str(checkpoint.absolute())
    if section.interpreter is not None:
        found["interpreter"] = section.interpreter
    Path(found["params"]).write_bytes(msgspec.json.encode(section.params))
    Path(found["task"]).write_bytes(msgspec.json.encode({**found, **_about(rows, meaning, section)}))
    return found


def _write_rows(name: str, frame: pl.DataFrame) -> None:
    frame.write_parquet(FOLDER / f"{name}.parquet")
    frame.fill_nan(None).write_csv(FOLDER / f"{name}.csv")


def _about(rows: Rows, meaning: Meaning, section: TrainSection) -> dict[str, Any]:
    texts = set(meaning.texts)
    return {
        "target": rows.plan.target,
        "task": meaning.task,
        "classes": list(meaning.labels().tolist()),
        "features": [
            {"name": column.name, "kind": "text" if column.name in texts else "number"} for column in meaning.features
        ],
        "inputs": tensor_names(meaning) if texts else ["x"],
        "outputs": ["value"] if meaning.task == "regression" else ["label", "score"],
        "params": section.params,
        "seed": section.seed,
    }


def _words(section: TrainSection, places: dict[str, str]) -> list[str]:
    if section.run is not None:
        assert section.interpreter is not None
        file, function = called("train.run", section.run)
        return own_process.calling(section.interpreter, places["task"], file, function)
    return [filled(word, places) for word in section.command]


def _taken(section: TrainSection, meaning: Meaning, held_out: int) -> Fitted:
    """The one model in the output folder, as what its bytes are."""
    path = _model(section)
    try:
        found = recognise.recognised(path)
    except Invalid as fault:
        raise Failed(f"{path.name}: {fault.message}", field="train.output", next=fault.next) from fault
    if found.format == "onnx":
        return user_code.given_model(path.read_bytes(), meaning, section.params)
    if found.format not in ("skops", "safetensors"):
        raise Refused(f"got {found.words}, expected {recognise.EXPECTED}", field="train.output")
    if doubtful := sorted(set(found.code) - HARMLESS):
        raise Refused(
            f"got skops with types that are not trusted: {', '.join(doubtful[:5])}",
            field="train.output",
            next="let the code write ONNX: skl2onnx.to_onnx(model, X[:1], options={'zipmap': False})",
        )
    if found.format == "skops" and (estimator := _estimator(path, section, meaning)) is not None:
        return estimator
    answers = _predictions(meaning, held_out)
    words = named_code(section) or ""
    return Fitted(
        answer=lambda frame: answers,
        export=path.read_bytes,
        params=section.params,
        framework=found.format,
        device="cpu",
        words=f"{found.words} by {drawn(words, longest=80)}",
        kept=Kept(path, found.format),
    )


def _model(section: TrainSection) -> Path:
    folder = FOLDER / "output"
    names = sorted(path.name for path in folder.iterdir() if path.name not in PREDICTIONS)
    if len(names) != 1:
        shown = ", ".join(drawn(name, longest=40) for name in names[:3]) or "nothing"
        raise got(
            named_code(section) or "train", f"{len(names)} files in the output folder ({shown})", "one model file"
        )
    path = folder / names[0]
    if path.is_symlink() or not path.is_file():
        raise got("train.output", drawn(names[0], longest=80), "a plain file")
    return path


def _estimator(path: Path, section: TrainSection, meaning: Meaning) -> Fitted | None:
    """A skops file as the estimator in it, where ONNX can hold that; None where it cannot."""
    from skops.io import load

    try:
        fitted = user_code.estimator(load(path, trusted=sorted(HARMLESS)), meaning, section.params)
    except Exception as error:  # skops and the types it constructs raise whatever the file leads them to
        reason = drawn(" ".join(f"{type(error).__name__}: {error}".split()), longest=200)
        raise Failed(f"the skops file could not be loaded here ({reason})", field="train.output") from error
    try:
        made = fitted.export()
    except Invalid:
        return None
    return fitted._replace(export=lambda: made)


def _predictions(meaning: Meaning, count: int) -> NDArray[np.float64]:
    """What the code says of the held-out rows: n x k probabilities in the order of the classes, or n values."""
    paths = [FOLDER / "output" / name for name in PREDICTIONS if (FOLDER / "output" / name).is_file()]
    wanted = list(meaning.classes) or ["value"]
    shown = f"the columns {drawn(', '.join(wanted), longest=80)} for {count:,} held-out rows"
    if not paths:
        raise got("train.output", "a model that cannot be asked here, and no predictions.csv", shown)
    try:
        frame = pl.read_csv(paths[0]) if paths[0].suffix == ".csv" else pl.read_parquet(paths[0])
        if paths[0].suffix == ".csv":
            frame = frame.rename(unquoted(paths[0], frame.columns))
        if frame.height != count or not set(wanted) <= set(frame.columns):
            names = drawn(", ".join(frame.columns), longest=80)
            raise got(f"train.output {paths[0].name}", f"{frame.height:,} rows of {names}", shown)
        values = frame.select(pl.col(wanted).cast(pl.Float64)).to_numpy()
    except (pl.exceptions.PolarsError, OSError) as error:
        reason = drawn(str(error).splitlines()[0], longest=120)
        raise got(f"train.output {paths[0].name}", f"what cannot be read ({reason})", shown) from None
    return np.asarray(values if meaning.classes else values[:, 0], dtype=np.float64)
