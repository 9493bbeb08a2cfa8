"""Dynamic int8: weights as eight bits, measured against the parent on this machine, and said when it does not pay."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from quarterdeckd.compression.onnx import arrays, checked_onnx, lists, opened
from quarterdeckd.measures import quality
from quarterstore.records.admission import Golden
from quarterstore.records.compression import Measured, OptimiseResult, OptimiseSpec
from quarterstore.records.faults import Refused, got
from quarterstore.records.names import drawn
from quarterstore.records.registry import Metric

QUANTISED: Final = ("MatMul", "Gemm", "Conv", "Attention", "LSTM", "Gather")
WARM, ROUNDS, BATCH = 50, 400, 64
TOLERATED: Final = 0.01
"""Loss of accuracy, at the worse end of its interval, beyond which a child is not recommended."""
FASTER: Final = 1.05


def run(spec: OptimiseSpec, report: Any) -> OptimiseResult:
    """Quantise, measure both interleaved on one thread, compare on the golden rows; the child's files lie in `out/`."""
    parent = Path(spec.model)
    model = checked_onnx(parent)
    nodes = {node.op_type for node in model.graph.node}
    if not nodes & set(QUANTISED):
        raise Refused(f"it has no weights to quantise ({', '.join(sorted(nodes)[:5])})", field="recipe")
    golden = msgspec.json.decode(Path(spec.golden).read_bytes(), type=Golden)
    out = Path("out")
    out.mkdir(exist_ok=True)
    report.progress("quantise", 0.1, "weights to int8")
    child = _quantised(parent, out)
    report.progress("measure", 0.4, "parent and child interleaved")
    feed = arrays(golden.inputs, spec.signature)
    before, after = opened(parent), opened(child)
    answers = [_answers(session, feed) for session in (before, after)]
    metrics = _metrics(spec, golden, answers[1])
    measured = _measured(spec, golden, (parent, child), (before, after), answers, feed)
    words, recommended = judged(measured)
    (out / "golden.json").write_bytes(
        msgspec.json.encode(
            msgspec.structs.replace(golden, outputs={name: lists(value) for name, value in answers[1].items()})
        )
    )
    return OptimiseResult(
        model="out/model.onnx",
        golden="out/golden.json",
        signature=spec.signature,
        metrics=metrics,
        measured=measured,
        recommended=recommended,
        words=words,
    )


def _quantised(parent: Path, out: Path) -> Path:
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from onnxruntime.quantization.shape_inference import quant_pre_process

    prepared, child = Path("prepared.onnx"), out / "model.onnx"
    quant_pre_process(str(parent), str(prepared), skip_symbolic_shape=True)
    try:
        quantize_dynamic(str(prepared), str(child), weight_type=QuantType.QInt8)
    except ValueError as error:  # weights that are whole numbers already, among those of `QUANTISED`
        raise Refused(f"its weights cannot be quantised ({drawn(str(error), longest=120)})", field="recipe") from error
    finally:
        prepared.unlink()
    return child


