"""Any sequence of acts: refused ones change nothing, kept ones replay to the same state, one Production at most."""

from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from quarterstore.ledger.folding import fold_entry
from quarterstore.ledger.state import State
from quarterstore.records import deployments, registry, runs, store
from quarterstore.records.faults import Fault
from quarterstore.records.wire import decode, encode
from tests.ruling import Ruling

STAGES = ("None", "Staging", "Production", "Archived")
SHAPE = registry.Signature(
    inputs=(registry.Tensor(name="x", datatype="FP32", shape=(-1, 2)),),
    outputs=(registry.Tensor(name="y", datatype="FP32", shape=(-1, 1)),),
)
models = st.sampled_from(("a", "b"))
numbers = st.integers(1, 4)
stages = st.sampled_from(STAGES)


class Deck(RuleBasedStateMachine):
    """Acts of several nouns in any order, as a crash model of the writer: each is kept whole or not at all."""

    def __init__(self) -> None:
        super().__init__()
        self.ruling = Ruling()
        self.count = 0

    def do(self, act: Any) -> None:
        """Do it; a refusal must leave everything as it was."""
        before, entries = self.ruling.kept(), len(self.ruling.entries)
        try:
            self.ruling.act(act)
        except Fault:
            assert self.ruling.kept() == before
            assert len(self.ruling.entries) == entries

    @rule(model=models)
    def register(self, model: str) -> None:
        self.count += 1
        digest = f"{self.count:064x}"
        self.do(registry.RegisterVersion(model=model, digest=digest, size=1, format="onnx", signature=SHAPE))

    @rule(model=models, number=numbers, stage=stages, skip=st.booleans())
    def move(self, model: str, number: int, stage: Any, skip: bool) -> None:
        self.do(registry.MoveStage(version=f"{model}@{number}", stage=stage, skip_stage=skip, reason="a reason"))

    @rule(model=models, number=numbers)
    def remove(self, model: str, number: int) -> None:
        self.do(registry.RemoveVersion(version=f"{model}@{number}"))

    @rule(model=models, number=numbers)
    def deploy(self, model: str, number: int) -> None:
        self.do(deployments.Deploy(version=f"{model}@{number}"))

    @rule(model=models, number=numbers, ok=st.booleans())
    def admit(self, model: str, number: int, ok: bool) -> None:
        self.do(deployments.AdmitVersion(endpoint=model, version=f"{model}@{number}", ok=ok, why="tried"))

    @rule(model=models, number=numbers)
    def canary(self, model: str, number: int) -> None:
        self.do(deployments.StartCanary(version=f"{model}@{number}"))

    @rule(model=models)
    def roll_back(self, model: str) -> None:
        self.do(deployments.RollBack(endpoint=model))

    @rule(model=models)
    def stop(self, model: str) -> None:
        self.do(deployments.StopEndpoint(endpoint=model))

    @rule(run=numbers)
    def start(self, run: int) -> None:
        self.do(runs.StartRun(experiment="e", run=f"run-{run}"))

    @rule(run=numbers, state=st.sampled_from(("FINISHED", "FAILED", "KILLED")))
    def end(self, run: int, state: Any) -> None:
        self.do(runs.EndRun(run=f"run-{run}", state=state))

    @rule()
    def undo(self) -> None:
        self.do(store.Undo())

    @invariant()
    def at_most_one_production_version_a_model(self) -> None:
        """And the open tenure names exactly that one."""
        for model in ("a", "b"):
            live = [v.id for v in self.ruling.state.versions if v.model == model and v.stage == "Production"]
            open_ = [t.version for t in self.ruling.state.tenures if t.model == model and t.until is None]
            assert len(live) <= 1
            assert live == open_

    @invariant()
    def what_is_live_is_a_version_that_is_there(self) -> None:
        for found in self.ruling.state.deployments:
            for version in (found.live, found.pending, found.canary.candidate if found.canary else None):
                assert version is None or self.ruling.state.versions[version].removed is None

    def teardown(self) -> None:
        """The journal replays to the state."""
        assert replayed(self.ruling) == self.ruling.kept()


def replayed(ruling: Ruling) -> dict[str, dict[str, Any]]:
    """What the entries say, through the bytes that the disk would hold."""
    state = State()
    for entry in ruling.entries:
        fold_entry(state, decode(encode(entry), type(entry)))
    return {name: dict(book.rows) for name, book in state.books().items()}


def test_what_a_job_is_given_is_the_same_after_a_replay() -> None:
    """Found by the machine: lists in a job's spec were tuples until the daemon's next start."""
    deck = Deck()
    deck.register("b")
    deck.move("b", 1, "Production", True)
    deck.deploy("b", 1)
    assert len(deck.ruling.kept()["jobs"]) == 1
    deck.teardown()


TestDeck = Deck.TestCase
TestDeck.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
