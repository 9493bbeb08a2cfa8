"""Tokens of remotes on their way to where they are kept: never in an option, the environment or the journal."""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from quarterstore.records.faults import Conflict, got
from quarterstore.records.names import checked_word
from quarterstore.records.places import Home


@contextmanager
def handed_over(home: Home, name: str, given: Path | None, kept: str) -> Iterator[Path | None]:
    """The file that the daemon reads a token from while it adds a remote: the one given, or one with what stdin says,
    which goes afterwards. With `kept` keyring the token is in the desktop's keyring, and there is no file."""
    if kept == "credentials":
        if given is not None:
            raise got("token-file", str(given), "none: the service's credentials hold it")
        yield None
    elif kept == "keyring":
        with _in_keyring(home, checked_word("name", name), given):
            yield None
    elif given is not None:
        yield given.absolute()
    else:
        with _aside(home, _asked()) as path:
            yield path


@contextmanager
def _in_keyring(home: Home, name: str, given: Path | None) -> Iterator[None]:
    from quarterdeck import keyring_secrets

    if _known(home, name):
        raise Conflict(f"the keyring holds a token of {name} already", field="name", next=f"qd remote rm {name}")
    secret = given.read_bytes().strip() if given is not None else _asked()
    keyring_secrets.keep(home, f"remote-{name}", secret)
    try:
        yield
    except BaseException:
        keyring_secrets.drop(home, f"remote-{name}")
        raise


def _known(home: Home, name: str) -> bool:
    from quarterdeck import keyring_secrets
    from quarterstore.records.faults import NotFound

    try:
        keyring_secrets.read(home, f"remote-{name}")
    except NotFound:
        return False
    return True


@contextmanager
def _aside(home: Home, secret: bytes) -> Iterator[Path]:
    """A 0600 file beside the keys for as long as one act takes."""
    path = home.keys / f"token-{secrets.token_hex(8)}"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(secret)
        yield path
    finally:
        path.unlink(missing_ok=True)


def _asked() -> bytes:
    """The token from stdin; from a terminal it is not shown as it is typed."""
    if sys.stdin.isatty():
        import getpass

        return getpass.getpass("token (the secret of a key there): ").strip().encode()
    return sys.stdin.readline().strip().encode()
