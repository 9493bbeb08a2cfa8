"""The rules of a transfer: what is here otherwise is a conflict, what is here equal is left."""

from __future__ import annotations

from typing import Any

import msgspec

from quarterdeckd.services.deciding import Answerers, Asking, Decision, Rules
from quarterstore.ledger.state import State
from quarterstore.records import transfer
from quarterstore.records.base import Record
from quarterstore.records.faults import Conflict, got
from quarterstore.records.names import checked_text
from quarterstore.records.wire import encode


def new_ones(state: State, name: str, records: list[bytes]) -> list[bytes]:
    """The records of a book that are not here yet. Raises `Conflict` for one that is here otherwise, `Invalid` for one
    that is none."""
    if name not in transfer.BOOKS:
        raise got("book", name, ", ".join(transfer.BOOKS))
    book = state.books()[name]
    decode = msgspec.msgpack.Decoder(book.kind).decode
    found = []
    for data in records:
        try:
            record: Any = decode(data)
        except msgspec.MsgspecError as error:
            raise got(name, str(error), f"a record of {name}") from None
        key = checked_text(name, book.key(record), longest=500)
        here = book.get(key)
        if here is None:
            found.append(data)
        elif not _equal(here, record):
            raise Conflict(
                f"{key} is here already, and is another one",
                field=name,
                next="import into a store that has none of these names",
            )
    if name == "experiments":
        _check_numbers(state, [decode(data) for data in found])
    return found


def _check_numbers(state: State, arriving: list[Any]) -> None:
    taken = {each.id: each.name for each in state.experiments}
    for experiment in arriving:
        if experiment.id in taken:
            raise Conflict(
                f"number {experiment.id} is {taken[experiment.id]} here and {experiment.name} there",
                field="experiments",
                next="import into a store without experiments",
            )


def _equal(here: Record, there: Record) -> bool:
    return encode(here) == encode(there)


def _take_in(state: State, act: transfer.TakeIn, asking: Asking) -> Decision:
    records = tuple(new_ones(state, act.book, list(act.records)))
    event = transfer.TakenIn(book=act.book, records=records)
    return Decision([event], f"took in {len(records)} {act.book} of another store", lambda after: None)


RULES: Rules = {transfer.TakeIn: _take_in}
ANSWERS: Answerers = {}
