"""The steps of a pipeline run for people: a line each as they end, and a table of them."""

from __future__ import annotations

import time
from typing import Any

from quarterdeck.cli.context import Context
from quarterdeck.cli.printing import lines, say, table
from quarterstore.records.pipelines import CACHED, PipelineLog, PipelineRun, ShowPipelineRun, Step

OVER = ("DONE", "FAILED", "LOST", "SKIPPED", "ASKING")
ENDED_BADLY = ("FAILED", "LOST", "CANCELLED")
"""Runs that can be gone on with."""
FOLLOW_EVERY = 0.5


class Told:
    """Says each step once it is over, on stderr."""

    def __init__(self) -> None:
        self._known: dict[str, str] = {}

    def tell(self, run: PipelineRun) -> None:
        """Say what came of steps since the last time, none before those that it needed: they are noted side by side,
        and the files of a short step may be kept before those of a long one."""
        open_ones = {step.name for step in run.steps if step.state not in OVER}
        for step in run.steps:
            line = "" if step.state in OVER and open_ones.intersection(step.after) else _line(step)
            if line and self._known.get(step.name) != line:
                self._known[step.name] = line
                say(line)


def _line(step: Step) -> str:
    if step.state in OVER or (step.state == "WAITING" and step.words):
        return f"{step.name}: {step.state.lower()}{took(step, ', ')}  {step.words}".rstrip()
    return ""


def took(step: Step, before: str = "") -> str:
    """How long a step took, where it was done here."""
    if step.started is None or step.ended is None or step.how:
        return ""
    return f"{before}{step.ended - step.started:.2f} s"


def goes_on(run: PipelineRun) -> str | None:
    """The command that goes on with a run that did not end well; none of any other."""
    return f"once it is mended: qd pipeline resume {run.id}" if run.state in ENDED_BADLY else None


def show(context: Context, run: PipelineRun) -> None:
    """A run: what it is bound to, then its steps. As JSON the record."""
    if context.json:
        context.out(run)
        return
    lines(_facts(run))
    print()
    rows = [_row(step) for step in run.steps]
    # what no step has leaves its room to the words, of which a terminal of 80 columns has little
    table(rows, [name for name in rows[0] if name in ("step", "state", "words") or any(r[name] != "-" for r in rows)])
    for step in run.steps:
        if step.state == "ASKING":
            _evidence(step)


def _facts(run: PipelineRun) -> dict[str, Any]:
    """What a run is bound to."""
    return {
        "id": run.id,
        "pipeline": run.pipeline,
        "state": run.state,
        "version": run.version,
        "error": run.error,
        "next": goes_on(run),
        "cause": run.cause,
        "definition": run.digest,
        "code": run.code or "none of the user's own",
        "sources": ", ".join(f"{name} {digest[:16]}" for name, digest in run.sources.items()),
        "cached": f"{sum(step.how == 'cached' for step in run.steps)} of {len(run.steps)} steps",
        "job": run.job,
        "run": run.run,
    }


def _row(step: Step) -> dict[str, str]:
    """A step on a line; `-` where it has none."""
    return {
        "step": step.name,
        "state": step.state,
        "how": step.how or "-",
        "took": took(step) or "-",
        "tries": str(step.attempts) if step.attempts else "-",
        "after": ", ".join(step.after) or "-",
        "key": step.key[:12] or "-",
        "words": _found(step),
    }


def _found(step: Step) -> str:
    """What came of a step; how it came by it stands under `how`."""
    return step.words.removeprefix(f"{CACHED}; ").removeprefix("reused; ")


def _evidence(step: Step) -> None:
    """What a person is asked, till when, and what there is to go by."""
    print()
    lines(
        {
            "asks": f"{step.name}: {step.words}",
            "until": step.figures.get("until"),
            "evidence": step.figures.get("evidence", {}),
            "files": step.figures.get("files", {}),
        }
    )


def follow_log(context: Context, run: str, step: str | None, most: int, follow: bool) -> None:
    """The last lines of the steps' logs; with `follow` what comes until the run is over."""
    asked = PipelineLog(pipeline_run=run, step=step, lines=10_000 if follow else most)
    found: list[str] = context.client.ask(asked)
    context.out(found[-most:])
    while follow:
        over = context.client.ask(ShowPipelineRun(pipeline_run=run)).state not in ("QUEUED", "RUNNING")
        now: list[str] = context.client.ask(asked)
        context.out(now[len(found) :])
        found = now
        if over:
            return
        time.sleep(FOLLOW_EVERY)
