"""Requests at a steady rate over kept-alive connections, each answer with what it needs to be counted."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from http.client import HTTPConnection, HTTPException, HTTPMessage
from itertools import count
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import msgspec
import numpy as np

from quarterdeckd.serving.session import DTYPES, name_of
from quarterdeckd.serving.tensors import packed

CONNECTIONS = 8
ANSWERED_WITHIN = 10.0


class Body(NamedTuple):
    """A request of the Open Inference Protocol with binary tensors, and the size of its JSON."""

    data: bytes
    head: int


class Answer(NamedTuple):
    """When a request was due and when its answer was whole (`time.perf_counter()`); status 0 where none came."""

    due: float
    sent: float
    done: float
    status: int
    version: str
    epoch: int
    words: str


def body_of(feed: Mapping[str, np.ndarray[Any, Any]]) -> Body:
    """Tensors as a request: their bytes, so that NaN and every digit arrive."""
    parts = {name: packed(array) for name, array in feed.items()}
    inputs = [
        {
            "name": name,
            "shape": list(array.shape),
            "datatype": name_of(array),
            "parameters": {"binary_data_size": len(parts[name])},
        }
        for name, array in feed.items()
    ]
    head = msgspec.json.encode({"inputs": inputs})
    return Body(head + b"".join(parts.values()), len(head))


class Caller:
    """One connection to an endpoint; made anew after an error."""

    def __init__(self, address: str, endpoint: str) -> None:
        self._place = urlsplit(address).netloc
        self._path = f"/v2/models/{endpoint}/infer"
        self._connection = HTTPConnection(self._place, timeout=ANSWERED_WITHIN)

    def ask(self, body: Body) -> tuple[int, HTTPMessage, bytes]:
        """Status, headers and body of an answer; raises `OSError` or `HTTPException`."""
        headers = {"inference-header-content-length": str(body.head), "content-type": "application/octet-stream"}
        try:
            self._connection.request("POST", self._path, body.data, headers)
            answer = self._connection.getresponse()
            return answer.status, answer.headers, answer.read()
        except (OSError, HTTPException):
            self._connection.close()
            raise

    def outputs(self, body: Body) -> dict[str, np.ndarray[Any, Any]]:
        """The outputs of an answer as arrays; raises as `ask`, and `HTTPException` for another status than 200."""
        status, _, data = self.ask(body)
        if status != 200:
            raise HTTPException(f"status {status}: {data[:200].decode(errors='replace')}")
        return {
            each["name"]: np.array(each["data"], DTYPES[each["datatype"]]).reshape(each["shape"])
            for each in msgspec.json.decode(data)["outputs"]
        }

    def close(self) -> None:
        """Let go."""
        self._connection.close()


class Steady:
    """Asks `rate` times a second, the bodies in turn, from `start` until `stop`. A request is due at its time whether
    the one before was answered or not, as those of strangers are, up to `CONNECTIONS` at once."""

    def __init__(self, address: str, endpoint: str, bodies: Sequence[Body], rate: float) -> None:
        self._callers = [Caller(address, endpoint) for _ in range(CONNECTIONS)]
        self._bodies = bodies
        self._rate = rate
        self._numbers = count()
        self._over = threading.Event()
        self._answers: list[Answer] = []
        self._threads = [threading.Thread(target=self._run, args=(caller,)) for caller in self._callers]

    def start(self) -> None:
        """From now on."""
        self._began = time.perf_counter()
        for thread in self._threads:
            thread.start()

    def stop(self) -> list[Answer]:
        """What was answered, by the time it was due; what is under way is waited for."""
        self._over.set()
        for thread in self._threads:
            thread.join()
        return sorted(self._answers)

    def _run(self, caller: Caller) -> None:
        while True:
            number = next(self._numbers)
            due = self._began + number / self._rate
            if self._over.wait(max(0.0, due - time.perf_counter())):
                break
            self._answers.append(self._asked(caller, self._bodies[number % len(self._bodies)], due))
        caller.close()

    def _asked(self, caller: Caller, body: Body, due: float) -> Answer:
        sent = time.perf_counter()
        try:
            status, headers, data = caller.ask(body)
        except (OSError, HTTPException) as error:
            return Answer(due, sent, time.perf_counter(), 0, "", -1, f"{type(error).__name__}: {error}")
        words = data[:200].decode(errors="replace") if status >= 500 else f"status {status}"  # 4xx may quote a value
        epoch = int(headers.get("quarterdeck-epoch", "-1"))
        return Answer(due, sent, time.perf_counter(), status, headers.get("quarterdeck-version", ""), epoch, words)
