"""A run done again, and what came out otherwise: within the tolerance that was declared, or exit 1."""

from __future__ import annotations

import os
import shlex
import sys
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

import click

from quarterdeck.cli.context import Context
from quarterdeck.cli.short.making import command

if TYPE_CHECKING:
    from quarterdeck.repro import Workplace
    from quarterdeck.tolerance import Reproduction, Tolerance
    from quarterstore.records.runs import Difference, Run

ENDING = 10.0
"""Seconds that a command has to close its run after ctrl-C."""
CANDIDATES = 1000


def repro() -> click.Command:
    @click.option("--tolerance", multiple=True, help="METRIC=0.01, METRIC=1%, or one for all of them; 0 unless given")
    @click.option("--trust", is_flag=True, help="do the command of somebody else's run, or of another machine's")
    @click.option("--dry-run", is_flag=True, help="say what would be done; nothing is run")
    @click.argument("run")
    @command("repro", "Do a run again from its record and compare; exit 1 when a metric is outside its tolerance.")
    def run(context: Context, run: str, tolerance: tuple[str, ...], trust: bool, dry_run: bool) -> None:
        from quarterdeck.repro import workplace
        from quarterdeck.tolerance import tolerances_of
        from quarterstore.records.runs import ShowRun

        former = context.client.ask(ShowRun(run=run))
        tolerances = tolerances_of(tolerance, former.metrics)
        _check_origin(context, former, trust or dry_run)
        with workplace(context.client, former) as place:
            for note in place.notes:
                context.say(note)
            context.say(f"{'would run' if dry_run else 'running'}: {shlex.join(place.words)}")
            if dry_run:
                return
            again = _again(context, former, place)
            answer = _compared(context, former, again, place.notes, tolerances)
        _print(context, answer)
        if not answer.within:
            sys.exit(1)

    return run


def _check_origin(context: Context, former: Run, trust: bool) -> None:
    """A recorded command is somebody's code: only one's own, of this machine, is done without being told twice."""
    import platform

    from quarterstore.records.faults import Refused
    from quarterstore.records.people import WhoAmI

    if trust:
        return
    asks = context.client.ask(WhoAmI()).person
    look = f"look at it with: qd run show {former.id}; then do it with --trust"
    if former.actor != asks:
        raise Refused(f"{former.id} is a run of {former.actor}, not of {asks}", field="trust", next=look)
    if former.source.host != platform.node():
        raise Refused(f"{former.id} ran on {former.source.host}", field="trust", next=look)


def _again(context: Context, former: Run, place: Workplace) -> Run:
    """Run the command and find the run that it opened. Raises `Failed` when it fails or opens none."""
    import subprocess

    from quarterdeck.live_run import AGAIN_OF
    from quarterstore.records.faults import Failed

    environ = {**os.environ, AGAIN_OF: former.id, "QUARTERDECK_HOME": str(context.client.home.root)}
    environ["QUARTERDECK_AS"] = context.client.caller
    began = time.time()
    # what it prints is talk: stdout is kept for the comparison
    process = subprocess.Popen(place.words, cwd=place.folder, env=environ, stdin=subprocess.DEVNULL, stdout=2)
    try:
        code = process.wait()
    except KeyboardInterrupt:
        process.wait(ENDING)
        raise
    found = _opened(context, former, began)
    if code != 0:
        named = f"; its run is {found.id}, {found.state}" if found else ""
        raise Failed(f"the command ended with {code}{named}", field="repro")
    if found is None:
        raise Failed(f"the command opened no run in {former.experiment}", field="repro")
    return found


def _opened(context: Context, former: Run, began: float) -> Run | None:
    """The run that the command opened in place of the former one: of several the one most like it."""
    from quarterdeck.live_run import REPRODUCES
    from quarterstore.records.search import SearchRuns

    query = SearchRuns(
        experiments=(former.experiment,), where=f"started >= {began:.6f}", order=("started",), limit=CANDIDATES
    )
    found = [
        run
        for run in context.client.ask(query).runs
        if run.tags.get(REPRODUCES) == former.id and (run.parent is None) == (former.parent is None)
    ]
    return min(found, key=lambda run: (run.params != former.params, run.name != former.name), default=None)


def _compared(
    context: Context, former: Run, again: Run, notes: list[str], tolerances: dict[str, Tolerance]
) -> Reproduction:
    from quarterdeck.tolerance import EVERY, EXACT, MetricAgain, Reproduction
    from quarterstore.records.runs import CompareRuns

    rows = context.client.ask(CompareRuns(runs=(former.id, again.id))).rows
    metrics = []
    for name, before in former.metrics.items():
        after = again.metrics.get(name)
        limit = tolerances.get(name) or tolerances.get(EVERY) or EXACT
        delta = None if after is None else after - before
        metrics.append(MetricAgain(name, before, after, delta, limit.words(), limit.holds(before, after)))
    return Reproduction(
        of=former.id,
        run=again.id,
        within=all(each.within for each in metrics),
        notes=tuple(notes),
        differences=tuple(_differences(former, rows)),
        metrics=tuple(metrics),
    )


PLACES = ("folder", "inside", "command", "packages")
"""What differs because it was done elsewhere, or is said package by package."""


def _differences(former: Run, rows: Iterable[Difference]) -> Iterable[tuple[str, str, str, str]]:
    for row in rows:
        before, after = (_short(value) for value in row.values)
        if row.where != "metric" and not (row.where == "source" and row.name in PLACES):
            yield row.where, row.name, before, after
    names = {row.name: row for row in rows if row.where == "source"}
    if "packages" in names and not any(row.where == "package" for row in rows):
        yield "source", "packages", "a list that is not kept here", "another list"
    if former.source.seed is None:
        yield "source", "seed", "none was recorded", "-"


def _short(value: object) -> str:
    text = "-" if value is None else str(value)
    return f"{len(text.splitlines())} lines" if "\n" in text else text


def _print(context: Context, answer: Reproduction) -> None:
    from quarterdeck.cli.printing import plain, table

    if context.json:
        context.out(answer)
        return
    fields = plain(answer)
    print(f"{answer.run} does {answer.of} again")
    if answer.differences:
        table(
            [dict(zip(("where", "name", "before", "after"), each, strict=True)) for each in fields["differences"]],
            ("where", "name", "before", "after"),
        )
    if answer.metrics:
        table(
            [{**each, "within": "yes" if each["within"] else "NO"} for each in fields["metrics"]],
            ("metric", "before", "after", "delta", "tolerance", "within"),
        )
    outside = [each.metric for each in answer.metrics if not each.within]
    context.say(f"outside the tolerance: {', '.join(outside)}" if outside else "within the tolerance")
