"""The listening socket of predictions, and the lock that makes its launcher the only one of a home."""

from __future__ import annotations

import fcntl
import os
import socket
import time

from quarterdeckd.settings import host_and_port
from quarterstore.records.places import Home
from quarterstore.shelf.files import write_whole

PORT_WITHIN = 6.0
BACKLOG = 1024


def address_of(listener: socket.socket) -> str:
    """HOST:PORT of a listener."""
    host, port = listener.getsockname()[:2]
    return f"{host}:{port}"


def listen(home: Home, address: str | None) -> socket.socket:
    """The listening socket: at `address`, else where it was last time, else where the kernel says. A port of 0 is where
    it was last time too: callers know that one."""
    remembered = home.serving / "address"
    host, port = host_and_port("http", address) if address else ("127.0.0.1", 0)
    free = port == 0
    if free and remembered.exists():
        last, there = host_and_port("http", remembered.read_text().strip())
        host, port = (last, there) if address is None or last == host else (host, port)
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    deadline = time.monotonic() + PORT_WITHIN
    while True:
        try:
            listener.bind((host, port))
            break
        except OSError:
            # the hosts of a launcher that was killed hold the port until they have drained
            if time.monotonic() < deadline:
                time.sleep(0.05)
            elif free and port:
                port = 0
            else:
                raise
    listener.listen(BACKLOG)
    listener.setblocking(False)
    write_whole(remembered, address_of(listener).encode())
    return listener


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
