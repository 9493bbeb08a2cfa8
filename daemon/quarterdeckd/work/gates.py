"""The gates among the hooks: asked before a person's act moves a version, their answers journalled, then the act is
decided by them."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Coroutine
from typing import Any, NamedTuple

import msgspec

from quarterdeckd.api.dispatch import Dispatch
from quarterdeckd.api.writer import Asked
from quarterdeckd.services.deciding import Rules
from quarterdeckd.services.evidence import gates_of
from quarterdeckd.work.hooks import Hooks
from quarterstore.ledger.finding import one_of, version_of
from quarterstore.ledger.state import State
from quarterstore.records.base import tag_of
from quarterstore.records.deployments import StartCanary
from quarterstore.records.faults import Fault
from quarterstore.records.governance import Approve
from quarterstore.records.hooks import Hook, NoteAnswer
from quarterstore.records.registry import MoveStage, Version
from quarterstore.records.trials import StartAb, StartBandit

log = logging.getLogger(__name__)
MOVES = {tag_of(kind): kind for kind in (MoveStage, StartCanary, StartAb, StartBandit)}


class Move(NamedTuple):
    """What a gate is asked of."""

    version: Version
    stage: str
    environment: str
    reason: str
    asked_by: str


class Gates:
    """Holds the acts that move a version to a stage with a gate. What a gate said decides in the rule alone: here it is
    only asked, and only when nothing else stands in the way."""

    def __init__(self, view: State, dispatch: Dispatch, hooks: Hooks, rules: Rules) -> None:
        self._view = view
        self._dispatch = dispatch
        self._hooks = hooks
        self._rules = rules

    def held(self, asked: Asked) -> Coroutine[Any, Any, None] | None:
        """What an act has to wait for; None where no gate has to be asked."""
        if not isinstance(asked.act, (*MOVES.values(), Approve)):
            return None
        if not any(hook.gate for hook in self._view.hooks) or not self._all_but_the_gates(asked):
            return None
        try:
            move = self._move_of(asked.act, asked.speaker.person)
        except (Fault, msgspec.ValidationError):
            return None
        gates = gates_of(self._view, move.version.model, move.stage) if move else []
        return self._ask(gates, move, asked) if move and gates else None

    def _all_but_the_gates(self, asked: Asked) -> bool:
        """Whether the rule, which is pure, would let it through; where it refuses for another reason, nobody outside
        hears of it."""
        asking = self._dispatch.asking(asked.speaker, self._dispatch.seq + 1)
        try:
            self._rules[type(asked.act)](self._view, asked.act, asking)
        except Fault as fault:
            return fault.field == "hook"
        return True

    def _move_of(self, act: Any, person: str) -> Move | None:
        if isinstance(act, Approve):
            approval = one_of(self._view.approvals, "approval", act.approval)
            kind = MOVES.get(approval.act["type"])
            return self._move_of(msgspec.convert(approval.act, kind), approval.asked_by) if kind else None
        if not isinstance(act, MoveStage):
            version = version_of(self._view, act.version)
            at = self._view.deployments.get(act.endpoint or version.model)
            what = "a canary" if isinstance(act, StartCanary) else "a trial"
            return Move(version, "Production", at.environment if at else "default", what, person)
        version = version_of(self._view, act.version, environment=act.environment)
        return Move(version, act.stage, act.environment, act.reason, person)

    async def _ask(self, gates: list[Hook], move: Move, asked: Asked) -> None:
        await asyncio.gather(*(self._ask_one(gate, move, asked) for gate in gates))

    async def _ask_one(self, gate: Hook, move: Move, asked: Asked) -> None:
        version = move.version
        own = hashlib.sha256(f"{asked.speaker.key}/{asked.request}/{gate.id}".encode()).hexdigest()[:20]
        data = {
            "version": version.id,
            "model": version.model,
            "digest": version.digest,
            "from": version.stage,
            "to": move.stage,
            "environment": move.environment,
            "asked_by": move.asked_by,
            "reason": move.reason,
            "metrics": {metric.name: metric.value for metric in version.metrics},
        }
        ok, words = await self._hooks.ask(gate, f"asked-{own}", version.id, data)
        answer = NoteAnswer(
            hook=gate.id,
            version=version.id,
            stage=move.stage,
            ok=ok,
            words=words,
            asked_by=move.asked_by,
            environment=move.environment,
        )
        try:
            await self._dispatch.speak(answer)
        except Fault as fault:
            log.warning("%s answered, which could not be noted: %s", gate.id, fault.line())
