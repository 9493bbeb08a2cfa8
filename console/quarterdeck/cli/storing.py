"""Backup and restore, export and import: a store into files and out of them, nothing taken on trust."""

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
from quarterstore.records.transfer import Export, Exported, Import, Imported

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


def export(context: Context, folder: Path) -> Exported:
    """Have the daemon write an export, fetch it and unpack it into a folder that is not there yet, or empty."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise Conflict(f"{folder} is not an empty folder", field="folder")
    made = context.client.ask(Export(), timeout=3600.0)
    aside = folder.with_name(f".{folder.name}.exporting")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(mode=0o700, parents=True)
    try:
        tar = aside / "export.tar"
        context.client.get(made.digest, tar)
        manifest = _unpack(tar, aside)
        tar.unlink()
        (aside / "manifest.json").write_bytes(msgspec.json.format(msgspec.json.encode(manifest)))
        if folder.exists():
            folder.rmdir()
        aside.rename(folder)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return made


def take_in(context: Context, folder: Path, dry_run: bool) -> Imported:
    """Check a folder that `export` made against its manifest, send its files, have the daemon take the records in."""
    path = folder / "manifest.json"
    if not path.is_file():
        raise got("folder", str(folder), "a folder that qd export made, with its manifest.json")
    try:
        manifest = msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
        files: dict[str, dict[str, Any]] = manifest["files"]
        hashes = {name: str(each["sha256"]) for name, each in files.items()}
    except (msgspec.MsgspecError, KeyError, TypeError, AttributeError) as error:
        raise got("manifest.json", "something else", "the manifest of an export") from error
    for name, expected in hashes.items():
        _check_file(folder, name, expected)
    records = {PurePosixPath(name).stem: found for name, found in hashes.items() if _is(name, "records")}
    points = tuple(found for name, found in hashes.items() if _is(name, "points"))
    for index, name in enumerate(each for each in hashes if not each.endswith(".jsonl")):
        context.client.put(folder / name)
        if index % 100 == 99:
            context.say(f"{index + 1} files sent")
    return context.client.ask(Import(records=records, points=points, dry_run=dry_run), timeout=3600.0)


def _is(name: str, kind: str) -> bool:
    return name.startswith(f"{kind}/") and name.endswith(".parquet")


def _check_file(folder: Path, name: str, expected: str) -> None:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        raise got("manifest.json", name, "names inside the folder")
    if not (folder / path).is_file():
        raise Corrupt(f"{name}: got no file, expected {expected}", field="import")
    with (folder / path).open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != expected:
        raise Corrupt(f"{name}: got {found}, expected {expected}", field="import")


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
