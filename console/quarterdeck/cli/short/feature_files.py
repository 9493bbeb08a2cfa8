"""`qd features compact | rebuild | forget | stats`: what is done to the rows that are kept, and how they are."""

from __future__ import annotations

import click

from quarterdeck.cli.context import Context
from quarterdeck.cli.short.making import Made, command

STATS = ("name", "rows", "nulls", "distinct", "lowest", "highest", "mean", "effect", "verdict", "note")


def commands() -> dict[str, Made]:
    return {
        "compact": _compact,
        "rebuild": _rebuild,
        "forget": _forget,
        "forgettings": _forgettings,
        "stats": _stats,
        "parity": _parity,
    }


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


def _stats() -> click.Command:
    @click.option("--against", help="MODEL@VERSION; the newest that was trained on the view unless said")
    @click.option("--until", help="and before then")
    @click.option("--since", help="rows of event times from then on: ISO 8601")
    @click.argument("view")
    @command("stats", "Nulls, different values, range, and how far they are from what a version was trained on.")
    def run(context: Context, view: str, since: str | None, until: str | None, against: str | None) -> None:
        from quarterdeck.cli import feature_files
        from quarterdeck.cli.printing import table
        from quarterstore.records.wire import plain

        found = feature_files.measured(context, view, against, since, until)
        if context.json:
            context.out(found)
            return
        table([plain(each) for each in found.features], STATS if found.against else STATS[:7])
        context.say(f"{found.view} against {found.against}: {found.words}" if found.against else found.words)

    return run


def _parity() -> click.Command:
    @click.option("--sample", default=1000, help="entities that are read both ways")
    @click.argument("view")
    @command("parity", "Whether what is read online is what is kept offline; exit 1 with the first five that differ.")
    def run(context: Context, view: str, sample: int) -> None:
        from quarterdeck.cli import feature_files
        from quarterdeck.cli.printing import table
        from quarterstore.records.faults import Failed

        found = feature_files.compared(context, view, sample)
        if context.json:
            context.out(found)
        elif found.mismatches:
            table([row for each in found.shown for row in feature_files.differing(each)])
        else:
            context.say(found.words)
        if found.mismatches:
            raise Failed(found.words, field=found.view)

    return run


def _forgettings() -> click.Command:
    @click.option("--limit", default=20)
    @command("forgettings", "What was forgotten, newest first, and which sets and versions hold it still.")
    def run(context: Context, limit: int) -> None:
        from quarterstore.records.feature_files import ListForgettings

        context.out(context.client.ask(ListForgettings(limit=limit)))

    return run
