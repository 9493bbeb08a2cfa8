"""Who is who at the start: the server's key, the owner's key, the first person."""

from __future__ import annotations

import contextlib
import getpass
import hashlib
import logging
from pathlib import Path

import zmq

from quarterdeckd.api.dispatch import Dispatch
from quarterstore.ledger.state import State
from quarterstore.records.base import Role
from quarterstore.records.faults import Conflict, Corrupt, Invalid
from quarterstore.records.names import checked_word, drawn
from quarterstore.records.people import AddKey, SetRoles
from quarterstore.records.places import Home
from quarterstore.shelf.files import write_whole

log = logging.getLogger(__name__)
OWNER: tuple[Role, ...] = ("admin", "operator", "approver")


def server_secret(home: Home) -> bytes:
    """The server's CURVE secret, made at the first start; its public half lies beside it for the clients, and is made
    again from the secret where it is missing. `Corrupt` when the two are no pair: every key is a valid one, so only the
    other half tells that one was damaged."""
    path = home.secret_key("server")
    if not path.exists():
        write_whole(path, zmq.curve_keypair()[1])
    secret = path.read_bytes().strip()
    public = public_of(path)
    if not home.server_public.exists():
        write_whole(home.server_public, public)
    found = home.server_public.read_bytes().strip()
    if found != public:
        raise Corrupt(
            f"{home.server_public.name}: got {drawn(found[:40].decode(errors='replace'))}, expected {public.decode()}, "
            f"which belongs to {path.name}",
            field="keys",
            next="bring the damaged one back from a backup",
        )
    return secret


def public_of(path: Path) -> bytes:
    """The public half of a kept secret; `Corrupt` when the file holds no key."""
    try:
        return public_half(path.read_bytes().strip()).encode()
    except ValueError as error:
        raise Corrupt(
            f"{path.name}: got {path.stat().st_size} bytes that are no key, expected 40 characters of Z85", field="keys"
        ) from error


def public_half(secret: bytes) -> str:
    """The public key of a secret one, both in Z85 (ZeroMQ RFC 32); `ValueError` for what is no key."""
    try:
        return zmq.curve_public(secret).decode()
    except zmq.ZMQError as error:
        raise ValueError("no key of CURVE") from error


def deck_name(home: Home) -> str:
    """What other decks call this one: made of its public key, so that two never share one."""
    return hashlib.sha256(home.server_public.read_bytes().strip()).hexdigest()[:32]


async def enrol_owner(home: Home, view: State, dispatch: Dispatch, *, again: bool = False) -> None:
    """At the first start, make the owner's key and let it speak with every role; later the owner's file is what it
    is. `again` does the same for a store whose keys are lost: whoever may start a daemon over a store owns it, and the
    journal says that it was done."""
    if len(view.keys) and not again:
        if not _admins_key(home, view):
            log.warning(
                "no key of an administrator is in %s; where it was lost, start with: quarterdeckd --home %s --enrol",
                home.keys,
                home.root,
            )
        return
    path = home.secret_key("owner")
    if not path.exists():
        write_whole(path, zmq.curve_keypair()[1])
    public, person = public_of(path).decode(), owner_name()
    known = view.keys.get(public)
    if known is None:
        await dispatch.speak(AddKey(public=public, person=person, roles=OWNER))
    elif known.revoked is not None:
        raise Conflict("the owner's key was revoked", field="enrol", next=f"move {path} away and start again")
    else:
        person = known.person
    if not set(OWNER) <= set(view.people[person].roles):
        await dispatch.speak(SetRoles(person=person, roles=tuple(dict.fromkeys((*view.people[person].roles, *OWNER)))))


def _admins_key(home: Home, view: State) -> bool:
    """Whether a key that lies in the home, or is marked there as kept in a keyring, speaks for an administrator."""
    found = [path.read_bytes().strip().decode(errors="replace") for path in home.keys.glob("*.keyring")]
    for path in home.keys.glob("*.secret"):
        with contextlib.suppress(ValueError):  # a damaged one is told to whoever uses it
            found.append(public_half(path.read_bytes().strip()))
    keys = [key for public in found if (key := view.keys.get(public)) is not None]
    return any(key.revoked is None and key.job is None and "admin" in view.people[key.person].roles for key in keys)


def owner_name() -> str:
    """The login name where it can be a name here, else `owner`."""
    try:
        return checked_word("person", getpass.getuser())
    except (OSError, KeyError, Invalid):
        return "owner"


def job_key(home: Home, job: str) -> str:
    """The public half of a job's own key, made once; the file goes when the job is over."""
    path = home.secret_key(job)
    if not path.exists():
        write_whole(path, zmq.curve_keypair()[1])
    return public_of(path).decode()
