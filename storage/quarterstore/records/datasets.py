"""Datasets: files of rows, known by the hash of their bytes."""

from __future__ import annotations

from quarterstore.records.base import Act, Event, Query, Record


class Column(Record, frozen=True):
    """One column as it was read: `kind` is number, integer, text, boolean or time; `missing` counts blank cells."""

    name: str
    kind: str
    missing: int = 0
    distinct: int | None = None


class Dataset(Record, frozen=True):
    """A file of rows in the artefact store; `id` is the SHA-256 of its bytes, `rows` 0 where nobody could count
    them."""

    id: str
    name: str
    format: str
    rows: int
    size: int
    columns: tuple[Column, ...]
    created: float
    created_by: str


class AddDataset(Act[Dataset], tag="datasets.add", frozen=True):
    """Keep an uploaded CSV or Parquet file (see `store.put_blob`) as a dataset; its rows are counted in a child
    first unless they are given, or `count` is off: a run that goes on does not wait for that."""

    digest: str
    name: str
    format: str
    size: int = 0
    rows: int = 0
    columns: tuple[Column, ...] = ()
    count: bool = True


class ListDatasets(Query[list[Dataset]], tag="datasets.list", frozen=True):
    """Every dataset, newest first."""


class ShowDataset(Query[Dataset], tag="datasets.show", frozen=True):
    """One dataset by its hash, or the start of it."""

    dataset: str


class RowDifference(Record, frozen=True):
    """What differs between two files of rows: rows that only one has, each as often as it is there, over the columns
    that both have."""

    rows_before: int
    rows_after: int
    added: int
    removed: int
    columns_added: tuple[str, ...] = ()
    columns_removed: tuple[str, ...] = ()


class CompareDatasets(Query[RowDifference], tag="datasets.compare", frozen=True):
    """Count the rows that were added and removed between two datasets, by their content; a child reads the files."""

    before: str
    after: str


class DatasetAdded(Event, tag="datasets.added", frozen=True):
    """A dataset is kept."""

    dataset: Dataset
