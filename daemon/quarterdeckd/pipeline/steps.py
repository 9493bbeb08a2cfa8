"""The steps of ours, each from the files of those before it to files of its own: validate, split, train, evaluate."""

from __future__ import annotations

import time
from typing import Any

import msgspec
import numpy as np
import polars as pl
from numpy.typing import NDArray

from quarterdeckd.learning.fitted import Fitted
from quarterdeckd.pipeline import (
    evaluation,
    export,
    files,
    joined,
    judging,
    leakage,
    own_code,
    splitting,
    training,
    validation,
)
from quarterdeckd.pipeline.export import Exported
from quarterdeckd.pipeline.made import Made, Measured
from quarterdeckd.pipeline.step import At, Told
from quarterstore.records.base import Record
from quarterstore.records.pipelines import Definition, TrainSection
from quarterstore.records.plans import Plan
from quarterstore.records.studies import pipeline_of, study_of
from quarterstore.records.tables import Table
from quarterstore.records.training import named_code, outside

LEFT, HELD = 0, 1


class About(Record, frozen=True):
    """`rows.json`: what is known of `rows.parquet` beside its cells."""

    plan: Plan
    table: Table
    digest: str
    dropped: int


def validate(at: At) -> Told:
    """The rows of the definition, with their features where a step joined them, as `rows.parquet` and `rows.json`; a
    fault where nothing can be learnt from them."""
    at = joined.behind(at)
    raw, (held, findings) = validation.checks(at)
    rows = files.planned(at.definition, raw)
    words, figures = validation.validate(rows)
    if later := validation.ahead(rows.frame, at.definition.data.time):
        figures["warnings"] = (*figures.get("warnings", ()), later)
        words = f"{words}; WARNING: {later}"
    _warned(figures.get("warnings", ()))
    rows.frame.write_parquet(at.out / "rows.parquet")
    about = About(rows.plan, rows.table, rows.digest, rows.dropped)
    (at.out / "rows.json").write_bytes(msgspec.json.encode(about))
    return Told("; ".join(part for part in (words, held) if part), figures | findings)


def split(at: At) -> Told:
    """`split.parquet`: the side of each row, 0 to learn from and 1 held out."""
    data = at.definition.data
    rows = rows_of(at)
    found = splitting.split(rows, at.definition.split, data.time, data.group)
    side = np.full(rows.frame.height, LEFT, dtype=np.int8)
    side[found.test] = HELD
    pl.DataFrame({"side": side}).write_parquet(at.out / "split.parquet")
    return Told(found.words, found.figures)


def train(at: At) -> Told:
    """A model as `model.onnx` that answers as the trained one does, with what serving needs (`golden.json`,
    `reference.parquet`), what it is (`made.json`) and what the trained one says of the held-out rows
    (`answers.npy`)."""
    rows, (learnt, held) = rows_of(at), sides_of(at)
    at = at._replace(definition=_tuned(at))
    most = int(at.definition.train.params.get("epochs", 0) or 0)

    def points(number: int, values: dict[str, float]) -> None:
        at.report.points(number, values)
        words = ", ".join(f"{name} {value:.4g}" for name, value in values.items())
        at.report.progress(at.name, min(1.0, number / most) if most else None, words)

    began = time.monotonic()
    section = at.definition.train
    if outside(section):
        fitted = own_code.train(rows, (learnt, held), section, at.code, points, at.checkpoint)
    else:
        fitted = training.train(rows, learnt, at.definition, at.code, points, at.checkpoint)
    seconds = round(time.monotonic() - began, 3)
    held_out, truth = training.features_of(rows, held), rows.frame[rows.plan.target][held]
    answers = evaluation.answers_of(fitted, held_out)
    np.save(at.out / "answers.npy", answers)
    meaning = training.meaning_of(rows)
    seed = max(1, at.definition.split.seed)
    found = export.export(at.out, fitted, meaning, training.features_of(rows, learnt), held_out, truth, answers, seed)
    made = _made(fitted, found, section)
    (at.out / "made.json").write_bytes(msgspec.json.encode(made))
    words = f"{fitted.words}, {fitted.framework}, on {fitted.device}; {_exported(fitted, found)}"
    figures = {"params": fitted.params, "seconds": seconds, "parity": found.parity, "size": found.size}
    return Told(words, figures)


def _made(fitted: Fitted, found: Exported, section: TrainSection) -> Made:
    """What was learnt, by what, in which environment."""
    learner = named_code(section) or section.learner
    return Made(
        signature=found.signature,
        params={"learner": learner, "seed": section.seed, **fitted.params},
        parity=found.parity,
        device=fitted.device,
        framework=fitted.framework,
        format=fitted.kept.format if fitted.kept else "onnx",
        interpreter=section.interpreter,
        python=fitted.environment.python if fitted.environment else None,
        packages=fitted.environment.packages if fitted.environment else (),
    )


def _exported(fitted: Fitted, found: Exported) -> str:
    if fitted.kept:
        return f"{found.size:,} bytes as they are; the answers are those that the code gave"
    return f"ONNX, {found.size:,} bytes; the largest difference from the trained model is {found.parity:.1e}"


def _tuned(at: At) -> Definition:
    """The definition with the parameters that a step `tune` before this one found."""
    if not any(place.endswith("/tuned.json") for place in at.inputs):
        return at.definition
    found = msgspec.json.decode(at.file("tuned.json").read_bytes(), type=dict[str, Any])
    train = pipeline_of(study_of(at.definition), found).train
    return msgspec.structs.replace(at.definition, train=train)


def evaluate(at: At) -> Told:
    """`metrics.json`: how good the model's answers to the held-out rows are, of parts of them and of groups, against
    the champion, and signs that it knew them."""
    rows, (learnt, held) = rows_of(at), sides_of(at)
    answers: NDArray[np.float64] = np.load(at.file("answers.npy"), allow_pickle=False)
    found = judging.judge(at, rows, learnt, held, answers)
    doubts = _warned(leakage.of_metrics(found.metrics, rows.frame, rows.plan))
    (at.out / "metrics.json").write_bytes(msgspec.json.encode(Measured(found.metrics)))
    words = "; ".join([found.words, *(f"WARNING: {doubt}" for doubt in doubts)])
    return Told(words, found.figures | ({"warnings": doubts} if doubts else {}))


def rows_of(at: At) -> files.Rows:
    """The rows as the nearest step before left them."""
    about = msgspec.json.decode(at.file("rows.json").read_bytes(), type=About)
    return files.Rows(pl.read_parquet(at.file("rows.parquet")), about.plan, about.table, about.digest, about.dropped)


def sides_of(at: At) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The numbers of the rows to learn from, and of those held out."""
    side = pl.read_parquet(at.file("split.parquet"))["side"].to_numpy()
    return np.flatnonzero(side == LEFT), np.flatnonzero(side == HELD)


def _warned(warnings: tuple[str, ...]) -> tuple[str, ...]:
    """Into the step's log as well, which is read where its words are not."""
    for warning in warnings:
        print(f"WARNING: {warning}", flush=True)
    return warnings
