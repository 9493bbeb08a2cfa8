"""Finding and comparing among 20,000 runs of 50 metrics by `qd`, whole processes; the floor is `qd status` in turns."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from benching import counted, deck, fill_with_runs, quantile, report, timed

QD = str(Path(sys.executable).parent / "qd")
RUNS = counted(20_000, 1_000)
WHERE = "accuracy>0.9 or (lr<1e-3 and team='t1')"
COMMANDS = {
    "qd runs --where --sort --limit 50": (["runs", "--where", WHERE, "--sort", "-accuracy", "--limit", "50"], 0.5),
    "qd compare --where --top 200": (["compare", "--where", WHERE, "--sort", "-accuracy", "--top", "200"], 1.0),
}


def main() -> None:
    """First of all on a daemon that was just started, then with the index that it makes."""
    with deck(started=False) as daemon:
        fill_with_runs(daemon.home.root, RUNS, further=48)
        daemon.start()

        def qd(*words: str) -> str:
            command = [QD, "--home", str(daemon.home.root), *words]
            return subprocess.run(command, check=True, capture_output=True, text=True, env=daemon.environ).stdout

        first = timed(lambda: qd(*COMMANDS["qd runs --where --sort --limit 50"][0]))
        time.sleep(counted(10, 3))  # until the index is made: nothing says so from outside
        assert len(qd("--json", *COMMANDS["qd runs --where --sort --limit 50"][0]).splitlines()) == 50
        found: dict[str, list[float]] = {name: [] for name in COMMANDS}
        floors = []
        for _ in range(counted(15, 2)):
            floors.append(timed(lambda: qd("status")))
            for name, (words, _) in COMMANDS.items():
                found[name].append(timed(lambda words=words: qd(*words)))
        for name, (_, most) in COMMANDS.items():
            report(
                f"{name}, {RUNS:,} runs of 50 metrics",
                figure="s wall",
                values=found[name],
                reach=f"< {most} s",
                met=quantile(found[name], 0.5) < most,
                floor="qd status",
                floors=floors,
                more={"first of all": round(first, 2)} if name.startswith("qd runs") else None,
            )


if __name__ == "__main__":
    main()
