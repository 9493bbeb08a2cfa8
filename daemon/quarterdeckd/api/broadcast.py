"""The broadcast: kept entries, numbered by their seq, and pulses, to everyone who follows."""

from __future__ import annotations

import zmq

from quarterdeckd.bus import Bus, Kept
from quarterstore.records.base import Pulse
from quarterstore.records.wire import EVENT_TOPIC, PROTOCOL, PULSE_TOPIC, Published, encode

BEHIND = 1000
"""Messages a slow follower may be behind before it misses some; it sees the gap in the numbers and asks for them."""


class Broadcast:
    """Publishes on a PUB socket whatever the bus tells."""

    def __init__(self, socket: zmq.Socket[bytes], bus: Bus) -> None:
        self._socket = socket
        socket.setsockopt(zmq.SNDHWM, BEHIND)
        bus.on_kept(self._kept)
        bus.on_pulse(self._pulse)

    def _kept(self, kept: Kept) -> None:
        entry = kept.entry
        published = Published(PROTOCOL, entry.seq, entry.at, entry.actor, entry.act, entry.events)
        self._socket.send_multipart([EVENT_TOPIC, encode(published)], zmq.NOBLOCK)

    def _pulse(self, pulse: Pulse) -> None:
        self._socket.send_multipart([PULSE_TOPIC, encode(pulse)], zmq.NOBLOCK)
