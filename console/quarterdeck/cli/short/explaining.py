"""Why one came out otherwise than another: runs side by side, what differs between two, lineage up and down."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from quarterdeck.cli.context import Context
from quarterdeck.cli.short.making import Made, command

if TYPE_CHECKING:
    from quarterstore.records.runs import Comparison

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
        if context.json:
            context.out(comparison)
        elif not comparison.rows:
            context.say("no difference")
        else:
            _differences(comparison)

    return run


def lineage() -> click.Command:
    @click.option("--up", is_flag=True, help="only what it came from")
    @click.option("--down", is_flag=True, help="only what came of it")
    @click.argument("version")
    @command("lineage", "What a version came from and what came of it; of data:HASH every model it reached.")
    def run(context: Context, version: str, up: bool, down: bool) -> None:
        from quarterdeck.cli.printing import table
        from quarterstore.records.predictions import CountPredictions
        from quarterstore.records.registry import ShowLineage

        found = context.client.ask(ShowLineage(version=version))
        rows = [("up", *row) for row in found.up] if up or not down else []
        if down or not up:
            for kind, id_, words in found.down:
                if kind == "deployment":
                    counts = context.client.ask(CountPredictions(endpoint=id_)).versions
                    words += f", {counts.get(found.version, 0)} predictions kept"
                rows.append(("down", kind, id_, words))
        named = [dict(zip(("side", "kind", "id", "words"), row, strict=True)) for row in rows]
        if context.json:
            context.out(found)
        elif named:
            table(named, ("side", "kind", "id", "words"))
        else:
            context.say("nothing")

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

    return {
        "show": one("show", "ShowVersion", "One version."),
        "rm": one("rm", "RemoveVersion", "Take a version out of sight; qd undo brings it back."),
        "restore": one("restore", "RestoreVersion", "Bring a removed version back, byte-equal."),
    }


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
