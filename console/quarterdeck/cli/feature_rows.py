"""The rows of a pipeline that names features: its file is one of entities, joined as they were known before it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from msgspec.structs import replace

from quarterdeck.cli.context import Context
from quarterdeck.cli.features import sent_rows
from quarterdeck.cli.waiting import to_the_end
from quarterstore.records.datasets import AddDataset
from quarterstore.records.faults import got
from quarterstore.records.features import JoinFeatures, ShowTrainingSet
from quarterstore.records.pipelines import Definition


def with_features(context: Context, definition: Definition, folder: Path) -> Definition:
    """The definition with a training set for its rows, where `data.features` names views. The keys and the time of the
    entities are no features; a column that orders or groups the rows is left for that."""
    data = definition.data
    if not data.features:
        return definition
    if not data.file:
        raise got("data.file", "nothing", "the file of entities that data.features are joined to")
    digest, format_ = sent_rows(context, "data.file", folder / data.file)
    asked = JoinFeatures(digest=digest, format=format_, views=data.features, time=data.entity_time)
    result: dict[str, Any] = to_the_end(context, context.client.ask(asked)).result
    made = context.client.ask(ShowTrainingSet(set=result["id"]))
    context.say(f"{made.rows:,} rows with features: {made.id}")
    context.client.ask(AddDataset(digest=made.digest, name=made.id, format="parquet", rows=made.rows))
    keys = [key.name for view in made.views for key in view.keys]
    ours = [name for name in dict.fromkeys([*keys, made.time]) if name not in (data.time, data.group, *data.ignore)]
    return replace(definition, data=replace(data, dataset=made.digest, file=None, ignore=(*data.ignore, *ours)))
