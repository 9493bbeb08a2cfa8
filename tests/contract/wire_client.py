"""A client of the wire that imports nothing of ours: pyzmq and msgspec only; see docs/wire.md."""

from __future__ import annotations

import hashlib
import os
import secrets
import sys
from pathlib import Path
from typing import Any

import msgspec
import zmq


class WireClient:
    """One DEALER of one caller."""

    def __init__(self, home: str, caller: str = "owner") -> None:
        root = Path(home).absolute()
        secret = (root / "keys" / f"{caller}.secret").read_bytes().strip()
        self.context: zmq.Context[Any] = zmq.Context()
        self.socket: zmq.Socket[bytes] = self.context.socket(zmq.DEALER)
        self.socket.curve_secretkey, self.socket.curve_publickey = secret, zmq.curve_public(secret)
        self.socket.curve_serverkey = (root / "keys" / "server.public").read_bytes().strip()
        self.socket.linger = 0
        self.socket.connect(f"ipc://{runtime_folder(root)}/ask.sock")

    def ask(self, message: dict[str, Any], timeout: float = 10.0) -> Any:
        """Send one message; the answer, or `RuntimeError` with the fault's kind and words."""
        request = secrets.token_hex(12)
        self.socket.send(msgspec.msgpack.encode([1, request, message, 0]))
        while self.socket.poll(timeout * 1000):
            _, answered, body, fault, _ = msgspec.msgpack.decode(self.socket.recv())
            if answered == request:
                if fault:
                    raise RuntimeError(f"{fault['kind']}: {fault['message']}")
                return body
        raise TimeoutError(f"no answer within {timeout} s")

    def close(self) -> None:
        """Let go of the socket."""
        self.socket.close()
        self.context.term()


def runtime_folder(root: Path) -> Path:
    """Where the sockets of a home are: a folder named by the SHA-256 of its real path, 16 characters."""
    base = os.environ.get("XDG_RUNTIME_DIR")
    above = Path(base) / "quarterdeck" if base else Path("/tmp") / f"quarterdeck-{os.getuid()}"
    return above / hashlib.sha256(os.fsencode(os.path.realpath(root))).hexdigest()[:16]


if __name__ == "__main__":
    asked = WireClient(sys.argv[1])
    print(msgspec.json.encode(asked.ask({"type": sys.argv[2]})).decode())
    asked.close()
