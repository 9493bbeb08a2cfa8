"""What loads what, in clean interpreters; and the forms that every module, message and fault keeps."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

import pytest

from quarterstore.records import faults
from quarterstore.records.base import answer_type, tag_of
from quarterstore.records.messages import ASKABLE, BY_TAG, EVENTS, PULSES

ROOT = Path(__file__).parents[2]
MODULES = sorted(path for place in ("console", "daemon", "storage") for path in (ROOT / place).rglob("*.py"))
HEAVY = ("torch", "sklearn", "scipy", "onnxruntime", "polars")
LONGEST = 450
"""Lines of a module, after formatting."""
SOCKET_FILES = {
    "console/quarterdeck/async_client.py",
    "console/quarterdeck/cli/serving.py",
    "console/quarterdeck/feed.py",
    "console/quarterdeck/keys.py",
    "console/quarterdeck/transport.py",
    "daemon/quarterdeckd/api/broadcast.py",
    "daemon/quarterdeckd/api/gateway.py",
    "daemon/quarterdeckd/api/identity.py",
    "daemon/quarterdeckd/assembly.py",
    "daemon/quarterdeckd/serving/copies.py",
    "daemon/quarterdeckd/serving/host.py",
    "daemon/quarterdeckd/serving/launcher.py",
    "daemon/quarterdeckd/serving/sandbox.py",
    "daemon/quarterdeckd/serving/shadow.py",
    "daemon/quarterdeckd/serving/stream.py",
    "daemon/quarterdeckd/work/serving_link.py",
}
"""The files named for sockets or for the keys of sockets, and the daemon's assembly, which owns the context."""


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def loaded_by(module: str) -> set[str]:
    """The top-level packages in `sys.modules` after importing `module` in a clean interpreter."""
    code = f"import sys, {module}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert found.returncode == 0, found.stderr
    return set(found.stdout.split())


@pytest.mark.parametrize(
    ("module", "never"),
    [
        ("quarterdeck", ("textual", "duckdb", "numpy", "quarterdeckd", *HEAVY)),
        ("quarterdeck.cli.main", ("textual", "duckdb", "numpy", "quarterdeckd", *HEAVY)),
        ("quarterdeck.tui.app", ("duckdb", "numpy", "quarterdeckd", *HEAVY)),
        ("quarterdeckd.main", ("apscheduler", "httpx", "textual", "quarterdeck", *HEAVY)),
        ("quarterdeckd.serving.launcher", ("duckdb", "apscheduler", "textual", "quarterdeck", *HEAVY)),
        ("quarterdeckd.pipeline.run", ("duckdb", "apscheduler", "textual", "quarterdeck", "numpy", *HEAVY)),
        ("quarterstore.records.messages", ("zmq", "click", "textual", "duckdb", "numpy", *HEAVY)),
    ],
)
def test_an_entry_point_does_not_load_what_it_does_not_need(module: str, never: tuple[str, ...]) -> None:
    """A command has to answer at once, and a daemon that loads torch starts in seconds and holds its memory for
    life."""
    assert loaded_by(module) & set(never) == set()


def test_the_floors_hold() -> None:
    command = Path(sys.executable).parent / "lint-imports"
    if not command.exists():
        pytest.skip("import-linter is not installed in this environment")
    found = subprocess.run([command, "--no-cache"], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert found.returncode == 0, found.stdout[-3000:] + found.stderr[-1000:]


@pytest.mark.parametrize("path", MODULES, ids=named)
def test_a_module_says_what_it_is_and_is_short(path: Path) -> None:
    text = path.read_text()
    words = ast.get_docstring(ast.parse(text))
    assert words, "no docstring"
    assert words.partition("\n\n")[0].rstrip().endswith((".", ":", "?")), "it opens with no sentence"
    assert len(text.splitlines()) <= LONGEST


def test_no_module_of_utilities_exists() -> None:
    assert not [named(path) for path in MODULES if re.search(r"util|helper|manager|common|misc", path.stem)]


def test_only_the_files_of_the_sockets_import_zmq() -> None:
    """A socket opened elsewhere would have no deadline, no linger and no key."""
    found = {named(path) for path in MODULES if re.search(r"^\s*(?:import|from) zmq\b", path.read_text(), re.MULTILINE)}
    assert found <= SOCKET_FILES, found - SOCKET_FILES


@pytest.mark.parametrize("kind", ASKABLE, ids=tag_of)
def test_a_message_says_what_it_does_and_what_it_answers(kind: type) -> None:
    """The command line's help and the reference are made from these words."""
    words = (kind.__doc__ or "").strip()
    assert words, "no docstring"
    assert not words.startswith(f"{kind.__name__}("), "the docstring is the one msgspec would give"
    assert answer_type(kind) is not None
    assert re.fullmatch(r"[a-z_]+\.[a-z_]+(\.\d+)?", tag_of(kind))


@pytest.mark.parametrize("kind", EVENTS + PULSES, ids=tag_of)
def test_an_event_says_what_happened(kind: type) -> None:
    assert (kind.__doc__ or "").strip()


def test_no_two_messages_share_a_tag() -> None:
    assert len(BY_TAG) == len(ASKABLE + EVENTS + PULSES)


def test_every_fault_has_a_meaning_at_every_door() -> None:
    """A fault without one would reach a script as exit code 1 and a client as 500."""

    def below(kind: type) -> set[type]:
        return {kind, *(found for child in kind.__subclasses__() for found in below(child))}

    assert below(faults.Fault) - {faults.Fault} == set(faults.MEANINGS)
    for kind, meaning in faults.MEANINGS.items():
        assert 0 < meaning.exit < 126, kind
        assert 400 <= meaning.http < 600, kind
        assert kind.__doc__


def base_requirements() -> set[str]:
    """Every distribution that `pip install quarterdeck` brings, this one not counted."""
    packaging = pytest.importorskip("packaging.requirements", reason="packaging is not installed")
    found: set[str] = set()
    waiting: list[tuple[str, frozenset[str]]] = [("quarterdeck", frozenset())]
    seen = set(waiting)
    while waiting:
        name, extras = waiting.pop()
        try:
            needed = requires(name) or []
        except PackageNotFoundError:
            raise AssertionError(f"{name} is required but not installed") from None
        for line in needed:
            wanted = packaging.Requirement(line)
            marker = wanted.marker
            if marker is not None and not any(marker.evaluate({"extra": extra}) for extra in (extras or {""})):
                continue
            key = re.sub(r"[-_.]+", "-", wanted.name).lower()
            found.add(key)
            step = (key, frozenset(wanted.extras) | {""})
            if step not in seen:
                seen.add(step)
                waiting.append(step)
    return found - {"quarterdeck"}


def test_the_base_install_is_small() -> None:
    """A person who only steers installs twelve distributions at most, none of them heavy."""
    found = base_requirements()
    assert len(found) <= 12, sorted(found)
    assert not found & {"numpy", "duckdb", "polars", "torch", "scikit-learn", "onnxruntime"}


def test_no_tracked_file_names_the_machine_it_was_written_on() -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, timeout=60)
    if listed.returncode != 0:
        pytest.skip("not a git checkout: which files are tracked is not known")
    words = (
        b"/" + b"work/main",
        b"/" + b"work/shared",
        b"." + b"library/",
    )  # in halves, so that this file does not hold them
    names = [ROOT / name.decode() for name in listed.stdout.split(b"\0") if name]
    assert not [str(path) for path in names if path.is_file() and any(word in path.read_bytes() for word in words)]
