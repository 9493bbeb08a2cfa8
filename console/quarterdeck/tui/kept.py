"""What a person chose on the screens, for each home, in a file outside the store."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

import msgspec

from quarterstore.records.places import Home

T = TypeVar("T")


def state_file(home: Home, environ: Mapping[str, str] = os.environ) -> Path:
    """`state.json` of a home, below `$XDG_STATE_HOME/quarterdeck`."""
    state = environ.get("XDG_STATE_HOME") or Path(environ.get("HOME") or Path.home()) / ".local" / "state"
    name = hashlib.sha256(os.fsencode(os.path.realpath(home.root))).hexdigest()[:16]
    return Path(state) / "quarterdeck" / name / "state.json"


class Kept:
    """Choices by name; without a path they last as long as the console."""

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._choices: dict[str, msgspec.Raw] = {}
        self.trouble = ""
        """Why the file could not be read; the choices begin anew then."""
        self._read()

    def _read(self) -> None:
        try:
            if self._path is not None:
                self._choices = msgspec.json.decode(self._path.read_bytes(), type=dict[str, msgspec.Raw])
        except FileNotFoundError:
            pass
        except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
            self.trouble = f"{self._path}: {error}"

    def get(self, name: str, kind: type[T]) -> T | None:
        """A choice that was made; `None` when none was, or it is none of this kind."""
        try:
            return msgspec.json.decode(self._choices[name], type=kind)
        except KeyError:
            return None
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            self.trouble = f"{self._path}: {name}: {error}"
            return None

    def put(self, name: str, value: object) -> None:
        """Keep a choice beside those that other consoles made meanwhile. Raises OSError."""
        self._read()
        self._choices[name] = msgspec.Raw(msgspec.json.encode(value))
        if self._path is None:
            return
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        aside = self._path.with_suffix(f".{os.getpid()}")
        aside.write_bytes(msgspec.json.encode(self._choices))
        aside.rename(self._path)
