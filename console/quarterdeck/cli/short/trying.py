"""What is tried beside the live version: shadow, A/B, bandit; each started by its own word, looked at and stopped."""

from __future__ import annotations

from collections.abc import Callable

import click

from quarterdeck.cli.context import Context, global_options
from quarterdeck.cli.short.making import Made, command, do_or_propose

START = "start"


class Trying(click.Group):
    """`qd shadow m@2` starts one, as `qd shadow start m@2` does; `report` and `stop` behind the word are verbs. The
    help has the options of a start, which are what somebody looks for behind the bare word."""

    def __init__(self, name: str, start: Made, verbs: dict[str, Made], help_text: str) -> None:
        super().__init__(name, help=help_text)
        self._start = start
        self._verbs = verbs

    def list_commands(self, context: click.Context) -> list[str]:
        return ["VERSION", *self._verbs]

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        return self._start() if name == START else self._verbs[name]() if name in self._verbs else None

    def resolve_command(
        self, context: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in (START, *self._verbs):
            return START, self._start(), args
        return super().resolve_command(context, args)

    def format_options(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        everywhere = {each.name for each in self.params}
        own = [each for each in self._start().params if isinstance(each, click.Option) and each.name not in everywhere]
        with formatter.section("To start one"):
            formatter.write_dl([line for each in own if (line := each.get_help_record(context)) is not None])
        super().format_options(context, formatter)

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Verbs"):
            formatter.write_dl([(name, made().help or "") for name, made in self._verbs.items()])


def _group(name: str, start: Made, verbs: dict[str, Made], help_text: str) -> Callable[[], click.Command]:
    def made() -> click.Command:
        found: click.Command = global_options(Trying(name, start, verbs, help_text))
        return found

    return made


def _start_shadow() -> click.Command:
    @click.option("--endpoint", help="the model's name unless given")
    @click.option("--share", default=100, show_default=True, help="percent of the requests that it is shown")
    @click.option("--reason", default="", help="kept with the act")
    @click.option("--wait", is_flag=True, help="until it has answered its golden rows and is shown requests")
    @click.argument("version")
    @command("shadow", "Show a version copies of the requests; it answers nobody.")
    def run(context: Context, version: str, endpoint: str | None, share: int, reason: str, wait: bool) -> None:
        from quarterstore.records.trials import StartShadow

        do_or_propose(context, StartShadow(version=version, endpoint=endpoint, share=share), reason, wait)

    return run


def _start_ab() -> click.Command:
    @click.option("--endpoint", help="the model's name unless given")
    @click.option("--metric", required=True, help="the outcome that is compared")
    @click.option("--effect", type=float, required=True, help="smallest difference worth having, absolute")
    @click.option("--split", default=50, show_default=True, help="percent of the callers on the second version")
    @click.option("--alpha", default=0.05, show_default=True, help="level over all looks together")
    @click.option("--lower", is_flag=True, help="lower is better")
    @click.option("--reason", default="", help="kept with the act")
    @click.argument("version")
    @click.argument("against")
    @command("ab", "Split the callers between the live version and another, and compare their outcomes.")
    def run(
        context: Context,
        against: str,
        version: str,
        endpoint: str | None,
        metric: str,
        effect: float,
        split: int,
        alpha: float,
        lower: bool,
        reason: str,
    ) -> None:
        from quarterstore.records.trials import AbRule, StartAb

        rule = AbRule(metric=metric, effect=effect, alpha=alpha, better="lower" if lower else "higher")
        do_or_propose(
            context, StartAb(version=version, against=against, rule=rule, endpoint=endpoint, split=split), reason
        )

    return run


def _start_bandit() -> click.Command:
    @click.option("--endpoint", help="the model's name unless given")
    @click.option("--metric", required=True, help="the outcome that is the reward")
    @click.option(
        "--algo",
        type=click.Choice(["thompson", "egreedy"]),
        default="thompson",
        show_default=True,
        help="by the chance to be the best, or most to the best mean",
    )
    @click.option("--seed", default=1, show_default=True, help="of every draw")
    @click.option("--floor", default=0.05, show_default=True, help="smallest share of an arm")
    @click.option("--epsilon", default=0.1, show_default=True, help="what egreedy spreads over all arms")
    @click.option("--lower", is_flag=True, help="lower is better")
    @click.option("--reason", default="", help="kept with the act")
    @click.argument("versions", nargs=-1, required=True)
    @command("bandit", "Deal the requests between the live version and others by what each has earned.")
    def run(
        context: Context,
        versions: tuple[str, ...],
        endpoint: str | None,
        metric: str,
        algo: str,
        seed: int,
        floor: float,
        epsilon: float,
        lower: bool,
        reason: str,
    ) -> None:
        from quarterstore.records.faults import got
        from quarterstore.records.trials import BanditRule, StartBandit

        if len(versions) < 2:
            raise got("versions", versions[0], "the live version and at least one more")
        rule = BanditRule(
            metric=metric,
            algorithm=algo,  # type: ignore[arg-type]
            seed=seed,
            floor=floor,
            epsilon=epsilon,
            better="lower" if lower else "higher",
        )
        against, version, *others = versions
        act = StartBandit(version=version, against=against, rule=rule, others=tuple(others), endpoint=endpoint)
        do_or_propose(context, act, reason)

    return run


def _show() -> click.Command:
    @click.argument("endpoint")
    @command("report", "How it stands: the shares, the verdict and why.")
    def run(context: Context, endpoint: str) -> None:
        from quarterstore.records.trials import ShowTrial

        context.out(context.client.ask(ShowTrial(endpoint=endpoint)))

    return run


def _report_shadow() -> click.Command:
    @click.option(
        "--tolerance", default=0.01, show_default=True, help="part by which numbers may differ and still agree"
    )
    @click.option("--top", default=20, show_default=True, help="disagreements that are listed")
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
    @click.option("--reason", default="", help="kept with the act")
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
ab = _group(
    "ab",
    _start_ab,
    {"report": _show, "stop": _stop},
    "Compare outcomes of two versions: qd ab LIVE CANDIDATE --metric NAME --effect X [--split PERCENT].",
)
bandit = _group(
    "bandit",
    _start_bandit,
    {"report": _show, "stop": _stop},
    "Deal by what each version earned: qd bandit LIVE OTHER... --metric NAME [--algo thompson|egreedy].",
)
