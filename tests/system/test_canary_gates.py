"""Canaries with gates on real traffic: worse labels roll back, no labels hold, and time alone never advances."""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from quarterdeck.client import Client
from quarterstore.records import deployments, outcomes, registry
from quarterstore.records.monitoring import ListAlerts
from quarterstore.records.store import Replay
from quarterstore.records.wire import Published, decode
from tests.conftest import Daemon

SIGNATURE = registry.Signature(
    inputs=(registry.Tensor(name="x", datatype="FP32", shape=(-1, 2)),),
    outputs=(registry.Tensor(name="y", datatype="FP32", shape=(-1, 1)),),
    features=tuple(
        registry.Feature(name=name, kind="number", input="x", index=i) for i, name in enumerate(("a", "sex"))
    ),
    label="y",
)


def model(turned: bool, mark: str = "") -> bytes:
    """The class is the first number, or with `turned` the other one of 0 and 1."""
    weight = numpy_helper.from_array(np.array([[-1.0 if turned else 1.0], [0.0]], np.float32), "w")
    bias = numpy_helper.from_array(np.array([1.0 if turned else 0.0], np.float32), "b")
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("Add", ["h", "b"], ["y"])],
        "class",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 1])],
        [weight, bias],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    made.doc_string = mark
    onnx.checker.check_model(made)
    return bytes(made.SerializeToString())


def register(client: Client, turned: bool, mark: str = "") -> str:
    digest, size = client.put(model(turned, mark))
    return client.ask(
        registry.RegisterVersion(model="m", digest=digest, size=size, format="onnx", signature=SIGNATURE)
    ).id


