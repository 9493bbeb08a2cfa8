"""The five kinds of message, and what a message says of itself: its tag, its answer, the role it needs."""

from __future__ import annotations

from typing import Any, ClassVar, Generic, Literal, TypeVar, get_args, get_origin

import msgspec

T = TypeVar("T")

Role = Literal["viewer", "operator", "approver", "admin", "daemon"]
"""What a key may do; `admin` holds every role a person can hold, `operator` and `approver` each hold `viewer`; `daemon`
is held by no key: such acts are spoken by the clock, the supervisor and the reactions only."""


class Record(msgspec.Struct, frozen=True):
    """A frozen fact as it is read; unknown fields are ignored, so that an older reader can follow a newer writer."""


class Query(msgspec.Struct, Generic[T], frozen=True, tag_field="type"):
    """A question: a noun phrase that changes nothing and answers `T`."""

    role: ClassVar[Role] = "viewer"


class Act(msgspec.Struct, Generic[T], frozen=True, tag_field="type"):
    """An imperative: one journal entry, or a fault and nothing at all; answers `T`."""

    role: ClassVar[Role] = "operator"


class Event(msgspec.Struct, frozen=True, tag_field="type"):
    """A fact in the past tense, kept in the journal and published to whoever follows; holds no personal data.

    A new version of an event is a new Struct with the tag `noun.event.2`; the old Struct stays, and its
    `lift()` gives the new one, so that the fold only ever meets the newest.
    """

    def lift(self) -> Event:
        """The newest form of this fact; itself unless an older version overrides it."""
        return self


class Pulse(msgspec.Struct, frozen=True, tag_field="type"):
    """A passing reading: published, unnumbered, never kept; the latest wins."""


class Sample(msgspec.Struct, Generic[T], frozen=True, tag_field="type"):
    """Many and small: kept in Parquet, not in the journal; the answer says how durable it is."""

    role: ClassVar[Role] = "operator"


class Blob(msgspec.Struct, Generic[T], frozen=True, tag_field="type"):
    """One chunk of a file on its way through the socket, in either direction."""

    role: ClassVar[Role] = "operator"


Message = Query[Any] | Act[Any] | Sample[Any] | Blob[Any]
"""Whatever can be asked of the daemon."""


_answers: dict[type, Any] = {}


def answer_type(kind: type) -> Any:
    """The type a message class answers with: the `T` of `Act[T]`, `Query[T]`, `Sample[T]` or `Blob[T]`."""
    if kind in _answers:
        return _answers[kind]
    for base in getattr(kind, "__orig_bases__", ()):
        if get_origin(base) in (Query, Act, Sample, Blob):
            return _answers.setdefault(kind, get_args(base)[0])
    raise TypeError(f"{kind.__name__} declares no answer type")


def tag_of(kind: type) -> str:
    """The word on the wire for a message or event class, such as `registry.move_stage`."""
    return str(kind.__struct_config__.tag)  # type: ignore[attr-defined]
