"""Why one came out otherwise than another: runs side by side, what differs between two, lineage up and down."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from quarterdeck.cli.context import Context
from quarterdeck.cli.short.making import Made, command
from quarterdeck.cli.short.rows import with_rows

if TYPE_CHECKING:
    from quarterstore.records.registry import Model, Version
    from quarterstore.records.runs import Comparison
    from quarterstore.records.version_diffs import VersionDiff

SIDE_BY_SIDE = 6
"""Runs up to which each is a column; more are rows, and what differs the columns."""
PATCH_LINES = 60
"""Lines of the difference of two patches that a person is shown."""


def compare() -> click.Command:
    @click.option("--all", "all_", is_flag=True, help="what is equal too")
    @click.option("--where", default="", help="the runs that an expression holds of, as for qd runs")
    @click.option("--sort", default="-started", help="with --where: which come first")
    @click.option("--top", default=20, help="with --where: how many, up to 200")
    @click.argument("runs", nargs=-1)
    @command("compare", "Runs side by side, params and metrics in one table: what differs.")
    def run(context: Context, runs: tuple[str, ...], all_: bool, where: str, sort: str, top: int) -> None:
        from quarterstore.records.faults import got
        from quarterstore.records.runs import CompareRuns
        from quarterstore.records.search import SearchRuns

        if not runs:
            if not where:
                raise got("runs", "none", "runs, or an expression: --where 'acc > 0.9'")
            order = tuple(column.strip() for column in sort.split(","))
            runs = tuple(each.id for each in context.client.ask(SearchRuns(where=where, order=order, limit=top)).runs)
            context.say(f"{len(runs)} runs")
        comparison = context.client.ask(CompareRuns(runs=_runs_of(context, runs), all=all_))
        if context.json:
            context.out(comparison)
        elif not comparison.rows:
            context.say("no difference")
        else:
            shown = tuple(text if "@" in text else id_ for text, id_ in zip(runs, comparison.runs, strict=True))
            (_as_columns if len(shown) <= SIDE_BY_SIDE else _as_rows)(comparison, shown)

    return run


def diff() -> click.Command:
    @click.argument("after")
    @click.argument("before")
    @command("diff", "What differs between two runs or versions: params, code, data, packages, seed, metrics.")
    def run(context: Context, before: str, after: str) -> None:
        from quarterstore.records.runs import CompareRuns

        comparison = context.client.ask(CompareRuns(runs=_runs_of(context, (before, after))))
        if not comparison.rows and not context.json:
            context.say("no difference")
            return
        comparison = with_rows(context, comparison)
        if context.json:
            context.out(comparison)
        else:
            _differences(comparison)

    return run


def lineage() -> click.Command:
    @click.option("--up", is_flag=True, help="only what it came from")
    @click.option("--down", is_flag=True, help="only what came of it")
    @click.argument("version")
    @command("lineage", "What a version came from and what came of it; of data:HASH every model it reached.")
    def run(context: Context, version: str, up: bool, down: bool) -> None:
        from msgspec.structs import replace

        from quarterdeck.branches import branches, counted, endpoints
        from quarterdeck.cli.printing import shown
        from quarterstore.records.predictions import CountPredictions
        from quarterstore.records.registry import ShowLineage

        found = context.client.ask(ShowLineage(version=version))
        if up != down:
            found = replace(found, up=found.up if up else (), down=found.down if down else ())
        ask = context.client.ask
        found = counted(found, {each: ask(CountPredictions(endpoint=each)).versions for each in endpoints(found)})
        if context.json:
            context.out(found)
            return
        for guides, node in branches(found):
            words = found.version if node is None else f"{node.kind} {node.id}  {node.words}"
            print(guides + shown("line", words, 400))
        if not found.up and not found.down:
            context.say("nothing came of it" if down and not up else "nothing is known of it but itself")

    return run


def version_group() -> dict[str, Made]:
    def one(word: str, message: str, words: str) -> Made:
        def made() -> click.Command:
            @click.argument("version")
            @command(word, words)
            def run(context: Context, version: str) -> None:
                from quarterstore.records import registry

                context.out(context.client.ask(getattr(registry, message)(version=version)))

            return run

        return made

    def differ() -> click.Command:
        @click.argument("after")
        @click.argument("before")
        @command("diff", "What differs between two versions: signature, why the semantic version moved, metrics.")
        def run(context: Context, before: str, after: str) -> None:
            from quarterstore.records.registry import DiffVersions

            found = context.client.ask(DiffVersions(after=after, before=before))
            if context.json:
                context.out(found)
            else:
                _versions(context, found)

        return run

    return {
        "show": one("show", "ShowVersion", "One version."),
        "get": _get,
        "diff": differ,
        "rm": one("rm", "RemoveVersion", "Take a version out of sight; qd undo brings it back."),
        "restore": one("restore", "RestoreVersion", "Bring a removed version back, byte-equal."),
    }


def _get() -> click.Command:
    @click.argument("file", type=click.Path(path_type=Path))
    @click.argument("version")
    @command("get", "Fetch a version's file; what arrives is checked against its hash.")
    def run(context: Context, version: str, file: Path) -> None:
        from quarterstore.records.faults import Conflict, Refused
        from quarterstore.records.registry import ShowVersion

        found = context.client.ask(ShowVersion(version=version))
        if not found.digest:
            raise Refused(f"{found.id} is kept by reference: {found.source[:200]}", field="version")
        if file.exists():
            raise Conflict(f"{file} is there already", field="file")
        size = context.client.get(found.digest, file)
        if found.allow_code:
            context.say(f"it runs code when it is loaded: {', '.join(found.code) or 'a pickle that names nothing'}")
        context.say(f"{size:,} bytes of {found.format} in {file}")
        context.out(found)

    return run


def model_group() -> dict[str, Made]:
    def show() -> click.Command:
        @click.argument("model")
        @command("show", "One model and its versions, newest first.")
        def run(context: Context, model: str) -> None:
            from quarterstore.records.models import ShowModel
            from quarterstore.records.registry import ListVersions

            found = context.client.ask(ShowModel(model=model))
            context.out(found)
            if not context.json and found.removed is None and found.latest:
                from quarterdeck.cli.printing import plain, table

                print()
                versions = context.client.ask(ListVersions(model=found.name))
                rejected = ("rejected",) if any(each.rejected for each in versions) else ()
                rows = [{**plain(each), "production": _where(found, each)} for each in versions]
                table(rows, (*VERSION_COLUMNS, *rejected))

        return run

    return {"show": show}


def _where(model: Model, version: Version) -> str | None:
    """The environments in whose Production a version is."""
    return ", ".join(name for name, at in sorted(model.production.items()) if at == version.number) or None


VERSION_COLUMNS = ("id", "semver", "stage", "production", "format", "size", "run", "created_by", "created", "reason")


def _versions(context: Context, found: VersionDiff) -> None:
    """What differs, a line each; what that asks of the semantic version is talk."""
    from msgspec import to_builtins

    from quarterdeck.cli.printing import table

    (before, after), bump = found.semvers, found.bump or "nothing"
    context.say(f"{found.before} {before} -> {found.after} {after}: the signatures ask for {bump}")
    context.say(f"{found.after} is {after} because of {found.reason}")
    rows = [to_builtins(each) for each in found.changes]
    for pair in found.metrics:
        rows.append(
            {
                "part": "metric",
                "name": pair.name,
                "change": _delta(pair.before, pair.after),
                "before": pair.before,
                "after": pair.after,
            }
        )
    if not found.changes:
        context.say("the same signature")
    if rows:
        table(rows, ("part", "name", "change", "before", "after", "bump"))


def _runs_of(context: Context, texts: tuple[str, ...]) -> tuple[str, ...]:
    """A version stands for the run it came from."""
    from quarterstore.records.registry import ShowVersion

    return tuple(context.client.ask(ShowVersion(version=text)).run or text if "@" in text else text for text in texts)


def _as_columns(comparison: Comparison, runs: tuple[str, ...]) -> None:
    from quarterdeck.cli.printing import table

    rows = [
        {"where": row.where, "name": row.name, **{str(index): _short(value) for index, value in enumerate(row.values)}}
        for row in comparison.rows
    ]
    headings = {str(index): run for index, run in enumerate(runs)}
    table(rows, ("where", "name", *headings), headings)


def _as_rows(comparison: Comparison, runs: tuple[str, ...]) -> None:
    from quarterdeck.cli.printing import table

    names = [f"{row.where}.{row.name}" for row in comparison.rows]
    rows = [
        {"run": run, **{name: _short(row.values[index]) for name, row in zip(names, comparison.rows, strict=True)}}
        for index, run in enumerate(runs)
    ]
    table(rows, ("run", *names))


def _differences(comparison: Comparison) -> None:
    """A line each, numbers with their difference; two patches as the difference between them."""
    import difflib

    from quarterdeck.cli.printing import table
    from quarterstore.records.names import drawn

    rows = []
    patch: list[str] = []
    for row in comparison.rows:
        before, after = row.values
        if (row.where, row.name) == ("source", "patch"):
            old, new = (str(value or "").splitlines() for value in row.values)
            patch = list(difflib.unified_diff(old, new, comparison.runs[0], comparison.runs[1], lineterm="", n=1))
        rows.append(
            {
                "where": row.where,
                "name": row.name,
                "before": _short(before),
                "after": _short(after),
                "difference": _delta(before, after),
            }
        )
    table(rows, ("where", "name", "before", "after", "difference"))
    for line in patch[:PATCH_LINES]:
        print(drawn(line.expandtabs(4)))
    if len(patch) > PATCH_LINES:
        print(f"and {len(patch) - PATCH_LINES} lines more (--json has them)")


def _short(value: Any) -> Any:
    """A text of many lines by their number."""
    if isinstance(value, str) and "\n" in value:
        return f"{len(value.splitlines())} lines"
    return value


def _delta(before: Any, after: Any) -> str:
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in (before, after))
    return f"{after - before:+.6g}" if numbers else ""
