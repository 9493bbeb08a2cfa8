"""Pipelines by hand: run a file, look at a run and its logs, go on with it, answer it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import click

from quarterdeck.cli.context import Context
from quarterdeck.cli.short.making import Made, command

UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}


def pipeline_group() -> dict[str, Made]:
    return {
        "run": run_file,
        "resume": resume,
        "show": show,
        "logs": logs,
        "list": listed,
        "runs": runs,
        "cancel": cancel,
        "approve": approve,
        "reject": reject,
    }


def seconds(given: str) -> float:
    """`30s`, `2m` or a plain number as seconds."""
    from quarterstore.records.faults import got

    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", given.strip())
    if found is None:
        raise got("simulate-preempt", given, "seconds, as 30s or 2m")
    return float(found[1]) * UNITS[found[2]]


def _followed(context: Context, run: Any, wait: bool) -> None:
    from quarterdeck.cli.steps import show as shown
    from quarterdeck.cli.waiting import check_gate, to_the_end

    ended = to_the_end(context, run) if wait else run
    shown(context, ended)
    check_gate(ended)


def run_file() -> click.Command:
    @click.option("--wait/--no-wait", default=True)
    @click.option("--allow-leak", metavar="REASON", help="learn although both sides share something; it is kept")
    @click.option("--simulate-preempt", metavar="SECONDS", help="end a step once by SIGTERM, go on from its checkpoint")
    @click.argument("file", type=click.Path(path_type=Path))
    @command("run", "Run a pipeline definition in TOML, or a flow in Python.")
    def run(context: Context, file: Path, wait: bool, allow_leak: str | None, simulate_preempt: str | None) -> None:
        from quarterdeck.cli.definition import run_file as run_it

        preempt = seconds(simulate_preempt) if simulate_preempt is not None else None
        _followed(context, run_it(context, file, preempt, allow_leak), wait)

    return run


def resume() -> click.Command:
    @click.option("--wait/--no-wait", default=True)
    @click.option("--as-it-was", is_flag=True, help="with definition and code as they were, whatever the file says now")
    @click.argument("file", type=click.Path(path_type=Path), required=False)
    @click.argument("run")
    @command("resume", "Go on with a run at the step that failed; what was done before is reused.")
    def do(context: Context, run: str, file: Path | None, as_it_was: bool, wait: bool) -> None:
        from quarterdeck.cli.definition import resume as resume_it

        _followed(context, resume_it(context, run, file, as_it_was), wait)

    return do


def show() -> click.Command:
    @click.argument("run")
    @command("show", "A run with its steps: code, keys, cache hits, timings.")
    def do(context: Context, run: str) -> None:
        from quarterdeck.cli.steps import show as shown
        from quarterstore.records.pipelines import ShowPipelineRun

        shown(context, context.client.ask(ShowPipelineRun(pipeline_run=run)))

    return do


def logs() -> click.Command:
    @click.option("--lines", type=click.IntRange(min=1, max=10_000), default=200)
    @click.option("--follow", is_flag=True, help="until the run is over")
    @click.argument("step", required=False)
    @click.argument("run")
    @command("logs", "What the steps of a run wrote, or one of them.")
    def do(context: Context, run: str, step: str | None, lines: int, follow: bool) -> None:
        from quarterdeck.cli.steps import follow_log

        follow_log(context, run, step, lines, follow)

    return do


def listed() -> click.Command:
    @command("list", "Every kept definition.")
    def do(context: Context) -> None:
        from quarterstore.records.pipelines import ListPipelines

        context.out(context.client.ask(ListPipelines()), ("name", "digest", "updated"))

    return do


def runs() -> click.Command:
    @click.option("--limit", type=click.IntRange(min=1), default=50)
    @click.argument("pipeline", required=False)
    @command("runs", "Runs of pipelines, the newest first.")
    def do(context: Context, pipeline: str | None, limit: int) -> None:
        from quarterstore.records.pipelines import ListPipelineRuns

        found = context.client.ask(ListPipelineRuns(pipeline=pipeline, limit=limit))
        context.out(found, ("id", "pipeline", "state", "version", "created", "actor", "cause", "error"))

    return do


def cancel() -> click.Command:
    @click.option("--reason", default="")
    @click.argument("run")
    @command("cancel", "End a run; its step is stopped with all that it started.")
    def do(context: Context, run: str, reason: str) -> None:
        from quarterdeck.cli.steps import show as shown
        from quarterstore.records.pipelines import CancelPipeline

        shown(context, context.client.ask(CancelPipeline(pipeline_run=run, reason=reason)))

    return do


def approve() -> click.Command:
    @click.option("--note", default="")
    @click.option("--wait/--no-wait", default=False)
    @click.argument("run")
    @command("approve", "Say yes to the step that asks; the run goes on.")
    def do(context: Context, run: str, note: str, wait: bool) -> None:
        from quarterstore.records.pipelines import ApproveStep

        _followed(context, context.client.ask(ApproveStep(pipeline_run=run, note=note)), wait)

    return do


def reject() -> click.Command:
    @click.option("--note", default="")
    @click.argument("run")
    @command("reject", "Say no to the step that asks; the run ends there.")
    def do(context: Context, run: str, note: str) -> None:
        from quarterdeck.cli.steps import show as shown
        from quarterstore.records.pipelines import RejectStep

        shown(context, context.client.ask(RejectStep(pipeline_run=run, note=note)))

    return do
