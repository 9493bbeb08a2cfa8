"""What every benchmark shares: the line it prints, the spread, a daemon of its own, a store that is filled quickly."""

from __future__ import annotations

import json
import os
import platform
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tests.conftest import Daemon  # noqa: E402

QUICK = "--quick" in sys.argv


def counted(many: int, few: int) -> int:
    """How often: `few` with --quick, to see that it works."""
    return few if QUICK else many


def quantile(values: Sequence[float], share: float) -> float:
    """The value at that share of the sorted values (nearest rank)."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def spread(values: Sequence[float]) -> dict[str, float]:
    """p10, p50 and p90 over the repeats, to four digits."""
    return {f"p{share}": float(f"{quantile(values, share / 100):.4g}") for share in (10, 50, 90)}


def machine() -> str:
    """Processor, cores, kernel, Python."""
    model = platform.processor() or platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    return f"{model}, {os.cpu_count()} cores, Linux {platform.release()}, Python {platform.python_version()}"


def report(
    bench: str,
    *,
    figure: str,
    values: Sequence[float],
    reach: str,
    met: bool,
    floor: str = "",
    floors: Sequence[float] = (),
    more: dict[str, Any] | None = None,
) -> None:
    """Print one line: the figure's spread over n repeats, beside its floor's where there is one."""
    line: dict[str, Any] = {"bench": bench, "figure": figure, "n": len(values), **spread(values)}
    if floors:
        line["floor"] = {"what": floor, "n": len(floors), **spread(floors)}
        line["ratio"] = round(statistics.median(values) / statistics.median(floors), 3)
    line |= {"reach": reach, "met": met, **(more or {}), "quick": QUICK, "machine": machine()}
    print(json.dumps(line), flush=True)


def timed(work: Callable[[], Any]) -> float:
    """Seconds that a call takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


@contextmanager
def deck(*words: str, started: bool = True) -> Iterator[Daemon]:
    """A daemon over a home of its own, gone afterwards."""
    daemon = Daemon(Path(tempfile.mkdtemp(prefix="qdb", dir="/tmp")))
    os.environ["XDG_RUNTIME_DIR"] = daemon.environ["XDG_RUNTIME_DIR"]
    try:
        if started:
            daemon.start(*words)
        yield daemon
    finally:
        daemon.end()


@contextmanager
def folder() -> Iterator[Path]:
    """A folder on the file system that homes are on."""
    path = Path(tempfile.mkdtemp(prefix="qdb", dir="/tmp"))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def fill_with_runs(root: Path, count: int, further: int = 0) -> int:
    """Write the life of `count` runs (five acts each, `further` metrics beside `loss` and `accuracy`) into a store, by
    the daemon's own rules and journal, and post it; answers the number of entries."""
    import msgspec

    from quarterdeckd.rules import RULES
    from quarterdeckd.services.deciding import Asking
    from quarterdeckd.services.elapsed import Now
    from quarterstore.ledger.folding import fold
    from quarterstore.ledger.journal import Entry
    from quarterstore.ledger.opening import open_ledger
    from quarterstore.ledger.state import Context
    from quarterstore.records import runs
    from quarterstore.records.base import tag_of
    from quarterstore.records.moments import Moment
    from quarterstore.records.places import Home
    from quarterstore.records.wire import encode

    ledger = open_ledger(Home(root))
    seq, group = ledger.journal.head.seq, []
    now = time.time() - count
    for number in range(count):
        run = f"run-{number:08d}"
        values = {"loss": 1 / (1 + number), "accuracy": number % 97 / 97}
        values |= {f"m{metric}": (number * 31 + metric) % 1009 / 1009 for metric in range(further)}
        acts = (
            runs.StartRun(experiment=f"experiment {number % 20}", run=run, name=f"try {number}"),
            runs.LogParams(run=run, params={"lr": str(0.1 / (1 + number % 7)), "depth": str(number % 9)}),
            runs.SetTags(run=run, tags={"team": f"t{number % 5}"}),
            runs.SetTags(run=run, tags={"note": f"n{number % 11}"}),
            runs.EndRun(run=run, state="FINISHED", metrics=values),
        )
        for act in acts:
            seq += 1
            asking = Asking("owner", ("admin",), Now(Moment(now + number), Moment(now)), seq, "solo")
            ledger.state.begin()
            decision = RULES[type(act)](ledger.state, act, asking)
            fold(
                ledger.state,
                list(decision.events),
                Context(seq, asking.now, "owner", tag_of(type(act)), decision.words),
            )
            answer = encode(decision.answer(ledger.state))
            body, events = encode(act), encode(list(decision.events))
            group.append(
                Entry(
                    seq,
                    asking.now,
                    "owner",
                    "",
                    f"fill-{seq}",
                    body[:16],
                    tag_of(type(act)),
                    decision.words,
                    *(msgspec.Raw(part) for part in (body, events, answer)),
                )
            )
        if len(group) >= 5000:
            ledger.journal.append(group)
            group = []
    if group:
        ledger.journal.append(group)
    ledger.close()
    opened = open_ledger(Home(root))
    opened.close()
    return seq
