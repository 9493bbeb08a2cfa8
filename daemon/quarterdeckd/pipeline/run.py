"""The steps of a pipeline job in order, each told as it begins and ends: validate, split, train, evaluate, export."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

from quarterdeckd.learning.fitted import Fitted
from quarterdeckd.pipeline import evaluation, export, files, leakage, own_code, splitting, training, validation
from quarterdeckd.pipeline.progress import Report
from quarterstore.records.faults import Fault
from quarterstore.records.names import drawn
from quarterstore.records.pipelines import PipelineResult, PipelineSpec, Step
from quarterstore.records.training import named_code, outside

T = TypeVar("T")


class Told(NamedTuple):
    """What a step says of itself."""

    words: str
    figures: dict[str, Any]


class Steps:
    """Tells each step as RUNNING, then DONE or FAILED, and keeps what was told for the result."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self.done: list[Step] = []

    def do(self, name: str, work: Callable[[], tuple[Told, T]]) -> T:
        """Run one step; a failure is told in one line and goes on up."""
        began = time.time()
        self._report.step(Step(name, "RUNNING", began))
        try:
            told, value = work()
        except BaseException as error:
            fault = error if isinstance(error, Fault) else None
            line = fault.line() if fault else f"{type(error).__name__}: {error}"
            words = drawn(" ".join(line.split()), longest=500)
            self._report.step(Step(name, "FAILED", began, time.time(), words, fault.figures if fault else {}))
            raise
        step = Step(name, "DONE", began, time.time(), told.words, told.figures)
        self.done.append(step)
        self._report.step(step)
        return value


def run(spec: PipelineSpec, report: Report) -> PipelineResult:
    """Validate, split, train, evaluate and export by a definition; writes into `out/` of the working folder.

    The same definition, rows and seeds give the same metrics (one thread; on CUDA up to the order of its sums).
    """
    definition, steps = spec.definition, Steps(report)
    rows, warnings = steps.do("validate", lambda: _validated(spec))
    meaning = training.meaning_of(rows)
    sides = steps.do("split", lambda: _split(rows, spec))
    fitted = steps.do("train", lambda: _trained(rows, sides, spec, report))
    held_out = training.features_of(rows, sides.test)
    truth = rows.frame[rows.plan.target][sides.test]
    judged, doubts = steps.do("evaluate", lambda: _evaluated(fitted, held_out, truth, meaning, rows))
    last = max(1, definition.split.seed)
    exported = steps.do(
        "export",
        lambda: _exported(
            export.export(
                fitted, meaning, training.features_of(rows, sides.train), held_out, truth, judged.answers, last
            )
        ),
    )
    learner = named_code(definition.train) or definition.train.learner
    return PipelineResult(
        model=exported.model,
        reference=exported.reference,
        golden=exported.golden,
        format=fitted.kept.format if fitted.kept else "onnx",
        signature=exported.signature,
        metrics=judged.metrics,
        params={"learner": learner, "seed": definition.train.seed, **fitted.params},
        dataset=rows.digest,
        rows=rows.frame.height,
        parity=exported.parity,
        device=fitted.device,
        framework=fitted.framework,
        steps=tuple(steps.done),
        leak=sides.leak,
        warnings=(*warnings, *doubts),
        python=fitted.environment.python if fitted.environment else None,
        packages=fitted.environment.packages if fitted.environment else (),
    )


def _validated(spec: PipelineSpec) -> tuple[Told, tuple[files.Rows, tuple[str, ...]]]:
    raw, (held, findings) = validation.checks(spec)
    rows = files.planned(spec.definition, raw)
    words, figures = validation.validate(rows)
    told = Told("; ".join(part for part in (words, held) if part), figures | findings)
    return told, (rows, _warned(figures.get("warnings", ())))


def _warned(warnings: tuple[str, ...]) -> tuple[str, ...]:
    """Into the job's log as well, which is read where a step's words are not."""
    for warning in warnings:
        print(f"WARNING: {warning}", flush=True)
    return warnings


def _split(rows: files.Rows, spec: PipelineSpec) -> tuple[Told, splitting.Split]:
    data = spec.definition.data
    found = splitting.split(rows, spec.definition.split, data.time, data.group)
    return Told(found.words, found.figures), found


def _trained(rows: files.Rows, sides: splitting.Split, spec: PipelineSpec, report: Report) -> tuple[Told, Fitted]:
    most = int(spec.definition.train.params.get("epochs", 0) or 0)

    def points(number: int, values: dict[str, float]) -> None:
        report.points(number, values)
        words = ", ".join(f"{name} {value:.4g}" for name, value in values.items())
        report.progress("train", min(1.0, number / most) if most else None, words)

    began = time.monotonic()
    if outside(spec.definition.train):
        fitted = own_code.train(rows, sides, spec.definition.train, spec.code, points)
    else:
        fitted = training.train(rows, sides.train, spec.definition, spec.code, points)
    words = f"{fitted.words}, {fitted.framework}, on {fitted.device}"
    return Told(words, {"params": fitted.params, "seconds": round(time.monotonic() - began, 3)}), fitted


def _evaluated(
    fitted: Fitted, frame: Any, truth: Any, meaning: Any, rows: files.Rows
) -> tuple[Told, tuple[evaluation.Evaluation, tuple[str, ...]]]:
    found = evaluation.evaluate(fitted, frame, truth, meaning)
    doubts = _warned(leakage.of_metrics(found.metrics, rows.frame, rows.plan))
    words = "; ".join([found.words, *(f"WARNING: {doubt}" for doubt in doubts)])
    return Told(words, found.figures | ({"warnings": doubts} if doubts else {})), (found, doubts)


def _exported(found: export.Exported) -> tuple[Told, export.Exported]:
    if found.golden is None:
        words = f"{found.size:,} bytes as they are; the answers are those that the code gave"
        return Told(words, {"size": found.size}), found
    words = f"ONNX, {found.size:,} bytes; the largest difference from the trained model is {found.parity:.1e}"
    return Told(words, {"parity": found.parity, "size": found.size}), found
