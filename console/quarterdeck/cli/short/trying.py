"""What is tried beside the live version: shadow, A/B, bandit; each started by its own word, looked at and stopped."""

from __future__ import annotations

from collections.abc import Callable

import click

from quarterdeck.cli.context import Context, global_options
from quarterdeck.cli.short.making import Made, command, do_or_propose


class Trying(click.Group):
    """`qd shadow m@2` starts one; `report` and `stop` behind the word are verbs."""

    def __init__(self, name: str, start: Made, verbs: dict[str, Made], help_text: str) -> None:
        super().__init__(name, help=help_text)
        self._start = start
        self._verbs = verbs

    def list_commands(self, context: click.Context) -> list[str]:
        return ["VERSION", *self._verbs]

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        return self._verbs[name]() if name in self._verbs else None

    def resolve_command(
        self, context: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in self._verbs:
            return args[0], self._start(), args
        return super().resolve_command(context, args)

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Verbs"):
            formatter.write_dl([(name, made().help or "") for name, made in self._verbs.items()])


def _group(name: str, start: Made, verbs: dict[str, Made], help_text: str) -> Callable[[], click.Command]:
    def made() -> click.Command:
        found: click.Command = global_options(Trying(name, start, verbs, help_text))
        return found

    return made


def _start_shadow() -> click.Command:
    @click.option("--endpoint")
    @click.option("--share", default=100, help="percent of the requests that it is shown")
    @click.option("--reason", default="")
    @click.argument("version")
    @command("shadow", "Show a version copies of the requests; it answers nobody.")
    def run(context: Context, version: str, endpoint: str | None, share: int, reason: str) -> None:
        from quarterstore.records.trials import StartShadow

        do_or_propose(context, StartShadow(version=version, endpoint=endpoint, share=share), reason)

    return run


def _report_shadow() -> click.Command:
    @click.option("--tolerance", default=0.01, help="part by which numbers may differ and still agree")
    @click.option("--top", default=20, help="disagreements that are listed")
    @click.argument("endpoint")
    @command("report", "How often the shadow agrees, its worst slices, the largest disagreements.")
    def run(context: Context, endpoint: str, tolerance: float, top: int) -> None:
        from quarterstore.records.trials import ReportShadow

        found = context.client.ask(ReportShadow(endpoint=endpoint, tolerance=tolerance, top=top))
        if context.json:
            context.out(found)
            return
        context.say(found.words)
        context.say("slices, the surely worst first:")
        context.out(list(found.slices), ("field", "value", "pairs", "rate", "low", "high"))
        context.say("disagreements, the largest first:")
        context.out(
            list(found.disagreements),
            ("prediction", "row", "live", "shadow", "live_score", "shadow_score", "inputs"),
        )

    return run


def _stop() -> click.Command:
    @click.option("--reason", default="")
    @click.argument("endpoint")
    @command("stop", "End it; the live version answers everything.")
    def run(context: Context, endpoint: str, reason: str) -> None:
        from quarterstore.records.trials import StopTrial

        context.out(context.client.ask(StopTrial(endpoint=endpoint, reason=reason)))

    return run


shadow = _group(
    "shadow",
    _start_shadow,
    {"report": _report_shadow, "stop": _stop},
    "Show a version copies of the requests: qd shadow VERSION [--endpoint E] [--share PERCENT].",
)
