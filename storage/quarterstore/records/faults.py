"""Every way a request can be refused, as the same classes on both sides, and the one table of what each means at each
door.

Fault
├── Invalid          the request itself is wrong                     exit 2
│   └── TooLarge     it is larger than the limit it names
├── NotFound         no such thing; names the nearest                exit 4
├── Conflict         something else got there first                  exit 5
│   └── IdReused     this request id was used for another request
├── Refused          a rule says no                                  exit 6
│   ├── Forbidden    the key does not hold the role
│   └── NeedsApproval  somebody else has to approve first
├── Failed           the thing was tried and did not work            exit 1
│   ├── Corrupt      bytes are not what their hash says
│   └── Full         the disk or a cap is full; reading goes on
├── Unreachable      no daemon answers                               exit 3
├── Overloaded       too much waits already; later it may do         exit 3
├── TimedOut         no answer before the deadline; outcome unknown  exit 124
├── Unknown          the sync failed: whether it was kept is only known after the restart
└── Protocol         the two sides speak different versions          exit 2
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any, NamedTuple

import msgspec


class FaultRecord(msgspec.Struct, frozen=True):
    """A fault on the wire."""

    kind: str
    message: str
    field: str | None = None
    nearest: tuple[str, ...] = ()
    next: str | None = None
    place: tuple[str, int] | None = None


class Fault(Exception):
    """A request was refused; `message` says what was asked, what was found and what was expected."""

    def __init__(
        self,
        message: str,
        *,
        field: str | None = None,
        nearest: Iterable[str] = (),
        next: str | None = None,
        place: tuple[str, int] | None = None,
        figures: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.field = field
        self.nearest = tuple(nearest)
        self.next = next
        self.place = place
        """A line of what was asked, and the position in it that is wrong."""
        self.figures = figures or {}
        """What a step that failed, or a host that refuses, says beside its words; it does not go over the wire."""

    def record(self) -> FaultRecord:
        """This fault as it goes over the wire."""
        return FaultRecord(
            kind=type(self).__name__,
            message=self.message,
            field=self.field,
            nearest=self.nearest,
            next=self.next,
            place=self.place,
        )

    def line(self) -> str:
        """One line for a person: `<field>: <message>; nearest: a, b, c; <what to do>`."""
        parts = [f"{self.field}: {self.message}" if self.field else self.message]
        if self.nearest:
            parts.append("nearest: " + ", ".join(self.nearest))
        if self.next:
            parts.append(self.next)
        return "; ".join(parts)

    def pointed(self) -> list[str]:
        """The line that is wrong with a caret below the place; nothing where there is none."""
        return [self.place[0], " " * self.place[1] + "^"] if self.place else []

    def __str__(self) -> str:
        return self.line()


class Invalid(Fault):
    """The request itself is wrong."""


class TooLarge(Invalid):
    """The request is larger than the limit it names."""


class NotFound(Fault):
    """There is no such thing."""


class Conflict(Fault):
    """Something else got there first."""


class IdReused(Conflict):
    """This request id was used before, for another request."""


class Refused(Fault):
    """A rule says no."""


class Forbidden(Refused):
    """The caller's key does not hold the role this needs."""


class NeedsApproval(Refused):
    """Another person has to approve this first."""


class Failed(Fault):
    """It was tried and did not work."""


class Corrupt(Failed):
    """The bytes are not what their hash says."""


class Full(Failed):
    """The disk or a cap is full; reading goes on."""


class Unreachable(Fault):
    """No daemon answers at this address."""


class Overloaded(Fault):
    """Too much waits already, or what is asked for is out of traffic for a while; `after` is when to ask again, in
    seconds."""

    def __init__(self, message: str, *, after: int = 1, **more: Any) -> None:
        super().__init__(message, **more)
        self.after = after


class TimedOut(Fault):
    """No answer came before the deadline; the outcome is not known."""


class Unknown(Fault):
    """The journal could not be synced; only the restart will tell whether the act was kept."""


class Protocol(Fault):
    """The two sides speak different versions."""


class Meaning(NamedTuple):
    """What a fault is called at each door."""

    exit: int
    http: int
    grpc: str
    mlflow: str


MEANINGS: dict[type[Fault], Meaning] = {
    Invalid: Meaning(2, 400, "INVALID_ARGUMENT", "INVALID_PARAMETER_VALUE"),
    TooLarge: Meaning(2, 413, "RESOURCE_EXHAUSTED", "INVALID_PARAMETER_VALUE"),
    NotFound: Meaning(4, 404, "NOT_FOUND", "RESOURCE_DOES_NOT_EXIST"),
    Conflict: Meaning(5, 409, "ABORTED", "RESOURCE_ALREADY_EXISTS"),
    IdReused: Meaning(5, 409, "ALREADY_EXISTS", "RESOURCE_ALREADY_EXISTS"),
    Refused: Meaning(6, 403, "FAILED_PRECONDITION", "INVALID_STATE"),
    Forbidden: Meaning(6, 403, "PERMISSION_DENIED", "PERMISSION_DENIED"),
    NeedsApproval: Meaning(6, 403, "PERMISSION_DENIED", "PERMISSION_DENIED"),
    Failed: Meaning(1, 500, "INTERNAL", "INTERNAL_ERROR"),
    Corrupt: Meaning(1, 500, "DATA_LOSS", "INTERNAL_ERROR"),
    Full: Meaning(1, 507, "RESOURCE_EXHAUSTED", "RESOURCE_LIMIT_EXCEEDED"),
    Unreachable: Meaning(3, 503, "UNAVAILABLE", "TEMPORARILY_UNAVAILABLE"),
    Overloaded: Meaning(3, 503, "RESOURCE_EXHAUSTED", "TEMPORARILY_UNAVAILABLE"),
    TimedOut: Meaning(124, 504, "DEADLINE_EXCEEDED", "TEMPORARILY_UNAVAILABLE"),
    Unknown: Meaning(1, 500, "UNKNOWN", "INTERNAL_ERROR"),
    Protocol: Meaning(2, 400, "UNIMPLEMENTED", "BAD_REQUEST"),
}
"""The one table: fault -> exit code, HTTP status, gRPC status, MLflow error code."""

KINDS: dict[str, type[Fault]] = {kind.__name__: kind for kind in MEANINGS}


def raised(record: FaultRecord) -> Fault:
    """The fault of a wire record, as the class to raise; an unknown kind becomes a plain `Failed`."""
    kind = KINDS.get(record.kind, Failed)
    return kind(record.message, field=record.field, nearest=record.nearest, next=record.next, place=record.place)


def got(field: str, found: object, expected: str) -> Invalid:
    """The standard complaint: `<field>: got <found>, expected <expected>`; an empty text is nothing."""
    shown = found if isinstance(found, str) and found.isprintable() else repr(found)
    text = str(shown) or "nothing"
    return Invalid(f"got {text[:200]}{'…' if len(text) > 200 else ''}, expected {expected}", field=field)


def missing(field: str, name: str, known: Iterable[str], *, next: str | None = None) -> NotFound:
    """`NotFound` for an unknown name, with the nearest of those known, filled up to three that exist."""
    shown = name if name.isprintable() else repr(name)
    names = list(known)
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.3)
    near += [other for other in names[:3] if other not in near][: 3 - len(near)]
    return NotFound(f"got {shown[:200]}, expected a known one", field=field, nearest=near, next=next)
