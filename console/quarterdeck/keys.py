"""CURVE keys: made, kept as 0600 files, found by the name of who speaks."""

from __future__ import annotations

import os
from typing import NamedTuple

import zmq

from quarterstore.records.faults import Conflict, Unreachable, missing
from quarterstore.records.names import checked_word
from quarterstore.records.places import Home


class Pair(NamedTuple):
    """A caller's keys and the server's public one, in Z85."""

    public: bytes
    secret: bytes
    server: bytes


def load(home: Home, name: str) -> Pair:
    """The keys of a caller; `Unreachable` where no daemon ever ran, `NotFound` for a name without a key."""
    if not home.server_public.exists():
        raise Unreachable(f"no daemon has run in {home.root}", next=f"start one with: quarterdeckd --home {home.root}")
    path = home.secret_key(checked_word("as", name))
    if not path.exists():
        known = [found.stem for found in home.keys.glob("*.secret") if found.stem != "server"]
        raise missing("as", name, known, next=f"make one with: qd keys add {name} --role operator")
    secret = path.read_bytes().strip()
    return Pair(zmq.curve_public(secret), secret, home.server_public.read_bytes().strip())


def make(home: Home, name: str) -> str:
    """Make and keep a pair under a name; answers the public key. `Conflict` when the name has one."""
    path = home.secret_key(checked_word("name", name))
    public, secret = zmq.curve_keypair()
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    except FileExistsError as error:
        raise Conflict(f"{name} has a key already", field="name") from error
    with os.fdopen(descriptor, "wb") as file:
        file.write(secret)
    return public.decode()
