"""Settings: flag over environment over `quarterdeck.toml` over default; an unknown key is an error with the nearest
names."""

from __future__ import annotations

import os
import ssl
import tomllib
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import msgspec

from quarterstore.records.faults import Invalid, got, missing

PROFILES = ("solo", "team", "regulated")
LEVELS = ("debug", "info", "warning", "error", "critical")
DOORS = ("http", "mlflow", "rest", "grpc", "remote")
NOT_BUILT = ("metrics",)
"""Doors that later versions bring; asking for one says so."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What can be set; each field is also `QUARTERDECK_<FIELD>` and a key of the TOML file."""

    profile: str | None = None
    """The rules of approval; where it is left out, those that the store was kept under last, at first `solo`."""
    http: str | None = None
    """HOST:PORT where predictions are answered; loopback on a free port unless given."""
    listen: str | None = None
    """A tcp:// address of the ask socket beside ipc, always with CURVE."""
    mlflow: str | None = None
    """HOST:PORT where MLflow's clients are answered."""
    rest: str | None = None
    """HOST:PORT where labels and outcomes are taken."""
    remote: str | None = None
    """HOST:PORT where other decks send versions to; beyond loopback with a certificate."""
    remote_cert: str | None = None
    remote_key: str | None = None
    """Files of the certificate (PEM, with its chain) of that door, and of its key."""
    grpc: str | None = None
    """HOST:PORT where predictions are answered over gRPC as well."""
    metrics: str | None = None
    hosts: int | str = 1
    """Serving hosts: so many, or MIN:MAX of them by load."""
    workers: int = 2
    """Jobs that run at once."""
    lost_after: float = 15.0
    """Seconds without a sign of life by which a run is LOST."""
    judge_every: float = 1.0
    hook_within: float = 60.0
    """Seconds that the program of a hook has; as a gate at most 20."""
    remotes_every: float = 5.0
    """Seconds between two looks at a remote that something was deployed on."""
    log_level: str = "info"

    def remote_tls(self) -> ssl.SSLContext | None:
        """What the door of other decks speaks TLS with; `Invalid` where its files are no certificate and key."""
        if self.remote_cert is None or self.remote_key is None:
            return None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            context.load_cert_chain(self.remote_cert, self.remote_key)
        except (OSError, ValueError) as error:
            raise got("remote_cert", f"{self.remote_cert} ({error})", "a certificate and its key in PEM") from error
        return context


def load(path: Path, flags: Mapping[str, Any], environ: Mapping[str, str] = os.environ) -> Settings:
    """Read the settings; raises `Invalid` or `NotFound` naming the key and where it came from."""
    found: dict[str, Any] = {}
    if path.exists():
        try:
            found.update(tomllib.loads(path.read_text()))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise Invalid(f"got a file that is no TOML ({error})", field=path.name) from error
    names = {field.name: field for field in msgspec.structs.fields(Settings)}
    for name in names:
        value = environ.get(f"QUARTERDECK_{name.upper()}")
        if value:
            found[name] = value
    found.update({name: value for name, value in flags.items() if value is not None})
    for name in found:
        if name not in names:
            raise missing("settings", name, names)
    try:
        settings = msgspec.convert(found, Settings, strict=False)
    except msgspec.ValidationError as error:
        raise Invalid(str(error), field="settings") from error
    return _checked(settings)


def _checked(settings: Settings) -> Settings:
    if settings.profile not in (None, *PROFILES):
        raise got("profile", settings.profile, " or ".join(PROFILES))
    for door in NOT_BUILT:
        if getattr(settings, door) is not None:
            raise Invalid(f"the {door} door is not built yet", field=door, next="leave it out")
    _check_doors(settings)
    if settings.grpc is not None and find_spec("grpc") is None:
        raise Invalid("got no grpcio, expected the extra grpc", field="grpc", next="pip install 'quarterdeck[grpc]'")
    if not 1 <= settings.workers <= 64:
        raise got("workers", settings.workers, "1 to 64")
    least_and_most(settings.hosts)
    if (settings.remote_cert is None) != (settings.remote_key is None):
        raise got("remote_cert", "one file", "both: remote_cert and remote_key")
    if settings.log_level.lower() not in LEVELS:
        raise got("log_level", settings.log_level, " or ".join(LEVELS))
    for name in ("lost_after", "judge_every", "remotes_every"):
        if not 0.05 <= getattr(settings, name) <= 3600:
            raise got(name, getattr(settings, name), "0.05 to 3600 seconds")
    if not 0 < settings.hook_within <= 3600:
        raise got("hook_within", settings.hook_within, "seconds, more than 0 and at most an hour")
    if settings.listen is not None and not settings.listen.startswith("tcp://"):
        raise got("listen", settings.listen, "tcp://HOST:PORT")
    return settings


def _check_doors(settings: Settings) -> None:
    """Each has HOST:PORT, no two the same: of two that wait for one port the second would only fail later."""
    taken: dict[tuple[str, int], str] = {}
    for door in DOORS:
        if (address := getattr(settings, door)) is None:
            continue
        place = host_and_port(door, address)
        if place[1] and place in taken:
            raise got(door, f"{address}, which {taken[place]} has too", "an address of its own")
        taken[place] = door


def least_and_most(hosts: int | str) -> tuple[int, int]:
    """`2` -> (2, 2), `1:4` -> (1, 4): how many serving hosts there may be."""
    least, colon, most = str(hosts).partition(":")
    found = (least, most if colon else least)
    if not all(each.isascii() and each.isdigit() for each in found) or not 1 <= int(least) <= int(found[1]) <= 64:
        raise got("hosts", hosts, "MIN or MIN:MAX, 1 to 64")
    return int(least), int(found[1])


def host_and_port(field: str, text: str) -> tuple[str, int]:
    """`127.0.0.1:8080` -> ("127.0.0.1", 8080)."""
    host, colon, port = text.rpartition(":")
    if not colon or not host or not (port.isascii() and port.isdigit()) or int(port) > 65535:
        raise got(field, text, "HOST:PORT")
    return host, int(port)