def _answers(session: Any, feed: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    names = [node.name for node in session.get_outputs()]
    return dict(zip(names, session.run(names, feed), strict=True))


def _labels(spec: OptimiseSpec, answers: dict[str, NDArray[Any]]) -> NDArray[Any]:
    name = spec.signature.label or next(iter(answers))
    return np.asarray([str(value) for value in answers[name].ravel().tolist()])


def _metrics(spec: OptimiseSpec, golden: Golden, answers: dict[str, NDArray[Any]]) -> tuple[Metric, ...]:
    if golden.labels is None:
        return ()
    if spec.signature.task == "regression":
        value = next(iter(answers.values())).ravel()
        return tuple(quality.regression(np.asarray(golden.labels, dtype=np.float64), value).metrics)
    truth = np.asarray([str(label) for label in golden.labels])
    return tuple(quality.classification(truth, _labels(spec, answers)).metrics)


def _measured(
    spec: OptimiseSpec,
    golden: Golden,
    files: tuple[Path, Path],
    sessions: tuple[Any, Any],
    answers: list[dict[str, NDArray[Any]]],
    feed: dict[str, NDArray[Any]],
) -> Measured:
    one = {name: value[:1] for name, value in feed.items()}
    many = {name: np.resize(value, (BATCH, *value.shape[1:])) for name, value in feed.items()}
    single = interleaved([partial(session.run, None, one) for session in sessions], ROUNDS)
    batch = interleaved([partial(session.run, None, many) for session in sessions], max(50, ROUNDS // 4))
    name, before, after, difference = _compared(spec, golden, answers)
    labels = [_labels(spec, each) for each in answers]
    return Measured(
        size_before=files[0].stat().st_size,
        size_after=files[1].stat().st_size,
        p50_before=_at(single[0], 50),
        p50_after=_at(single[1], 50),
        p95_before=_at(single[0], 95),
        p95_after=_at(single[1], 95),
        throughput_before=BATCH / _at(batch[0], 50) * 1000,
        throughput_after=BATCH / _at(batch[1], 50) * 1000,
        metric=name,
        metric_before=before,
        metric_after=after,
        difference=difference.value,
        difference_low=difference.low if difference.low is not None else difference.value,
        difference_high=difference.high if difference.high is not None else difference.value,
        agreement=float(np.mean(labels[0] == labels[1])),
        rows=len(labels[0]),
        rounds=ROUNDS,
    )


def _compared(
    spec: OptimiseSpec, golden: Golden, answers: list[dict[str, NDArray[Any]]]
) -> tuple[str, float, float, Metric]:
    """The metric of both and the paired difference; without labels the parent's answers stand for the truth."""
    if spec.signature.task == "regression":
        values = [next(iter(each.values())).ravel().astype(np.float64) for each in answers]
        truth = np.asarray(golden.labels, dtype=np.float64) if golden.labels is not None else values[0]
        errors = [float(np.sqrt(np.mean((value - truth) ** 2))) for value in values]
        return "rmse", errors[0], errors[1], Metric(name="difference", value=errors[0] - errors[1], n=len(truth))
    found = [_labels(spec, each) for each in answers]
    truth = np.asarray([str(label) for label in golden.labels]) if golden.labels is not None else found[0]
    accuracies = [float(np.mean(each == truth)) for each in found]
    return "accuracy", accuracies[0], accuracies[1], quality.paired_accuracy(truth, found[0], found[1])


def interleaved(calls: list[Callable[[], Any]], rounds: int) -> list[list[float]]:
    """Milliseconds of each call, taken in turns after warming up, so that what else the machine does hits all alike."""
    for _ in range(WARM):
        for call in calls:
            call()
    times: list[list[float]] = [[] for _ in calls]
    for _ in range(rounds):
        for call, taken in zip(calls, times, strict=True):
            began = time.perf_counter()
            call()
            taken.append((time.perf_counter() - began) * 1000)
    return times


def _at(times: list[float], q: float) -> float:
    return float(np.percentile(times, q))


def judged(measured: Measured) -> tuple[str, bool]:
    """What the figures mean, in words, and whether the child is recommended: faster here, and not clearly worse."""
    if measured.p50_after <= 0:
        raise got("p50", measured.p50_after, "a time above 0")
    single = measured.p50_before / measured.p50_after
    many = measured.throughput_after / measured.throughput_before
    smaller = measured.size_before / measured.size_after
    about = (
        f"{smaller:.1f}x smaller, P50 {single:.2f}x, throughput {many:.2f}x, "
        f"{measured.metric} {measured.difference:+.4f} "
        f"({measured.difference_low:+.4f} to {measured.difference_high:+.4f})"
    )
    if max(single, many) < FASTER:
        return f"NOT FASTER HERE ({single:.2f}x): {about}", False
    if measured.difference_low < -TOLERATED:
        return f"NOT AS GOOD: {about}", False
    return f"recommended: {about}", True
