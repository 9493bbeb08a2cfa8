"""The last routing table on disk: what a launcher serves when it starts without a daemon."""

from __future__ import annotations

import logging

import msgspec

from quarterstore.records.deployments import RoutingTable
from quarterstore.records.places import Home
from quarterstore.shelf.files import write_whole

log = logging.getLogger("quarterdeck.launcher")
EMPTY = RoutingTable(epoch=0, routes=())


def keep(home: Home, table: RoutingTable) -> None:
    """Keep a table for the next start; where the disk does not take it, say so and go on."""
    try:
        write_whole(home.serving / "routes.json", msgspec.json.encode(table))
    except OSError as error:
        log.error("the routes could not be kept for a restart: %s", error.strerror)


def kept(home: Home) -> RoutingTable:
    """The table that was kept last; none where it cannot be read, until the daemon pushes it again."""
    path = home.serving / "routes.json"
    try:
        return msgspec.json.decode(path.read_bytes(), type=RoutingTable)
    except FileNotFoundError:
        return EMPTY
    except (OSError, msgspec.DecodeError) as error:
        log.error("the last routes could not be read (%s); the daemon pushes them again", error)
        return EMPTY
