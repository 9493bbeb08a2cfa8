"""Real HTTP traffic, as several callers send it."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import NamedTuple

import httpx
import msgspec


class Answered(NamedTuple):
    """One request of the traffic: when it was sent and answered (monotonic), its status, the version that answered."""

    sent: float
    done: float
    status: int
    version: str


class Traffic(threading.Thread):
    """Four keep-alive connections that send one row at a time for as long as they are let."""

    def __init__(self, address: str, model: str, rows: list[list[float]]) -> None:
        super().__init__(daemon=True)
        self.answers: list[Answered] = []
        self.rows = rows
        self._url = f"{address}/v2/models/{model}/infer"
        self._columns = len(rows[0])
        self._stopping = False

    def run(self) -> None:
        asyncio.run(self._all())

    async def _all(self) -> None:
        async with httpx.AsyncClient(timeout=10.0) as client:
            await asyncio.gather(*(self._one(client, first) for first in range(4)))

    async def _one(self, client: httpx.AsyncClient, number: int) -> None:
        while not self._stopping:
            number += 4
            row = self.rows[number % len(self.rows)]
            body = {"inputs": [{"name": "x", "shape": [1, self._columns], "datatype": "FP32", "data": row}]}
            sent = time.monotonic()
            try:
                response = await client.post(self._url, content=msgspec.json.encode(body))
                status, version = response.status_code, response.headers.get("quarterdeck-version", "")
            except httpx.HTTPError as error:
                status, version = 0, type(error).__name__
            self.answers.append(Answered(sent, time.monotonic(), status, version))

    def stop(self) -> None:
        """Send no more."""
        self._stopping = True
        self.join()

    def since(self, moment: float) -> list[Answered]:
        """What was sent since a moment."""
        return [answer for answer in list(self.answers) if answer.sent >= moment]
