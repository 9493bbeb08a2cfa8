"""People and their keys: who may speak, and with which roles."""

from __future__ import annotations

from typing import ClassVar

from quarterstore.records.base import Act, Event, Query, Record, Role


class Person(Record, frozen=True):
    """One person; several keys may be theirs, and four eyes means two persons, not two keys."""

    name: str
    roles: tuple[Role, ...]
    created: float


class Key(Record, frozen=True):
    """A CURVE public key (Z85, 40 characters) and whose it is; `job` limits it to the run of that job."""

    public: str
    person: str
    created: float
    job: str | None = None
    run: str | None = None
    revoked: float | None = None


class Caller(Record, frozen=True):
    """Who the daemon says you are."""

    person: str
    roles: tuple[Role, ...]
    profile: str


class AddKey(Act[Key], tag="people.add_key", frozen=True):
    """Let a key speak for a person; the person is made with these roles when new."""

    role: ClassVar[Role] = "admin"
    public: str
    person: str
    roles: tuple[Role, ...] = ("viewer",)


class AddJobKey(Act[Key], tag="people.add_job_key", frozen=True):
    """Let a key speak for a job: it may write the run of that job, until the job is over; spoken by the supervisor."""

    role: ClassVar[Role] = "daemon"
    public: str
    job: str


class RevokeKey(Act[Key], tag="people.revoke_key", frozen=True):
    """Stop a key from speaking at once."""

    role: ClassVar[Role] = "admin"
    public: str


class SetRoles(Act[Person], tag="people.set_roles", frozen=True):
    """Replace the roles of a person."""

    role: ClassVar[Role] = "admin"
    person: str
    roles: tuple[Role, ...]


class ListKeys(Query[list[Key]], tag="people.list_keys", frozen=True):
    """Every key, with the person it speaks for."""


class ListPeople(Query[list[Person]], tag="people.list", frozen=True):
    """Every person, with roles."""


class WhoAmI(Query[Caller], tag="people.who_am_i", frozen=True):
    """The person and roles of the asking key."""


class PersonChanged(Event, tag="people.changed", frozen=True):
    """A person was made, or holds other roles now."""

    person: Person


class KeyAdded(Event, tag="people.key_added", frozen=True):
    """A key may speak."""

    key: Key


class KeyRevoked(Event, tag="people.key_revoked", frozen=True):
    """A key may no longer speak."""

    public: str
    at: float
