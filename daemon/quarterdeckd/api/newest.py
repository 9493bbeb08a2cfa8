"""The newest point of each metric of each open run, beside the folded files: a daemon that starts again knows what a
run last said without reading every point it ever logged."""

from __future__ import annotations

import struct
import zlib
from array import array
from pathlib import Path

import msgspec

from quarterstore.records.runs import LogMetrics
from quarterstore.records.wire import encode
from quarterstore.shelf.files import write_whole

Point = tuple[int, float, float]
"""Step, time, value."""
Newest = dict[str, dict[str, Point]]
NAME = "open.newest"
_crc = struct.Struct("<I")


def add(newest: Newest, batch: LogMetrics) -> dict[str, Point]:
    """Take over the points of a batch that are newer, by (step, time, value); answers those."""
    # sorted, so that of equal keys the dict keeps the newest; in C, since every point comes through here
    key = array("H", batch.key)
    rows = sorted(zip(key, array("q", batch.step), array("d", batch.time), array("d", batch.value), strict=True))
    known = newest.setdefault(batch.run, {})
    newer = {}
    for index, point in {row[0]: row[1:] for row in rows}.items():
        name = batch.keys[index]
        if name not in known or not known[name] > point:
            known[name] = newer[name] = point
    return newer


def write(folder: Path, newest: Newest) -> None:
    """Keep them, whole or as they were."""
    payload = encode(newest)
    write_whole(folder / NAME, _crc.pack(zlib.crc32(payload)) + payload)


def read(folder: Path, said: list[str]) -> Newest:
    """What was kept; nothing where there is none. One that is damaged is said: its runs show a metric again once they
    log it, and their curves are whole."""
    path = folder / NAME
    if not path.exists():
        return {}
    data = path.read_bytes()
    try:
        if _crc.unpack_from(data) != (zlib.crc32(data[_crc.size :]),):
            raise ValueError("got another checksum")
        return msgspec.msgpack.decode(data[_crc.size :], type=Newest)
    except (ValueError, struct.error, msgspec.MsgspecError) as error:
        said.append(f"{NAME}: {error}: the last values of open runs are not known until they log again")
        return {}
