"""Images as PNG or JPEG: files and bytes as they are, arrays written as PNG with nothing but the standard library."""

from __future__ import annotations

import io
import struct
import zlib
from array import array
from pathlib import Path
from typing import Any

from quarterstore.records.faults import got

PNG = b"\x89PNG\r\n\x1a\n"
JPEG = b"\xff\xd8\xff"
LARGEST = 64 * 1024 * 1024
"""Values of an array that is written as PNG: 8000 x 8000 grey."""
COLOURS = {1: 0, 3: 2, 4: 6}
"""Channels -> colour type of PNG."""
FORMATS = {"f": "f", "d": "d", "?": "B"}
"""Numbers from 0 to 1, as a buffer calls them -> as `array` does."""
EXPECTED = (
    "a PNG or JPEG file, its bytes, or an array of height x width (x 1, 3 or 4) as uint8 or as numbers from 0 to 1"
)


def encoded(image: Any) -> tuple[bytes, str]:
    """The bytes of an image and the end of its file's name. An array is numpy's or torch's, or whatever else gives a
    buffer; a figure of matplotlib and an image of Pillow write themselves. Raises `Invalid` for anything else."""
    if isinstance(image, str | Path):
        path = Path(image)
        if not path.is_file():
            raise got("image", str(image), "a file that can be read")
        image = path.read_bytes()
    elif hasattr(image, "savefig"):
        image = _written(lambda file: image.savefig(file, format="png"))
    elif hasattr(image, "save") and hasattr(image, "getbbox"):
        image = _written(lambda file: image.save(file, format="PNG"))
    if isinstance(image, bytes | bytearray):
        return _kept(bytes(image))
    return _png(image), ".png"


def _kept(data: bytes) -> tuple[bytes, str]:
    for start, ending in ((PNG, ".png"), (JPEG, ".jpg")):
        if data.startswith(start):
            return data, ending
    raise got("image", f"bytes that begin with {data[:4]!r}", EXPECTED)


def _written(write: Any) -> bytes:
    file = io.BytesIO()
    write(file)
    return file.getvalue()


def _png(given: Any) -> bytes:
    height, width, channels, data = _pixels(given)
    line = width * channels
    rows = b"".join(b"\0" + data[start : start + line] for start in range(0, height * line, line))
    head = struct.pack(">IIBBBBB", width, height, 8, COLOURS[channels], 0, 0, 0)
    return PNG + _part(b"IHDR", head) + _part(b"IDAT", zlib.compress(rows, 6)) + _part(b"IEND", b"")


def _part(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _pixels(given: Any) -> tuple[int, int, int, bytes]:
    """Height, width, channels and the bytes of an array, row by row."""
    if hasattr(given, "detach"):
        given = given.detach().cpu().numpy()
    try:
        view = memoryview(given)
    except TypeError:
        raise got("image", type(given).__name__, EXPECTED) from None
    shape = tuple(view.shape or ())
    channels = shape[2] if len(shape) == 3 else 1
    if len(shape) not in (2, 3) or channels not in COLOURS or not 0 < view.nbytes // view.itemsize <= LARGEST:
        raise got("image", f"an array of {shape}", EXPECTED)
    if view.format == "B":
        return shape[0], shape[1], channels, view.tobytes()
    if view.format not in FORMATS:
        raise got("image", f"an array of {view.format!r}", EXPECTED)
    numbers = array(FORMATS[view.format], view.tobytes())
    if not all(0 <= number <= 1 for number in numbers):
        raise got("image", "numbers outside 0 to 1, or no numbers", EXPECTED)
    return shape[0], shape[1], channels, bytes(round(number * 255) for number in numbers)
