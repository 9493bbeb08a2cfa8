"""A rollback under 200 requests a second: from the act sent to the last answer of the old version, and what failed."""

from __future__ import annotations

import threading
import time

from benching import counted, deck, report
from serving_bench import Caller, serve

from quarterstore.records import deployments

RATE = 200
CONNECTIONS = 4


class Traffic(threading.Thread):
    """A share of the requests, evenly; remembers when each was answered by which version."""

    def __init__(self, address: str) -> None:
        super().__init__(daemon=True)
        self._caller = Caller(address)
        self.answers: list[tuple[float, str]] = []
        self.failed = 0
        self.stopping = threading.Event()

    def run(self) -> None:
        while not self.stopping.wait(CONNECTIONS / RATE):
            try:
                answer = self._caller()
            except (OSError, RuntimeError):
                self.failed += 1
                continue
            self.answers.append((time.perf_counter(), str(answer["model_version"])))


def once() -> tuple[float, int, int]:
    """Milliseconds to the last old answer, requests, failures."""
    with deck() as daemon:
        address = serve(daemon, versions=2)
        threads = [Traffic(address) for _ in range(CONNECTIONS)]
        for thread in threads:
            thread.start()
        while min(len(thread.answers) for thread in threads) < 50:
            threads[0].stopping.wait(0.05)
        old = threads[0].answers[-1][1]
        with daemon.client() as client:
            client.status()
            sent = time.perf_counter()
            client.ask(deployments.RollBack(endpoint="net"))
        counts = [len(thread.answers) for thread in threads]
        while min(len(t.answers) - before for t, before in zip(threads, counts, strict=True)) < 50:
            threads[0].stopping.wait(0.05)
        for thread in threads:
            thread.stopping.set()
        for thread in threads:
            thread.join()
        answers = [each for thread in threads for each in thread.answers]
        last = max(at for at, version in answers if version == old)
        assert {version for _, version in answers} != {old}
        return max(0.0, last - sent) * 1000, len(answers), sum(thread.failed for thread in threads)


def main() -> None:
    """A deck for each."""
    found = [once() for _ in range(counted(7, 1))]
    failed = sum(each[2] for each in found)
    report(
        "rollback",
        figure="ms from the act sent to the last answer of the old version",
        values=[each[0] for each in found],
        reach=f"< 200 ms, 0 failed under {RATE} requests/s",
        met=max(each[0] for each in found) < 200 and failed == 0,
        more={"requests": sum(each[1] for each in found), "failed": failed},
    )


if __name__ == "__main__":
    main()
