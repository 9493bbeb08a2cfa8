"""Pickles as streams of opcodes: what they would import is read off, nothing is ever run."""

from __future__ import annotations

import io
import pickletools
from collections import deque
from pathlib import Path
from typing import Any, BinaryIO, Final

from quarterdeckd.formats.found import Found
from quarterstore.records.faults import got
from quarterstore.records.names import drawn

PROTOCOLS: Final = range(2, 6)
MOST: Final = 2_000_000
"""Opcodes looked at: about ten seconds."""
MOST_NAMES: Final = 50
NOT_READ: Final = "more that was not read"
JOBLIB: Final = "joblib.numpy_pickle"
LONGEST: Final = 200
"""Characters of a text that are remembered: it may be a name."""
LARGE: Final = 1024**2
"""Bytes of one value from which on it is stepped over: a model's numbers are gigabytes and name nothing."""


class _Skipped(bytes):
    """So many bytes that were not read."""

    length = 0

    def __len__(self) -> int:
        return self.length


class _Thrifty:
    """A file whose large values are stepped over, so that no file takes the memory of its size."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._size = file.seek(0, io.SEEK_END)
        self.tell = file.tell
        file.seek(0)

    def read(self, count: int) -> bytes:
        """So many bytes, or something of that length; fewer at the end."""
        if count <= LARGE or self._file.tell() + count > self._size:
            return self._file.read(min(count, LARGE))
        self._file.seek(count, io.SEEK_CUR)
        skipped = _Skipped()
        skipped.length = count
        return skipped

    def readline(self) -> bytes:
        """One line, or the beginning of one that is endless."""
        return self._file.readline(LARGE)


def begins(first: bytes) -> bool:
    """Whether it begins with the opcode that names a protocol from 2 on."""
    return first[:1] == b"\x80" and len(first) > 1 and first[1] in PROTOCOLS


def is_old(path: Path) -> bool:
    """Whether it is a pickle of protocol 0 or 1, which begin with no mark: opcodes up to a stop at the very end."""
    with path.open("rb") as file:
        try:
            for count, (opcode, _, _) in enumerate(pickletools.genops(_Thrifty(file))):  # type: ignore[arg-type]
                if opcode.name == "STOP":
                    return count > 0 and not file.read(1)
                if count > MOST:
                    return False
        except (ValueError, UnicodeDecodeError):
            return False
    return False


def scanned(path: Path) -> Found:
    """A pickle with what it names; a fault where it is cut off."""
    with path.open("rb") as file:
        names, whole = named(file)
        left = bool(file.read(1))
    if any(name.startswith(JOBLIB) for name in names):
        return Found("joblib", in_words("a joblib file", names), names if whole else (*names, NOT_READ))
    if not whole:
        raise got("file", "a pickle that is cut off or damaged", "a whole file")
    # torch.save before 1.6 wrote several pickles, one after the other
    return Found("pickle", in_words("a pickle", names), (*names, NOT_READ) if left else names)


def named(file: BinaryIO) -> tuple[tuple[str, ...], bool]:
    """What one pickle imports, `module.name` in order, and whether its end was reached."""
    names: dict[str, None] = {}
    texts: deque[Any] = deque(maxlen=2)
    memo: dict[Any, Any] = {}
    try:
        for count, (opcode, value, _) in enumerate(pickletools.genops(_Thrifty(file))):  # type: ignore[arg-type]
            if opcode.name == "STOP":
                return tuple(names), True
            if count > MOST or len(names) > MOST_NAMES:
                break
            if opcode.name in ("GLOBAL", "INST"):
                names[_name(*str(value).split(" ", 1))] = None
            elif opcode.name == "STACK_GLOBAL":
                names[_name(*texts)] = None
            elif opcode.name == "MEMOIZE":
                memo[len(memo)] = texts[-1] if texts else None
            elif opcode.name in ("BINPUT", "LONG_BINPUT", "PUT"):
                memo[value] = texts[-1] if texts else None
            elif opcode.name in ("BINGET", "LONG_BINGET", "GET"):
                texts.append(memo.get(value))
            elif isinstance(value, str):
                texts.append(value[:LONGEST])
    except (ValueError, UnicodeDecodeError, OverflowError):
        pass  # joblib puts the bytes of arrays between the opcodes: what was read so far is what is said
    return tuple(names), False


def in_bytes(data: bytes) -> tuple[tuple[str, ...], bool]:
    """The same of a pickle that was unpacked."""
    return named(io.BytesIO(data))


def _name(*parts: Any) -> str:
    found = ".".join(str(part) for part in parts if part is not None)
    return drawn(found or "a name that is put together as it runs", longest=120)


def in_words(what: str, names: tuple[str, ...]) -> str:
    """What it is and the first things it imports."""
    return f"{what} that imports {', '.join(names[:4])}{', …' if len(names) > 4 else ''}" if names else what
