"""What the service manager is told: ready, alive, reloading, stopping (sd_notify(3), a datagram)."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping


def tell(text: str, environ: Mapping[str, str] = os.environ) -> None:
    """Send one message to `NOTIFY_SOCKET`; without one there is nobody to tell."""
    address = environ.get("NOTIFY_SOCKET")
    if not address:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sending:
        sending.connect("\0" + address[1:] if address.startswith("@") else address)
        sending.send(text.encode())


def ready(environ: Mapping[str, str] = os.environ) -> None:
    """The daemon answers."""
    tell("READY=1\nSTATUS=answering", environ)


def status(words: str, environ: Mapping[str, str] = os.environ) -> None:
    """One line for `systemctl status`."""
    tell(f"STATUS={words}", environ)


def watchdog(environ: Mapping[str, str] = os.environ) -> None:
    """The loop and the writer are alive."""
    tell("WATCHDOG=1", environ)


def reloading(environ: Mapping[str, str] = os.environ) -> None:
    """The settings are being read again."""
    tell(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}", environ)


def stopping(environ: Mapping[str, str] = os.environ) -> None:
    """The daemon takes nothing new."""
    tell("STOPPING=1", environ)


def watchdog_interval(environ: Mapping[str, str] = os.environ) -> float | None:
    """Seconds between two signs of life: half of what the service manager allows; None when it does not watch."""
    allowed = environ.get("WATCHDOG_USEC", "")
    return int(allowed) / 2_000_000 if allowed.isdigit() and int(allowed) else None
