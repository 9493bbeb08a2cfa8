"""The counts of a stream in a mapped file: they outlive its process, and the daemon reads them while it runs."""

from __future__ import annotations

import mmap
import struct
import time
from pathlib import Path

from quarterstore.records.names import drawn
from quarterstore.records.streams import StreamCounts

FIELDS = ("taken", "answered", "waiting", "duplicates", "errors", "refused", "resent")
TAKEN, ANSWERED, WAITING, DUPLICATES, ERRORS, REFUSED, RESENT = range(len(FIELDS))
_layout = struct.Struct("<7Qd16s16s256s256s")
_numbers = struct.Struct("<7Q")
_oldest = struct.Struct("<d")
_OLDEST = _numbers.size
_RUNNING = _OLDEST + _oldest.size
_SUSPECT = _RUNNING + 16
_NOTE = _SUSPECT + 16
_ERROR = _NOTE + 256
NOBODY = bytes(16)


class Counts:
    """A stream's own side. `running` is the digest of the key that is being answered: what is left there when the
    process starts is the message that it died of."""

    def __init__(self, path: Path) -> None:
        with path.open("a+b") as file:
            file.truncate(_layout.size)
            self._map = mmap.mmap(file.fileno(), _layout.size)
        self.numbers = memoryview(self._map)[: _numbers.size].cast("Q")

    def begin(self) -> bytes:
        """What waited is with its senders again; answers the digest of a message in which this process ended twice in
        a row, `NOBODY` where there is none."""
        self.numbers[TAKEN] = self.numbers[ANSWERED] + self.numbers[DUPLICATES]
        self.numbers[WAITING] = 0
        self.oldest(0.0)
        died, suspect = self._map[_RUNNING:_SUSPECT], self._map[_SUSPECT:_NOTE]
        self.running(NOBODY)
        self._map[_SUSPECT:_NOTE] = died
        return died if died == suspect else NOBODY

    def running(self, digest: bytes) -> None:
        """This message is being answered; `NOBODY` when none is."""
        self._map[_RUNNING:_SUSPECT] = digest

    def oldest(self, at: float) -> None:
        """When the oldest waiting message was taken, in seconds since 1970; 0 for none."""
        _oldest.pack_into(self._map, _OLDEST, at)

    def note(self, words: str) -> None:
        """What holds the stream up."""
        self._map[_NOTE:_ERROR] = _text(words)

    def error(self, words: str) -> None:
        """The last error that the consumer was given."""
        self._map[_ERROR : _ERROR + 256] = _text(words)


def read(path: Path) -> StreamCounts:
    """The counts as they are now; none where the stream did not begin yet."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return StreamCounts()
    if len(data) < _layout.size:
        return StreamCounts()
    *numbers, oldest, _, _, note, error = _layout.unpack(data[: _layout.size])
    lag = max(0.0, time.time() - oldest) if oldest else 0.0
    counts = dict(zip(FIELDS, numbers, strict=True))
    return StreamCounts(**counts, lag=round(lag, 3), note=_shown(note), last_error=_shown(error))


def _text(words: str) -> bytes:
    return words.encode("utf-8", "replace")[:256].ljust(256, b"\0")


def _shown(text: bytes) -> str:
    return drawn(text.rstrip(b"\0").decode("utf-8", "ignore"))
