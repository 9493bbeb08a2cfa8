"""Secret keys in the desktop's keyring (the `keyring` extra), for who does not want them in files."""

from __future__ import annotations

from types import ModuleType

from quarterstore.records.faults import Refused, missing
from quarterstore.records.places import Home


def keep(home: Home, name: str, secret: bytes) -> None:
    """Put a secret into the keyring; `Refused` where there is none that can be written."""
    keyring = _loaded()
    try:
        keyring.set_password(_service(home), name, secret.decode())
    except keyring.errors.KeyringError as error:
        raise _refused(error) from error


def read(home: Home, name: str) -> bytes:
    """The secret of a name; `NotFound` where the keyring has lost it."""
    keyring = _loaded()
    try:
        secret = keyring.get_password(_service(home), name)
    except keyring.errors.KeyringError as error:
        raise _refused(error) from error
    if secret is None:
        raise missing("as", name, [], next="the keyring does not hold it any more: an admin can add another key")
    return str(secret).encode()


def drop(home: Home, name: str) -> None:
    """Take a secret out of the keyring."""
    keyring = _loaded()
    try:
        keyring.delete_password(_service(home), name)
    except keyring.errors.KeyringError as error:
        raise _refused(error) from error


def _service(home: Home) -> str:
    return f"quarterdeck {home.root}"


def _loaded() -> ModuleType:
    try:
        import keyring
        import keyring.errors
    except ModuleNotFoundError as error:
        raise Refused(
            "the package keyring is not installed", field="keyring", next="pip install 'quarterdeck[keyring]'"
        ) from error
    found: ModuleType = keyring
    return found


def _refused(error: Exception) -> Refused:
    return Refused(
        f"this session has no keyring that can be used ({type(error).__name__})",
        field="keyring",
        next="unlock one, or leave out --keyring: the key is then a file that only you can read",
    )
