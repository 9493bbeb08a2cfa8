"""The last head of a journal that was seen from here, kept outside the store: what was cut off or rolled back shows."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

import msgspec

from quarterstore.records.governance import AuditHead
from quarterstore.records.places import Home


def _kept(home: Home, environ: Mapping[str, str]) -> Path:
    state = environ.get("XDG_STATE_HOME") or Path(environ.get("HOME") or Path.home()) / ".local" / "state"
    name = hashlib.sha256(os.fsencode(os.path.realpath(home.root))).hexdigest()[:16]
    return Path(state) / "quarterdeck" / "heads" / f"{name}.json"


def remembered(home: Home, environ: Mapping[str, str] = os.environ) -> AuditHead | None:
    """The newest head seen of this home; None when none was, or it cannot be read."""
    try:
        return msgspec.json.decode(_kept(home, environ).read_bytes(), type=AuditHead)
    except (FileNotFoundError, msgspec.DecodeError):
        return None


def remember(home: Home, head: AuditHead, environ: Mapping[str, str] = os.environ) -> None:
    """Keep a head that is newer than the one kept: an older one must never take its place."""
    before = remembered(home, environ)
    if before is not None and before.seq >= head.seq:
        return
    path = _kept(home, environ)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    aside = path.with_suffix(f".{os.getpid()}")
    aside.write_bytes(msgspec.json.encode(head))
    aside.rename(path)
