"""Datasets: rows that could not be counted when a file came are counted when it comes again."""

from __future__ import annotations

from quarterstore.records.datasets import AddDataset, ShowDataset
from tests.ruling import Ruling

DIGEST = "a" * 64


def test_rows_that_were_not_counted_are_once_they_are_and_nothing_else_changes() -> None:
    ruling = Ruling()
    kept = ruling.act(AddDataset(digest=DIGEST, name="d.csv", format="csv", size=5))
    counted = ruling.act(AddDataset(digest=DIGEST, name="other.csv", format="csv", size=5, rows=7))
    assert (counted.rows, counted.name, counted.created) == (7, kept.name, kept.created)
    assert ruling.act(AddDataset(digest=DIGEST, name="d.csv", format="csv", rows=9)) == counted
    assert ruling.ask(ShowDataset(dataset=DIGEST)) == counted
