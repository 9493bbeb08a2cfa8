"""`qd features compact | rebuild | forget | forgettings`: what is done to the rows that are kept."""

from __future__ import annotations

import click

from quarterdeck.cli.context import Context
from quarterdeck.cli.short.making import Made, command


def commands() -> dict[str, Made]:
    return {"compact": _compact, "rebuild": _rebuild, "forget": _forget, "forgettings": _forgettings}


def _compact() -> click.Command:
    @click.argument("view")
    @command("compact", "Few files of the many of a view, by year or month; what is read of it stays the same.")
    def run(context: Context, view: str) -> None:
        from quarterdeck.cli.waiting import to_the_end
        from quarterstore.records.feature_files import CompactView

        job = to_the_end(context, context.client.ask(CompactView(view=view)))
        context.out(job)

    return run


def _rebuild() -> click.Command:
    @click.argument("set", metavar="SET")
    @command("rebuild", "Make a training set again from what is kept, and compare the hash; exit 5 where it differs.")
    def run(context: Context, set: str) -> None:
        from quarterdeck.cli import feature_files

        context.out(feature_files.rebuilt(context, set))

    return run


def _forget() -> click.Command:
    @click.option("--reason", required=True, help="why: it is in the audit trail, the entity is not")
    @click.argument("entity", nargs=-1, required=True, metavar="KEY=VALUE...")
    @command("forget", "Take every row of an entity out of all views with this key; it cannot be undone.")
    def run(context: Context, entity: tuple[str, ...], reason: str) -> None:
        from quarterdeck.cli import feature_files

        found = feature_files.forgotten(context, feature_files.keys_of(context, entity), reason)
        if context.json:
            context.out(found)
            return
        context.say(f"{found.rows:,} rows are gone from {', '.join(found.views)} ({found.id})")
        for kind, names in (("training set", found.sets), ("version", found.versions)):
            for name in names:
                context.say(f"{kind} {name} holds it still")

    return run


def _forgettings() -> click.Command:
    @click.option("--limit", default=20)
    @command("forgettings", "What was forgotten, newest first, and which sets and versions hold it still.")
    def run(context: Context, limit: int) -> None:
        from quarterstore.records.feature_files import ListForgettings

        context.out(context.client.ask(ListForgettings(limit=limit)))

    return run
