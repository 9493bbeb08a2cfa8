"""Streams: messages in over ZeroMQ, answers out, in a job that lasts until somebody stops it."""

from __future__ import annotations

from typing import ClassVar, Literal

from quarterstore.records.base import Act, Event, Query, Record, Role
from quarterstore.records.registry import Signature

StreamState = Literal["RUNNING", "STOPPED", "FAILED"]
WAITING = 1000
WINDOW = 131_072


class StreamCounts(Record, frozen=True):
    """What a stream did so far: messages taken from its senders are duplicates, answered or waiting."""

    taken: int = 0
    answered: int = 0
    """Answers (errors too) that the consumer acknowledged."""
    waiting: int = 0
    """Taken, and not acknowledged by the consumer yet."""
    duplicates: int = 0
    """Messages whose key was seen within the window: acknowledged, not answered again."""
    errors: int = 0
    """Messages whose answer is an error; they are among the answered and the waiting."""
    refused: int = 0
    """Messages without a key, or of a wrong number of frames: the sender is told, nobody else."""
    resent: int = 0
    """Answers sent again because a consumer left, or said nothing for too long."""
    lag: float = 0.0
    """Seconds since the oldest waiting message was taken."""
    note: str = ""
    """What holds it up, in words."""
    last_error: str = ""


class Stream(Record, frozen=True):
    """A stream: what answers (`churn` follows the endpoint's live version, `churn@2` is that one), where messages come
    from and where answers go (`bind:` or `connect:` and a ZeroMQ address), how many may wait, how many keys are
    remembered."""

    id: str
    model: str
    input: str
    output: str
    waiting: int
    window: int
    state: StreamState
    job: str
    created: float
    actor: str
    restarts: tuple[float, ...] = ()
    """When its process was started again after it ended by itself."""
    ended: float | None = None
    why: str = ""
    counts: StreamCounts = StreamCounts()
    """As they are when asked for; the journal keeps none."""


class StreamSpec(Record, frozen=True):
    """What a stream's job is given: a fixed version with its file (as a local path) or an endpoint, the addresses, the
    bounds; `folder` and `home` are set when the job starts."""

    stream: str
    endpoint: str
    version: str
    model: str
    digest: str
    signature: Signature | None
    input: str
    output: str
    waiting: int
    window: int
    folder: str = ""
    home: str = ""


class StartStream(Act[Stream], tag="streams.start", frozen=True):
    """Answer messages as they come, at least once each, in a job that lasts. Addresses are `tcp://HOST:PORT` or
    `ipc://NAME` (a socket inside the home), bound unless `connect:` stands before them."""

    role: ClassVar[Role] = "operator"
    model: str
    """An endpoint, whose live version is followed, or one version (`churn@2`)."""
    input: str
    output: str
    public: bool = False
    """Bind beyond the loopback too: whoever reaches the port may send and read."""
    waiting: int = WAITING
    """Messages that may wait for the consumer; at that number no more are taken from the senders."""
    window: int = WINDOW
    """Keys remembered at least, so that a message that comes again is not answered again."""


class StopStream(Act[Stream], tag="streams.stop", frozen=True):
    """End a stream; what waited stays with its senders."""

    role: ClassVar[Role] = "operator"
    stream: str
    reason: str = ""


class ResumeStream(Act[Stream], tag="streams.resume", frozen=True):
    """Say that a stream's job ended; one that nobody stopped is started again, so many times."""

    role: ClassVar[Role] = "daemon"
    stream: str
    stopped: bool
    why: str = ""


class ListStreams(Query[list[Stream]], tag="streams.list", frozen=True):
    """Streams with their counts, newest first; `live` leaves out those that ended."""

    live: bool = False


class ShowStream(Query[Stream], tag="streams.show", frozen=True):
    """One stream with its counts as they are now."""

    stream: str


class StreamStarted(Event, tag="streams.started", frozen=True):
    """A stream is to run."""

    stream: Stream


class StreamRestarted(Event, tag="streams.restarted", frozen=True):
    """A stream's process had ended; another job goes on with it."""

    stream: str
    job: str
    restarts: tuple[float, ...]
    why: str


class StreamEnded(Event, tag="streams.ended", frozen=True):
    """A stream was stopped, or ended too often."""

    stream: str
    state: StreamState
    at: float
    why: str
