"""The feed: kept entries in order without a gap, and pulses; what was missed is asked for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import msgspec
import zmq

from quarterdeck.keys import load
from quarterdeck.transport import Sockets, dealer
from quarterstore.records.base import Pulse
from quarterstore.records.messages import PULSES, one_of
from quarterstore.records.places import Home
from quarterstore.records.store import Replay, ShowStatus
from quarterstore.records.wire import EVENT_TOPIC, PULSE_TOPIC, Published, decode

if TYPE_CHECKING:
    from quarterdeck.asking import Asker

_pulse = msgspec.msgpack.Decoder(one_of(PULSES)).decode


def subscriber(context: zmq.Context[Any], home: Home, caller: str) -> zmq.Socket[bytes]:
    """A SUB socket on the daemon's feed."""
    socket = dealer(context, load(home, caller), zmq.SUB)
    socket.setsockopt(zmq.RCVHWM, 10_000)
    for topic in (EVENT_TOPIC, PULSE_TOPIC):
        socket.setsockopt(zmq.SUBSCRIBE, topic)
    socket.connect(home.feed_address)
    return socket


def read(parts: list[bytes]) -> Published | Pulse:
    """A published message from its frames."""
    if parts[0] == EVENT_TOPIC:
        published: Published = decode(parts[1], Published)
        return published
    pulse: Pulse = _pulse(parts[1])
    return pulse


def missed(raws: list[msgspec.Raw]) -> list[Published]:
    """Replayed entries, decoded."""
    return [decode(raw, Published) for raw in raws]


def follow(client: Asker, after: int | None, idle: float | None = None) -> Iterator[Published | Pulse]:
    """Entries beyond `after` (the newest when None) and pulses; ends after `idle` seconds of silence when given."""
    sockets = Sockets()
    socket: zmq.Socket[bytes] = sockets.keep(subscriber(sockets.context, client.home, client.caller))
    try:
        last = client.ask(ShowStatus()).seq if after is None else after
        while True:
            if not socket.poll(200 if idle is None else round(idle * 1000)):
                # a subscription takes a moment, and a follower may have been too slow: ask what there is beyond
                for entry in missed(client.ask(Replay(after=last))):
                    last = entry.seq
                    yield entry
                if idle is not None:
                    return
                continue
            item = read(socket.recv_multipart())
            if isinstance(item, Pulse):
                yield item
            elif item.seq == last + 1:
                last = item.seq
                yield item
            elif item.seq > last:
                for entry in missed(client.ask(Replay(after=last))):
                    last = entry.seq
                    yield entry
    finally:
        sockets.close()
