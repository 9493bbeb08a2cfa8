"""A skops file becomes an ONNX child that answers as the estimator does, or is refused with the row that differs."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import skops.io
from msgspec.structs import replace
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler
from sklearn.svm import LinearSVC

from quarterdeckd.compression.onnx import checked_onnx
from quarterdeckd.pipeline.convert import run
from quarterdeckd.services.samples import schema_of
from quarterdeckd.services.signatures import diff
from quarterstore.records.admission import Golden
from quarterstore.records.conversions import ConvertSpec
from quarterstore.records.faults import Corrupt, Failed, Fault, Invalid

RNG = np.random.default_rng(11)
X = RNG.normal(size=(120, 3)).astype(np.float32)
Y = (X[:, 0] + X[:, 1] > 0).astype(int)
Made = Callable[..., ConvertSpec]


class Silent:
    """A report that nobody reads."""

    def progress(self, *words: Any) -> None:
        """Nothing."""


@pytest.fixture
def spec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Made:
    """A job's folder with the files of a version."""
    monkeypatch.chdir(tmp_path)

    def made(estimator: Any, golden: Golden, code: tuple[str, ...] = ()) -> ConvertSpec:
        path = tmp_path / "model.skops"
        skops.io.dump(estimator, path)
        (tmp_path / "golden.json").write_bytes(msgspec.json.encode(golden))
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        return ConvertSpec("m@1", str(path), digest, str(tmp_path / "golden.json"), schema_of(golden), code)

    return made


def rows(estimator: Any, **more: Any) -> Golden:
    """Forty rows with the answers of the estimator."""
    x = X[:40]
    if hasattr(estimator, "predict_proba"):
        outputs = {"label": estimator.predict(x).tolist(), "score": estimator.predict_proba(x).tolist()}
    else:
        outputs = {"value": estimator.predict(x).reshape(-1, 1).tolist()}
    return Golden(inputs={"x": x.tolist()}, outputs=outputs, labels=Y[:40].tolist(), **more)


ESTIMATORS = {
    "logistic": lambda: make_pipeline(StandardScaler(), LogisticRegression()).fit(X, Y),
    "forest": lambda: RandomForestClassifier(10, random_state=1).fit(X, Y),
    "texts": lambda: LogisticRegression().fit(X, np.where(Y, "yes", "no")),
    "regression": lambda: LinearRegression().fit(X, X[:, 0] * 3 + 1),
}


@pytest.mark.parametrize("name", ESTIMATORS)
def test_the_child_answers_as_the_estimator_and_is_a_patch(spec: Made, name: str) -> None:
    estimator = ESTIMATORS[name]()
    asked = spec(estimator, rows(estimator), ("sklearn.tree._tree.Tree",) if name == "forest" else ())
    made = run(asked, Silent())
    checked_onnx(Path(made.model))
    assert made.parity < 1e-4
    assert diff(asked.signature, made.signature).bump == "patch"
    assert made.metrics and len(made.signature.features) == 3


def test_declared_names_are_kept(spec: Made) -> None:
    estimator = ESTIMATORS["logistic"]()
    found = rows(estimator)
    told = Golden({"rows": found.inputs["x"]}, {"said": found.outputs["label"], "how_sure": found.outputs["score"]})
    asked = spec(estimator, told)
    asked = replace(asked, signature=replace(asked.signature, label="said", score="how_sure"))
    made = run(asked, Silent())
    assert {one.name for one in checked_onnx(Path(made.model)).graph.output} == {"said", "how_sure"}
    assert [one.name for one in made.signature.inputs] == ["rows"]
    assert (made.signature.label, made.signature.score) == ("said", "how_sure")


def test_columns_of_texts_and_numbers_are_an_input_each(spec: Made) -> None:
    import polars as pl

    cities = np.array(["Rome", "Oslo", "Bonn"])[RNG.integers(0, 3, 120)]
    frame = pl.DataFrame({"city": cities, "age": X[:, 0]})
    columns = ColumnTransformer(
        [("c", OneHotEncoder(handle_unknown="ignore"), ["city"]), ("n", "passthrough", ["age"])]
    )
    estimator = make_pipeline(columns, LogisticRegression()).fit(frame, Y)
    golden = Golden(
        inputs={"city": [[each] for each in cities[:30].tolist()], "age": X[:30, :1].tolist()},
        outputs={"label": estimator.predict(frame[:30]).tolist()},
    )
    made = run(spec(estimator, golden), Silent())
    assert [(one.name, one.datatype) for one in made.signature.inputs] == [("city", "BYTES"), ("age", "FP32")]


def test_a_sample_that_is_not_the_models_answer_is_refused_by_its_row(spec: Made) -> None:
    estimator = ESTIMATORS["logistic"]()
    golden = rows(estimator)
    golden.outputs["label"][7] = 1 - golden.outputs["label"][7]
    with pytest.raises(Failed, match="row 7 of label"):
        run(spec(estimator, golden), Silent())


def test_a_flipped_byte_is_found_before_anything_is_loaded(spec: Made) -> None:
    estimator = ESTIMATORS["logistic"]()
    asked = spec(estimator, rows(estimator))
    data = bytearray(Path(asked.model).read_bytes())
    data[len(data) // 2] ^= 1
    Path(asked.model).write_bytes(bytes(data))
    with pytest.raises(Corrupt, match=f"expected {asked.digest}"):
        run(asked, Silent())


def test_what_onnx_cannot_hold_and_what_was_not_allowed_are_refused(spec: Made) -> None:
    golden = rows(ESTIMATORS["logistic"]())
    svc = LinearSVC().fit(X, Y)
    odd = make_pipeline(FunctionTransformer(np.abs), LogisticRegression()).fit(X, Y)
    unknown = make_pipeline(FunctionTransformer(np.frombuffer), LogisticRegression())
    bad: tuple[tuple[Any, type[Fault], str], ...] = (
        (svc, Invalid, "no probabilities"),
        (odd, Invalid, "does not convert"),
        (unknown, Failed, "frombuffer"),
        (ESTIMATORS["forest"](), Failed, "_tree"),
        (StandardScaler().fit(X), Invalid, "predicts"),
    )
    for estimator, kind, said in bad:
        with pytest.raises(kind, match=said):
            run(spec(estimator, golden), Silent())