class Trial:
    """`m@1` live and `m@2` on trial at half of the traffic."""

    def __init__(self, daemon: Daemon, client: Client, *gates: str, turned: bool) -> None:
        self.daemon, self.client = daemon, client
        candidate = self.beside(turned)
        words = [word for gate in gates for word in ("--gate", gate)]
        done = daemon.qd("canary", candidate, "--ladder", "50,100", "--effect", "0.5", *words)
        assert done.returncode == 0, done.stderr
        found = self.until(lambda found: found.canary is not None)
        self.until_served(found.epoch)

    def beside(self, turned: bool) -> str:
        """Make `m@1` live and answer `m@2`, in Staging."""
        register(self.client, False)
        candidate = register(self.client, turned, "two")
        for stage in ("Staging", "Production"):
            self.client.ask(registry.MoveStage(version="m@1", stage=stage))
        assert self.daemon.qd("deploy", "m@1", "--wait").returncode == 0
        self.client.ask(registry.MoveStage(version=candidate, stage="Staging"))
        return candidate

    def shown(self) -> deployments.Deployment:
        return self.client.ask(deployments.ShowDeployment(endpoint="m"))

    def until(self, true: Callable[[deployments.Deployment], Any], seconds: float = 60) -> deployments.Deployment:
        """The deployment once it is so."""
        deadline = time.monotonic() + seconds
        while not true(found := self.shown()):
            assert time.monotonic() < deadline, found
            time.sleep(0.05)
        return found

    def until_served(self, epoch: int) -> None:
        deadline = time.monotonic() + 20
        while not (serving := self.client.ask(deployments.ShowServing())).hosts or serving.epoch < epoch:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        self.address = serving.address

    def ask(self, count: int, version: str = "") -> list[tuple[str, int]]:
        """So many requests, of callers who name a version where one is given; the id and the true class of each."""
        found = []
        named = f"/versions/{version}" if version else ""
        for number in range(count):
            tensor = {"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [number % 2, number // 2 % 2]}
            body = json.dumps({"inputs": [tensor]}).encode()
            with urllib.request.urlopen(f"{self.address}/v2/models/m{named}/infer", body, timeout=10) as answer:
                found.append((str(answer.headers["quarterdeck-prediction"]), number % 2))
        return found

    def label(self, answers: list[tuple[str, int]]) -> None:
        text = "id,value\n" + "".join(f"{name},{truth}\n" for name, truth in answers)
        digest, _ = self.client.put(text.encode())
        assert self.client.ask(outcomes.AddOutcomes(digest=digest)).joined == len(answers)

    def events(self, kind: type) -> list[Any]:
        """Events of one kind that were kept."""
        entries: list[Published] = [decode(raw, Published) for raw in self.client.ask(Replay(after=0))]
        from quarterstore.ledger.folding import events_of

        return [each for entry in entries for each in events_of(entry.events) if isinstance(each, kind)]


@pytest.fixture
def quick(absent: Daemon) -> Daemon:
    """A daemon that judges twenty times a second."""
    absent.start(QUARTERDECK_JUDGE_EVERY="0.05")
    return absent


def test_a_candidate_with_worse_labels_is_rolled_back_with_metric_value_limit_and_n(quick: Daemon) -> None:
    """It answers every request in time and without an error: only its labels tell."""
    with quick.client() as client:
        trial = Trial(quick, client, "accuracy:0.2", turned=True)
        answers = trial.ask(240)
        held = trial.until(lambda found: found.canary and found.canary.judged and found.canary.judged.gates)
        assert held.canary is not None and held.canary.judged is not None
        assert held.canary.judged.verdict == "HOLD", held.canary.judged
        trial.label(answers)
        found = trial.until(lambda found: found.canary is None)
        assert found.live == "m@1" and found.why.startswith("accuracy: 0 against 1 live, 1 worse, limit 0.2")
        (event,) = trial.events(deployments.RolledBack)
        verdict = event.verdict
        assert event.automatic and (verdict.metric, verdict.value, verdict.limit) == ("accuracy", 1.0, 0.2)
        assert verdict.have >= 50 and verdict.unit == "labels" and verdict.gates[0].verdict == "FAIL"
        assert "accuracy" in client.ask(ListAlerts())[0].words
        said = quick.qd("canary", "status", "m").stdout
        assert "m@2" in said and "called off at 50 %" in said and "1 worse, limit 0.2" in said


def test_a_candidate_without_labels_holds_with_the_number_it_needs_and_time_alone_never_advances(
    quick: Daemon,
) -> None:
    """Through a restart too; with the labels it goes live."""
    with quick.client() as client:
        trial = Trial(quick, client, "accuracy:0.2", "psi:0.5", "fairness:sex:0.5", turned=False)
        answers = trial.ask(800)
        why = "labels per arm, have 0"
        held = trial.until(lambda found: found.canary and found.canary.judged and why in found.canary.judged.why)
        assert held.canary is not None and held.canary.judged is not None
        assert (held.canary.judged.verdict, held.canary.judged.metric) == ("HOLD", "accuracy")
        looks = 0
        for item in client.follow():
            if isinstance(item, deployments.CanaryReading):
                assert (item.verdict.verdict, item.epoch) == ("HOLD", held.epoch)
                if (looks := looks + 1) == 30:
                    break
        shown = quick.qd("canary", "status", "m").stdout
        assert "m@2 at 50 % beside m@1" in shown and why in shown and "fairness:sex" in shown and "HOLD" in shown
        quick.stop()
        quick.start(QUARTERDECK_JUDGE_EVERY="0.05")
    with quick.client() as client:
        trial.client = client
        trial.until_served(held.epoch)
        answers += trial.ask(20)  # the counts of the step come with its traffic
        held = trial.until(lambda found: found.canary and found.canary.judged and why in found.canary.judged.why)
        trial.label(answers)
        found = trial.until(lambda found: found.canary is None)
        assert (found.live, found.why) == ("m@2", "")
        (event,) = trial.events(deployments.CanaryFinished)
        gates = {gate.gate: gate for gate in event.verdict.gates}
        assert {gate.verdict for gate in gates.values()} == {"PASS"}
        assert gates["accuracy"].n >= 50 and gates["accuracy"].value == 0 and gates["fairness:sex"].value == 0
        assert client.ask(registry.ShowVersion(version="m@2")).stage == "Production"


def test_gates_that_are_misspelt_are_refused_before_anything_happens(quick: Daemon) -> None:
    with quick.client() as client:
        Trial(quick, client, turned=False)
        assert "m@2 at 50 % beside m@1" in quick.qd("canary", "status", "m").stdout
        client.ask(deployments.RollBack(endpoint="m", reason="enough"))
        before = client.status().seq
        for gate, words in (
            ("acuracy:0.1", "gate: got acuracy:0.1, expected one of accuracy, psi, "),
            ("accuracy", "gate: got accuracy, expected KIND:LIMIT"),
            ("accuracy:x", "gate: got accuracy:x, expected KIND:LIMIT"),
            ("accuracy:2", "gates.accuracy: got 2.0, expected a limit above 0, below 1"),
            ("accuracy:0.1,cover=1", "gate: got accuracy:0.1,cover=1"),
            ("fairness:age:0.1", "gates.fairness:age: got age, expected a known one; nearest: a, sex"),
            ("metric:revenue:0", "gates.metric:revenue: got 0.0"),
        ):
            done = quick.qd("canary", "m@2", "--gate", gate)
            assert done.returncode in (2, 4) and words in done.stderr, done.stderr
        said = quick.qd("canary", "status", "m").stdout.split()
        assert {"m@2", "called", "off", "enough", "by"} <= {*said}, said
        assert quick.qd("canary", "status", "nowhere").returncode == 4
        assert client.status().seq == before
