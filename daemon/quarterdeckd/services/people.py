"""The rules of people and keys."""

from __future__ import annotations

import re
from typing import get_args

from quarterdeckd.services.deciding import Answerers, Asking, Decision, Rules
from quarterstore.ledger.state import State
from quarterstore.records import people
from quarterstore.records.base import Event, Role
from quarterstore.records.faults import Conflict, Refused, got, missing
from quarterstore.records.names import checked_word

_z85 = re.compile(r"[0-9a-zA-Z.\-:+=^!/*?&<>()\[\]{}@%$#]{40}\Z")
GIVEN = tuple(role for role in get_args(Role) if role != "daemon")


def _roles(given: tuple[str, ...]) -> tuple[Role, ...]:
    for role in given:
        if role not in GIVEN:
            raise got("roles", role, f"some of {', '.join(GIVEN)}")
    return tuple(dict.fromkeys(given))  # type: ignore[arg-type]


def _add_key(state: State, act: people.AddKey, asking: Asking) -> Decision:
    person, roles = checked_word("person", act.person), _roles(act.roles)
    if not _z85.match(act.public):
        raise got("public", act.public, "a CURVE public key in Z85, 40 characters")
    if act.public in state.keys:
        raise Conflict(f"this key speaks for {state.keys[act.public].person} already", field="public")
    events: list[Event] = []
    if person not in state.people:
        events.append(people.PersonChanged(person=people.Person(name=person, roles=roles, created=asking.now)))
    key = people.Key(public=act.public, person=person, created=asking.now)
    events.append(people.KeyAdded(key=key))
    return Decision(events, f"let a key speak for {person}", lambda after: after.keys[act.public])


def _add_job_key(state: State, act: people.AddJobKey, asking: Asking) -> Decision:
    job = state.jobs[act.job]
    if job.state != "QUEUED":
        raise Conflict(f"{job.id} is {job.state}, not queued", field="job")
    subject = state.pipeline_runs.get(job.subject)
    key = people.Key(
        public=act.public, person=job.actor, created=asking.now, job=job.id, run=subject.run if subject else None
    )
    return Decision([people.KeyAdded(key=key)], f"gave {job.id} a key", lambda after: after.keys[act.public])


def _revoke(state: State, act: people.RevokeKey, asking: Asking) -> Decision:
    key = state.keys.get(act.public)
    if key is None:
        raise missing("public", act.public, state.keys.rows)
    live_admins = [
        other
        for other in state.keys
        if other.public != act.public and other.revoked is None and "admin" in state.people[other.person].roles
    ]
    if not live_admins:
        raise Refused("this is the last key of an admin", field="public", next="add another admin's key first")
    event = people.KeyRevoked(public=act.public, at=asking.now)
    return Decision([event], f"revoked a key of {key.person}", lambda after: after.keys[act.public])


def _set_roles(state: State, act: people.SetRoles, asking: Asking) -> Decision:
    person = state.people.get(act.person)
    if person is None:
        raise missing("person", act.person, state.people.rows)
    roles = _roles(act.roles)
    others = [other for other in state.people if other.name != person.name and "admin" in other.roles]
    if "admin" not in roles and not others:
        raise Refused("this is the last admin", field="roles", next="make another person an admin first")
    changed = people.Person(name=person.name, roles=roles, created=person.created)
    return Decision(
        [people.PersonChanged(person=changed)],
        f"gave {person.name} the roles {', '.join(roles) or 'none'}",
        lambda after: after.people[act.person],
    )


def _who(state: State, query: people.WhoAmI, asking: Asking) -> people.Caller:
    return people.Caller(person=asking.actor, roles=asking.roles, profile=asking.profile)


RULES: Rules = {
    people.AddKey: _add_key,
    people.AddJobKey: _add_job_key,
    people.RevokeKey: _revoke,
    people.SetRoles: _set_roles,
}
ANSWERS: Answerers = {
    people.ListKeys: lambda state, query, asking: list(state.keys),
    people.ListPeople: lambda state, query, asking: list(state.people),
    people.WhoAmI: _who,
}
