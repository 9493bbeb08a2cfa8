"""The console driven by its keys, on real daemons in homes with something in them."""

from __future__ import annotations

import math
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from textual.pilot import Pilot
from textual.screen import Screen

from quarterdeck import keys
from quarterdeck.async_client import AsyncClient
from quarterdeck.client import Client
from quarterdeck.tui.app import DeckApp
from quarterdeck.tui.screens.versions import VersionsScreen
from quarterdeck.tui.widgets.card_view import CardView
from quarterdeck.tui.widgets.record_table import RecordTable
from quarterstore.records import deployments, governance, hooks, monitoring, registry, runs, schedules
from quarterstore.records.people import AddKey
from quarterstore.records.places import Home
from tests.tui.hearing import COUNT, points

SIGNATURE = registry.Signature(
    inputs=(registry.Tensor(name="x", datatype="FP32", shape=(-1, 4)),),
    outputs=(registry.Tensor(name="y", datatype="FP32", shape=(-1, 2)),),
    features=tuple(registry.Feature(name=f"f{index}", kind="number", input="x", index=index) for index in range(4)),
    score="y",
)


def model_bytes(bias: float = 0.0, why: bool = False, lean: float = 0.0) -> bytes:
    """y = x @ W + bias, as ONNX, and `lean` more for the second class; with `why` the rows again as a second output."""
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    weights = numpy_helper.from_array(np.full((4, 2), 0.25, np.float32), "w")
    added = numpy_helper.from_array(np.array([bias, bias + lean], np.float32), "b")
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("Add", ["h", "b"], ["y"])],
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 2])],
        [weights, added],
    )
    if why:
        graph.node.append(helper.make_node("Identity", ["x"], ["why"]))
        graph.output.append(helper.make_tensor_value_info("why", TensorProto.FLOAT, ["n", 4]))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    return bytes(model.SerializeToString())


def recorded(client: Client, runs: int) -> None:
    """Runs with curves, and two versions of `churn`, one of them in Staging."""
    for index in range(runs):
        with client.run("churn", name=f"try {index:02}") as run:
            run.log_params(rate=0.1 / (index + 1), depth=index)
            for step in range(12):
                run.log(loss=1.0 / (step + 1 + index), accuracy=0.8 + step / 100)
    for bias in (0.0, 0.25):
        register(client, bias)
    client.ask(registry.MoveStage(version="churn@1", stage="Staging", reason="looks well"))


def register(client: Client, bias: float, lean: float = 0.0) -> str:
    """A version of `churn`."""
    digest, size = client.put(model_bytes(bias, lean=lean))
    metric = registry.Metric(name="accuracy", value=0.9, low=0.85, high=0.94, n=200)
    asked = registry.RegisterVersion(
        model="churn", digest=digest, size=size, format="onnx", signature=SIGNATURE, metrics=(metric,)
    )
    return client.ask(asked).id


def served(owner: Client, ana: Client) -> None:
    """`churn@2` answers live, `churn@1` is behind it; each approved by ana."""
    for version in ("churn@1", "churn@2"):
        if version != "churn@1":
            owner.ask(registry.MoveStage(version=version, stage="Staging", reason="looks well"))
        move = registry.MoveStage(version=version, stage="Production", reason="good enough")
        asked = owner.ask(governance.Propose(act=msgspec.to_builtins(move), reason="good enough"))
        ana.ask(governance.Approve(approval=asked.id, evidence=asked.evidence))
        owner.ask(deployments.Deploy(version=version))
        deadline = time.monotonic() + 60
        while owner.ask(deployments.ShowDeployment(endpoint="churn")).live != version:
            assert time.monotonic() < deadline, owner.ask(deployments.ShowDeployment(endpoint="churn"))
            time.sleep(0.05)


async def until(pilot: Pilot[Any], found: Callable[[], Any], what: str = "it") -> Any:
    """Wait for something on the screen."""
    deadline = time.monotonic() + 60
    while not (answer := found()):
        if pilot.app._exception is not None:  # a console that has ended shows its last screen for ever
            raise pilot.app._exception
        assert time.monotonic() < deadline, f"{what} did not come:\n{text(pilot)}"
        await pilot.pause(0.02)
    return answer


def lines(pilot: Pilot[Any]) -> list[str]:
    """What the terminal shows, line by line; a cell that a wide character fills is not told apart."""
    strips = pilot.app.screen._compositor.render_strips()
    return ["".join(segment.text for segment in strip) for strip in strips]


def text(pilot: Pilot[Any]) -> str:
    """What the terminal shows."""
    return "\n".join(line.rstrip() for line in lines(pilot))


