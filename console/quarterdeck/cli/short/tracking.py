"""What runs and what ran: the daemon and its runs."""

from __future__ import annotations

import shlex
import sys
from typing import Any

import click

from quarterdeck.cli.context import Context
from quarterdeck.cli.short.making import Made, command
from quarterdeck.cli.short.repeating import repro
from quarterdeck.cli.short.showing import purged_words, show_run, show_tree


def status() -> click.Command:
    @click.option("--all", "all_", is_flag=True, help="every counter, and what is kept of samples")
    @command("status", "The daemon: whether it is well, what waits for you, what there is.")
    def run(context: Context, all_: bool) -> None:
        found = context.client.status()
        if context.json or all_:
            context.out(found)
            return
        from quarterdeck.cli import brief
        from quarterdeck.cli.printing import lines

        lines(brief.status(found))

    return run


def doctor() -> click.Command:
    @command("doctor", "What is wrong, and what to do about it; exit 1 when something is.")
    def run(context: Context) -> None:
        from quarterstore.records.store import Diagnose

        findings = context.client.ask(Diagnose())
        context.out(findings, ("ok", "name", "words", "next"))
        if not all(finding.ok for finding in findings):
            sys.exit(1)

    return run


def runs() -> click.Command:
    @click.option("--where", default="", help="as in: acc > 0.9 or (lr < 1e-3 and team = 'x')")
    @click.option("--experiment")
    @click.option("--state")
    @click.option("--text", default="", help="in id, name or experiment")
    @click.option("--sort", help="columns, separated by commas; - before one for descending; -started unless given")
    @click.option("--limit", default=50)
    @click.option("--after", help="the key that the page before ended with")
    @click.option("--backward", is_flag=True, help="from the end; with --after the page that ends before that key")
    @click.option("--tree", is_flag=True, help="nested runs below their parents")
    @click.option("--save", help="keep this search under a name")
    @click.option("--saved", help="the search that was kept under a name; with --where both must hold")
    @command("runs", "Runs by an expression, newest first; qd search list shows the searches that were kept.")
    def run(context: Context, save: str | None, tree: bool, **given: Any) -> None:
        import msgspec

        from quarterstore.records.search import RunTree, SaveSearch

        paged = {name: given.pop(name) for name in ("limit", "after", "backward")}
        wanted = _wanted(context, **given)
        if save is not None:
            kept = SaveSearch(name=save, where=wanted.where, order=wanted.order, experiments=wanted.experiments)
            context.client.ask(kept)
            context.say(f"kept as {save}; again with: qd runs --saved {shlex.quote(save)}")
        page = context.client.ask(msgspec.structs.replace(wanted, **paged))
        if tree:
            nested = RunTree(runs=tuple(each.id for each in page.runs))
            show_tree(context, context.client.ask(nested) if page.runs else [])
        else:
            context.out(page.runs, ("id", "experiment", "name", "state", "started", "metrics"))
        context.say(f"{len(page.runs)} of {page.total}{_beyond(page, paged['backward'])}")

    return run


def _beyond(page: Any, backward: bool) -> str:
    """How to ask for what lies beyond a page, the way it was come to."""
    key = page.previous if backward else page.next
    way = "the page before: --backward" if backward else "the next page:"
    return f"; {way} --after {key}" if key else ""


def _wanted(context: Context, *, saved: str | None, sort: str | None, experiment: str | None, **parts: Any) -> Any:
    """What to search for, with what was kept under a name where one is given."""
    from quarterdeck.finding import expression
    from quarterstore.records.search import SearchRuns, ShowSearch

    where = expression(**parts)
    order = tuple(column.strip() for column in sort.split(",")) if sort else ()
    experiments: tuple[str, ...] = (experiment,) if experiment else ()
    if saved is not None:
        found = context.client.ask(ShowSearch(name=saved))
        where = " and ".join(f"({each})" for each in (found.where, where) if each.strip())
        order, experiments = order or found.order, experiments or found.experiments
    return SearchRuns(where=where, order=order, experiments=experiments)


def show() -> click.Command:
    @click.option("--points", is_flag=True, help="every point of every metric too, in order")
    @click.argument("run")
    @command("show", "One run: what it was given, what came out, its images, the runs nested in it.")
    def run(context: Context, run: str, points: bool) -> None:
        from quarterstore.records.runs import MetricHistory, ShowRun
        from quarterstore.records.search import RunTree

        found = context.client.ask(ShowRun(run=run))
        curves = context.client.ask(MetricHistory(run=found.id, points=0)) if points else []
        if context.json:
            for each in [found, *curves]:
                context.out(each)
            return
        show_run(found)
        if points:
            print()
            context.out(curves)
        branches = context.client.ask(RunTree(runs=(found.id,), below=True))
        if len(branches) > 1:
            print()
            show_tree(context, branches)

    return run


def rm() -> click.Command:
    @click.argument("run")
    @command("rm", "Take a run out of sight; qd undo brings it back.")
    def run(context: Context, run: str) -> None:
        from quarterstore.records.runs import RemoveRun

        context.out(context.client.ask(RemoveRun(run=run)))

    return run


def history() -> click.Command:
    @click.option("--key", "keys", multiple=True, help="only this metric, several times for several")
    @click.option("--points", default=1000, help="at most so many a curve; 0 gives all")
    @click.argument("run")
    @command("history", "The points of a run, a row each, and whether some were purged.")
    def run(context: Context, run: str, keys: tuple[str, ...], points: int) -> None:
        from quarterdeck.cli.printing import table
        from quarterstore.records.runs import MetricHistory, ShowRun

        found = context.client.ask(ShowRun(run=run))
        curves = context.client.ask(MetricHistory(run=found.id, keys=keys, points=points))
        if (words := purged_words(found)) is not None:
            context.say(words)
        if context.json:
            context.out(curves)
            return
        table(
            [
                {"key": curve.key, "step": step, "at": at, "value": value}
                for curve in curves
                for step, at, value in zip(curve.steps, curve.times, curve.values, strict=True)
            ],
            ("key", "step", "at", "value"),
        )

    return run


def run_group() -> dict[str, Made]:
    return {"show": show, "history": history, "rm": rm, "repro": repro}
