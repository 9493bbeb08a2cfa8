"""What is measured for a canary's gates, from recorded predictions and outcomes that were joined to them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from quarterdeckd.pipeline.readings import Arms, readings
from quarterstore.records.canaries import CanaryGate, GateReading
from quarterstore.records.registry import Signature, Tensor
from tests.pipeline.test_outcomes import Store, frame

SIGNATURE = Signature(inputs=(), outputs=(Tensor("p", "FP32", (-1, 1)),), score="p")
LIVE, TRIAL = {"version": "m@1", "role": "live"}, {"version": "m@2", "role": "candidate"}


def answer(number: int, prediction: str, arm: dict[str, str], score: float = 0.9, group: str | None = None) -> Any:
    """One answer of an arm, with a kept feature."""
    made = frame(number, prediction, **arm)
    return type(made)(
        **{name: getattr(made, name) for name in made.__struct_fields__}
        | {"scores": [score], "features": {"sex": [group]} if group else {}}
    )


def read(store: Store, *gates: CanaryGate, since: float = 0.0, signature: Signature = SIGNATURE) -> list[GateReading]:
    arms = Arms(
        endpoint="e", live="m@1", candidate="m@2", since=since, signatures={"m@1": signature, "m@2": signature},
        predictions=[Path(path) for path in store.predictions],
        outcomes={metric: [Path(path) for path in paths] for metric, paths in store.history.items()},
        before=[Path(path) for path in store.predictions],
    )  # fmt: skip
    return list(readings(arms, gates))


def another(tmp_path: Path, *frames: Any) -> Store:
    """A store of its own beside the first one."""
    (tmp_path / "another").mkdir()
    return Store(tmp_path / "another", *frames)


ACCURACY = CanaryGate("accuracy", 0.1)


def labelled(store: Store, labels: dict[int, str], metric: str = "label") -> None:
    text = "".join(f"p{number},{label},120\n" for number, label in labels.items())
    store.add(f"id,value,time\n{text}", metric)


def test_accuracy_is_that_of_each_arm_since_the_canary_began_with_its_coverage(tmp_path: Path) -> None:
    early = [answer(number, "1", LIVE) for number in range(4)]
    since = [answer(number, "1", LIVE) for number in range(4, 10)]
    since += [answer(number, "0", TRIAL) for number in range(10, 14)]
    store = Store(tmp_path, *early, *since)
    labelled(store, {0: "0", 4: "1", 5: "1", 6: "0", 10: "0"})
    (found,) = read(store, ACCURACY, since=103.5)
    assert (found.live.n, found.live.mean, found.candidate.n, found.candidate.mean) == (3, pytest.approx(2 / 3), 1, 1.0)
    assert found.coverage == (0.5, 0.25)
    assert read(another(tmp_path, *since), ACCURACY)[0].live.n == 0


def test_of_a_regression_nothing_is_right(tmp_path: Path) -> None:
    store = Store(tmp_path, answer(1, "1.5", LIVE))
    (found,) = read(store, ACCURACY, signature=Signature(inputs=(), outputs=(), task="regression"))
    assert "m@1 is a regression" in found.missing


def test_a_metric_is_the_mean_of_its_outcomes(tmp_path: Path) -> None:
    store = Store(tmp_path, *(answer(number, "1", LIVE if number < 3 else TRIAL) for number in range(6)))
    labelled(store, {0: "1", 1: "3", 3: "10", 4: "20", 5: "30"}, "revenue")
    (found,) = read(store, CanaryGate("metric", -1, "revenue"))
    assert (found.live.n, found.live.mean, found.live.variance) == (2, 2.0, 2.0)
    assert (found.candidate.n, found.candidate.mean, found.candidate.variance) == (3, 20.0, 100.0)
    (none,) = read(store, CanaryGate("metric", -1, "clicks"))
    assert (none.live.n, none.candidate.n) == (0, 0)


def test_calibration_is_measured_over_as_many_labels_of_each_arm(tmp_path: Path) -> None:
    """One number a row is the share of the second class: 0.1 is a sure 0."""
    live = [answer(number, "0", LIVE, 0.1) for number in range(20)]
    trial = [answer(number, "1", TRIAL, 0.9) for number in range(20, 30)]
    store = Store(tmp_path, *live, *trial)
    labelled(store, dict.fromkeys(range(30), "0"))
    (found,) = read(store, CanaryGate("calibration", 0.1))
    assert (found.live.n, found.candidate.n) == (10, 10)
    assert (found.live.mean, found.candidate.mean) == (pytest.approx(0.1), pytest.approx(0.9))
    (none,) = read(another(tmp_path, *live), CanaryGate("calibration", 0.1))
    assert none.missing == "no label of both arms"


def test_fairness_is_the_candidates_gap_between_the_groups_of_a_kept_feature(tmp_path: Path) -> None:
    """f: 1 is always said of a 1; m: of half of them. 1.0 is the class 1."""
    rows = [(number, "f" if number % 2 else "m", number % 4 < 2) for number in range(40)]
    said = ["1.0" if truth and (group == "f" or number % 8 < 4) else "0.0" for number, group, truth in rows]
    trial = [answer(number, each, TRIAL, group=group) for (number, group, _), each in zip(rows, said, strict=True)]
    store = Store(tmp_path, *trial, answer(99, "1", LIVE, group="f"))
    labelled(store, {number: str(int(truth)) for number, _, truth in rows})
    found, absent = read(store, CanaryGate("fairness", 0.1, "sex"), CanaryGate("fairness", 0.1, "age"))
    assert found.candidate.mean - found.live.mean == pytest.approx(0.5) and min(found.live.n, found.candidate.n) == 10
    assert absent.missing == "age is not kept of any labelled prediction"


def test_psi_is_over_classes_or_over_deciles_of_numbers(tmp_path: Path) -> None:
    live = [answer(number, str(number % 2), LIVE) for number in range(40)]
    trial = [answer(number, "1", TRIAL) for number in range(40, 60)]
    (classes,) = read(Store(tmp_path, *live, *trial), CanaryGate("psi", 0.2))
    assert (classes.live.n, classes.candidate.n, classes.bins) == (40, 20, 2)
    half = 0.5 / 20
    assert classes.value == pytest.approx((half - 0.5) * np.log(half / 0.5) + (1 - 0.5) * np.log(1 / 0.5))
    live = [answer(number, repr(number / 7), LIVE) for number in range(100)]
    trial = [answer(number, repr(number / 7), TRIAL) for number in range(100, 200)]
    (numbers,) = read(another(tmp_path, *live, *trial), CanaryGate("psi", 0.2))
    assert numbers.bins == 10 and numbers.value is not None and numbers.value > 1


def test_a_disagreement_is_counted_over_pairs_of_one_prediction(tmp_path: Path) -> None:
    shadow = {"version": "m@2", "role": "shadow"}
    pairs = [(answer(number, "1", LIVE), answer(number, "1.0" if number % 4 else "0", shadow)) for number in range(20)]
    store = Store(tmp_path, *(each for pair in pairs for each in pair), answer(50, "1", LIVE))
    (found,) = read(store, CanaryGate("disagreement", 0.1))
    assert (found.candidate.n, found.candidate.mean) == (20, 0.25)
    assert read(store, CanaryGate("disagreement", 0.1), since=1000.0) == [found], "also what it said before the canary"
    (none,) = read(another(tmp_path, answer(1, "1", LIVE), answer(2, "1", TRIAL)), CanaryGate("disagreement", 0.1))
    assert none.missing == "no prediction was given by both versions, as a shadow does"
