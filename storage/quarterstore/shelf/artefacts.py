"""The artefact store: files by the SHA-256 of their bytes, whole or not at all, checked before they are used."""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

from quarterstore.records.faults import Conflict, Corrupt, Invalid, NotFound, TooLarge, got
from quarterstore.records.names import checked_word
from quarterstore.shelf.files import digest_of, make_folder, open_inside, sync_folder, write_all

_digest = re.compile(r"[0-9a-f]{64}\Z")
LARGEST = 16 * 1024**3


class Artefacts:
    """`ab/abcdef…` under one folder; uploads grow in `incoming` and move in when their hash is right."""

    def __init__(self, folder: Path, incoming: Path) -> None:
        self.folder = folder
        self.incoming = incoming

    def path(self, digest: str) -> Path:
        """Where a kept file lies; `Invalid` for what is no SHA-256, so that no path can be asked for."""
        if not _digest.match(digest):
            raise got("digest", digest, "a SHA-256 in hex")
        return self.folder / digest[:2] / digest

    def receive(self, upload: str, offset: int, data: bytes, digest: str | None) -> tuple[int, str | None]:
        """Take one chunk of an upload. Answers how much is here, and the digest once the whole is kept. A chunk sent
        again is taken again; one beyond the end is a conflict that says where to go on."""
        path = self.incoming / checked_word("upload", upload)
        if digest is not None and self.path(digest).exists():
            size = self.path(digest).stat().st_size
            path.unlink(missing_ok=True)
            return size, digest
        size = path.stat().st_size if path.exists() else 0
        if offset > size:
            raise Conflict(f"got offset {offset}, expected at most {size}", field="offset")
        if offset + len(data) > LARGEST:
            raise TooLarge(f"got more than {LARGEST} bytes", field="upload")
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        try:
            write_all(descriptor, data, offset)
            os.ftruncate(descriptor, offset + len(data))
            if digest is not None:
                os.fsync(descriptor)
        except OSError:
            path.unlink()  # after a failed sync nobody knows which of the earlier chunks are on the disk
            raise
        finally:
            os.close(descriptor)
        if digest is None:
            return offset + len(data), None
        self._take_in(path, digest)
        return offset + len(data), digest

    def _take_in(self, path: Path, expected: str) -> None:
        found = digest_of(path)
        if found != expected:
            path.unlink()
            raise Corrupt(f"got {found}, expected {expected}", field="digest", next="send it again")
        target = self.path(expected)
        make_folder(target.parent)
        path.chmod(0o400)
        os.rename(path, target)
        sync_folder(target.parent)

    def adopt(self, path: Path) -> tuple[str, int]:
        """Keep a file that a job left: copied, never linked, because two names for one file would let it be changed
        later."""
        if not stat.S_ISREG(path.lstat().st_mode):
            raise got("artefact", path.name, "a plain file with one name")
        left = open_inside(path.parent, path.name)  # not by its name once more: it may be a link by then
        information = os.fstat(left.fileno())
        copy = self.incoming / f"adopt-{os.getpid()}-{path.parent.parent.name}-{path.name}"
        hasher = hashlib.sha256()
        try:
            with left as source, copy.open("wb") as target:
                if information.st_nlink != 1:
                    raise got("artefact", path.name, "a plain file with one name")
                while chunk := source.read(1 << 20):
                    hasher.update(chunk)
                    target.write(chunk)
                target.flush()
                os.fsync(target.fileno())
        except (OSError, Invalid):
            copy.unlink(missing_ok=True)
            raise
        digest = hasher.hexdigest()
        if self.path(digest).exists():
            copy.unlink()
        else:
            self._take_in(copy, digest)
        return digest, information.st_size

    def kept(self) -> Iterator[Path]:
        """Every kept file."""
        return self.folder.glob("??/" + "[0-9a-f]" * 64)

    def set_aside(self, digest: str) -> Path:
        """Take a kept file out of the store without losing it yet; `put_back` or unlink what is answered."""
        aside = self.incoming / f"freed-{digest}"
        os.rename(self.path(digest), aside)
        return aside

    def put_back(self, aside: Path) -> None:
        """A file that was set aside and is wanted after all."""
        os.rename(aside, self.path(aside.name.removeprefix("freed-")))

    def checked(self, digest: str) -> Path:
        """The path of a kept file whose bytes are still what its name says; `NotFound` or `Corrupt` otherwise."""
        path = self.path(digest)
        if not path.is_file() or path.is_symlink():
            raise NotFound(f"got {digest[:16]}, expected a kept file", field="digest")
        found = digest_of(path)
        if found != digest:
            raise Corrupt(f"{digest[:16]}: got {found}, expected {digest}", field="artefact")
        return path

    def read(self, digest: str, offset: int, length: int) -> tuple[bytes, int]:
        """A chunk of a kept file and the size of the whole."""
        path = self.path(digest)
        if not path.is_file():
            raise NotFound(f"got {digest[:16]}, expected a kept file", field="digest")
        with path.open("rb") as file:
            file.seek(offset)
            return file.read(length), path.stat().st_size
