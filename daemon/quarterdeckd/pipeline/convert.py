"""A skops file as ONNX: loaded here and nowhere else, converted, and proved to answer as the estimator does on the
version's golden rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from quarterdeckd.compression.onnx import arrays, checked_onnx, lists, opened
from quarterdeckd.learning import adapters
from quarterdeckd.learning.fitted import Meaning, signature
from quarterdeckd.measures import quality
from quarterdeckd.pipeline.export import TOLERANCE, compared
from quarterstore.records.admission import Golden
from quarterstore.records.conversions import ConvertResult, ConvertSpec
from quarterstore.records.datasets import Column
from quarterstore.records.faults import Corrupt, Failed, got
from quarterstore.records.names import drawn
from quarterstore.records.registry import Metric, Signature
from quarterstore.shelf.files import digest_of


def run(spec: ConvertSpec, report: Any) -> ConvertResult:
    """Load, convert, compare; the child's files lie in `out/`."""
    report.progress("load", 0.1, "the estimator")
    estimator = _loaded(Path(spec.model), spec.digest, spec.code)
    golden = msgspec.json.decode(Path(spec.golden).read_bytes(), type=Golden)
    feed = arrays(golden.inputs, spec.signature)
    meaning = meaning_of(estimator, spec.signature)
    report.progress("convert", 0.5, type(estimator).__name__)
    out = Path("out")
    out.mkdir(exist_ok=True)
    ours = out / "model.onnx"
    ours.write_bytes(adapters.sklearn_onnx(estimator, meaning))
    own = signature(meaning, {})
    names = _names(own, spec.signature)
    found = _answered(ours, {ours_name: feed[theirs] for ours_name, theirs in names.items() if theirs in feed})
    parity = compared(_answers(estimator, feed, meaning), found, own)
    ours.write_bytes(adapters.renamed(ours.read_bytes(), names))
    checked_onnx(ours)
    given = {names[name]: values for name, values in found.items()}
    _check_sample(golden, given)
    kept = replace(golden, outputs={name: lists(np.asarray(values)) for name, values in given.items()})
    (out / "golden.json").write_bytes(msgspec.json.encode(kept))
    return ConvertResult(
        model=str(ours),
        golden="out/golden.json",
        signature=_as_declared(own, spec.signature, names),
        metrics=_metrics(golden, found, meaning),
        parity=parity,
        words=f"{type(estimator).__name__}, {len(next(iter(feed.values())))} rows within {parity:.2g}",
    )


def _loaded(path: Path, digest: str, code: tuple[str, ...]) -> Any:
    """The estimator, when its bytes are those that were registered; types beyond skops' own only as they were allowed
    then."""
    if (found := digest_of(path)) != digest:
        raise Corrupt(f"{digest[:16]}: got {found}, expected {digest}", field="model")
    from skops.io import load

    try:
        return load(path, trusted=list(code))
    except Exception as error:  # skops and the types it constructs raise whatever the file leads them to
        reason = drawn(" ".join(f"{type(error).__name__}: {error}".split()), longest=200)
        raise Failed(f"the estimator could not be loaded ({reason})", field="model") from error


def meaning_of(estimator: Any, declared: Signature) -> Meaning:
    """What the declared inputs are to the estimator, and its classes as it has them."""
    sized = [(tensor, tensor.shape[1] if len(tensor.shape) == 2 else 0) for tensor in declared.inputs]
    if len(sized) == 1 and sized[0][0].datatype != "BYTES" and sized[0][1] > 0:
        width = sized[0][1]
        names = [feature.name for feature in declared.features] or [f"x{place}" for place in range(width)]
        columns = tuple(Column(name, "number", 0, 0) for name in names)
    elif all(size == 1 for _, size in sized) and any(tensor.datatype == "BYTES" for tensor, _ in sized):
        kinds = {tensor.name: "text" if tensor.datatype == "BYTES" else "number" for tensor, _ in sized}
        columns = tuple(Column(name, kind, 0, 0) for name, kind in kinds.items())
    else:
        shown = ", ".join(f"{tensor.name} {tensor.datatype} {list(tensor.shape)}" for tensor in declared.inputs)
        raise got("signature.inputs", shown, "one tensor [-1, n] of numbers, or one [-1, 1] a column")
    if not hasattr(estimator, "predict"):
        raise got("model", type(estimator).__name__, "an estimator that predicts")
    if not hasattr(estimator, "classes_"):
        return Meaning(columns, "regression", ())
    if not hasattr(estimator, "predict_proba"):
        raise got("model", f"{type(estimator).__name__}, which gives no probabilities", "a classifier that does")
    whole = np.asarray(estimator.classes_).dtype.kind in "iufb"
    classes = tuple(str(int(each)) if whole else str(each) for each in estimator.classes_)
    return Meaning(columns, "classification", classes)


