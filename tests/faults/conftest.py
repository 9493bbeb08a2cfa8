"""What the fault tests share: the line each prints, the shim that cuts the disk off, the tree a power loss leaves."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Report = Callable[..., None]
HERE = Path(__file__).parent


@pytest.fixture
def report() -> Report:
    """Print `F3: N=10 failures=0 seed=7 …`: one line a fault test, which the release notes collect."""

    def line(fault: str, count: int, failures: int, seed: int | None = None, **more: object) -> None:
        words = [f"{fault}: N={count} failures={failures} seed={'none' if seed is None else seed}"]
        print(" ".join(words + [f"{name}={value}" for name, value in more.items()]))

    return line


@pytest.fixture(scope="session")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The compiled shim; the test is skipped, and says why, where there is no C compiler."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler: syncs cannot be intercepted")
    library = tmp_path_factory.mktemp("shim") / "shim.so"
    words = [compiler, "-O1", "-shared", "-fPIC", "-o", str(library), str(HERE / "shim.c"), "-lpthread"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"the shim does not compile here: {done.stderr[-200:]}")
    return library


class Disk:
    """The durable image of a home: what a power loss leaves of it, in one of two readings.

    `strict`: a name is durable when its folder was synced after it was made (all that POSIX promises). `ordered`: names
    are as they were at the loss and only bytes can be missing, as on a file system that journals names (ext4, xfs).
    """

    def __init__(self, library: Path, home: Path, names: str) -> None:
        self.home = home
        self.names = names
        self._library = library
        self._image = home.with_name("image")
        self.log = home.with_name("syncs")

    def environ(self, **more: str) -> dict[str, str]:
        """What makes a daemon write through this disk."""
        return {
            "LD_PRELOAD": str(self._library),
            "SHIM_ROOT": str(self.home),
            "SHIM_IMAGE": str(self._image),
            "SHIM_LOG": str(self.log),
            **more,
        }

    def format(self) -> None:
        """Everything that is there now is durable."""
        shutil.rmtree(self._image, ignore_errors=True)
        self._image.mkdir()
        for path, own in _identities(self.home).items():
            if path.is_dir():
                lines = [
                    f"{each} {'d' if child.is_dir() else 'f'} {child.name}"
                    for child, each in _identities(path, deep=False).items()
                ]
                (self._image / f"d-{own}").write_text("\n".join(lines))
            else:
                shutil.copyfile(path, self._image / f"f-{own}")

    def lose_power(self) -> int:
        """Put what was durable in the home's place; answers how many files differ from what the page cache held."""
        dead = self.home.with_name("dead")
        self.home.rename(dead)
        if self.names == "strict":
            self._strictly(_identities(dead, deep=False, own=True)[dead], self.home)
        else:
            self._orderly(dead)
        held = _contents(dead)
        left = _contents(self.home)
        shutil.rmtree(dead)
        self.format()
        return sum(held.get(name) != left.get(name) for name in held.keys() | left.keys())

    def _strictly(self, own: str, target: Path) -> None:
        target.mkdir(mode=0o700)
        names = self._image / f"d-{own}"
        for line in names.read_text().splitlines() if names.exists() else ():
            each, kind, name = line.split(" ", 2)
            if kind == "d":
                self._strictly(each, target / name)
            else:
                self._file(each, target / name)

    def _orderly(self, dead: Path) -> None:
        for path, own in sorted(_identities(dead).items()):
            target = self.home / path.relative_to(dead)
            if path.is_dir():
                target.mkdir(mode=0o700)
            else:
                self._file(own, target)

    def _file(self, own: str, target: Path) -> None:
        kept = self._image / f"f-{own}"
        target.touch(mode=0o600)
        if kept.exists():
            shutil.copyfile(kept, target)


def _identities(folder: Path, *, deep: bool = True, own: bool = False) -> dict[Path, str]:
    """Each file or folder under one, with the `inode-birth` the shim knows it by; itself too when deep or `own`."""
    paths = [folder] if own else [folder, *folder.rglob("*")] if deep else list(folder.iterdir())
    if not paths:
        return {}
    words = ["stat", "--printf", "%i-%.9W\n", *map(str, paths)]
    found = subprocess.run(words, capture_output=True, text=True, check=True).stdout.split()
    return dict(zip(paths, found, strict=True))


def _contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def disk_of(shim: Path) -> Callable[[Any, str], Disk]:
    """A disk under a daemon that has not started: `disk_of(absent, "strict")`."""

    def made(daemon: Any, names: str) -> Disk:
        daemon.home.root.mkdir(mode=0o700)
        disk = Disk(shim, daemon.home.root, names)
        disk.format()
        return disk

    return made
