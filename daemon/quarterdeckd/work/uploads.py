"""Acts that name an uploaded file: the file must be here before the act is decided; a model's signature is read from
it."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import msgspec
from msgspec.structs import replace

from quarterstore.records.faults import Failed, NotFound, Refused, TimedOut
from quarterstore.records.registry import RegisterVersion, Signature
from quarterstore.shelf.artefacts import Artefacts

READ_WITHIN = 30.0
PICKLES = tuple(bytes([0x80, version]) for version in range(2, 6))


class Uploads:
    """Looks at the artefact store on behalf of acts; runs in a thread, because a file is read."""

    def __init__(self, artefacts: Artefacts) -> None:
        self._artefacts = artefacts

    def kept(self, act: Any) -> Any:
        """The act, when every file it names is kept; `NotFound` otherwise."""
        for field in ("digest", "reference", "golden"):
            digest = getattr(act, field, None)
            if digest is not None and not self._artefacts.path(digest).is_file():
                raise NotFound(
                    f"got {digest[:16]}, expected an uploaded file", field=field, next="upload it with store.put_blob"
                )
        return act

    def described(self, act: RegisterVersion) -> RegisterVersion:
        """The act with the signature of its file where it came without one; a pickle is refused by its first bytes."""
        self.kept(act)
        path = self._artefacts.checked(act.digest)
        with path.open("rb") as file:
            first = file.read(2)
        if first in PICKLES or first == b"PK":
            raise Refused("got a pickle or an archive, expected ONNX: no code is loaded from data", field="digest")
        if act.signature.inputs or act.signature.outputs:
            return act
        words = [sys.executable, "-m", "quarterdeckd.serving.describe", str(path), act.digest]
        try:
            done = subprocess.run(words, capture_output=True, text=True, timeout=READ_WITHIN, check=False)
        except subprocess.TimeoutExpired as error:
            raise TimedOut(f"the file was not read within {READ_WITHIN:g} s", field="digest") from error
        if done.returncode != 0:
            raise Failed(
                done.stderr.strip().splitlines()[-1][:300] if done.stderr.strip() else "the file could not be read",
                field="digest",
            )
        return replace(act, signature=msgspec.json.decode(done.stdout, type=Signature))