async def shown(pilot: Pilot[Any], words: str) -> str:
    """Wait until the screen shows these words; answers all of it."""
    await until(pilot, lambda: words in text(pilot), repr(words))
    return text(pilot)


def _filled(screen: Any) -> bool:
    cards = screen.query(CardView)
    return bool(cards) and not screen._filling and all(card._drawing is not None for card in cards)


async def gone_to(pilot: Pilot[Any], key: str, name: str) -> Screen[Any]:
    """Press the digit of a screen and wait until it has its records."""
    await pilot.press(key)
    await until(pilot, lambda: getattr(pilot.app.screen, "name_of_screen", "") == name, name)
    await until(pilot, lambda: _filled(pilot.app.screen), f"the records of {name}")
    await pilot.pause()
    return pilot.app.screen


async def versions_of(pilot: Pilot[Any], model: str) -> Any:
    """Go to a model of the registry and open it; its screen once it has its records."""
    models = await gone_to(pilot, "3", "registry")
    table = models.query_one(RecordTable)
    table.move_cursor(row=table._keys.index(model))
    await pilot.press("enter")
    await until(pilot, lambda: isinstance(pilot.app.screen, VersionsScreen), f"the versions of {model}")
    await until(pilot, lambda: _filled(pilot.app.screen), "its records")
    await pilot.pause()
    return pilot.app.screen


@pytest.fixture(scope="session")
def made() -> Any:
    """This module itself, for its functions: the folder is no package."""
    return sys.modules[__name__]


@pytest.fixture
def console() -> Callable[..., DeckApp]:
    """A console on a home, for a person."""

    def make(home: Home, person: str = "owner") -> DeckApp:
        return DeckApp(AsyncClient(home, person), "/home/ana/deck")

    return make


@pytest.fixture(scope="module")
def quiet(daemon: Any) -> Any:
    """A home of one person in which nothing moves by itself."""
    with daemon.client() as owner:
        recorded(owner, 6)
    return daemon


@pytest.fixture(scope="module")
def life(daemon: Any) -> Iterator[Any]:
    """A team's home in full swing: runs, two live versions one after the other, ana who may approve."""
    found = type(daemon)(Path(tempfile.mkdtemp(prefix="qdt", dir="/tmp")))
    try:
        found.start("--profile", "team")
        with found.client() as owner:
            owner.ask(AddKey(public=keys.make(found.home, "ana"), person="ana", roles=("approver",)))
            recorded(owner, 6)
            with found.client("ana") as ana:
                served(owner, ana)
            owner.ask(hooks.AddHook(event="register", target="exec:/bin/true", model="else"))
            act = msgspec.to_builtins(monitoring.CheckDrift(endpoint="churn"))
            zone = "Europe/Berlin"
            owner.ask(schedules.AddSchedule(name="nightly", act=act, cron="30 2 * * *", zone=zone))
        yield found
    finally:
        found.end()


@pytest.fixture(scope="module")
def many(daemon: Any) -> Any:
    """430 finished runs in two experiments; the last has a parent, a child, artefacts, notes, a dirty tree."""
    with daemon.client() as owner:
        for number in range(COUNT):
            run = f"run-{number:04}"
            owner.ask(
                runs.StartRun(
                    experiment="churn" if number % 2 else "fraud",
                    run=run,
                    name=f"try {number:03}",
                    params={"lr": 10.0 ** -(number % 5), "depth": number % 7, "kind": "ab"[number % 2]},
                    tags={"team": "risk"},
                    source=runs.Source(command="python train.py", commit="c0ffee", patch="-a\n+b", host="box", seed=7),
                    parent="run-0001" if number == COUNT - 1 else None,
                    started=1e9 + number,
                )
            )
            best = math.nan if number == 3 else number / COUNT
            owner.ask(points(run, {"acc": [best / 2, best], "loss": [1.0, 0.001 + 1 / (1 + number)]}))
            owner.ask(runs.EndRun(run=run))
        last = f"run-{COUNT - 1:04}"
        owner.ask(runs.StartRun(experiment="nested", run="run-child", name="child", parent=last, started=1.0))
        owner.ask(runs.EndRun(run="run-child"))
        theirs = {"mlflow.parentRunId": last}
        owner.ask(runs.StartRun(experiment="nested", run="run-theirs", name="theirs", tags=theirs, started=0.5))
        owner.ask(runs.EndRun(run="run-theirs"))
        owner.ask(runs.SetTags(run=last, tags={"mlflow.user": "ana"}))
        digest, size = owner.put(b"x" * 2048)
        owner.ask(runs.LogArtefact(run=last, path="plots/roc [b].png", digest=digest, size=size))
        owner.ask(runs.NoteRun(run=last, notes="with the cleaned rows\nand more"))
    return daemon
