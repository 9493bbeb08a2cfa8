"""A backup: the journal until one entry, every artefact and sample file, what studies go on from, with their hashes, as
one tar that is itself an artefact."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from quarterstore.ledger import journal
from quarterstore.records.faults import Corrupt
from quarterstore.records.places import Home
from quarterstore.shelf.artefacts import Artefacts
from quarterstore.shelf.files import digest_of

SCHEMA = 1
STUDIED = ("optuna.log", "trials.jsonl")
"""Files of a study's folder."""


class Made(NamedTuple):
    """A backup in the artefact store, and the entry it ends at."""

    digest: str
    size: int
    seq: int
    hash: str


class Part(NamedTuple):
    """One file of a tar."""

    name: str
    path: Path
    size: int
    sha256: str


def back_up(home: Home, artefacts: Artefacts, head: journal.Head, length: int, segment: int) -> Made:
    """Write a backup as of `head`, whose entry ends at `length` bytes of segment number `segment`; writing goes on
    meanwhile, because entries are only ever added behind. Keys are not part of it."""
    home.backups.mkdir(mode=0o700, exist_ok=True)
    target = home.backups / f"backup-{head.seq}-{os.getpid()}.part"
    aside = home.backups / f"studies-{head.seq}-{os.getpid()}.part"
    try:
        parts = [*_parts(home, segment, length), *_studies(home, aside)]
        bundle(target, {"seq": head.seq, "hash": head.hash.hex()}, parts)
        digest, size = artefacts.adopt(target)
    finally:
        target.unlink(missing_ok=True)
        shutil.rmtree(aside, ignore_errors=True)
    return Made(digest, size, head.seq, head.hash.hex())


def bundle(target: Path, about: dict[str, Any], parts: list[Part]) -> None:
    """Write parts as one tar behind a manifest of their sizes and hashes, and read it back to be sure."""
    files = {part.name: {"size": part.size, "sha256": part.sha256} for part in parts}
    manifest = {"schema": SCHEMA, **about, "files": files}
    with tarfile.open(target, "w", format=tarfile.PAX_FORMAT) as tar:
        _add_bytes(tar, "manifest.json", msgspec.json.format(msgspec.json.encode(manifest)))
        for part in parts:
            with part.path.open("rb") as source:
                information = tarfile.TarInfo(part.name)
                information.size, information.mode = part.size, 0o600
                tar.addfile(information, source)
    _check(target, files)


def _parts(home: Home, segment: int, length: int) -> Iterator[Part]:
    yield part_of("store.json", home.root / "store.json")
    for found in journal.segments_of(home.journal):
        if found.number < segment:
            yield part_of(f"journal/{found.path.name}", found.path)
        elif found.number == segment:
            with found.path.open("rb") as file:
                data = file.read(length)
            yield Part(f"journal/{found.path.name}", found.path, length, hashlib.sha256(data).hexdigest())
    for path in sorted(home.artefacts.glob("??/*")):
        yield Part(f"artefacts/{path.parent.name}/{path.name}", path, path.stat().st_size, path.name)
    for path in sorted(home.samples.rglob("*")):
        if path.is_file() and path.suffix in (".parquet", ".sha256", ".newest"):
            yield part_of(f"samples/{path.relative_to(home.samples)}", path)


def _studies(home: Home, aside: Path) -> Iterator[Part]:
    """Of each study its trials and Optuna's journal, as far as whole lines go: copies, as a study writes on and one
    that is gone on with begins a file anew."""
    for path in sorted(each for name in STUDIED for each in home.studies.glob(f"*/{name}")):
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            continue  # removed meanwhile
        copy = aside / path.parent.name / path.name
        copy.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        copy.write_bytes(data[: data.rfind(b"\n") + 1])
        yield part_of(f"studies/{path.parent.name}/{path.name}", copy)


def part_of(name: str, path: Path) -> Part:
    """A file under a name in the tar, with the hash that it has now."""
    return Part(name, path, path.stat().st_size, digest_of(path))


def _add_bytes(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    information = tarfile.TarInfo(name)
    information.size, information.mode = len(data), 0o600
    tar.addfile(information, io.BytesIO(data))


def _check(path: Path, files: dict[str, dict[str, Any]]) -> None:
    """Read the tar back: what is in it must be what the manifest says, or there is no backup."""
    with tarfile.open(path) as tar:
        for member in tar:
            if member.name == "manifest.json":
                continue
            content = tar.extractfile(member)
            found = hashlib.sha256(content.read()).hexdigest() if content else ""
            if found != files[member.name]["sha256"]:
                raise Corrupt(f"{member.name}: got {found}, expected {files[member.name]['sha256']}", field="backup")
