"""The rules and the fold without a daemon: acts are decided on a state in memory, as the writer does it."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec.structs import replace

from quarterdeckd.rules import ANSWERS, RULES
from quarterdeckd.services.deciding import Asking
from quarterdeckd.services.elapsed import Now
from quarterstore.ledger.folding import fold
from quarterstore.ledger.journal import Entry
from quarterstore.ledger.state import Context, State
from quarterstore.records.base import Role, tag_of
from quarterstore.records.moments import Moment
from quarterstore.records.wire import encode

EVERYTHING: tuple[Role, ...] = ("admin", "operator", "approver")


class Ruling:
    """A state, a clock that is set by hand, and the entries of what was decided."""

    def __init__(self, profile: str = "solo", now: float = 1_700_000_000.0) -> None:
        self.state = State()
        self.profile = profile
        self.now = now
        self.boot = 1
        self._put = 0.0
        self._began = self.moment()
        self.entries: list[Entry] = []

    def moment(self) -> Moment:
        """Now, by both clocks: setting `now` lets time pass on both."""
        return Moment(self.now, self.now - self._put, f"boot {self.boot}")

    def time(self, later: float = 0.0) -> Now:
        """Now, or so many seconds later, as a daemon knows it."""
        moment = self.moment()
        return Now(replace(moment, at=moment.at + later, up=moment.up + later), self._began)

    def put(self, seconds: float) -> None:
        """Put the clock of the wall ahead, or back."""
        self.now += seconds
        self._put += seconds

    def reboot(self) -> None:
        """The machine starts anew, and a daemon with it."""
        self.boot += 1
        self._put = self.now
        self._began = self.moment()

    def asking(self, actor: str = "ana") -> Asking:
        """Who asks, and when."""
        return Asking(actor, EVERYTHING, self.time(), len(self.entries) + 1, self.profile)

    def act(self, message: Any, actor: str = "ana") -> Any:
        """Decide and fold one act whole, or raise its fault and change nothing; answers what the asker gets."""
        self.now += 1.0
        asking = self.asking(actor)
        self.state.begin()
        try:
            decision = RULES[type(message)](self.state, message, asking)
            context = Context(asking.seq, asking.now, actor, tag_of(type(message)), decision.words)
            events = list(decision.events)
            fold(self.state, events, context)
            pending = [decision.then(self.state, asking)] if decision.then else []
            while pending:
                for following, chained in pending.pop():
                    found = RULES[type(following)](self.state, following, chained)
                    fold(self.state, found.events, context)
                    events.extend(found.events)
                    if found.then:
                        pending.append(found.then(self.state, chained))
            answer = decision.answer(self.state)
        except Exception:
            self.state.roll_back()
            raise
        body, encoded = encode(message), encode(answer)
        parts = (msgspec.Raw(body), msgspec.Raw(encode(events)), msgspec.Raw(encoded))
        place = (asking.seq, asking.now, actor, "key", f"r{asking.seq}", body[:16], context.act, decision.words)
        self.entries.append(Entry(*place, *parts))
        return answer

    def ask(self, query: Any, actor: str = "ana") -> Any:
        """The answer to a query that is answered from memory."""
        return ANSWERS[type(query)](self.state, query, self.asking(actor))

    def kept(self) -> dict[str, dict[str, Any]]:
        """Everything the state holds, to be compared."""
        return {name: dict(book.rows) for name, book in self.state.books().items()}
