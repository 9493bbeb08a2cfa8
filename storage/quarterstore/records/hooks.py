"""Hooks: a program is run or a receiver told when something happened; a gate is asked before."""

from __future__ import annotations

import hashlib
from typing import ClassVar, Final, Literal, NamedTuple

from quarterstore.records import deployments, governance, monitoring, pipelines, registry, runs
from quarterstore.records.base import Act, Event, Query, Record, Role

HookKind = Literal["exec", "webhook"]
DeliveryState = Literal["WAITING", "MADE", "FAILED"]

ALERT: Final = "hook"
"""The kind of alert that a dead letter raises; hooks are never told of one, or two broken ones would call each other
for ever."""


class Attempt(Record, frozen=True):
    """One try of a delivery: when, for how long, what came of it; `output` is the cleaned end of what a program said or
    a receiver answered."""

    at: float
    seconds: float
    ok: bool
    words: str
    status: int | None = None
    """A program's exit status, or a receiver's HTTP status."""
    output: str = ""


class Hook(Record, frozen=True):
    """What is called when something happened: `target` is the path of a program or the address of a receiver. `gate`
    asks it before a version moves to `stage`, and a no, or no answer, refuses the move."""

    id: str
    event: str
    kind: HookKind
    target: str
    created: float
    created_by: str
    args: tuple[str, ...] = ()
    model: str | None = None
    stage: str | None = None
    gate: bool = False
    allow_private: bool = False
    allow_http: bool = False
    secret: str | None = None
    """The name of the file under keys/ that holds what signs its requests."""
    paused: bool = False
    waiting: int = 0
    made: int = 0
    failed: int = 0
    skipped: int = 0
    """What happened while it was paused: not told."""
    last: float | None = None
    last_error: str | None = None


class Delivery(Record, frozen=True):
    """One thing that happened, for one hook: its id is made of the entry and the hook, so a receiver can tell a repeat.
    FAILED is a dead letter: it stays, and can be sent again."""

    id: str
    hook: str
    event: str
    seq: int
    nth: int
    """Which of the entry's events that this hook wants."""
    at: float
    state: DeliveryState
    subject: str = ""
    rounds: int = 0
    """How often it was asked for again."""
    attempts: tuple[Attempt, ...] = ()
    ended: float | None = None
    error: str | None = None


class GateAnswer(Record, frozen=True):
    """What a gate said of one move: who was asked, for whom, yes or no, in its own words."""

    hook: str
    version: str
    stage: str
    ok: bool
    words: str
    at: float
    asked_by: str
    environment: str = "default"


def answer_key(hook: str, version: str, stage: str, environment: str) -> str:
    """What a gate's answer is kept under: one move, to one stage of one environment."""
    return f"{hook}/{version}/{stage}/{environment}"


class AddHook(Act[Hook], tag="hooks.add", frozen=True):
    """Call something when an event happens: `exec:/path` runs a program (its owner must be the daemon's user or root,
    and nobody else may write it), `https://…` posts a signed CloudEvent. Receivers at private addresses need
    `allow_private`, plain http beyond loopback needs `allow_http`. The secret that signs is read from `secret_file` on
    the daemon's machine, or made; `program` and `secret` are filled in by the daemon."""

    role: ClassVar[Role] = "admin"
    event: str
    target: str
    args: tuple[str, ...] = ()
    model: str | None = None
    stage: str | None = None
    gate: bool = False
    allow_private: bool = False
    allow_http: bool = False
    secret_file: str | None = None
    program: str | None = None
    secret: str | None = None


class RemoveHook(Act[Hook], tag="hooks.remove", frozen=True):
    """Forget a hook with its deliveries; those that wait are not made."""

    role: ClassVar[Role] = "admin"
    hook: str


class PauseHook(Act[Hook], tag="hooks.pause", frozen=True):
    """Call a hook no more until it is resumed: what waits is kept, what happens meanwhile is counted, not told."""

    role: ClassVar[Role] = "admin"
    hook: str


class ResumeHook(Act[Hook], tag="hooks.resume", frozen=True):
    """Call a paused hook again."""

    role: ClassVar[Role] = "admin"
    hook: str


class TestHook(Act[Delivery], tag="hooks.test", frozen=True):
    """Send a hook a delivery that says nothing but that it is a test, the way every other goes."""

    hook: str


class Redeliver(Act[Delivery], tag="hooks.redeliver", frozen=True):
    """Send a delivery again that is over, under its id."""

    delivery: str


class NoteDelivery(Act[Delivery], tag="hooks.note_delivery", frozen=True):
    """Say what became of a delivery; spoken by the daemon once its attempts are over."""

    role: ClassVar[Role] = "daemon"
    delivery: str
    rounds: int
    attempts: tuple[Attempt, ...]


class NoteAnswer(Act[GateAnswer], tag="hooks.note_answer", frozen=True):
    """Say what a gate answered; spoken by the daemon before the move is decided."""

    role: ClassVar[Role] = "daemon"
    hook: str
    version: str
    stage: str
    ok: bool
    words: str
    asked_by: str
    environment: str = "default"


