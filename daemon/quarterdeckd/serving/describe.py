"""What an ONNX file takes and gives, said by a throw-away process: `python -m quarterdeckd.serving.describe FILE
SHA256`."""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec

from quarterdeckd.serving.admission import admitted
from quarterstore.records.faults import Fault
from quarterstore.records.registry import Signature


def main(argv: list[str]) -> int:
    """Print the signature as JSON, or the fault's line on stderr."""
    try:
        loaded = admitted(Path(argv[1]), argv[2])
    except Fault as fault:
        print(fault.line(), file=sys.stderr)
        return 1
    names = [tensor.name for tensor in loaded.outputs]
    signature = Signature(
        inputs=loaded.inputs,
        outputs=loaded.outputs,
        label="label" if "label" in names else None,
        score="score" if "score" in names else None,
        task="classification" if "label" in names else "regression",
    )
    print(msgspec.json.encode(signature).decode())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
