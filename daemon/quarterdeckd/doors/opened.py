"""The doors beside the socket: those that are switched on, opened and closed together."""

from __future__ import annotations

import logging
from typing import Any

from quarterdeckd.api.dispatch import Dispatch
from quarterdeckd.api.identity import deck_name, public_of
from quarterdeckd.api.intake import Intake
from quarterdeckd.bus import Bus
from quarterdeckd.settings import Settings, host_and_port
from quarterstore.records.places import Home
from quarterstore.shelf.artefacts import Artefacts

log = logging.getLogger(__name__)


class Doors:
    """What is imported for a door, is imported when it is opened: not on the way of a start without it."""

    def __init__(self, home: Home, dispatch: Dispatch, artefacts: Artefacts, intake: Intake, bus: Bus) -> None:
        self._home = home
        self._dispatch = dispatch
        self._artefacts = artefacts
        self._intake = intake
        self._bus = bus
        self._open: list[Any] = []

    async def open(self, settings: Settings) -> None:
        """Open those that have an address; `Invalid` names the setting whose address is not free."""
        if settings.mlflow is not None:
            await self._mlflow(*host_and_port("mlflow", settings.mlflow))
        if settings.rest is not None:
            await self._rest(*host_and_port("rest", settings.rest))
        if settings.remote is not None:
            await self._remote(settings, *host_and_port("remote", settings.remote))

    async def close(self) -> None:
        """Answer what was asked, take no more."""
        for door in self._open:
            await door.close()

    def _owner(self) -> str:
        return public_of(self._home.secret_key("owner")).decode()

    async def _mlflow(self, host: str, port: int) -> None:
        from quarterdeckd.doors.mlflow.door import Door

        door = Door(self._dispatch, self._artefacts, lambda run: self._intake.newest.get(run, {}), self._owner())
        log.info("MLflow's clients are answered at http://%s:%d", host, await door.open(host, port))
        self._open.append(door)

    async def _rest(self, host: str, port: int) -> None:
        from quarterdeckd.doors.outcomes import Door

        door = Door(self._dispatch, self._artefacts, self._owner())
        log.info("labels and outcomes are taken at http://%s:%d", host, await door.open(host, port))
        self._open.append(door)

    async def _remote(self, settings: Settings, host: str, port: int) -> None:
        from quarterdeckd.doors.remote.door import Door

        tls = settings.remote_tls()
        door = Door(self._dispatch, self._artefacts, deck_name(self._home), tls)
        self._bus.on_pulse(door.heard)
        found = await door.open(host, port)
        log.info("other decks are answered at %s://%s:%d", "https" if tls else "http", host, found)
        self._open.append(door)
