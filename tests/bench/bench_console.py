"""The console on 20,000 runs in a terminal of its own: process start to first paint, key to new screen, by its own
timestamps."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import select
import struct
import sys
import termios
import time
from pathlib import Path
from typing import Any

from benching import counted, deck, fill_with_runs, report

QD = str(Path(sys.executable).parent / "qd")
KEYS = ("2", "3", "4", "5", "6", "7", "1")


class Terminal:
    """A console process on a pty."""

    def __init__(self, daemon: Any, size: tuple[int, int], trace: Path) -> None:
        self.trace = trace
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            environ = {**daemon.environ, "TERM": "xterm-256color", "LANG": "C.UTF-8", "QUARTERDECK_TRACE": str(trace)}
            environ.pop("NO_COLOR", None)
            os.execve(QD, [QD, "--home", str(daemon.home.root)], environ)
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", size[1], size[0], 0, 0))

    def lines(self) -> list[dict[str, Any]]:
        """What the console has noted."""
        text = self.trace.read_text() if self.trace.exists() else ""
        return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]  # the last may be half there

    def until(self, true: Any) -> list[dict[str, Any]]:
        """Keep the terminal drained until something was noted."""
        deadline = time.monotonic() + 30
        while not true(self.lines()):
            if time.monotonic() > deadline:
                raise TimeoutError(str(self.lines()))
            if select.select([self.fd], [], [], 0.02)[0]:
                os.read(self.fd, 1 << 16)
        return self.lines()

    def press(self, key: str) -> None:
        """One key."""
        os.write(self.fd, key.encode())

    def end(self) -> None:
        """Quit, and wait."""
        self.press("q")
        while os.waitpid(self.pid, os.WNOHANG) == (0, 0):
            if select.select([self.fd], [], [], 0.05)[0]:
                try:
                    os.read(self.fd, 1 << 16)
                except OSError:
                    break
        os.close(self.fd)


def keys(lines: list[dict[str, Any]]) -> int:
    """How many changes of screen were asked for; the console asks for the first by itself."""
    return sum(line["what"] == "key" for line in lines)


def painted(lines: list[dict[str, Any]]) -> Any:
    """When the screen that was asked for last stood there with its data; `None` until it does."""
    asked = max((place for place, line in enumerate(lines) if line["what"] == "key"), default=len(lines))
    if asked == len(lines):
        return None
    ours = ("screen_painted", lines[asked]["which"])
    return next((line["at"] for line in lines[asked:] if (line["what"], line["which"]) == ours), None)


def main() -> None:
    """Both sizes; every screen by its digit."""
    with deck(started=False) as daemon:
        fill_with_runs(daemon.home.root, counted(20_000, 200))
        daemon.start()
        for size in ((80, 24), (160, 48)):
            paints, screens = [], []
            for number in range(counted(7, 1)):
                terminal = Terminal(daemon, size, daemon.folder / f"trace-{size[0]}-{number}")
                noted = terminal.until(lambda lines: painted(lines) is not None)
                paints.append(painted(noted) - noted[0]["at"])
                for pressed, key in enumerate(KEYS, start=2):
                    terminal.press(key)
                    noted = terminal.until(lambda lines, n=pressed: keys(lines) == n and painted(lines) is not None)
                    screens.append(painted(noted) - max(line["at"] for line in noted if line["what"] == "key"))
                terminal.end()
            word = f"{size[0]}x{size[1]}"
            report(
                f"console, first paint at {word}",
                figure="s from process start (/proc) to the bridge drawn with its data",
                values=paints,
                reach="< 1.2 s with 20,000 runs",
                met=sorted(paints)[len(paints) // 2] < 1.2,
            )
            report(
                f"console, key to new screen at {word}",
                figure="s from the key to the screen painted",
                values=screens,
                reach="< 0.3 s",
                met=sorted(screens)[int(0.9 * len(screens))] < 0.3,
            )


if __name__ == "__main__":
    main()
