"""`qd tune`: studies of parameters, from a TOML file to a registered version."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from quarterdeck.cli.context import Context
from quarterdeck.cli.short.making import Made, command, shown

if TYPE_CHECKING:
    from quarterstore.records.studies import Study, StudyResult, StudyTrial

STUDIES = ("id", "name", "state", "trials", "best", "honest", "created")


def tune_group() -> dict[str, Made]:
    return {
        "run": _run,
        "list": _list,
        "show": _show,
        "trials": _trials,
        "best": _best,
        "pareto": _pareto,
        "resume": _resume,
        "stop": _stop,
        "register": _register,
        "remove": _remove,
    }


def _run() -> click.Command:
    @click.option("--trials", type=int, help="trials in all")
    @click.option("--within", help="begin no trial after so long, such as 30m")
    @click.option("--workers", type=int, help="trials at once; with one the same study gives the same trials")
    @click.option("--wait/--no-wait", default=True)
    @click.argument("file", type=click.Path(path_type=Path))
    @command("run", "Search the space of a study in TOML, then score the best on rows that no trial saw.")
    def run(
        context: Context, file: Path, trials: int | None, within: str | None, workers: int | None, wait: bool
    ) -> None:
        from quarterdeck.cli.studying import start

        _followed(context, start(context, file, trials=trials, within=_span(within), workers=workers), wait)

    return run


def _resume() -> click.Command:
    @click.option("--trials", type=int, help="the new number in all")
    @click.option("--within", help="begin no trial after so long from now, such as 30m")
    @click.option("--workers", type=int, help="trials at once")
    @click.option("--wait/--no-wait", default=True)
    @click.argument("study")
    @command("resume", "Go on with a study: trials that ended are kept, those that were lost run again.")
    def run(
        context: Context, study: str, trials: int | None, within: str | None, workers: int | None, wait: bool
    ) -> None:
        from quarterstore.records.studies import ResumeStudy

        act = ResumeStudy(study=study, trials=trials, within=_span(within), workers=workers)
        _followed(context, context.client.ask(act), wait)

    return run


def _span(text: str | None) -> float | None:
    from quarterdeck.cli.spans import seconds

    return None if text is None else seconds("within", text)


def _followed(context: Context, study: Study, wait: bool) -> None:
    """Say the id at once, so that another terminal can look; then wait for the end."""
    from quarterdeck.cli.waiting import to_the_end

    workers = study.definition.budget.workers
    context.say(f"{study.id}: {study.definition.budget.trials:,} trials, {workers} at once")
    if workers > 1:
        context.say("order-dependent: with several workers another run may give other trials; --workers 1 repeats")
    _out(context, to_the_end(context, study) if wait else study)


def _show() -> click.Command:
    @click.argument("study")
    @command("show", "One study: what was asked, and the best trials beside what they give on untouched rows.")
    def run(context: Context, study: str) -> None:
        from quarterstore.records.studies import ShowStudy

        _out(context, context.client.ask(ShowStudy(study=study)))

    return run


def _out(context: Context, study: Study) -> None:
    """A study for a person: the sentence, then a table of what was scored again and one of importance."""
    from quarterdeck.cli.printing import lines, plain, table

    if context.json:
        context.out(study)
        return
    fields = plain(study)
    lines({name: fields[name] for name in ("id", "name", "state", "created", "actor", "ended", "job", "error")})
    if (result := study.result) is None:
        return
    context.say(result.words)
    lines({"complete": result.complete, "pruned": result.pruned, "failed": result.failed, "seconds": result.seconds})
    rows = [
        {"trial": each.trial, "objective": name, "tuned": each.tuned[place]}
        | ({"honest": each.honest[place], "low": each.low[place], "high": each.high[place]} if each.honest else {})
        | each.params
        for each in result.best
        for place, name in enumerate(study.definition.objectives)
    ]
    for title, found in (
        (_scored_again(result) if rows else "", rows),
        ("importance", [{"parameter": name, "share": share} for name, share in result.importance.items()]),
    ):
        if found:
            print(f"\n{title}")
            table(found, _columns(found))


def _scored_again(result: StudyResult) -> str:
    untouched = result.best[0].untouched
    return f"scored again on {untouched:,} untouched rows" if untouched else "scored again with fresh seeds"


def _list() -> click.Command:
    @click.option("--name")
    @command("list", "Studies, the newest first.")
    def run(context: Context, name: str | None) -> None:
        from quarterdeck.cli.printing import table
        from quarterstore.records.studies import ListStudies

        found = context.client.ask(ListStudies(name=name))
        if context.json:
            context.out(found)
            return
        table([_row(study) for study in found], STUDIES)

    return run


def _row(study: Study) -> dict[str, Any]:
    result = study.result
    first = result.best[0] if result and result.best else None
    return {
        "id": study.id,
        "name": study.name,
        "state": study.state,
        "trials": result.complete + result.pruned + result.failed if result else None,
        "best": first.tuned[0] if first else None,
        "honest": first.honest[0] if first and first.honest else None,
        "created": study.created,
    }


def _trials() -> click.Command:
    @click.option("--state", type=click.Choice(["COMPLETE", "PRUNED", "FAILED"]))
    @click.option("--limit", default=1000, show_default=True, help="trials at most, the newest")
    @click.argument("study")
    @command("trials", "Trials that ended, in their order, also while the study runs.")
    def run(context: Context, study: str, state: Any, limit: int) -> None:
        from quarterstore.records.studies import ListTrials

        _table(context, study, context.client.ask(ListTrials(study=study, state=state, limit=limit)))

    return run


def _best() -> click.Command:
    @click.option("--top", default=1, show_default=True)
    @click.argument("study")
    @command("best", "The best trials by the first objective, also while the study runs.")
    def run(context: Context, study: str, top: int) -> None:
        from quarterstore.records.studies import BestTrials

        _table(context, study, context.client.ask(BestTrials(study=study, top=top)))

    return run


def _pareto() -> click.Command:
    @click.argument("study")
    @command("pareto", "Of several objectives: the trials that no other beats in all of them.")
    def run(context: Context, study: str) -> None:
        from quarterstore.records.studies import ParetoTrials

        _table(context, study, context.client.ask(ParetoTrials(study=study)))

    return run


def _table(context: Context, study: str, trials: list[StudyTrial]) -> None:
    from quarterdeck.cli.printing import table
    from quarterstore.records.studies import ShowStudy

    if context.json:
        context.out(trials)
        return
    names = list(context.client.ask(ShowStudy(study=study)).definition.objectives)
    rows = [
        {"trial": trial.number, "state": trial.state, "seconds": trial.seconds}
        | dict(zip(names, trial.values, strict=False))
        | trial.params
        | ({"error": trial.error} if trial.error else {})
        for trial in trials
    ]
    table(rows, _columns(rows))


def _columns(rows: Iterable[dict[str, Any]]) -> tuple[str, ...]:
    """Every name in the rows, in the order they come: conditional parameters are not in each."""
    return tuple(dict.fromkeys(name for row in rows for name in row))


def _stop() -> click.Command:
    @click.option("--reason", default="")
    @click.argument("study")
    @command("stop", "End a study now; qd tune resume goes on with it.")
    def run(context: Context, study: str, reason: str) -> None:
        from quarterstore.records.studies import StopStudy

        _out(context, context.client.ask(StopStudy(study=study, reason=reason)))

    return run


def _register() -> click.Command:
    @click.option("--trial", type=int, help="one of those that were scored again; the best unless given")
    @click.option("--wait/--no-wait", default=True)
    @click.argument("study")
    @command("register", "Run a pipeline with the parameters of the winner, and register its version.")
    def run(context: Context, study: str, trial: int | None, wait: bool) -> None:
        from quarterstore.records.studies import RegisterBest

        shown(context, context.client.ask(RegisterBest(study=study, trial=trial)), wait)

    return run


def _remove() -> click.Command:
    @click.argument("study")
    @command("remove", "Forget a study that is over, with its files; what was registered of it stays.")
    def run(context: Context, study: str) -> None:
        from quarterstore.records.studies import RemoveStudy

        _out(context, context.client.ask(RemoveStudy(study=study)))

    return run
