"""The runs screen on 100,000 runs in a terminal of its own: first page, keys, memory, and 200 runs with 50 metrics side
by side; by the console's own timestamps."""

from __future__ import annotations

import sys
import time
from array import array
from typing import Any

import psutil
from bench_console import Terminal
from benching import counted, deck, fill_with_runs, quantile, report

from quarterstore.records.runs import EndRun, LogMetrics, StartRun

METRICS, STEPS = 50, 20


def add_wide_runs(client: Any, count: int) -> None:
    """The newest runs, a whole page of them, each with 50 metrics and a curve of each."""
    keys = tuple(f"metric {number:02}" for number in range(METRICS))
    places = array("H", [place for _ in range(STEPS) for place in range(METRICS)]).tobytes()
    steps = array("q", [step for step in range(STEPS) for _ in keys]).tobytes()
    times = array("d", [float(step) for step in range(STEPS) for _ in keys]).tobytes()
    for number in range(count):
        run = f"wide-{number:04}"
        params = {f"param {place}": number * 7 % (place + 2) for place in range(10)}
        client.ask(StartRun(experiment="wide", run=run, name=f"wide {number}", params=params, beats=False))
        values = array("d", [(number + place) / (1 + step) for step in range(STEPS) for place in range(METRICS)])
        client.ask(
            LogMetrics(run=run, batch=run, keys=keys, key=places, step=steps, time=times, value=values.tobytes())
        )
        client.ask(EndRun(run=run))


def pressed(terminal: Terminal, key: str, what: str, word: str = "press") -> float:
    """Seconds from a key to what the console notes after it; of a row, to another row than before."""
    lines = terminal.lines()
    before, row = len(lines), next((line["which"] for line in reversed(lines) if line["what"] == "row_painted"), None)

    def noted(lines: list[dict[str, Any]]) -> float | None:
        new = lines[before:]
        start = next((place for place, line in enumerate(new) if line["what"] == word), None)
        if start is None:
            return None
        after = (line for line in new[start:] if line["what"] == what)
        at = next((line["at"] for line in after if what != "row_painted" or line["which"] != row), None)
        return None if at is None else float(at - new[start]["at"])

    terminal.press(key)
    lines = terminal.until(lambda lines: noted(lines) is not None)
    took = noted(lines)
    assert took is not None
    return took


class Found:
    """What was measured, by figure."""

    def __init__(self) -> None:
        self.cold: list[float] = []
        self.first: list[float] = []
        self.keys: list[float] = []
        self.pages: list[float] = []
        self.ends: list[float] = []
        self.sorts: list[float] = []
        self.compared: list[float] = []
        self.megabytes: list[float] = []

    def look(self, daemon: Any, trace: str, cold: bool) -> None:
        """One console: the first page, keys down, pages, a sort, a comparison."""
        terminal = Terminal(daemon, (160, 48), daemon.folder / trace)
        terminal.until(lambda lines: any(line["what"] == "screen_painted" for line in lines))
        (self.cold if cold else self.first).append(pressed(terminal, "2", "screen_painted", word="key"))
        for _ in range(counted(30, 5)):
            self.keys.append(pressed(terminal, "j", "row_painted"))
        pressed(terminal, "*", "press")
        self.compared.append(pressed(terminal, "c", "screen_painted"))
        pressed(terminal, "\x1b", "screen_painted")
        for _ in range(counted(5, 1)):
            self.pages.append(pressed(terminal, ">", "screen_painted"))
        time.sleep(counted(8, 0))  # the index is made meanwhile
        for _ in range(counted(5, 1)):
            self.ends += [pressed(terminal, key, "page_painted") for key in "Gg"]
        self.sorts.append(pressed(terminal, "s", "screen_painted"))
        self.megabytes.append(psutil.Process(terminal.pid).memory_info().rss / 1e6)
        terminal.end()


def main() -> None:
    """Cold right after a start of the daemon, warm while it runs."""
    count, wide, found = counted(100_000, 2_000), 200, Found()
    with deck(started=False) as daemon:
        fill_with_runs(daemon.home.root, count)
        daemon.start()
        with daemon.client() as client:
            add_wide_runs(client, wide)
        for number in range(counted(3, 1)):
            daemon.stop()
            daemon.start()
            found.look(daemon, f"cold-{number}", True)
        for number in range(counted(5, 1)):
            found.look(daemon, f"warm-{number}", False)
    over = f"with {count:,} runs and 200 of {METRICS} metrics"
    for words, figure, values, limit, least in (
        ("first page, daemon just started", "s from the key to the page painted", found.cold, 0.6, 0.5),
        ("first page", "s from the key to the page painted", found.first, 0.6, 0.5),
        ("key down", "s from the key to the row painted", found.keys, 0.1, 0.95),
        ("next page", "s from the key to the page and its card painted", found.pages, 0.6, 0.5),
        ("last page of all, and first", "s from the key to the page painted", found.ends, 0.1, 0.5),
        ("sort", "s from the key to the page and its card painted", found.sorts, 0.6, 0.5),
        (
            f"compare 200 runs x {METRICS} metrics",
            "s from the key to table and curves painted",
            found.compared,
            1.0,
            0.5,
        ),
        ("memory", "MB resident of the console", found.megabytes, 200.0, 0.5),
    ):
        report(
            f"runs screen, {words}",
            figure=figure,
            values=values,
            reach=f"< {limit:g} {over}",
            met=quantile(values, least) < limit,
        )


if __name__ == "__main__":
    sys.exit(main())
