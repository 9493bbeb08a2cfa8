"""A run done again from its record: its code in a folder of its own, its rows by their hashes, its command without a
shell."""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from quarterdeck.source import CUT
from quarterstore.records.faults import NotFound, Refused
from quarterstore.records.names import drawn
from quarterstore.records.packages import ShowPackages
from quarterstore.records.runs import Run
from quarterstore.records.store import GetBlob

if TYPE_CHECKING:
    from quarterdeck.client import Client

_commit = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?\Z")
_digest = re.compile(r"[0-9a-f]{64}\Z")
_package = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*==[A-Za-z0-9][A-Za-z0-9._+!-]*\Z")
PATIENCE = 30.0
"""Seconds another interpreter may take to tell what is installed."""
MOST_NAMED = 10
"""Packages that are named one by one; the command of pip has all of them."""
QUIET_GIT = ("git", "-c", "core.hooksPath=/dev/null", "-c", "advice.detachedHead=false")


class Rows(NamedTuple):
    """Data that a run used: its name, the SHA-256 of its bytes, and where the run read it, if that is known."""

    name: str
    digest: str
    place: str


class Workplace(NamedTuple):
    """Where a command is done again, and what could not be made as it was."""

    folder: Path
    words: list[str]
    notes: list[str]


def command_of(run: Run) -> list[str]:
    """The command as words. Raises `Refused` where none was recorded, or not the whole of it."""
    command = run.source.command
    if not command:
        raise Refused(f"{run.id} has no recorded command: it cannot be done again", field="command")
    if CUT in command:
        raise Refused(f"the command of {run.id} was too long to be recorded whole", field="command")
    try:
        return shlex.split(command)
    except ValueError as error:
        raise Refused(f"the command of {run.id} is no list of words ({error})", field="command") from None


def data_of(client: Client, run: Run) -> tuple[list[Rows], list[str]]:
    """The rows that a run used and are kept here, and what is said of the others. Raises `NotFound` with the hash of
    rows that were kept and are gone."""
    named = [Rows(each.name, each.digest, each.source if each.source_type == "local" else "") for each in run.inputs]
    named += [Rows("data", digest, "") for digest in run.datasets if digest not in {each.digest for each in named}]
    kept, notes = [], []
    for rows in named:
        if not _digest.match(rows.digest):
            notes.append(f"data {rows.name} is known by {rows.digest} only: that it is the same cannot be checked")
            continue
        try:
            client.ask(GetBlob(digest=rows.digest, length=1))
        except NotFound:
            raise NotFound(f"{rows.name}: the rows with the hash {rows.digest} are gone", field="data") from None
        kept.append(rows)
        if not rows.place:
            notes.append(f"data {rows.digest[:16]} is kept, but not where the command read it: it has to find it")
    return kept, notes


@contextmanager
def workplace(client: Client, run: Run) -> Iterator[Workplace]:
    """The code of a run in a folder of its own that is gone afterwards, with its rows where it read them; its own
    folder where no commit was recorded. Raises `Refused` or `NotFound` for what cannot be made as it was."""
    words = command_of(run)
    kept, notes = data_of(client, run)
    words[0] = _interpreter(run, notes)
    notes += package_notes(client, run, words[0])
    if run.source.commit is None:
        folder = _as_it_is(run, notes)
        _check_rows(kept, folder, None)
        yield Workplace(folder, words, notes)
        return
    aside = Path(tempfile.mkdtemp(prefix="quarterdeck-again-"))
    try:
        former = _check_out(run, aside)
        folder = _inside(aside, run.source.inside or "")
        if former is not None:
            words = [_moved(word, former, aside) for word in words]
        _check_script(run, words, folder)
        _check_rows([each._replace(place=_moved(each.place, former, aside)) for each in kept], folder, aside)
        for rows in kept:
            _place(client, rows._replace(place=_moved(rows.place, former, aside)), folder, aside)
        yield Workplace(folder, words, notes)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def package_notes(client: Client, run: Run, python: str) -> list[str]:
    """What is not installed for an interpreter as it was for a run, and the command of pip that makes it so; nothing
    where all is, and nothing is installed by us."""
    if run.source.packages is None:
        return []
    try:
        then = client.ask(ShowPackages(packages=run.id)).packages
    except NotFound:
        return ["packages: the list that was recorded is not kept here"]
    now = _installed(python)
    if now is None:
        return [f"packages: {python} does not tell what is installed"]
    here = dict(each.split("==", 1) for each in now)
    lacking = [each for each in then if each not in now and _package.match(each)]
    if not lacking:
        return []
    told = [f"{name} {version} ({here.get(name, 'none')} is here)" for name, version in _pairs(lacking[:MOST_NAMED])]
    more = f" and {len(lacking) - MOST_NAMED} more" if len(lacking) > MOST_NAMED else ""
    return [
        f"packages: {len(lacking)} of {len(then)} are not as they were: {', '.join(told)}{more}",
        f"packages: as they were: {shlex.join([python, '-m', 'pip', 'install', *lacking])}",
    ]


