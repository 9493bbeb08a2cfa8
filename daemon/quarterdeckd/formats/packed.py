"""Compressed files: the beginning is unpacked, never the whole, to see whether a pickle is inside (joblib writes
such)."""

from __future__ import annotations

import bz2
import lzma
import zlib
from pathlib import Path
from typing import Final

from quarterdeckd.formats import pickles
from quarterdeckd.formats.found import Found
from quarterstore.records.faults import Refused, got

HEAD: Final = 1024**2
"""Bytes unpacked at most."""
MAGIC: Final[tuple[tuple[bytes, str], ...]] = (
    (b"\x1f\x8b", "gzip"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ", "xz"),
    (b"\x5d\x00\x00", "lzma"),
    (b"\x04\x22\x4d\x18", "LZ4"),
    (b"\x28\xb5\x2f\xfd", "Zstandard"),
)


def compression_of(first: bytes) -> str | None:
    """What it is packed with, if anything."""
    if first[:1] == b"\x78" and len(first) > 1 and int.from_bytes(first[:2], "big") % 31 == 0:
        return "zlib"
    return next((name for magic, name in MAGIC if first.startswith(magic)), None)


def looked_into(path: Path, compression: str) -> Found:
    """A joblib file where a pickle is inside; refused otherwise."""
    with path.open("rb") as file:
        data = file.read(HEAD)
    try:
        head = _unpacked(data, compression)
    except (zlib.error, OSError, lzma.LZMAError, EOFError) as error:
        raise got("file", f"a damaged {compression} file", "a whole file") from error
    if pickles.begins(head):
        names, whole = pickles.in_bytes(head)
        words = pickles.in_words(f"a pickle packed with {compression}", names)
        return Found("joblib", words, names if whole else (*names, pickles.NOT_READ))
    raise Refused(
        f"got a {compression} file, expected a model file that is not packed", field="file", next="unpack it first"
    )


def _unpacked(data: bytes, compression: str) -> bytes:
    if compression in ("zlib", "gzip"):
        return zlib.decompressobj(wbits=47).decompress(data, HEAD)
    if compression == "bzip2":
        return bz2.BZ2Decompressor().decompress(data, HEAD)
    if compression in ("xz", "lzma"):
        return lzma.LZMADecompressor(memlimit=256 * 1024**2).decompress(data, HEAD)
    return b""
