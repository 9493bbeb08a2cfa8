"""The user's own files in a job's folder, as they were when the work was asked for."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from quarterstore.records.faults import got
from quarterstore.shelf.artefacts import Artefacts


def laid(code: Path, sources: Mapping[str, str], store: Artefacts) -> Path:
    """The folder `code` with each file at its path below it; a fault where a file is not what its hash says."""
    code.mkdir(exist_ok=True)
    for name, digest in sources.items():
        path = (code / name).resolve()
        if not path.is_relative_to(code.resolve()):
            raise got("sources", name, "a path beside the definition")
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(store.checked(digest), path)
        path.chmod(0o700)  # a program of the user's is started by its name
    return code
