"""A worker's loop: a task in, a trial run, its end said; one process runs many trials, and never sees the storage."""

from __future__ import annotations

import socket

from quarterdeckd.pipeline.explaining import logged
from quarterdeckd.pipeline.tuning.messages import (
    LARGEST,
    Broken,
    Done,
    Ready,
    Reported,
    Said,
    Task,
    Verdict,
    asked,
    encode,
)
from quarterdeckd.pipeline.tuning.trial import Objective, Prepared, Pruned
from quarterstore.records.faults import Fault
from quarterstore.records.studies import StudyDefinition


class Door:
    """A worker's end of the pair of sockets."""

    def __init__(self, end: socket.socket, judged: bool) -> None:
        self._end, self._judged = end, judged

    def say(self, words: Said) -> None:
        """Tell the owner."""
        self._end.send(encode(words))

    def hear(self) -> Task | Verdict | None:
        """The next word of the owner; `None` when it is gone."""
        data = self._end.recv(LARGEST)
        return asked(data) if data else None

    def report(self, step: int, value: float) -> bool:
        """Say where a trial is; with a pruner, wait for its verdict."""
        self.say(Reported(step, value))
        if not self._judged:
            return False
        verdict = self.hear()
        return isinstance(verdict, Verdict) and verdict.prune


def serve(definition: StudyDefinition, prepared: Prepared, end: socket.socket) -> None:
    """Until the owner is gone."""
    door = Door(end, judged=definition.pruner != "none")
    try:
        objective, untouched = prepared()
    except Fault as fault:
        door.say(Broken(type(fault).__name__, fault.field, fault.message))
        return
    door.say(Ready(untouched))
    while isinstance(task := door.hear(), Task):
        door.say(run(task, objective, door))


def run(task: Task, objective: Objective, door: Door) -> Done:
    """One trial; whatever its code raises is how it ended."""
    try:
        # what is scored again is not compared with others midway
        return Done(objective(task, door.report if not task.fresh else lambda step, value: False))
    except Pruned:
        return Done(pruned=True)
    except BaseException as error:  # SystemExit of a person's code ends a trial, not its worker
        return Done(error=logged(error))
