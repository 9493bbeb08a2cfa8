"""What runs and what ran: the daemon, its runs, two of them side by side."""

from __future__ import annotations

import sys
from typing import Any

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
    @click.option("--experiment")
    @click.option("--state")
    @click.option("--text", default="", help="in id, name or experiment")
    @click.option("--sort", default="-started", help="a field, metrics.NAME or params.NAME; - for descending")
    @click.option("--limit", default=50)
    @command("runs", "Runs, newest first.")
    def run(context: Context, **query: Any) -> None:
        from quarterdeck.cli.generated import message_of
        from quarterstore.records.runs import ListRuns

        page = context.client.ask(
            message_of(ListRuns, {name: value for name, value in query.items() if value is not None})
        )
        context.out(page.runs, ("id", "experiment", "name", "state", "started", "metrics"))
        context.say(f"{len(page.runs)} of {page.total}")

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


def compare(name: str = "compare") -> click.Command:
    @click.option("--all", "all_", is_flag=True, help="what is equal too")
    @click.argument("runs", nargs=-1, required=True)
    @command(name, "Runs, or two versions, side by side: what differs.")
    def run(context: Context, runs: tuple[str, ...], all_: bool) -> None:
        from quarterstore.records.registry import ShowVersion
        from quarterstore.records.runs import CompareRuns

        found = [context.client.ask(ShowVersion(version=text)).run or text if "@" in text else text for text in runs]
        comparison = context.client.ask(CompareRuns(runs=tuple(found), all=all_))
        if context.json:
            context.out(comparison)
            return
        if not comparison.rows:
            context.say("no difference")
        from quarterdeck.cli.printing import table

        table(
            [
                {"where": row.where, "name": row.name, **{str(i): v for i, v in enumerate(row.values)}}
                for row in comparison.rows
            ],
            ("where", "name", *(str(index) for index in range(len(found)))),
        )

    return run
