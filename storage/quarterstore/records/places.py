"""Every path of the product in one file: where a home is, and what lies in it."""

from __future__ import annotations

import hashlib
import os
import socket
from collections.abc import Mapping
from pathlib import Path


def default_home(environ: Mapping[str, str] = os.environ) -> Path:
    """`QUARTERDECK_HOME`, else `$XDG_DATA_HOME/quarterdeck`, else `~/.local/share/quarterdeck`."""
    named = environ.get("QUARTERDECK_HOME")
    if named:
        return Path(named).expanduser().absolute()
    data = environ.get("XDG_DATA_HOME") or Path(environ.get("HOME") or Path.home()) / ".local" / "share"
    return Path(data) / "quarterdeck"


def runtime_folder(home: Path, environ: Mapping[str, str] = os.environ) -> Path:
    """The 0700 folder of this home's sockets; named by a hash because a socket's path ends at 107 bytes."""
    base = environ.get("XDG_RUNTIME_DIR")
    root = Path(base) / "quarterdeck" if base else Path("/tmp") / f"quarterdeck-{os.getuid()}"
    return root / hashlib.sha256(os.fsencode(os.path.realpath(home))).hexdigest()[:16]


def listened(path: Path) -> bool:
    """Whether a process listens at an ipc socket: a file alone may be left from one that was killed."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except (FileNotFoundError, ConnectionRefusedError):
            return False
        except OSError:
            return True  # busy or not ours to reach: whoever asks next says which
    return True


class Home:
    """The places of one store; pure path arithmetic, creates nothing."""

    def __init__(self, root: Path, environ: Mapping[str, str] = os.environ) -> None:
        self.root = Path(root).expanduser().absolute()
        self.runtime = runtime_folder(self.root, environ)

    # the ledger
    @property
    def lock(self) -> Path:
        return self.root / "lock"

    @property
    def journal(self) -> Path:
        return self.root / "journal"

    @property
    def database(self) -> Path:
        return self.root / "projection.duckdb"

    @property
    def anchor(self) -> Path:
        """The newest entry that was posted, in case the projection is lost."""
        return self.root / "anchor"

    @property
    def reserve(self) -> Path:
        return self.root / "reserve"

    # the shelf
    @property
    def artefacts(self) -> Path:
        return self.root / "artefacts"

    @property
    def samples(self) -> Path:
        return self.root / "samples"

    @property
    def incoming(self) -> Path:
        """Half-sent uploads; those of a day ago go at start."""
        return self.root / "incoming"

    # work and serving
    @property
    def jobs(self) -> Path:
        return self.root / "jobs"

    @property
    def batches(self) -> Path:
        """Finished chunks of batches that have not ended well yet; those of a week ago go at start."""
        return self.root / "batches"

    @property
    def checkpoints(self) -> Path:
        """A folder a step that was cut off, by its key; those of a week ago go at start."""
        return self.root / "checkpoints"

    @property
    def online(self) -> Path:
        """Features as hosts read them: a folder a view with its generations, and what was pushed."""
        return self.root / "online"

    @property
    def pushed(self) -> Path:
        """Features that were pushed, of all views. The name is none of a view."""
        return self.online / ".pushed"

    @property
    def streams(self) -> Path:
        """A folder a stream, with its counts and the keys it saw; the ipc sockets of streams."""
        return self.root / "streams"

    @property
    def studies(self) -> Path:
        """A folder a study: Optuna's journal, and the trials that ended."""
        return self.root / "studies"

    @property
    def serving(self) -> Path:
        """The launcher's own folder: last routing table, prediction spool, log."""
        return self.root / "serving"

    @property
    def backups(self) -> Path:
        return self.root / "backups"

    # identity and settings
    @property
    def keys(self) -> Path:
        return self.root / "keys"

    @property
    def server_public(self) -> Path:
        return self.keys / "server.public"

    @property
    def settings(self) -> Path:
        return self.root / "quarterdeck.toml"

    @property
    def log(self) -> Path:
        return self.root / "quarterdeckd.log"

    # sockets
    @property
    def ask_socket(self) -> Path:
        return self.runtime / "ask.sock"

    @property
    def feed_socket(self) -> Path:
        return self.runtime / "feed.sock"

    @property
    def serving_socket(self) -> Path:
        return self.runtime / "serving.sock"

    @property
    def shadow_socket(self) -> Path:
        return self.runtime / "shadow.sock"

    @property
    def ask_address(self) -> str:
        return f"ipc://{self.ask_socket}"

    @property
    def feed_address(self) -> str:
        return f"ipc://{self.feed_socket}"

    @property
    def serving_address(self) -> str:
        return f"ipc://{self.serving_socket}"

    @property
    def shadow_address(self) -> str:
        return f"ipc://{self.shadow_socket}"

    def keyring_mark(self, name: str) -> Path:
        """Says that the keyring holds the secret of a caller; the file itself holds the public half."""
        return self.keys / f"{name}.keyring"

    def secret_key(self, name: str) -> Path:
        """The 0600 file that holds the CURVE secret of one caller."""
        return self.keys / f"{name}.secret"

    def remote_token(self, name: str) -> Path:
        """The 0600 file that holds the token of one remote."""
        return self.keys / f"{name}.token"

    @property
    def sender_key(self) -> Path:
        """The 0600 file of the key that signs what is sent to other decks."""
        return self.keys / "sender.key"

    def hook_secret(self, name: str) -> Path:
        """The 0600 file that holds what signs the requests of one hook."""
        return self.keys / f"{name}.hook"
