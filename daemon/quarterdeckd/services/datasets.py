"""The rules of datasets."""

from __future__ import annotations

from msgspec.structs import replace

from quarterdeckd.services.deciding import Answerers, Asking, Decision, Rules
from quarterstore.ledger.finding import one_of
from quarterstore.ledger.state import State
from quarterstore.records import datasets
from quarterstore.records.faults import got
from quarterstore.records.names import checked_text

FORMATS = ("csv", "parquet")


def _add(state: State, act: datasets.AddDataset, asking: Asking) -> Decision:
    if act.format not in FORMATS:
        raise got("format", act.format, " or ".join(FORMATS))
    known = state.datasets.get(act.digest)
    if known is not None and act.rows and not known.rows:
        counted = replace(known, rows=act.rows)
        return Decision([datasets.DatasetAdded(dataset=counted)], f"counted {known.name}", lambda after: counted)
    if known is not None:
        return Decision([], f"{known.name} is kept already", lambda after: known)
    dataset = datasets.Dataset(
        id=act.digest,
        name=checked_text("name", act.name),
        format=act.format,
        rows=act.rows,
        size=act.size,
        columns=act.columns,
        created=asking.now,
        created_by=asking.actor,
    )
    return Decision([datasets.DatasetAdded(dataset=dataset)], f"kept dataset {dataset.name}", lambda after: dataset)


def _show(state: State, query: datasets.ShowDataset, asking: Asking) -> datasets.Dataset:
    found: datasets.Dataset = one_of(state.datasets, "dataset", query.dataset)
    return found


RULES: Rules = {datasets.AddDataset: _add}
ANSWERS: Answerers = {
    datasets.ListDatasets: lambda state, query, asking: sorted(state.datasets, key=lambda found: -found.created),
    datasets.ShowDataset: _show,
}
