"""What an idle daemon takes: resident memory and processor time."""

from __future__ import annotations

import os
import threading
from pathlib import Path

from benching import counted, deck, report


def resident(pid: int) -> float:
    """Megabytes."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1000
    raise RuntimeError("no VmRSS")


def ticks(pid: int) -> int:
    """Clock ticks in user and kernel."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def main() -> None:
    """Five seconds to settle, then windows of five seconds."""
    memory, share = [], []
    with deck() as daemon:
        assert daemon.process is not None
        pid = daemon.process.pid
        threading.Event().wait(counted(5, 1))
        for _ in range(counted(6, 1)):
            before = ticks(pid)
            threading.Event().wait(5)
            share.append(100 * (ticks(pid) - before) / os.sysconf("SC_CLK_TCK") / 5)
            memory.append(resident(pid))
    report("idle memory", figure="MB resident", values=memory, reach="< 160 MB", met=max(memory) < 160)
    report("idle processor", figure="% of a core", values=share, reach="< 1 %", met=sorted(share)[len(share) // 2] < 1)


if __name__ == "__main__":
    main()
