"""`qd features`: definitions, rows, training sets."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from quarterdeck.cli.context import Context
from quarterdeck.cli.short import feature_files
from quarterdeck.cli.short.making import Made, command
from quarterdeck.cli.spans import written

if TYPE_CHECKING:
    from quarterstore.records.features import FeatureView

VIEWS = ("name", "version", "keys", "features", "ttl", "owner")
FILES = ("at", "rows", "first_at", "last_at", "known", "late", "by", "id")


def features_group() -> dict[str, Made]:
    from quarterdeck.cli.short.online import online_commands

    made = {"apply": _apply, "load": _load, "get": _get, "list": _list, "show": _show, "sets": _sets}
    return {**made, **feature_files.commands(), **online_commands()}


def _apply() -> click.Command:
    @click.option("--run-code", is_flag=True, help="run a file of Python, in a process of its own, with all you may do")
    @click.argument("file", type=click.Path(path_type=Path))
    @command("apply", "Define the views of a TOML or Python file; the same definition again changes nothing.")
    def run(context: Context, file: Path, run_code: bool) -> None:
        from quarterdeck.cli import features

        _out(context, features.applied(context, file, run_code))

    return run


def _list() -> click.Command:
    @command("list", "The newest version of every view.")
    def run(context: Context) -> None:
        from quarterstore.records.features import ListViews

        _out(context, context.client.ask(ListViews()))

    return run


def _out(context: Context, views: list[FeatureView]) -> None:
    if context.json:
        context.out(views)
        return
    from quarterdeck.cli.printing import table

    table([_row(view) for view in views], VIEWS)


def _row(view: FeatureView) -> dict[str, Any]:
    return {
        "name": view.name,
        "version": view.version,
        "keys": ", ".join(key.name for key in view.keys),
        "features": ", ".join(each.name for each in view.features),
        "ttl": "-" if view.ttl is None else written(view.ttl),
        "owner": view.owner or "-",
    }


def _show() -> click.Command:
    @click.argument("view")
    @command("show", "One view: its columns, and its rows file by file.")
    def run(context: Context, view: str) -> None:
        from quarterdeck.cli.printing import say, table
        from quarterstore.records.features import ShowView
        from quarterstore.records.wire import plain

        found = context.client.ask(ShowView(view=view))
        if context.json:
            context.out(found)
            return
        of = found.view
        alone = sum(not each.folded for each in found.files)
        say(f"{of.id}: {found.rows:,} rows in {len(found.parts) + alone} files, {found.size:,} bytes")
        for words in (of.description, _about(of)):
            if words:
                say(words)
        columns = [(key.name, key.kind, "key") for key in of.keys] + [(of.event_time, "time", "event time")]
        columns += [(of.created_time, "time", "created time")] if of.created_time else []
        columns += [(each.name, each.kind, "feature") for each in of.features]
        columns += [(each.name, each.kind, "request") for each in of.requests]
        columns += [(each.name, each.kind, each.formula) for each in of.on_demand]
        table([{"column": name, "kind": kind, "is": what} for name, kind, what in columns])
        if found.files:
            table([plain(each) for each in found.files], FILES)

    return run


def _about(view: FeatureView) -> str:
    """Owner, source and tags, as far as they are said."""
    said = [f"{name} {value}" for name, value in (("owner", view.owner), ("source", view.source)) if value]
    said += [f"{name}={value}" for name, value in view.tags.items()]
    return ", ".join(said)


def _sets() -> click.Command:
    @click.option("--limit", default=20)
    @command("sets", "Training sets, newest first.")
    def run(context: Context, limit: int) -> None:
        from quarterdeck.cli.printing import table
        from quarterstore.records.features import ListTrainingSets

        found = context.client.ask(ListTrainingSets(limit=limit))
        if context.json:
            context.out(found)
            return
        rows = [
            {
                "at": each.at,
                "set": each.id,
                "rows": each.rows,
                "views": ", ".join(view.view for view in each.views),
                "read": f"as {each.reading.how}",
                "by": each.by,
            }
            for each in found
        ]
        table(rows)

    return run


def _load() -> click.Command:
    @click.option(
        "--known",
        type=click.Choice(["event", "now", "column"]),
        help="when the rows were known: at their event time, now, or as their created_time says",
    )
    @click.argument("file", type=click.Path(path_type=Path))
    @click.argument("view")
    @command("load", "Rows of a view, CSV or Parquet: all of them, or none and the row that is wrong.")
    def run(context: Context, view: str, file: Path, known: Any) -> None:
        from quarterdeck.cli import features

        context.out(features.loaded(context, view, file, known))

    return run


def _get() -> click.Command:
    @click.option("--entities", required=True, type=click.Path(path_type=Path), help="keys and a time, CSV or Parquet")
    @click.option(
        "--view", "--views", "views", required=True, multiple=True, help="VIEW, or VIEW:FEATURE; more than once"
    )
    @click.option("--time", default="event_time", help="the column of the entities that says when")
    @click.option("--as-known", "how", flag_value="known", default="known", help="what was written by each row's time")
    @click.option("--as-corrected", "how", flag_value="corrected", help="with what was written later")
    @click.option("--as-known-at", help="only what was written by then: ISO 8601")
    @click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="the Parquet file to write")
    @click.option("--overwrite", is_flag=True)
    @command("get", "A training set: each row of the entities with the features that were known at its time.")
    def run(
        context: Context,
        entities: Path,
        views: tuple[str, ...],
        time: str,
        how: Any,
        as_known_at: str | None,
        output: Path,
        overwrite: bool,
    ) -> None:
        from quarterdeck.cli import features
        from quarterdeck.cli.feature_files import moment
        from quarterstore.records.features import Reading

        at = None if as_known_at is None else moment("as-known-at", as_known_at)
        reading = Reading(how=how, known_at=at)
        found = features.joined(context, entities, views, output, overwrite, time, reading)
        if context.json:
            context.out(found)

    return run