class ListHooks(Query[list[Hook]], tag="hooks.list", frozen=True):
    """Hooks with what they have delivered and what failed; those that hear of one model when it is named."""

    model: str | None = None


class ListDeliveries(Query[list[Delivery]], tag="hooks.deliveries", frozen=True):
    """Deliveries, newest first: what waits, what was made, and the dead letters (FAILED)."""

    hook: str | None = None
    limit: int = 50
    state: DeliveryState | None = None


class ShowDelivery(Query[Delivery], tag="hooks.show_delivery", frozen=True):
    """One delivery with its attempts."""

    delivery: str


class HookAdded(Event, tag="hooks.added", frozen=True):
    """A hook is set."""

    hook: Hook


class HookRemoved(Event, tag="hooks.removed", frozen=True):
    """A hook is gone, with its deliveries and the file of its secret."""

    hook: str
    at: float
    secret: str | None = None


class HookPaused(Event, tag="hooks.paused", frozen=True):
    """A hook is called no more for now."""

    hook: str
    at: float


class HookResumed(Event, tag="hooks.resumed", frozen=True):
    """A hook is called again."""

    hook: str
    at: float


class HookTested(Event, tag="hooks.tested", frozen=True):
    """A hook shall be tried."""

    hook: str
    at: float


class DeliveryMade(Event, tag="hooks.delivery_made", frozen=True):
    """A hook was told, at the last of these attempts."""

    delivery: str
    hook: str
    at: float
    attempts: tuple[Attempt, ...]


class DeliveryFailed(Event, tag="hooks.delivery_failed", frozen=True):
    """A hook could not be told: a dead letter."""

    delivery: str
    hook: str
    at: float
    attempts: tuple[Attempt, ...]
    error: str


class DeliveryAskedAgain(Event, tag="hooks.delivery_asked_again", frozen=True):
    """A delivery that was over shall be made again."""

    delivery: str
    at: float


class GateAnswered(Event, tag="hooks.gate_answered", frozen=True):
    """A gate was asked of a move, and said this."""

    answer: GateAnswer


class Told(NamedTuple):
    """What the word of a hook stands for: the deck's events, and whether they belong to a model."""

    events: tuple[type[Event], ...]
    of_a_model: bool


TABLE: Final[dict[str, Told]] = {
    "promote": Told((registry.StageMoved,), True),
    "register": Told((registry.VersionRegistered,), True),
    "deploy": Told((deployments.Switched,), True),
    "canary": Told((deployments.CanaryStarted, deployments.CanaryAdvanced, deployments.CanaryFinished), False),
    "rollback": Told((deployments.RolledBack,), True),
    "drift": Told((monitoring.DriftFound,), True),
    "alert": Told((monitoring.AlertRaised,), False),
    "alert-resolved": Told((monitoring.AlertResolved,), False),
    "approval": Told((governance.ApprovalAsked,), True),
    "decision": Told((governance.Approved, governance.Rejected, governance.ApprovalVoided), False),
    "run-ended": Told((runs.RunEnded,), False),
    "pipeline-ended": Told((pipelines.PipelineEnded,), False),
}
"""Every word a hook can be set on -> the events it stands for."""


OWED: Final[frozenset[type[Event]]] = frozenset(
    {HookTested, *(kind for told in TABLE.values() for kind in told.events)}
)
"""Every event that a hook can be told of."""


def wants(hook: Hook, event: Event) -> bool:
    """Whether a hook is told of an event, paused or not; a gate is asked before, not told after."""
    if isinstance(event, HookTested):
        return event.hook == hook.id
    if hook.gate or not isinstance(event, TABLE[hook.event].events):
        return False
    if isinstance(event, monitoring.AlertRaised) and (event.alert.kind == ALERT or event.alert.count > 1):
        return False
    if hook.stage is not None and getattr(event, "after", None) != hook.stage:
        return False
    return hook.model is None or subject_of(event).partition("@")[0] == hook.model


def subject_of(event: Event) -> str:
    """What an event is about: `churn@3`, a run, an alert's subject; of a CloudEvent its `subject`."""
    match event:
        case registry.VersionRegistered():
            return event.version.id
        case deployments.Switched():
            return event.after
        case deployments.RolledBack():
            return event.to_version
        case monitoring.DriftFound():
            return event.drift.version
        case monitoring.AlertRaised():
            return event.alert.subject
        case governance.ApprovalAsked():
            return event.approval.subject
    for field in ("version", "run", "pipeline_run", "endpoint", "approval", "alert", "hook"):
        if isinstance(found := getattr(event, field, None), str):
            return found
    return ""


def delivery_id(seq: int, nth: int, hook: str) -> str:
    """The id of a delivery, the same whenever and however often it is worked out."""
    return "delivery-" + hashlib.sha256(f"{seq}/{nth}/{hook}".encode()).hexdigest()[:20]
