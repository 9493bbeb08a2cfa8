"""The listening socket of predictions, and the lock that makes its launcher the only one of a home."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from quarterdeckd.settings import host_and_port
from quarterstore.records.faults import Conflict, Fault, got
from quarterstore.records.places import Home
from quarterstore.shelf.files import write_whole

PORT_WITHIN = 6.0
BACKLOG = 1024


def address_of(listener: socket.socket) -> str:
    """HOST:PORT of a listener."""
    host, port = listener.getsockname()[:2]
    return f"{host}:{port}"


def listen(home: Home, address: str | None) -> socket.socket:
    """The listening socket of REST, at `address` or where `bound` says; hosts inherit it."""
    listener = bound(home.serving / "address", "http", address)
    listener.listen(BACKLOG)
    listener.setblocking(False)
    return listener


def reserve(home: Home, address: str) -> socket.socket:
    """A socket that holds the address of gRPC without listening at it: its library takes no listener from elsewhere, so
    each host opens its own on the same port, which Linux lets sockets of one user share that all say so."""
    holder = bound(home.serving / "grpc-address", "grpc", address)
    # said after the bind, so that an address that is in use is refused even where its owner would share it
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    return holder


def bound(remembered: Path, door: str, address: str | None) -> socket.socket:
    """A socket at `address`, else where it was last time, else where the kernel says. A port of 0 is where it was last
    time too: callers know that one. Raises `Conflict` naming who has the port."""
    last = remembered.read_text().strip() if remembered.exists() else ""
    host, port = host_and_port(door, address) if address else ("127.0.0.1", 0)
    free = port == 0
    if free and last:
        before, there = host_and_port(door, last)
        host, port = (before, there) if address is None or before == host else (host, port)
    found = socket.socket()
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    deadline = time.monotonic() + (PORT_WITHIN if last == f"{host}:{port}" else 0.0)
    while True:
        try:
            found.bind((host, port))
            break
        except OSError as error:
            # the hosts of a launcher that was killed hold the port until they have drained
            if time.monotonic() < deadline:
                time.sleep(0.05)
            elif free and port:
                port = 0
            else:
                raise taken(door, f"{host}:{port}", error) from error
    write_whole(remembered, address_of(found).encode())
    return found


REMEMBERED = {"http": "address", "grpc": "grpc-address"}
"""Door -> where the launcher notes the address it had."""


def refuse_taken(home: Home, wanted: Mapping[str, str | None]) -> None:
    """Raise `Conflict` for an address that somebody else has: before anything is deployed. One that was ours may still
    be held by hosts that drain, and is left to `bound`, which waits for it."""
    for door, address in wanted.items():
        remembered = home.serving / REMEMBERED.get(door, "nowhere")
        if address is None or (remembered.exists() and remembered.read_text().strip() == address):
            continue
        with socket.socket() as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                trial.bind(host_and_port(door, address))
            except OSError as error:
                raise taken(door, address, error) from error


def taken(door: str, address: str, error: OSError) -> Fault:
    """What an address that cannot be had is complained of with: who has it, where that is to be seen."""
    if error.errno != errno.EADDRINUSE:
        return got(door, f"{address}: {error.strerror}", "an address of this machine")
    return Conflict(
        f"got {address}, which {owner_of(int(address.rpartition(':')[2]))} has, expected a free port", field=door
    )


def owner_of(port: int) -> str:
    """The process that listens at a TCP port, as a person knows it."""
    import psutil  # only for a complaint: a launcher is small

    for each in psutil.net_connections("tcp"):
        if each.laddr and each.laddr.port == port and each.status == psutil.CONN_LISTEN and each.pid:
            with suppress(psutil.Error):
                process = psutil.Process(each.pid)
                return f"{process.name()} (process {each.pid}: {' '.join(process.cmdline())[:120]})"
    return "a process of somebody else"


def held(home: Home) -> bool:
    """Whether the home's lock is ours now, for as long as we live, with our pid inside. Whoever asks if a launcher
    lives holds it for an instant, so one try is not enough."""
    lock = os.open(home.serving / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    for _ in range(10):
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(0.02)
            continue
        os.ftruncate(lock, 0)
        os.pwrite(lock, str(os.getpid()).encode(), 0)
        return True
    os.close(lock)
    return False
