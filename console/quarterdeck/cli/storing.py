"""`qd backup` and `qd restore`: a store into one file, and out of it into an empty home, nothing taken on trust."""

from __future__ import annotations

import hashlib
import shutil
import tarfile
from pathlib import Path, PurePosixPath
from typing import Any

import msgspec

from quarterdeck.cli.context import Context
from quarterstore.records.faults import Conflict, Corrupt, got
from quarterstore.records.places import Home
from quarterstore.records.store import Backup, BackupMade

LARGEST = 64 * 1024**3
MOST = 1_000_000


def backup(context: Context, file: Path) -> BackupMade:
    """Have the daemon write a backup and fetch it."""
    if file.exists():
        raise Conflict(f"{file} is there already", field="file")
    made = context.client.ask(Backup(), timeout=600.0)
    context.client.get(made.digest, file)
    return made


def restore(home: Home, file: Path) -> dict[str, Any]:
    """Unpack a backup into an empty home; every file is checked before the home gets its name."""
    if home.root.exists() and any(home.root.iterdir()):
        raise Conflict(f"{home.root} is not empty", field="home", next="give another --home")
    aside = home.root.with_name(f".{home.root.name}.restoring")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(mode=0o700, parents=True)
    try:
        manifest = _unpack(file, aside)
        if home.root.exists():
            home.root.rmdir()
        aside.rename(home.root)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return {"home": str(home.root), "seq": manifest["seq"], "hash": manifest["hash"], "files": len(manifest["files"])}


def _unpack(file: Path, folder: Path) -> dict[str, Any]:
    try:
        with tarfile.open(file) as tar:
            manifest = _manifest(tar)
            files = manifest["files"]
            left = set(files)
            while (member := tar.next()) is not None:
                _take(tar, member, files, left, folder)
    except (tarfile.TarError, EOFError) as error:
        raise got("file", file.name, "a Quarterdeck backup that is whole") from error
    if left:
        raise Corrupt(f"got no {sorted(left)[0]}, expected {len(files)} files", field="backup")
    return manifest


def _manifest(tar: tarfile.TarFile) -> dict[str, Any]:
    first = tar.next()
    if first is None or first.name != "manifest.json" or not first.isreg() or first.size > 256 * 1024**2:
        raise got("file", first.name if first else "an empty archive", "a backup that begins with manifest.json")
    content = tar.extractfile(first)
    try:
        manifest: dict[str, Any] = msgspec.json.decode(content.read() if content else b"")
        if manifest["schema"] != 1 or len(manifest["files"]) > MOST:
            raise got("schema", manifest["schema"], "1")
    except (msgspec.DecodeError, KeyError, TypeError) as error:
        raise got("manifest.json", "something else", "the manifest of a backup") from error
    return manifest


def _take(tar: tarfile.TarFile, member: tarfile.TarInfo, files: dict[str, Any], left: set[str], folder: Path) -> None:
    name = PurePosixPath(member.name)
    if not member.isreg() or name.is_absolute() or ".." in name.parts or member.name not in left:
        raise got("backup", member.name, "plain files that the manifest names, each once")
    expected = files[member.name]
    if member.size != expected["size"] or member.size > LARGEST:
        raise Corrupt(f"{member.name}: got {member.size} bytes, expected {expected['size']}", field="backup")
    target = folder / name
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    hasher = hashlib.sha256()
    content = tar.extractfile(member)
    with target.open("xb") as out:
        while content is not None and (chunk := content.read(1 << 20)):
            hasher.update(chunk)
            out.write(chunk)
    target.chmod(0o400 if member.name.startswith("artefacts/") else 0o600)
    if hasher.hexdigest() != expected["sha256"]:
        raise Corrupt(f"{member.name}: got {hasher.hexdigest()}, expected {expected['sha256']}", field="backup")
    left.discard(member.name)