def _pairs(packages: list[str]) -> list[list[str]]:
    return [each.split("==", 1) for each in packages]


def _installed(python: str) -> tuple[str, ...] | None:
    """The packages of another interpreter; None where it does not answer."""
    code = "from quarterdeck.source import installed; print(*installed(), sep=chr(10))"
    try:
        done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True, timeout=PATIENCE)
    except (OSError, subprocess.SubprocessError):
        return None
    return tuple(done.stdout.split())


def _interpreter(run: Run, notes: list[str]) -> str:
    recorded = run.source.interpreter
    if recorded and os.access(recorded, os.X_OK):
        return recorded
    notes.append(f"interpreter: {recorded or 'none'} is not here, {sys.executable} is taken")
    return sys.executable


def _as_it_is(run: Run, notes: list[str]) -> Path:
    if not run.source.folder or not Path(run.source.folder).is_dir():
        raise NotFound(
            f"no commit was recorded, and the folder {run.source.folder or 'of the run'} is not here", field="code"
        )
    notes.append(f"code: no commit was recorded, the files of {run.source.folder} are taken as they are now")
    return Path(run.source.folder)


def _check_out(run: Run, aside: Path) -> Path | None:
    """The commit and the patch of a run, in a clone that shares the objects of the repository; answers where the
    repository was when the run ran."""
    commit, patch = run.source.commit or "", run.source.patch
    if not _commit.match(commit):
        raise Refused(f"got {drawn(commit[:60])}, expected a commit", field="code")
    start = run.source.folder if run.source.folder and Path(run.source.folder).is_dir() else os.getcwd()
    top = _git(start, "rev-parse", "--show-toplevel")
    if top is None or _git(top, "cat-file", "-e", f"{commit}^{{commit}}") is None:
        raise NotFound(f"commit {commit} is not in a repository at {start}", field="code")
    if patch and CUT in patch:
        raise Refused("the changes that were not committed were too many to be recorded whole", field="code")
    for words in (
        ("clone", "--quiet", "--shared", "--no-checkout", "--", top, str(aside)),
        ("-C", str(aside), "checkout", "--quiet", "--detach", commit),
    ):
        _do(words, None, f"commit {commit[:12]} cannot be checked out")
    if patch:
        _do(
            ("-C", str(aside), "apply", "--whitespace=nowarn", "-"),
            patch.rstrip("\n") + "\n",
            f"the changes that were not committed do not apply to {commit[:12]}",
        )
    return _former_top(run)


def _do(words: tuple[str, ...], given: str | None, wrong: str) -> None:
    done = subprocess.run([*QUIET_GIT, *words], input=given, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        said = (done.stderr.strip().splitlines() or ["git said nothing"])[0]
        raise Refused(f"{wrong}: {drawn(said)[:300]}", field="code")


def _git(folder: str, *words: str) -> str | None:
    done = subprocess.run([*QUIET_GIT, "-C", folder, *words], capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else None


def _former_top(run: Run) -> Path | None:
    """Where the repository's top was: the recorded folder without what it lies inside by."""
    folder, inside = run.source.folder, run.source.inside
    if not folder or inside is None:
        return None
    parts = Path(inside).parts
    return Path(*Path(folder).parts[: len(Path(folder).parts) - len(parts)])


def _moved(word: str, former: Path | None, aside: Path) -> str:
    """A word that names a place below the repository, as the place it has now."""
    if former is None or not word.startswith(f"{former}/"):
        return word
    return str(aside / word.removeprefix(f"{former}/"))


def _inside(aside: Path, inside: str) -> Path:
    folder = (aside / inside).resolve()
    if not folder.is_relative_to(aside.resolve()) or not folder.is_dir():
        raise Refused(f"got {drawn(inside)}, expected a folder of the commit", field="code")
    return folder


def _check_script(run: Run, words: list[str], folder: Path) -> None:
    """A script that git does not know is not in the clone: say so, before Python does."""
    script = next((word for word in words[1:] if not word.startswith("-")), "")
    if script.endswith(".py") and not (folder / script).is_file():
        raise Refused(f"{drawn(script)} is not in {(run.source.commit or '')[:12]}: it was not committed", field="code")


def _check_rows(kept: list[Rows], folder: Path, aside: Path | None) -> None:
    """Rows outside the folder that is made are taken as they lie there, if they are the same."""
    for rows in kept:
        place = folder / rows.place
        if not rows.place or (aside is not None and place.resolve().is_relative_to(aside.resolve())):
            continue
        found = _hash(place)
        if found != rows.digest:
            what = f"has the hash {found}" if found else "is not there"
            raise Refused(f"{drawn(rows.place)} {what}, expected {rows.digest}", field="data")


def _place(client: Client, rows: Rows, folder: Path, aside: Path) -> None:
    place = folder / rows.place
    if rows.place and place.resolve().is_relative_to(aside.resolve()) and _hash(place) != rows.digest:
        place.parent.mkdir(parents=True, exist_ok=True)
        client.get(rows.digest, place)


def _hash(place: Path) -> str | None:
    if not place.is_file():
        return None
    with place.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
