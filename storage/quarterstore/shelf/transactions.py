"""A change to an LMDB environment, synced or not made at all."""

from __future__ import annotations

from typing import Any

import lmdb

from quarterstore.records.faults import Full


class Writing:
    """A transaction that is synced when it ends; a full disk is said in our words. Slots of readers that died go."""

    def __init__(self, environment: Any) -> None:
        self._environment = environment

    def __enter__(self) -> Any:
        self._environment.reader_check()
        self._changing = self._environment.begin(write=True)
        return self._changing

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        try:
            if error is None:
                self._changing.commit()
            else:
                self._changing.abort()
        except lmdb.Error as failed:
            raise full(failed) from None
        if isinstance(error, lmdb.Error):
            raise full(error) from None


def full(error: Exception) -> Full:
    """What LMDB or the disk said, in our words."""
    return Full(f"online features cannot be written: {error}", field="disk", next="free some room: qd gc")
