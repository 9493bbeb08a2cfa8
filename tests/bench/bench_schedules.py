"""A due firing beside a thousand schedules, until whoever follows has it; and what a thousand that wait cost."""

from __future__ import annotations

import asyncio
import os
import threading
import time

import msgspec
from bench_idle import ticks
from benching import counted, deck, quantile, report

from quarterdeck.client import Client
from quarterdeck.feed import follow
from quarterstore.records import runs, schedules
from quarterstore.records.wire import Published

MANY = 1000
WINDOW = 5.0
CRON = ("30 2 * * *", "0 */6 * * *", "15 4 * * 1-5", "0 0 1 * *")
ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Asia/Kathmandu")


async def bare(times: int) -> list[float]:
    """Milliseconds by which asyncio's own timer is late, a thousand others waiting with it."""
    loop = asyncio.get_running_loop()
    others = [loop.call_later(3600 + number, int) for number in range(MANY)]
    late = []
    for _ in range(times):
        due, told = loop.time() + 0.2, asyncio.Event()
        loop.call_at(due, told.set)
        await told.wait()
        late.append(1000 * (loop.time() - due))
    for other in others:
        other.cancel()
    return late


def filled(client: Client) -> None:
    """A thousand schedules that are hours away."""
    act = msgspec.to_builtins(runs.StartRun(experiment="never"))
    for number in range(counted(MANY, 50)):
        when = {"every": 7200.0 + number} if number % 2 else {"cron": CRON[number % 4], "zone": ZONES[number // 4 % 4]}
        client.ask(schedules.AddSchedule(name=f"s{number}", act=act, **when))  # type: ignore[arg-type]


def heard(client: Client, times: int) -> list[float]:
    """Milliseconds from a due time to its entry at a follower."""
    feed, late = follow(client, client.status().seq), []
    act = msgspec.to_builtins(runs.StartRun(experiment="clock", beats=False))
    client.ask(schedules.AddSchedule(name="often", act=act, every=1.0))
    for item in feed:
        now = time.time()
        for event in msgspec.msgpack.decode(item.events) if isinstance(item, Published) else ():
            if event["type"] == "schedules.fired.2":
                late.append(1000 * (now - event["firing"]["due"]))
        if len(late) == times:
            break
    feed.close()  # type: ignore[attr-defined]
    client.ask(schedules.RemoveSchedule(name="often"))
    return late


def main() -> None:
    """Firings first, then windows of five seconds in which none is due."""
    with deck() as daemon:
        assert daemon.process is not None
        with daemon.client(timeout=60.0) as client:
            filled(client)
            late = heard(client, counted(15, 2))
        threading.Event().wait(counted(3, 1))
        share = []
        for _ in range(counted(4, 1)):
            before = ticks(daemon.process.pid)
            threading.Event().wait(WINDOW)
            share.append(100 * (ticks(daemon.process.pid) - before) / os.sysconf("SC_CLK_TCK") / WINDOW)
    report(
        "a due firing, 1,000 schedules",
        figure="ms after it was due",
        values=late,
        reach="< 150 ms",
        met=max(late) < 150,
        floor="asyncio's own timer",
        floors=asyncio.run(bare(counted(15, 2))),
        more={"max": round(max(late), 2)},
    )
    met = quantile(share, 0.5) < 1
    report("1,000 schedules that wait", figure="% of a core", values=share, reach="< 1 %", met=met)


if __name__ == "__main__":
    main()
