"""The command line: `qd --help` and `qd status`, wall; the floor is a Python that does nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from benching import counted, deck, report, timed

QD = str(Path(sys.executable).parent / "qd")


def main() -> None:
    """In turns."""
    with deck() as daemon:
        status = [QD, "--home", str(daemon.home.root), "status"]
        found: dict[str, list[float]] = {"--help": [], "status": [], "floor": []}
        for _ in range(counted(25, 2)):
            for name, command in (
                ("--help", [QD, "--help"]),
                ("status", status),
                ("floor", [sys.executable, "-c", "pass"]),
            ):
                seconds = timed(
                    lambda command=command: subprocess.run(command, check=True, capture_output=True, env=daemon.environ)
                )
                found[name].append(seconds)
        for name, limit in (("--help", 0.25), ("status", 0.45)):
            report(
                f"qd {name}",
                figure="s wall",
                values=found[name],
                reach=f"< {limit} s",
                met=sorted(found[name])[len(found[name]) // 2] < limit,
                floor="python -c pass",
                floors=found["floor"],
            )


if __name__ == "__main__":
    main()
