"""What runs and what ran: the daemon and its runs."""

from __future__ import annotations

import sys

import click

from quarterdeck.cli.context import Context
from quarterdeck.cli.short.making import Made, command


def status() -> click.Command:
    @command("status", "The daemon in one record.")
    def run(context: Context) -> None:
        context.out(context.client.status())

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
    @click.option("--sort", default="-started", help="columns, separated by commas; - before one for descending")
    @click.option("--limit", default=50)
    @click.option("--after", help="the key that the page before ended with")
    @command("runs", "Runs by an expression, newest first.")
    def run(context: Context, sort: str, limit: int, after: str | None, experiment: str | None, **parts: str) -> None:
        from quarterdeck.finding import expression
        from quarterstore.records.search import SearchRuns

        page = context.client.ask(
            SearchRuns(
                experiments=(experiment,) if experiment else (),
                where=expression(**parts),
                order=tuple(column.strip() for column in sort.split(",")),
                limit=limit,
                after=after,
            )
        )
        context.out(page.runs, ("id", "experiment", "name", "state", "started", "metrics"))
        more = f"; the next page: --after {page.next}" if page.next else ""
        context.say(f"{len(page.runs)} of {page.total}{more}")

    return run


def run_group() -> dict[str, Made]:
    def show() -> click.Command:
        @click.argument("run")
        @command("show", "One run.")
        def run(context: Context, run: str) -> None:
            from quarterstore.records.runs import ShowRun

            context.out(context.client.ask(ShowRun(run=run)))

        return run

    def rm() -> click.Command:
        @click.argument("run")
        @command("rm", "Take a run out of sight; qd undo brings it back.")
        def run(context: Context, run: str) -> None:
            from quarterstore.records.runs import RemoveRun

            context.out(context.client.ask(RemoveRun(run=run)))

        return run

    return {"show": show, "rm": rm}
