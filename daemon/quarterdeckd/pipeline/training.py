"""The third step of a pipeline: learn from the rows that are not held out, by a built-in learner or the user's own
code."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from quarterdeckd.learning import calling, learners, user_code
from quarterdeckd.learning.fitted import Fitted, Learning, Meaning, Points
from quarterdeckd.pipeline.crossing import Indices
from quarterdeckd.pipeline.files import Rows
from quarterdeckd.pipeline.splitting import at_random, instants
from quarterstore.records.pipelines import Definition

WATCHED = 0.15
"""Share of the learnt rows that a built-in learner only watches (live `val_loss`; the network stops by it); user code
gets all rows. The held-out rows are never looked at while learning."""


def train(rows: Rows, learnt: Indices, definition: Definition, code: Path, points: Points, checkpoint: Path) -> Fitted:
    """Learn from the rows of `learnt`; what is told to `points` are the live curves. `code` is the folder of the user's
    own files; what is in the folder `checkpoint` is gone on from."""
    section = definition.train
    meaning = meaning_of(rows)
    if section.python is not None:
        together = _learning(rows, meaning, learnt, learnt[:0])
        log = calling.Log(points, checkpoint)
        return user_code.fit(section.python, code, together, meaning, rows.plan.target, section.params, log)
    kept, watched = _watched(rows, learnt, definition)
    together = _learning(rows, meaning, kept, watched)
    return learners.fit(section.learner, together, meaning, section.params, section.seed, points, checkpoint)


def meaning_of(rows: Rows) -> Meaning:
    """What the columns are to a model."""
    classes = rows.plan.classes
    if rows.plan.task == "classification":
        present = set(rows.frame[rows.plan.target].unique().to_list())
        classes = tuple(name for name in classes if name in present)
    return Meaning(rows.plan.features, rows.plan.task, classes)


def features_of(rows: Rows, chosen: Indices) -> pl.DataFrame:
    """The features of some rows as a model sees them: numbers in single precision, texts as they are."""
    numbers = [column.name for column in rows.plan.features if column.kind in ("number", "integer")]
    names = [column.name for column in rows.plan.features]
    return rows.frame[chosen].select(names).with_columns(pl.col(numbers).cast(pl.Float32))


def _learning(rows: Rows, meaning: Meaning, kept: Indices, watched: Indices) -> Learning:
    target = rows.frame[rows.plan.target]
    if meaning.task == "classification":
        place = {name: index for index, name in enumerate(meaning.classes)}
        values = np.array([place[name] for name in target.to_list()], dtype=np.int64)
    else:
        values = target.to_numpy().astype(np.float64)
    return Learning(features_of(rows, kept), values[kept], features_of(rows, watched), values[watched])


def _watched(rows: Rows, learnt: Indices, definition: Definition) -> tuple[Indices, Indices]:
    """Learnt rows in two: the latest ones are watched in a split by time, else some of each class."""
    if definition.split.by == "time" and definition.data.time is not None:
        order = learnt[np.argsort(instants(rows.frame[definition.data.time])[learnt], kind="stable")]
        border = max(1, round((1 - WATCHED) * len(order)))
        return np.sort(order[:border]), np.sort(order[border:])
    strata = None
    if rows.plan.task == "classification":
        strata = rows.frame[rows.plan.target][learnt].to_list()
    rng = np.random.default_rng(definition.train.seed)
    kept, watched = at_random(np.arange(len(learnt)), strata, WATCHED, rng)
    return learnt[kept], learnt[watched]
