"""What a stream has taken and its consumer has not acknowledged: bounded, in order, sent again where it may be lost."""

from __future__ import annotations

from collections import deque

MOST_BYTES = 64 * 1024 * 1024
"""Bytes of answers that may wait."""
ON_THE_WAY = 256
"""Answers sent and not acknowledged at a time: a consumer that is slow gets no doubles as long as it takes this many
within `AGAIN`."""
AGAIN = 30.0
"""Seconds without an acknowledgement after which an answer is sent again."""


class Answer:
    """One answer on its way: the frames for the consumer, and which sender is told."""

    __slots__ = ("came", "digest", "frames", "key", "sender", "sent", "size")

    def __init__(self, key: bytes, digest: bytes, sender: bytes, frames: list[bytes], came: float) -> None:
        self.key = key
        self.digest = digest
        self.sender = sender
        self.frames = frames
        self.came = came
        """When its message was taken, by `time.time()`."""
        self.size = sum(map(len, frames))
        self.sent: float | None = None
        """When it was sent last, by `time.monotonic()`."""


class Pending:
    """Answers by key, the oldest first. Pure: it is told the time and sends nothing."""

    def __init__(self, most: int, most_bytes: int = MOST_BYTES) -> None:
        self._most, self._most_bytes = most, most_bytes
        self._answers: dict[bytes, Answer] = {}
        self._unsent: deque[Answer] = deque()
        self._sent: dict[bytes, Answer] = {}
        """Those on their way, the one sent first in front."""
        self._size = 0

    def __len__(self) -> int:
        return len(self._answers)

    def room(self) -> bool:
        """Whether another message may be taken."""
        return len(self._answers) < self._most and self._size < self._most_bytes

    def oldest(self) -> float:
        """When the oldest was taken; 0 where nothing waits."""
        return next(iter(self._answers.values())).came if self._answers else 0.0

    def again(self, key: bytes, sender: bytes) -> bool:
        """Whether a key is here already; its sender is the one that asked last, as one that restarted is another."""
        found = self._answers.get(key)
        if found is not None:
            found.sender = sender
        return found is not None

    def add(self, answer: Answer) -> None:
        """Another answer waits."""
        self._answers[answer.key] = answer
        self._unsent.append(answer)
        self._size += answer.size

    def acknowledged(self, key: bytes) -> Answer | None:
        """The consumer has it; None where nothing of that key waits (it was sent twice)."""
        found = self._answers.pop(key, None)
        if found is not None:
            self._sent.pop(key, None)
            self._size -= found.size
        return found

    def next(self) -> Answer | None:
        """What is to be sent now, if anything."""
        while self._unsent and self._answers.get(self._unsent[0].key) is not self._unsent[0]:
            self._unsent.popleft()  # acknowledged while it waited to be sent again
        return self._unsent[0] if self._unsent and len(self._sent) < ON_THE_WAY else None

    def sent(self, now: float) -> bool:
        """The one that `next` gave is on its way; answers whether it was before."""
        answer = self._unsent.popleft()
        before, answer.sent = answer.sent is not None, now
        self._sent[answer.key] = answer
        return before

    def lost(self) -> None:
        """A consumer is gone: whatever is on its way is to be sent again, in the order in which it was taken."""
        self._unsent.extendleft(reversed(self._sent.values()))
        self._sent.clear()

    def late(self, now: float) -> None:
        """What is on its way for too long is to be sent again."""
        late = []
        for answer in self._sent.values():
            if answer.sent is None or now - answer.sent < AGAIN:
                break
            late.append(answer)
        for answer in reversed(late):
            del self._sent[answer.key]
            self._unsent.appendleft(answer)
