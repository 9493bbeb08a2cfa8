"""Reading the files of one folder and of nothing outside of it: no link is followed, nothing but plain files is
opened."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

from quarterdeck.mlflow.left import Left
from quarterdeck.mlflow.shapes import Fetch
from quarterstore.records.faults import Invalid, got

LARGEST_TEXT = 4 * 1024 * 1024
ROOTS = ("mlruns", "mlartifacts")
"""The folders that MLflow keeps files in, beside its database."""


def unreadable(path: Path, error: OSError) -> Invalid:
    """What a failed read is called."""
    return got(path.name, error.strerror or str(error), "a file that can be read")


def opened(path: Path) -> int:
    """A descriptor of a plain file; a link, a pipe or a device is refused and never waited for."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise unreadable(path, error) from None
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise got(path.name, "something else", "a plain file")
    return file


def text_of(path: Path) -> str:
    """A small file as text, as it is."""
    with os.fdopen(opened(path), "rb") as file:
        try:
            data = file.read(LARGEST_TEXT + 1)
        except OSError as error:
            raise unreadable(path, error) from None
    if len(data) > LARGEST_TEXT:
        raise got(path.name, "more", f"at most {LARGEST_TEXT} bytes")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise got(path.name, str(error), "text in UTF-8") from None


def folders(place: Path, left: Left) -> list[Path]:
    """The folders in a folder by name, without hidden ones; links are left."""
    try:
        found = sorted(each for each in place.iterdir() if each.name[0] != "." and (each.is_dir() or each.is_symlink()))
    except FileNotFoundError:
        return []
    except OSError as error:
        left.add(place.name, unreadable(place, error))
        return []
    for each in found:
        if each.is_symlink():
            left.add(str(each.relative_to(place.parent)), got("link", os.readlink(each), "a folder"))
    return [each for each in found if not each.is_symlink()]


def below(folder: Path, what: str, left: Left) -> Iterator[tuple[str, Path]]:
    """The plain files below a folder by their path in it; links and whatever else is no file are left."""

    def failed(error: OSError) -> None:
        left.add(what, unreadable(Path(error.filename or folder), error))

    if folder.is_symlink():
        left.add(what, got("link", os.readlink(folder), "a folder"))
        return
    for place, inner, names in os.walk(folder, onerror=failed if folder.exists() else None):
        inner.sort()
        for name in sorted([*names, *(each for each in inner if Path(place, each).is_symlink())]):
            path = Path(place, name)
            inside = path.relative_to(folder).as_posix()
            with left.over(f"{what}: {inside}"):
                mode = path.lstat().st_mode
                if not stat.S_ISREG(mode):
                    raise got("path", "a link" if stat.S_ISLNK(mode) else "no plain file", "a plain file")
                yield inside, path


def texts(folder: Path, what: str, left: Left) -> dict[str, str]:
    """The files of a folder: their paths as names (a name may hold `/`), their content as values."""
    found = {}
    for name, path in below(folder, what, left):
        with left.over(f"{what} {name}"):
            found[name] = text_of(path)
    return found


class Artefacts:
    """The files of runs and logged models below one folder, which may have been moved since they were written."""

    def __init__(self, root: Path, left: Left) -> None:
        self._root = root
        self._left = left

    def of(self, uri: str, id_: str, what: str) -> Iterator[tuple[str, Fetch]]:
        """The files at a URI that ends with `ID/artifacts`."""
        with self._left.over(f"the artefacts of {what}"):
            folder = self._folder(uri, id_)
            if folder is not None:
                yield from self.inside(folder, what)

    def inside(self, folder: Path, what: str) -> Iterator[tuple[str, Fetch]]:
        """The files of a folder below the root."""
        for name, path in below(folder, f"{what}", self._left):
            yield name, lambda room, path=path: path  # type: ignore[misc]

    def _folder(self, uri: str, id_: str) -> Path | None:
        parts = _path_of(uri).split("/")
        if ".." in parts or "\0" in uri or parts[-2:] != [id_, "artifacts"]:
            raise got("artifact_uri", uri, f"a path that ends with {id_}/artifacts")
        absolute = _path_of(uri).startswith("/") and not uri.startswith("mlflow-artifacts:")
        for candidate in self._candidates([each for each in parts if each], absolute):
            if candidate.is_dir():
                self._check_links(candidate)
                return candidate
        if absolute and (Path(_path_of(uri)).is_dir() or not set(parts) & set(ROOTS)):
            raise got("artifact_uri", uri, f"a place below {self._root}")
        return None  # it has no files: MLflow makes the folder with the first one

    def _candidates(self, parts: list[str], absolute: bool) -> list[Path]:
        if not absolute:
            return [self._root.joinpath(*start, *parts) for start in ((), ("mlartifacts",), ("mlruns",))]
        whole = Path("/", *parts)
        found = (
            [whole] if any(whole.is_relative_to(each) for each in (self._root.absolute(), self._root.resolve())) else []
        )
        for at in range(len(parts) - 1, -1, -1):
            if parts[at] in ROOTS:
                found += [self._root.joinpath(*parts[start:]) for start in (at, at + 1)]
        return found

    def _check_links(self, folder: Path) -> None:
        root = self._root if folder.is_relative_to(self._root) else self._root.resolve()
        root = root if folder.is_relative_to(root) else self._root.absolute()
        for each in (folder, *folder.parents):
            if each == root:
                return
            if each.is_symlink():
                raise got("artifact_uri", f"{each.name}, a link", "a folder")


def _path_of(uri: str) -> str:
    """The path that a URI names; `Invalid` for one that is on another machine."""
    scheme = urlsplit(uri).scheme if "://" in uri or uri.startswith(("file:", "mlflow-artifacts:")) else ""
    if scheme == "":
        return uri
    parts = urlsplit(uri)
    if scheme == "mlflow-artifacts":
        return parts.path.lstrip("/")
    if scheme != "file" or parts.netloc not in ("", "localhost"):
        raise got("artifact_uri", uri, "a place on this disk")
    return unquote(parts.path)