def _names(own: Signature, declared: Signature) -> dict[str, str]:
    """Our names of the tensors -> the declared ones, where those are clear."""
    names = {mine.name: theirs.name for mine, theirs in zip(own.inputs, declared.inputs, strict=True)}
    for mine in own.outputs:
        role = declared.score if mine.name == "score" else declared.label
        texts = mine.name == "label"
        like = [
            each.name for each in declared.outputs if (each.datatype in ("INT64", "INT32", "BYTES", "BOOL")) == texts
        ]
        names[mine.name] = role or (like[0] if len(like) == 1 else mine.name)
    return names


def _as_declared(own: Signature, declared: Signature, names: dict[str, str]) -> Signature:
    """Our signature under the declared names and features."""

    def under(name: str | None) -> str | None:
        return names[name] if name is not None else None

    features = declared.features or tuple(replace(each, input=names[each.input]) for each in own.features)
    return replace(
        own,
        inputs=tuple(replace(each, name=names[each.name]) for each in own.inputs),
        outputs=tuple(replace(each, name=names[each.name]) for each in own.outputs),
        features=features,
        label=under(own.label),
        score=under(own.score),
    )


def _answered(path: Path, feed: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    session = opened(path)
    names = [node.name for node in session.get_outputs()]
    return dict(zip(names, session.run(names, feed), strict=True))


def _answers(estimator: Any, feed: dict[str, NDArray[Any]], meaning: Meaning) -> NDArray[np.float64]:
    """What the estimator itself says of the golden rows."""
    if meaning.texts:
        import polars as pl

        rows: Any = pl.DataFrame({name: values.reshape(-1) for name, values in feed.items()})
    else:
        rows = next(iter(feed.values()))
    try:
        answer = estimator.predict_proba(rows) if meaning.classes else estimator.predict(rows)
    except Exception as error:  # an estimator raises whatever its rows lead it to
        reason = drawn(" ".join(f"{type(error).__name__}: {error}".split()), longest=200)
        raise Failed(f"the estimator raised an error on the golden rows ({reason})", field="golden") from error
    found: NDArray[np.float64] = np.asarray(answer, dtype=np.float64)
    return found if meaning.classes else found.reshape(-1)


def _check_sample(golden: Golden, given: dict[str, NDArray[Any]]) -> None:
    """The answers that came with the sample are those of the model."""
    for name, expected in golden.outputs.items():
        answer = np.asarray(given[name]) if name in given else None
        if answer is None or answer.size != np.asarray(expected).size:
            raise got(f"golden.outputs.{name}", "a tensor of another name or size", f"one of {', '.join(given)}")
        wanted = np.asarray(expected).reshape(answer.shape)
        number = answer.dtype.kind == "f"
        limit = max(golden.tolerance, TOLERANCE)
        same = (
            np.isclose(answer, wanted.astype(float), atol=limit) if number else answer.astype(str) == wanted.astype(str)
        )
        if not same.all():
            row = int(np.argmin(same.reshape(len(answer), -1).all(axis=1)))
            raise Failed(f"row {row} of {name}: got another answer than the sample's", field="golden")


def _metrics(golden: Golden, found: dict[str, NDArray[Any]], meaning: Meaning) -> tuple[Metric, ...]:
    """Measured on the golden rows, where their truth is known."""
    if golden.labels is None:
        return ()
    if not meaning.classes:
        truth = np.asarray(golden.labels, dtype=np.float64)
        return tuple(quality.regression(truth, np.asarray(found["value"]).ravel()).metrics)
    said = np.asarray([str(each) for each in np.asarray(found["label"]).ravel().tolist()])
    return tuple(quality.classification(np.asarray([str(each) for each in golden.labels]), said).metrics)
