"""A replay: what was recorded is answered again and compared, what cannot be is counted with its reason."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from quarterdeckd.measures import differences
from quarterdeckd.serving import replay
from quarterdeckd.serving.recorder import Frame, columns
from quarterstore.records.outcomes import LABEL
from quarterstore.records.predictions import hashed
from quarterstore.records.registry import Feature, Signature, Tensor
from quarterstore.records.replays import ReplayResult, ReplaySpec
from tests.pipeline.test_outcomes import Store

NAMES = ("age", "fee")


def signature(*names: str, optional: tuple[str, ...] = ()) -> Signature:
    """A class and its score from numbers by name."""
    return Signature(
        inputs=(Tensor(name="x", datatype="FP32", shape=(-1, len(names))),),
        outputs=(Tensor(name="label", datatype="INT64", shape=(-1,)), Tensor("score", "FP32", (-1,))),
        features=tuple(
            Feature(name=name, kind="number", input="x", index=at, optional=name in optional)
            for at, name in enumerate(names)
        ),
        label="label",
        score="score",
    )


def model(*weights: float, cut: float = 0.5, whole: bool = False) -> bytes:
    """score = x . weights, label = score > cut; a weight of infinity makes an answer that is not finite."""
    width = len(weights)
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["x"], ["numbers"], to=TensorProto.FLOAT),
            helper.make_node("MatMul", ["numbers", "w"], ["score"]),
            helper.make_node("Greater", ["score", "cut"], ["above"]),
            helper.make_node("Cast", ["above"], ["label"], to=TensorProto.INT64),
        ],
        "cut",
        [helper.make_tensor_value_info("x", TensorProto.INT64 if whole else TensorProto.FLOAT, ["n", width])],
        [
            helper.make_tensor_value_info("label", TensorProto.INT64, ["n"]),
            helper.make_tensor_value_info("score", TensorProto.FLOAT, ["n"]),
        ],
        [numpy_helper.from_array(np.array(weights, np.float32), "w"), numpy_helper.from_array(np.float32(cut), "cut")],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(made)
    return bytes(made.SerializeToString())


class Said:
    def progress(self, name: str, fraction: float | None = None, words: str = "") -> None: ...


def frame(number: int, version: str = "m@1", **about: Any) -> Frame:
    """What `m@1` (score = age, cut at 0.5) answered to row `number`."""
    age = number / 100
    fields = {
        "id": f"p{number}", "at": 100.0 + number, "endpoint": "m", "version": version, "role": "live", "epoch": 1,
        "status": 200, "latency": 2.0, "features": {"age": [age], "fee": [float(number % 3)]},
        "predictions": [int(np.float32(age) > 0.5)], "scores": [float(np.float32(age))],
    }  # fmt: skip
    return Frame(**fields | about)


def parquet(path: Path, *frames: Frame) -> str:
    """A file as the daemon folds it."""
    found = columns(frames)
    kinds = {"row": pl.Int32, "status": pl.Int32, "prediction": pl.String, "id": pl.String, "version": pl.String}
    pl.DataFrame(
        [pl.Series(name, values, dtype=kinds.get(name), strict=False) for name, values in found.items()]
    ).write_parquet(path)
    return str(path)


@pytest.fixture
def ask(tmp_path: Path) -> Any:
    """Replay some frames against a candidate."""

    def run(frames: list[Frame], candidate: bytes | None = None, **about: Any) -> ReplayResult:
        (tmp_path / "model.onnx").write_bytes(model(1.0, 0.0) if candidate is None else candidate)
        (tmp_path / "live.onnx").write_bytes(model(1.0, 0.0))
        fields = {
            "endpoint": "m", "version": "m@2", "model": str(tmp_path / "model.onnx"), "signature": signature(*NAMES),
            "since": 0.0, "until": 1e9, "limit": 100_000, "tolerance": 0.01, "top": 20, "live": "m@1",
            "live_model": str(tmp_path / "live.onnx"), "live_signature": signature(*NAMES),
            "features": {"m@1": NAMES, "m@2": NAMES},
            "predictions": (parquet(tmp_path / "predictions.parquet", *frames),),
        } | about  # fmt: skip
        for side in ("", "live_"):
            path = Path(fields[f"{side}model"])
            fields[f"{side}digest"] = hashlib.sha256(path.read_bytes()).hexdigest()
        return replay.run(ReplaySpec(**fields), Said())

    return run


def test_the_same_version_again_agrees_on_every_row(ask: Any) -> None:
    found = ask([frame(number) for number in range(100)])
    assert (found.rows, found.agreed, found.rate, found.left_out) == (100, 100, 1.0, {})
    assert found.high == 1.0 and 0.95 < found.low < 1.0
    assert (found.largest_difference, found.psi, found.differences, found.flips) == (0.0, 0.0, (), ())
    assert (found.checked, found.reproduced) == (100, 100)


def raising() -> bytes:
    """The same as `model(1, 0)`, but it knows fees of 0 and 1 only and raises an error on a 2."""
    made = onnx.load_from_string(model(1.0, 0.0))
    graph = made.graph
    graph.initializer.extend(
        [numpy_helper.from_array(np.array(1), "one"), numpy_helper.from_array(np.zeros(2, np.float32), "known")]
    )
    scored = next(node for node in graph.node if "score" in node.output)
    scored.output[0] = "plain"
    looked = [
        helper.make_node("Gather", ["x", "one"], ["fee"], axis=1),
        helper.make_node("Cast", ["fee"], ["at"], to=TensorProto.INT64),
        helper.make_node("Gather", ["known", "at"], ["nothing"]),
        helper.make_node("Add", ["plain", "nothing"], ["score"]),
    ]
    rest = list(graph.node)
    del graph.node[:]
    graph.node.extend([*rest[:2], *looked, *rest[2:]])
    onnx.checker.check_model(made)
    return bytes(made.SerializeToString())


def test_only_the_rows_on_which_the_candidate_raises_an_error_are_left_out(ask: Any) -> None:
    """A third of a whole chunk, among those it answers."""
    found = ask([frame(number) for number in range(300)], raising())
    assert found.left_out == {"the candidate raised an error": 100}
    assert (found.rows, found.agreed) == (200, 200)


def test_each_row_that_is_answered_otherwise_is_named_and_counted(ask: Any) -> None:
    """Cut at 0.8: the rows from 0.51 to 0.80 change their class, the scores stay."""
    found = ask([frame(number) for number in range(100)], model(1.0, 0.0, cut=0.8))
    assert (found.rows, found.agreed) == (100, 70)
    assert [(flip.recorded, flip.candidate, flip.rows) for flip in found.flips] == [("1", "0", 30)]
    assert len(found.differences) == 20
    assert {each.prediction for each in found.differences} <= {f"p{number}" for number in range(51, 81)}
    assert found.differences[0].prediction == "p80"  # the surest first
    assert found.psi is not None and found.psi > 0.1


def test_differences_of_scores_are_a_histogram_around_none(ask: Any) -> None:
    found = ask([frame(number) for number in range(100)], model(1.1, 0.0))
    assert found.largest_difference == pytest.approx(0.099, abs=1e-6)
    assert found.mean_difference == pytest.approx(np.mean(np.arange(100) / 1000), abs=1e-6)
    assert found.histogram is not None and sum(found.histogram.counts) == 100
    assert sum(found.histogram.counts[:10]) == 0  # none is lower


def test_a_slice_that_is_worse_comes_first_and_small_ones_not_at_all(ask: Any) -> None:
    frames = [frame(number, features={"age": [0.4], "fee": [float(number < 40)]}, predictions=[0], scores=[0.4])
              for number in range(120)]  # fmt: skip
    found = ask(frames, model(1.0, 1.0))
    assert (found.slices[0].field, found.slices[0].value, found.slices[0].pairs) == ("fee", "1.0", 40)
    assert found.slices[0].rate == 0.0
    few = ask(frames[20:], model(1.0, 1.0))
    assert all(each.pairs >= 30 for each in few.slices) and not [each for each in few.slices if each.value == "1.0"]


def test_the_same_input_has_the_same_hash_and_another_one_has_not(ask: Any) -> None:
    frames = [frame(number) for number in range(200)]
    first, again = ask(frames, model(1.0, 0.01)), ask(frames[::-1], model(1.0, 0.01))
    assert first.hash == again.hash and len(first.hash) == 64
    plain = [msgspec.structs.replace(each, timings=()) for each in (first, again)]
    assert plain[0] == plain[1]
    assert ask(frames, model(1.0, 0.02)).hash != first.hash
    assert ask(frames[:-1], model(1.0, 0.01)).hash != first.hash
    assert ask(frames, model(1.0, 0.01), tolerance=0.02).hash != first.hash


def test_what_cannot_be_replayed_is_counted_with_its_reason(ask: Any) -> None:
    frames = [
        frame(0),
        frame(1, features={"age": [hashed("salt", 0.5)], "fee": [1.0]}),
        frame(2, features={"age": [0.2]}),
        frame(3, features={"fee": [1.0]}, version="m@0"),
        frame(4, status=500, predictions=[], scores=[], error="it broke"),
        frame(5, predictions=[], scores=[]),
        frame(6, version="m@2"),
        frame(7, features={"age": ["old"], "fee": [1.0]}),
    ]
    known = {"m@0": ("fee",), "m@1": NAMES, "m@2": NAMES}
    found = ask(frames, features=known)
    assert found.rows == 1
    assert found.left_out == {
        "age holds what does not fit": 1,
        "age was kept as a hash": 1,
        "another signature: age is not taken by m@0": 1,
        "fee was not kept": 1,
        "it was answered with an error": 1,
        "m@2 answered it itself": 1,
        "no answer was kept": 1,
    }
    assert "7 could not be replayed" in found.words


def test_a_feature_that_may_be_left_out_is_left_out_where_the_version_then_took_none(ask: Any) -> None:
    frames = [frame(number, "m@0", features={"age": [number / 100]}) for number in range(10)]
    about = {"signature": signature(*NAMES, optional=("fee",)), "features": {"m@0": ("age",), "m@2": NAMES}}
    found = ask(frames, model(1.0, 0.0), **about)
    assert found.left_out == {"the answer is not finite": 10}  # NaN as in a host
    assert ask(frames, model(1.0, 0.0), **about | {"signature": signature(*NAMES)}).rows == 0


def test_a_row_the_candidate_fails_on_is_left_out_alone(ask: Any) -> None:
    frames = [frame(number) for number in range(10)] + [frame(11, features={"age": [3e38], "fee": [3e38]})]
    found = ask(frames, model(2.0, 2.0))
    assert (found.rows, found.left_out) == (10, {"the answer is not finite": 1})


def test_a_value_that_the_candidate_does_not_take_is_counted_without_being_told(ask: Any) -> None:
    """It takes whole numbers; what was kept of a person is in no reason."""
    known = signature(*NAMES)
    whole = msgspec.structs.replace(known, inputs=(Tensor(name="x", datatype="INT64", shape=(-1, 2)),))
    found = ask([frame(number) for number in range(98, 103)], model(1.0, 0.0, whole=True), signature=whole)
    assert (found.rows, found.left_out) == (1, {"age holds what does not fit": 4})


def test_the_window_and_the_limit_keep_the_newest_rows(ask: Any) -> None:
    frames = [frame(number) for number in range(100)]
    found = ask(frames, since=149.0, until=189.0, limit=10)
    assert (found.rows, found.older) == (10, 30)
    other = ask(frames, since=149.0, until=189.0, limit=40)
    assert (other.rows, other.older) == (40, 0)
    assert {each.version: each.rows for each in other.timings if each.recorded} == {"m@1": 40}


def test_nothing_recorded_is_said_and_is_no_error(ask: Any) -> None:
    found = ask([frame(0)], since=1000.0)
    assert (found.rows, found.rate, found.psi, found.words) == (0, None, None, "no recorded row could be replayed")
    assert ask([frame(0)], predictions=("gone.parquet",)).rows == 0


def test_labels_say_how_right_both_were(ask: Any, tmp_path: Path) -> None:
    """The truth is age > 0.8, which is where the candidate cuts."""
    frames = [frame(number) for number in range(100)]
    (tmp_path / "labels").mkdir()
    store = Store(tmp_path / "labels", *(frame(number, features={}) for number in range(100)))
    text = "".join(f"p{number},{int(number > 80)},{101 + number}\n" for number in range(0, 100, 2))
    store.add(f"id,value,time\n{text}", LABEL, "m")
    labels = tuple(map(str, store.history[LABEL]))
    [found] = ask(frames, model(1.0, 0.0, cut=0.8), labels=labels).scored
    assert (found.metric, found.n, found.candidate, found.recorded) == ("accuracy", 50, 1.0, 0.7)
    assert found.recorded_low < 0.7 < found.recorded_high


def test_a_live_version_that_does_not_give_its_own_answers_again_is_said(ask: Any) -> None:
    """What was recorded is not what it was asked then, or it is not deterministic."""
    found = ask([frame(number, scores=[0.9], predictions=[1]) for number in range(40)])
    assert found.checked == 40 and found.reproduced == 0
    assert "m@1 gives only 0 of 40 of its own answers again" in found.words


@settings(max_examples=50)
@given(st.lists(st.tuples(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6)), min_size=1, max_size=60))
def test_every_difference_is_in_one_bin_and_none_beyond_the_largest(pairs: list[tuple[float, float]]) -> None:
    before, after = (np.array(side) for side in zip(*pairs, strict=True))
    found = differences.apart(before, after)
    assert found is not None
    assert sum(found.counts) == len(pairs) and len(found.counts) == differences.BINS
    assert found.mean <= found.largest * (1 + 1e-9)
    assert found.largest == pytest.approx(np.abs(after - before).max())
