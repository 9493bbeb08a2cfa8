"""Secrets that the daemon needs towards others: read from files that nobody else may read, from the desktop's keyring
or from the service's credentials, and never shown again."""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

from quarterdeckd.services.signing import new_secret, public_of
from quarterstore.records.faults import Corrupt, Invalid, NotFound, Refused, got
from quarterstore.records.names import drawn
from quarterstore.records.places import Home
from quarterstore.records.remotes import Remote
from quarterstore.shelf.files import write_whole

SHORTEST, LONGEST = 16, 4096
LARGEST_CA = 256 * 1024
_making = threading.Lock()


def secret_in(field: str, text: str) -> bytes:
    """The secret in a file of the daemon's user that nobody else may read, without blanks at its ends."""
    with _opened(field, text, os.O_NOFOLLOW) as file:
        found = os.fstat(file.fileno())
        if found.st_uid not in (os.getuid(), 0) or found.st_mode & 0o077:
            raise Refused(f"others may read {drawn(text, longest=200)}", field=field, next="chmod 600 it")
        secret = file.read(2 * LONGEST).strip()
    if not SHORTEST <= len(secret) <= LONGEST:
        raise got(field, f"{len(secret)} bytes", f"{SHORTEST} to {LONGEST}")
    return secret


def _opened(field: str, text: str, further: int = 0) -> BinaryIO:
    """A regular file of the daemon's machine; a pipe would hold up whoever reads it for ever."""
    if not os.path.isabs(text):
        raise got(field, text, "an absolute path on the daemon's machine")
    try:
        descriptor = os.open(Path(text), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | further)
    except (OSError, ValueError) as error:
        raise Invalid(f"got {drawn(text, longest=200)} ({error}), expected a file", field=field) from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise got(field, text, "a regular file")
    return os.fdopen(descriptor, "rb")


def checked_token(field: str, secret: bytes) -> str:
    """A token as a header may carry it (RFC 6750: no blanks, nothing but ASCII)."""
    text = secret.decode("latin-1").strip()
    if not SHORTEST <= len(text) <= LONGEST or not text.isascii() or not text.isprintable() or " " in text:
        raise got(
            field, f"{len(text)} characters that are no token", "the secret of a key, as qd keys add kept it there"
        )
    return text


def certificates_in(field: str, text: str) -> str:
    """The certificates (PEM) in a file: they are public, and are kept with the remote."""
    import ssl

    try:
        with _opened(field, text) as file:
            found = file.read(LARGEST_CA + 1).decode("ascii")
        if len(found) > LARGEST_CA:
            raise got(field, f"more than {LARGEST_CA} bytes", "a file of certificates")
        ssl.create_default_context(cadata=found)
    except (OSError, ValueError) as error:
        raise Invalid(f"got {drawn(text, longest=200)} ({error}), expected certificates in PEM", field=field) from error
    return found


def token_of(home: Home, remote: Remote, environ: Mapping[str, str] = os.environ) -> str:
    """The token of a remote from where it is kept; `NotFound` or `Refused` where that place does not give it."""
    if remote.kept == "keyring":
        return _from_keyring(home, remote)
    if remote.kept == "credentials":
        path = Path(environ.get("CREDENTIALS_DIRECTORY", "/nonexistent")) / f"remote-{remote.name}"
    else:
        path = home.remote_token(remote.token)
    try:
        return checked_token("token", path.read_bytes())
    except OSError as error:
        raise NotFound(
            f"the token of {remote.name} is not in {path} ({error.strerror})",
            field="token",
            next=f"qd remote rm {remote.name}, and add it again",
        ) from error


def _from_keyring(home: Home, remote: Remote) -> str:
    try:
        import keyring
        import keyring.errors
    except ModuleNotFoundError as error:
        raise Refused(
            "the package keyring is not installed", field="keyring", next="pip install 'quarterdeck[keyring]'"
        ) from error
    try:
        found = keyring.get_password(f"quarterdeck {home.root}", f"remote-{remote.name}")
    except keyring.errors.KeyringError as error:
        raise Refused(
            f"the daemon's session has no keyring that can be used ({type(error).__name__})",
            field="keyring",
            next="unlock it, or add the remote again with --token-file",
        ) from error
    if not found:
        raise NotFound(f"the keyring holds no token of {remote.name}", field="token")
    return checked_token("token", str(found).encode())


def sender_key(home: Home) -> bytes:
    """The key that signs what this deck sends; made at its first use. `Corrupt` where the file holds none."""
    path = home.sender_key
    with _making:  # asked for by threads: of two first uses one would show a key that the other replaces
        if not path.exists():
            write_whole(path, new_secret())
    secret = path.read_bytes().strip()
    try:
        public_of(secret)
    except (ValueError, UnicodeDecodeError) as error:
        raise Corrupt(
            f"{path.name}: got {len(secret)} bytes that are no key, expected 64 hexadecimal digits",
            field="keys",
            next="bring it back from a backup, or move it away: others then have to trust the new one",
        ) from error
    return secret
