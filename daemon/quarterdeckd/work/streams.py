"""Streams as they are: the kept record with the counts of its process, and a reading a second for whoever looks."""

from __future__ import annotations

import asyncio
import logging

from msgspec.structs import replace

from quarterdeckd.api.dispatch import Quick
from quarterdeckd.bus import Bus
from quarterdeckd.serving.recorder import adopt_segments
from quarterdeckd.serving.stream_counts import read
from quarterstore.ledger.finding import one_of
from quarterstore.ledger.state import State
from quarterstore.records import streams
from quarterstore.records.jobs import Progress
from quarterstore.records.places import Home

log = logging.getLogger(__name__)
EVERY = 1.0


class Streams:
    """Reads what the processes of streams count."""

    def __init__(self, home: Home, view: State, bus: Bus) -> None:
        self._home, self._view, self._bus = home, view, bus
        self._told: dict[str, streams.StreamCounts] = {}
        self._over: set[str] = set()
        """Streams that ended and whose keys are forgotten."""

    def quick(self) -> dict[type, Quick]:
        """What is asked -> what answers it, on the loop."""
        return {
            streams.ListStreams: lambda query, speaker: self.listed(query),
            streams.ShowStream: lambda query, speaker: self.shown(query),
        }

    def _with_counts(self, stream: streams.Stream) -> streams.Stream:
        counts = read(self._home.streams / stream.id / "counts")
        if stream.state != "RUNNING":
            counts = replace(counts, lag=0.0, note="")
        elif self._view.jobs[stream.job].state != "RUNNING":
            counts = replace(counts, note="its process is being started")
        return replace(stream, counts=counts)

    def listed(self, query: streams.ListStreams) -> list[streams.Stream]:
        """Streams, the newest first."""
        found = [each for each in self._view.streams if not query.live or each.state == "RUNNING"]
        return [self._with_counts(each) for each in sorted(found, key=lambda each: -each.created)]

    def shown(self, query: streams.ShowStream) -> streams.Stream:
        """One stream; raises `NotFound` with the nearest."""
        return self._with_counts(one_of(self._view.streams, "stream", query.stream))

    async def run(self) -> None:
        """Until cancelled: tell what changed, and take over what a stream that ended had recorded."""
        while True:
            await asyncio.sleep(EVERY)
            try:
                if len(self._view.streams):
                    await self._look()
            except OSError as error:  # of a disk, which is no reason to end the daemon
                log.error("the files of streams: %s", error)

    async def _look(self) -> None:
        self._forget_keys()
        for stream in self.listed(streams.ListStreams(live=True)):
            if self._told.get(stream.id) != stream.counts:
                self._told[stream.id] = stream.counts
                self._bus.pulse(Progress(job=stream.job, step="stream", words=words(stream.counts)))
        await asyncio.to_thread(adopt_segments, self._home.serving / "predictions")

    def _forget_keys(self) -> None:
        """Those of a stream that is over: nobody sends to it again, and its counts stay."""
        for stream in self._view.streams:
            if stream.state == "RUNNING" or stream.id in self._over:
                continue
            for name in ("keys", "keys.before"):
                (self._home.streams / stream.id / name).unlink(missing_ok=True)
            self._over.add(stream.id)
            self._told.pop(stream.id, None)


def words(counts: streams.StreamCounts) -> str:
    """The counts in one line."""
    line = f"in {counts.taken:,}  out {counts.answered:,}  waiting {counts.waiting:,}  lag {counts.lag:.1f} s"
    line += "".join(
        f"  {name} {number:,}" for name, number in (("doubles", counts.duplicates), ("errors", counts.errors))
    )
    return f"{line}  {counts.note}".rstrip()
