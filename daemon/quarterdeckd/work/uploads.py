"""Acts that name an uploaded file: the file must be here before the act is decided; what a model file is, and its
signature, are read from it."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import threading
from typing import Any, TypeVar

import msgspec
from msgspec.structs import replace

from quarterdeckd.api.dispatch import Prepare
from quarterdeckd.formats.gather import Beside
from quarterdeckd.services.registry import ALLOW, ALLOW_SKOPS, CODE
from quarterdeckd.services.samples import schema_of
from quarterstore.records.admission import Golden
from quarterstore.records.faults import Failed, FaultRecord, NotFound, Refused, TimedOut, TooLarge, got, raised
from quarterstore.records.logged_models import LogModelArtefact
from quarterstore.records.registry import Described, RegisterVersion, Signature, Tensor
from quarterstore.records.runs import LogArtefact
from quarterstore.shelf.artefacts import Artefacts

READ_WITHIN = 120.0
REMEMBERED = 256
AUTO = "auto"
LARGEST_SAMPLE = 64 * 1024**2


class Uploads:
    """Looks at the artefact store on behalf of acts; runs in a thread, because a file is read."""

    def __init__(self, artefacts: Artefacts) -> None:
        self._artefacts = artefacts
        self._known: dict[str, Described] = {}
        """What was found of the last files, by their hash: the same bytes are the same model."""
        self._lock = threading.Lock()

    def preparers(self) -> dict[type, Prepare]:
        """Acts that name files -> what looks at those first."""
        return {
            RegisterVersion: self.described,
            LogArtefact: self.kept,
            LogModelArtefact: self.kept,
        }

    def kept(self, act: Any) -> Any:
        """The act, when every file it names is kept; `NotFound` otherwise."""
        for field in ("digest", "reference", "golden"):
            digest = getattr(act, field, None)
            if digest is not None:
                self.check_kept(field, digest)
        for name, digest in getattr(act, "beside", {}).items():
            self.check_kept(f"beside.{name}", digest)
        return act

    def check_kept(self, field: str, digest: str) -> None:
        """`NotFound` on the field unless the file is here."""
        if not self._artefacts.path(digest).is_file():
            raise NotFound(
                f"got {digest[:16]}, expected an uploaded file", field=field, next="upload it with store.put_blob"
            )

    def described(self, act: RegisterVersion) -> RegisterVersion:
        """The act with what its file is by its content: the format, what it would import, and the signature where it
        came without one. Another format or signature than was declared is refused, code without leave too."""
        self.kept(act)
        if act.beside:
            act = replace(act, digest=self._whole(act.digest, act.beside), beside={})
        size = self._artefacts.checked(act.digest).stat().st_size
        found = self._known.get(act.digest) or self._looked_at(act.digest)
        if found.code and found.format == "skops" and not act.allow_code:
            names = ", ".join(found.code)
            raise Refused(f"got skops with types that are not trusted: {names}", field="file", next=ALLOW_SKOPS)
        if found.format in CODE and not act.allow_code:
            raise Refused(f"got {found.words}, expected no code in data", field="file", next=ALLOW)
        if act.format not in (AUTO, found.format):
            raise got("format", act.format, f"{found.format}, which the file is")
        signature = act.signature
        if found.signature is not None:
            signature = _agreed(act.signature, found.signature)
        elif act.golden is not None and not (signature.inputs or signature.outputs):
            signature = schema_of(self._sample(act.golden))
        return replace(act, format=found.format, size=size, code=found.code, signature=signature)

    def _sample(self, digest: str) -> Golden:
        path = self._artefacts.checked(digest)
        if path.stat().st_size > LARGEST_SAMPLE:
            raise TooLarge(f"got more than {LARGEST_SAMPLE:,} bytes of rows", field="golden")
        try:
            return msgspec.json.decode(path.read_bytes(), type=Golden)
        except msgspec.MsgspecError as error:
            raise got("golden", f"rows that are none ({str(error)[:200]})", "JSON with inputs and outputs") from error

    def _whole(self, digest: str, beside: dict[str, str]) -> str:
        """The hash of the model with the weights in it that lie beside it; its own where it is whole."""
        files = {name: str(self._artefacts.checked(each)) for name, each in beside.items()}
        out = self._artefacts.incoming / f"whole-{secrets.token_hex(12)}"
        given = Beside(str(self._artefacts.checked(digest)), files, str(out))
        try:
            if not told_by("quarterdeckd.formats.gather", bool, given=msgspec.json.encode(given)):
                return digest
            return self._artefacts.adopt(out)[0]
        finally:
            out.unlink(missing_ok=True)

    def _looked_at(self, digest: str) -> Described:
        found = told_by("quarterdeckd.serving.describe", Described, str(self._artefacts.path(digest)), digest)
        with self._lock:
            while len(self._known) >= REMEMBERED:
                del self._known[next(iter(self._known))]
            self._known[digest] = found
        return found


Told = TypeVar("Told")


def told_by(module: str, kind: type[Told], *words: str, given: bytes = b"") -> Told:
    """What a process of that module prints about a file, or the fault that it prints."""
    command = [sys.executable, "-m", module, *words]
    threads = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL")}
    try:
        done = subprocess.run(
            command, input=given, capture_output=True, timeout=READ_WITHIN, check=False, env={**os.environ, **threads}
        )
    except subprocess.TimeoutExpired as error:
        raise TimedOut(f"the file was not read within {READ_WITHIN:g} s", field="file") from error
    if done.returncode < 0:
        name = signal.Signals(-done.returncode).name
        raise Failed(f"the file could not be read: it ended the process that read it ({name})", field="file")
    try:
        if done.returncode == 0:
            return msgspec.json.decode(done.stdout, type=kind)
        fault = msgspec.json.decode(done.stdout, type=FaultRecord)
    except msgspec.DecodeError as error:
        last = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
        raise Failed(f"the file could not be read ({''.join(last)[:300]})", field="file") from error
    raise raised(fault)


def _agreed(declared: Signature, real: Signature) -> Signature:
    """The declared signature where the file takes and gives those tensors, the file's own where none was declared."""
    if not declared.inputs and not declared.outputs:
        return real
    for side in ("inputs", "outputs"):
        wanted = {each.name: each for each in getattr(declared, side)}
        there = {each.name: each for each in getattr(real, side)}
        for name in sorted(wanted.keys() | there.keys()):
            ours, own = wanted.get(name), there.get(name)
            if ours is None or own is None or not _fits(ours, own):
                said = f"{name} {_shown(ours)}" if ours else f"no {name}"
                raise got(f"signature.{side}", said, f"what the file has, {_shown(own)}")
    return declared


def _fits(declared: Tensor, real: Tensor) -> bool:
    """A file may leave a size open that is declared, and the other way round."""
    sizes = list(zip(declared.shape, real.shape, strict=False))
    return (
        declared.datatype == real.datatype
        and len(declared.shape) == len(real.shape)
        and all(size == own or -1 in (size, own) for size, own in sizes)
    )


def _shown(tensor: Tensor | None) -> str:
    return f"{tensor.datatype} {list(tensor.shape)}" if tensor else "none of that name"
