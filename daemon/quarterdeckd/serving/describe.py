"""What a model file is and takes and gives, said by a throw-away process with limits: `python -m
quarterdeckd.serving.describe FILE SHA256`."""

from __future__ import annotations

import resource
import sys
from pathlib import Path

import msgspec

from quarterdeckd.formats.recognise import recognised
from quarterstore.records.faults import Corrupt, Failed, Fault
from quarterstore.records.registry import Described, Signature
from quarterstore.shelf.files import digest_of

SECONDS = 60
ROOM = 6 * 1024**3
"""Address space beside what the file itself may take: 1.1 GB of it are libraries."""
LARGEST = 2 * 1024**3
"""Bytes of an ONNX file: what is larger is none, and is read in parts."""
TIMES = 4
"""How often a file may be in memory: as bytes, as a message, as a session and what it is optimised to."""


def main(argv: list[str]) -> int:
    """Print what was found as JSON and answer 0, or the fault and answer 1."""
    path = Path(argv[1])
    found: Fault
    try:
        print(msgspec.json.encode(described(path, argv[2])).decode())
        return 0
    except Fault as fault:
        found = fault
    except MemoryError:
        found = Failed("it takes more memory than a file of its size may", field="file")
    print(msgspec.json.encode(found.record()).decode())
    return 1


def set_limits(path: Path) -> None:
    """Processor time, address space, no file written, no core."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    room = ROOM + TIMES * min(path.stat().st_size, LARGEST)
    resource.setrlimit(resource.RLIMIT_AS, (room, room))


def described(path: Path, digest: str) -> Described:
    """The format by content; the signature too where the file has one."""
    if (found := digest_of(path)) != digest:
        raise Corrupt(f"{digest[:16]}: got {found}, expected {digest}", field="file")
    told = recognised(path)
    signature = _signature(path, digest) if told.format == "onnx" else None
    return Described(format=told.format, words=told.words, code=told.code, signature=signature)


def _signature(path: Path, digest: str) -> Signature:
    from quarterdeckd.serving.admission import admitted

    loaded = admitted(path, digest)
    names = [tensor.name for tensor in loaded.outputs]
    return Signature(
        inputs=loaded.inputs,
        outputs=loaded.outputs,
        label="label" if "label" in names else None,
        score="score" if "score" in names else None,
        task="classification" if "label" in names else "regression",
    )


if __name__ == "__main__":
    set_limits(Path(sys.argv[1]))
    sys.exit(main(sys.argv))
