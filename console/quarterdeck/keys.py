"""CURVE keys: made, kept as 0600 files, found by the name of who speaks."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import NamedTuple

import zmq

from quarterstore.records.faults import Conflict, Corrupt, Unreachable, missing
from quarterstore.records.names import checked_word
from quarterstore.records.places import Home


class Pair(NamedTuple):
    """A caller's keys and the server's public one, in Z85."""

    public: bytes
    secret: bytes
    server: bytes


def own_name(environ: Mapping[str, str] = os.environ) -> str:
    """Whose key is used when nobody is named: a job's own, where one runs, else the owner's."""
    return environ.get("QUARTERDECK_AS") or "owner"


def load(home: Home, name: str) -> Pair:
    """The keys of a caller; `Unreachable` where no daemon ever ran, `NotFound` for a name without a key, `Refused`
    where the keyring that holds it cannot be asked."""
    if not home.server_public.exists():
        raise Unreachable(f"no daemon has run in {home.root}", next=f"start one with: quarterdeckd --home {home.root}")
    path = home.secret_key(checked_word("as", name))
    if path.exists():
        secret = path.read_bytes().strip()
    elif home.keyring_mark(name).exists():
        from quarterdeck import keyring_secrets

        secret = keyring_secrets.read(home, name)
    else:
        known = [found.stem for found in home.keys.glob("*.secret") if found.stem != "server"]
        known += [found.stem for found in home.keys.glob("*.keyring")]
        todo = f"make one with: qd keys add {name} --role operator"
        if name == "owner" or not known:  # nobody here could make one
            todo = f"let the owner in again with: quarterdeckd --home {home.root} --enrol"
        raise missing("as", name, known, next=todo)
    try:
        return Pair(zmq.curve_public(secret), secret, home.server_public.read_bytes().strip())
    except (ValueError, zmq.ZMQError) as error:
        raise Corrupt(f"{path.name}: got {len(secret)} bytes that are no key, expected 40", field="as") from error


def make(home: Home, name: str, *, keyring: bool = False) -> str:
    """Make and keep a pair under a name, in a 0600 file or in the desktop's keyring; answers the public key.
    `Conflict` when the name has one, `Refused` where there is no keyring: a file never takes its place unasked."""
    path = home.secret_key(checked_word("name", name))
    mark = home.keyring_mark(name)
    if path.exists() or mark.exists():
        raise Conflict(f"{name} has a key already", field="name")
    public, secret = zmq.curve_keypair()
    if keyring:
        from quarterdeck import keyring_secrets

        keyring_secrets.keep(home, name, secret)
        path = mark
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    except FileExistsError as error:
        raise Conflict(f"{name} has a key already", field="name") from error
    with os.fdopen(descriptor, "wb") as file:
        file.write(public if keyring else secret)
    return public.decode()


def forget(home: Home, name: str) -> None:
    """Take back a pair that `make` kept and no daemon took."""
    home.secret_key(name).unlink(missing_ok=True)
    if home.keyring_mark(name).exists():
        from quarterdeck import keyring_secrets

        keyring_secrets.drop(home, name)
        home.keyring_mark(name).unlink()
