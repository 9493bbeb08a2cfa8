"""The fourth step of a pipeline in full: quality, parts of the rows, groups of people, what the model looks at, and the
champion on the same rows."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec
import numpy as np
import polars as pl
from numpy.typing import NDArray

from quarterdeckd.learning.fitted import Meaning
from quarterdeckd.measures import importance, parity, slicing
from quarterdeckd.pipeline import champion, evaluation, training
from quarterdeckd.pipeline.files import Rows
from quarterdeckd.pipeline.made import Made
from quarterdeckd.pipeline.step import At
from quarterstore.records.evaluations import EvaluateSection
from quarterstore.records.faults import Failed, Fault, missing
from quarterstore.records.names import drawn
from quarterstore.records.registry import Metric

MOST_SHOWN = 200
"""Slices in the figures of the step, the worst ones."""


class Judgement(NamedTuple):
    """What the held-out rows say of a model; `rejected` of the figures is why it must not go anywhere."""

    metrics: tuple[Metric, ...]
    words: str
    figures: dict[str, Any]


class Part(NamedTuple):
    """What one look at the model adds."""

    metrics: tuple[Metric, ...] = ()
    words: tuple[str, ...] = ()
    figures: dict[str, Any] = {}
    rejected: str = ""


class Held(NamedTuple):
    """The held-out rows as every look takes them: the true class or value of each, and what the model said."""

    rows: Rows
    test: NDArray[np.int64]
    frame: pl.DataFrame
    meaning: Meaning
    truth: NDArray[Any]
    challenger: champion.Answers


def check_columns(rows: Rows, section: EvaluateSection) -> None:
    """`NotFound` for a column of slices or groups that the rows do not have."""
    for field in ("slices", "fairness"):
        for name in getattr(section, field):
            if name not in rows.frame.columns:
                raise missing(f"evaluate.{field}", name, rows.frame.columns)


def judge(
    at: At, rows: Rows, learnt: NDArray[np.int64], test: NDArray[np.int64], answers: NDArray[np.float64]
) -> Judgement:
    """Judge a model by its answers to the held-out rows `test`, as the section `evaluate` says."""
    section, meaning = at.definition.evaluate, training.meaning_of(rows)
    check_columns(rows, section)
    frame = training.features_of(rows, test)
    truth = rows.frame[rows.plan.target][test]
    found = evaluation.evaluate(answers, truth, meaning)
    held = Held(rows, test, frame, meaning, _truth(truth, meaning), _challenger(answers, meaning))
    parts = [
        _unseen(held, training.features_of(rows, learnt)),
        _sliced(held, section.slices),
        _fair(held, section.fairness),
        _explained(held, at) if section.explain else Part(),
        _against(held, at) if section.champion else Part(),
    ]
    rejected = "; ".join(part.rejected for part in parts if part.rejected)
    words = "; ".join([found.words, *(line for part in parts for line in part.words)])
    figures = dict(found.figures)
    for part in parts:
        figures |= part.figures
    if rejected:
        figures["rejected"], words = rejected, f"{words}; REJECTED: {rejected}"
    metrics = (*found.metrics, *(metric for part in parts for metric in part.metrics))
    return Judgement(metrics, words, figures)


def _truth(truth: pl.Series, meaning: Meaning) -> NDArray[Any]:
    if meaning.task == "regression":
        return truth.to_numpy().astype(np.float64)
    return np.array(truth.to_list(), dtype=str)


def _challenger(answers: NDArray[np.float64], meaning: Meaning) -> champion.Answers:
    if meaning.task == "regression":
        return champion.Answers(answers.reshape(-1), None)
    return champion.Answers(np.array(meaning.classes, dtype=str)[answers.argmax(axis=1)], answers)


def _unseen(held: Held, learnt: pl.DataFrame) -> Part:
    """Categories that only held-out rows have: the model takes them for none of those it knows."""
    counts = {
        name: int((~held.frame[name].is_in(learnt[name].unique().implode())).sum()) for name in held.meaning.texts
    }
    found = {name: n for name, n in counts.items() if n}
    if not found:
        return Part()
    shown = ", ".join(f"{drawn(name, longest=40)} {n:,}" for name, n in list(found.items())[:5])
    return Part(words=(f"cells of categories never learnt, answered as other: {shown}",), figures={"unseen": found})


def _sliced(held: Held, columns: tuple[str, ...]) -> Part:
    found = tuple(
        one for name in columns for one in slicing.slices(name, _parts(held, name), held.truth, held.challenger.said)
    )
    if not found:
        return Part()
    ordered = sorted(found, key=lambda one: one.metric.value, reverse=held.meaning.task == "regression")
    figures = {"slices": [_slice(one) for one in ordered[:MOST_SHOWN]]}
    worst = slicing.worst(found)
    if worst is None:
        return Part(words=(f"no slice has {parity.FEWEST} rows",), figures=figures)
    metric, few = worst.metric, sum(one.few for one in found)
    words = (
        f"worst of {len(found) - few} slices: {_named(worst.column, worst.value)} {_span(metric)}, {metric.n:,} rows"
    )
    words += f" ({few} of fewer than {parity.FEWEST} rows are not judged)" if few else ""
    name = f"worst slice {metric.name}"
    return Part((Metric(name, metric.value, metric.low, metric.high, metric.n),), (words,), figures)


def _fair(held: Held, columns: tuple[str, ...]) -> Part:
    """The worst of each metric over the columns."""
    if not columns:
        return Part()
    if held.meaning.task == "regression":
        reason = "groups are compared by classes, and this is a regression"
        return Part(words=(reason,), figures={"fairness": {"undefined": reason}})
    figures: dict[str, Any] = {}
    worst: dict[str, tuple[Metric, str]] = {}
    missing_: list[str] = []
    for column in columns:
        found = parity.parity(
            held.truth, held.challenger.said, held.challenger.scores, held.meaning.classes, _parts(held, column)
        )
        figures[column] = {
            "groups": [group._asdict() for group in found.groups],
            **{metric.name: _figure(metric) for metric in found.metrics},
            **({"undefined": dict(found.undefined)} if found.undefined else {}),
        }
        missing_ += [f"{name} over {drawn(column, longest=40)} is not defined: {why}" for name, why in found.undefined]
        for metric in found.metrics:
            if metric.name not in worst or metric.value > worst[metric.name][0].value:
                worst[metric.name] = (metric, column)
    words = [
        f"{_span(metric)} over {drawn(column, longest=40)}, {metric.n:,} rows in the smallest group"
        for metric, column in worst.values()
    ]
    metrics = tuple(metric for metric, _ in worst.values())
    return Part(metrics, (*words, *missing_), {"fairness": figures})


def _explained(held: Held, at: At) -> Part:
    """Loss of accuracy, or rise of the RMSE, where one feature is shuffled; answered by the file, as serving will."""
    if not {"model.onnx", "made.json"} <= {place.partition("/")[2] for place in at.inputs}:
        return Part()
    truth = held.truth
    made = msgspec.json.decode(at.file("made.json").read_bytes(), type=Made)
    asked = champion.Asked(at.file("model.onnx"), made.signature, held.meaning)

    def answer(frame: pl.DataFrame) -> NDArray[np.float64]:
        found = asked(frame)
        if isinstance(found, str):
            raise Failed(f"got a file that cannot be asked: {found}", field="evaluate")
        return found.said if found.scores is None else found.scores

    if held.meaning.task == "regression":

        def score(answers: NDArray[np.float64], rows: NDArray[np.int64]) -> float:
            return -float(np.sqrt(((answers.reshape(-1) - truth[rows]) ** 2).mean()))

    else:
        names = np.array(held.meaning.classes, dtype=str)

        def score(answers: NDArray[np.float64], rows: NDArray[np.int64]) -> float:
            return float((names[answers.argmax(axis=1)] == truth[rows]).mean())

    found, n = importance.importance(held.frame, answer, score)
    if not found:
        return Part()
    shown = ", ".join(f"{drawn(one.feature, longest=40)} {one.loss:.3g} ± {one.spread:.1g}" for one in found[:3])
    metric = "rmse" if held.meaning.task == "regression" else "accuracy"
    return Part(
        words=(f"{metric} lost where it is shuffled: {shown}",),
        figures={"importance": {"rows": n, "metric": metric, "features": [one._asdict() for one in found]}},
    )


def _against(held: Held, at: At) -> Part:
    against = at.against
    if against is None:
        return Part()
    try:
        found = champion.Asked(at.artefact(against.model), against.signature, held.meaning)(held.rows.frame[held.test])
    except Fault as fault:
        found = f"its file cannot be loaded ({fault.message})"
    if isinstance(found, str):
        words = f"not compared with {against.version}: {found}"
        return Part(words=(words,), figures={"champion": {"version": against.version, "words": words}})
    compared = champion.compared(held.challenger, found, held.truth, held.meaning, at.definition.evaluate, against)
    words = compared.words
    if against.dataset != held.rows.digest:
        words += f" (of other rows: {against.version} may have learnt from some of these)"
    difference = compared.difference
    figures = {
        "version": against.version,
        "words": words,
        "worse": compared.worse,
        **({"difference": _figure(difference), "metric": difference.name} if difference else {}),
    }
    return Part((), (words,), {"champion": figures}, f"worse: {compared.words}" if compared.worse else "")


def _parts(held: Held, column: str) -> NDArray[Any]:
    """A column of the held-out rows as the texts of its parts."""
    values = held.rows.frame[column][held.test]
    if values.dtype.is_numeric():
        return slicing.parts_of(values.cast(pl.Float64).fill_null(float("nan")).to_numpy().astype(np.float64))
    return slicing.parts_of(np.array(values.cast(pl.String).fill_null("").to_list(), dtype=object))


def _slice(one: slicing.Slice) -> dict[str, Any]:
    return {"column": one.column, "value": one.value, "few": one.few, **_figure(one.metric), "metric": one.metric.name}


def _figure(metric: Metric) -> dict[str, Any]:
    return {"value": metric.value, "low": metric.low, "high": metric.high, "n": metric.n}


def _named(column: str, value: str) -> str:
    return f"{drawn(column, longest=40)} = {drawn(value, longest=40)}"


def _span(metric: Metric) -> str:
    if metric.low is None or metric.high is None:
        return f"{metric.name} {metric.value:.4g}"
    return f"{metric.name} {metric.value:.4g} ({metric.low:.4g} to {metric.high:.4g})"
