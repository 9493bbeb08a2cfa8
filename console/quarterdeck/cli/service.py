"""`qd service install`: the systemd units of one home, printed first, then written after a yes."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path

from quarterstore.records.faults import Invalid, NotFound
from quarterstore.records.places import Home, default_home

NAMES = ("quarterdeckd.service", "quarterdeck-serving.service")
SYSTEM_FOLDER = Path("/etc/systemd/system")
SYSTEM_STATE = Path("/var/lib")
HIDDEN = (Path("/home"), Path("/root"), Path("/run/user"))
"""What ProtectHome= hides from a system unit."""


def install(home: Home, *, user: bool, yes: bool, print_only: bool) -> int:
    """Print both units, then write them after `--yes` or a typed yes; answers the exit code (1: nothing was written).

    Raises `Invalid` or `NotFound` when the units could not start; then nothing is written either.
    """
    units = user_units(home) if user else system_units(home)
    folder = user_folder() if user else SYSTEM_FOLDER
    for name, text in units.items():
        print(f"# {folder / name}\n{text}")
    if print_only:
        return 0
    if not user:
        _check_readable(daemon_command())
    if not yes and not _agreed(folder):
        print("nothing was written; --yes writes without asking", file=sys.stderr)
        return 1
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in units.items():
        _write(folder / name, text)
    print(_next_steps(user, folder), file=sys.stderr)
    return 0


def user_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """`$XDG_CONFIG_HOME/systemd/user`, else `~/.config/systemd/user`."""
    return Path(environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "systemd" / "user"


def user_units(home: Home) -> dict[str, str]:
    """File name -> text of the units that run under a person's own service manager."""
    return _rendered("user", home.root, {"TARGET": "default.target"})


def system_units(home: Home) -> dict[str, str]:
    """File name -> text of the units for the machine: a user of their own, hardened; the home is below /var/lib."""
    root = home.root
    if root == default_home():
        root = SYSTEM_STATE / "quarterdeck"  # a person's own home is hidden from a system unit
    if root.parent != SYSTEM_STATE:
        raise Invalid(
            f"got {root}, expected a folder of {SYSTEM_STATE} for a system unit",
            field="home",
            next=f"say --home {SYSTEM_STATE / 'quarterdeck'}",
        )
    return _rendered("system", root, {"TARGET": "multi-user.target", "STATE": escaped(root.name)})


def _rendered(kind: str, root: Path, words: Mapping[str, str]) -> dict[str, str]:
    folder = files("quarterdeck.cli") / "units"
    known = {
        "FENCE": (folder / f"{kind}.fence").read_text().rstrip(),
        **words,
        "DAEMON": escaped(str(daemon_command())),
        "PYTHON": escaped(sys.executable),
        "HOME": escaped(str(root)),
    }
    return {name: _filled((folder / name).read_text(), known) for name in NAMES}


def _filled(text: str, words: Mapping[str, str]) -> str:
    """Fill `@NAME@`; the fence comes first, because it holds such names itself."""
    for name, word in words.items():
        text = text.replace(f"@{name}@", word)
    return text


def escaped(word: str) -> str:
    """One word of a unit's command line (systemd.service(5), COMMAND LINES): quoted, `%` and `$` doubled."""
    if any(ord(letter) < 32 for letter in word):
        raise Invalid(f"got {word!r}, expected a path without control characters", field="home")
    plain = word.replace("%", "%%").replace("$", "$$")
    if all(letter.isalnum() or letter in "/._-+%$@:" for letter in plain):
        return plain
    quoted = plain.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{quoted}"'


def daemon_command() -> Path:
    """`quarterdeckd` beside the Python that runs this command."""
    found = Path(sys.executable).parent / "quarterdeckd"
    if not found.exists():
        raise NotFound(
            f"got no {found}, expected the daemon's command beside this one",
            field="quarterdeckd",
            next="pip install 'quarterdeck[daemon]'",
        )
    return found


def _check_readable(command: Path) -> None:
    """A system unit cannot see anybody's home; say so before it fails at its start."""
    if any(command.resolve().is_relative_to(place) for place in HIDDEN):
        raise Invalid(
            f"got {command}, expected a place that a system service can read",
            field="quarterdeckd",
            next="install it below /opt, or use --user",
        )


def _agreed(folder: Path) -> bool:
    print(f"write these into {folder}? [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _write(path: Path, text: str) -> None:
    """Whole or not at all; the service manager reads it, so it is 0644."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
            file.flush()
            os.fchmod(file.fileno(), 0o644)
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _next_steps(user: bool, folder: Path) -> str:
    manager = "systemctl --user" if user else "systemctl"
    last = (
        "to keep them running after you log out: loginctl enable-linger"
        if user
        else "to talk to it: sudo env XDG_RUNTIME_DIR=/run/quarterdeck qd --home HOME, with the home above"
    )
    return f"written into {folder}\nnext: {manager} daemon-reload && {manager} enable --now {' '.join(NAMES)}\n{last}"
