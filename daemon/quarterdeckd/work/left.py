"""What a job's process leaves in its folder, where a person's code may write too: read as it is, never followed
elsewhere."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import msgspec

from quarterstore.records import jobs
from quarterstore.records.names import drawn
from quarterstore.shelf.files import open_inside

log = logging.getLogger(__name__)
AT_ONCE = 1 << 20
LONGEST_LINE = 8 << 20
"""Bytes of a line of a job's progress; in a longer one a step's figures are too many to be kept."""


def clear_steps(folder: Path) -> None:
    """Take away what steps left: it is kept as artefacts by now, or not wanted; their logs stay."""
    for left in (*folder.glob("steps/*/out"), *folder.glob("steps/*/work")):
        shutil.rmtree(left, ignore_errors=True)


def result_of(folder: Path) -> jobs.JobResult | None:
    """What a job's process left as its last word; None where it left none."""
    try:
        with open_inside(folder, "result.json") as file:
            return msgspec.json.decode(file.read(), type=jobs.JobResult)
    except FileNotFoundError:
        return None
    except (msgspec.DecodeError, OSError) as error:
        return jobs.JobResult(ok=False, error=drawn(f"result.json: got what is no result ({error})", longest=300))


def written_since(folder: Path, offset: int) -> bytes:
    """Whole lines of a job's progress from a place on, about a megabyte of them. A line without an end is handed on in
    pieces once it is too long to be one, so that what comes behind it is read."""
    try:
        file = open_inside(folder, "progress.jsonl")
    except FileNotFoundError:
        return b""
    except OSError as error:
        log.warning("%s: progress.jsonl is not read: %s", folder.name, error)
        return b""
    with file:
        file.seek(offset)
        data = file.read(AT_ONCE)
        if len(data) == AT_ONCE and b"\n" not in data:
            data += file.read(LONGEST_LINE - AT_ONCE)
            if len(data) == LONGEST_LINE and b"\n" not in data:
                return data
    return data[: data.rfind(b"\n") + 1]


def steps_told(job: str, folder: Path) -> list[jobs.Line]:
    """Every line about a step that a worker ever wrote."""
    found: list[jobs.Line] = []
    offset = 0
    while whole := written_since(folder, offset):
        offset += len(whole)
        found.extend(line for line in read_lines(job, whole) if line.kind == "step")
    return found


def read_lines(job: str, whole: bytes) -> list[jobs.Line]:
    """The lines of a job's progress; what is none (a person's code may write there) is passed over."""
    lines = []
    for text in whole.splitlines():
        try:
            lines.append(msgspec.json.decode(text, type=jobs.Line))
        except msgspec.DecodeError as error:
            log.warning("%s: a line of progress is none: %s", job, drawn(str(error), longest=200))
    return lines
