"""What came from another store, put into the books as it was there."""

from __future__ import annotations

import msgspec

from quarterstore.ledger.state import Fold, State
from quarterstore.records import transfer


def _taken_in(state: State, event: transfer.TakenIn) -> None:
    book = state.books()[event.book]
    decode = msgspec.msgpack.Decoder(book.kind).decode
    for record in event.records:
        book.put(decode(record))


FOLDS: dict[type, Fold] = {transfer.TakenIn: _taken_in}
