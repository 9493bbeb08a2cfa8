"""Continuous training: when a model is retrained by itself, how that stands, and why it was or was not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from quarterdeck.cli.context import Context
from quarterdeck.cli.short.deploying import steps
from quarterdeck.cli.short.making import Made, command
from quarterdeck.cli.spans import seconds

if TYPE_CHECKING:
    from quarterstore.records.base import Act
    from quarterstore.records.ct import OnAccuracy, OnDrift, OnRows, OnSchedule, Policy, SetPolicy

LISTED = ("model", "on", "pipeline", "strategy", "triggers", "retrain")


def ct_group() -> dict[str, Made]:
    return {
        "set": _set,
        "on": lambda: _switch(True),
        "off": lambda: _switch(False),
        "status": _status,
        "list": _list,
        "why": _why,
        "resume": _resume,
        "retrain": _retrain,
        "remove": _remove,
    }


def _set() -> click.Command:
    @click.option("--pipeline", required=True, help="what trains it, as it was run once")
    @click.option("--endpoint", help="where it answers; the model's name unless given")
    @click.option("--every", help="retrain so often, such as 7d")
    @click.option("--cron", help="or at these times, five fields")
    @click.option("--zone", default="UTC", show_default=True, help="time zone of --cron")
    @click.option("--drift", help="retrain when the traffic of this endpoint drifts")
    @click.option("--drift-checks", default=1, show_default=True, help="checks in a row that have to find it")
    @click.option("--check-every", help="check the drift so often, such as 1h; else when somebody asks: qd drift")
    @click.option("--drift-window", default="24h", show_default=True, help="the traffic of a check")
    @click.option("--accuracy-drop", type=float, help="retrain beyond so many points below the registered accuracy")
    @click.option("--accuracy-window", default="7d", show_default=True, help="the answers whose labels count")
    @click.option("--labels-least", default=200, show_default=True, help="labels below which nothing is judged")
    @click.option("--new-rows", type=int, help="retrain at so many new rows since the last training")
    @click.option("--rows-of", default="labels", show_default=True, help="labels, dataset or features:VIEW")
    @click.option("--cooldown", default="6h", show_default=True, help="time between two retrains at least")
    @click.option("--strategy", type=click.Choice(("none", "staging", "canary")), default="none", show_default=True)
    @click.option("--ladder", default="5,10,25,50,100", show_default=True, help="percents of the steps of a canary")
    @click.option("--effect", type=float, help="rise of the error rate that a canary must see")
    @click.option("--gate", "gates", multiple=True, help="of a canary: accuracy:0.02, psi:0.2, fairness:sex:0.1")
    @click.argument("model")
    @command("set", "Say when a model is retrained by itself; off until: qd ct on MODEL.")
    def run(context: Context, model: str, **given: Any) -> None:
        _told(context, _asked(model, given))

    return run


def _asked(model: str, given: dict[str, Any]) -> SetPolicy:
    from quarterdeck.gates import gate_of
    from quarterstore.records.canaries import CanaryRule
    from quarterstore.records.ct import SetPolicy
    from quarterstore.records.faults import got

    endpoint, drift = given["endpoint"], given["drift"]
    if endpoint is not None and drift is not None and endpoint != drift:
        raise got("drift", drift, f"the endpoint of the policy, {endpoint}")
    effect = {} if given["effect"] is None else {"effect": given["effect"]}
    return SetPolicy(
        model=model,
        pipeline=given["pipeline"],
        endpoint=endpoint or drift,
        schedule=_on_schedule(given["every"], given["cron"], given["zone"]),
        drift=_on_drift(given["drift_checks"], given["check_every"], given["drift_window"]) if drift else None,
        accuracy=_on_accuracy(given["accuracy_drop"], given["labels_least"], given["accuracy_window"]),
        rows=_rows(given["new_rows"], given["rows_of"]) if given["new_rows"] is not None else None,
        cooldown=seconds("cooldown", given["cooldown"]),
        strategy=given["strategy"],
        ladder=steps("ladder", given["ladder"]),
        rule=CanaryRule(**effect, gates=tuple(map(gate_of, given["gates"]))),
    )


def _on_schedule(every: str | None, cron: str | None, zone: str) -> OnSchedule | None:
    from quarterstore.records.ct import OnSchedule

    if not (every or cron):
        return None
    return OnSchedule(cron=cron, every=seconds("every", every) if every else None, zone=zone)


def _on_drift(checks: int, every: str | None, window: str) -> OnDrift:
    from quarterstore.records.ct import OnDrift

    often = seconds("check_every", every) if every else None
    return OnDrift(checks=checks, every=often, window=seconds("drift_window", window))


def _on_accuracy(drop: float | None, least: int, window: str) -> OnAccuracy | None:
    from quarterstore.records.ct import OnAccuracy

    if drop is None:
        return None
    return OnAccuracy(drop=drop, least=least, window=seconds("accuracy_window", window))


def _rows(least: int, of: str) -> OnRows:
    """`labels`, `dataset` or `features:VIEW` as a trigger."""
    from quarterstore.records.ct import OnRows
    from quarterstore.records.faults import got

    what, _, view = of.partition(":")
    if what not in ("labels", "dataset", "features"):
        raise got("rows_of", of, "labels, dataset or features:VIEW")
    return OnRows(least=least, of=what, view=view or None)  # type: ignore[arg-type]


def _switch(enabled: bool) -> click.Command:
    words = "Let the policy of a model retrain it; needs a gate." if enabled else "Stop that."

    @click.argument("model")
    @command("on" if enabled else "off", words)
    def run(context: Context, model: str) -> None:
        from quarterstore.records.ct import SwitchPolicy

        _told(context, SwitchPolicy(model=model, enabled=enabled))

    return run


def _told(context: Context, act: Act[Policy]) -> None:
    """Do it, and say how the policy is now; as JSON the record."""
    from quarterdeck.cli.policies import policy_words
    from quarterdeck.cli.printing import lines

    policy = context.client.ask(act)
    if context.json:
        context.out(policy)
    else:
        lines(policy_words(policy))


def _status() -> click.Command:
    @click.argument("model")
    @command("status", "Each trigger with its value, limit, last check, and why it does not fire.")
    def run(context: Context, model: str) -> None:
        from quarterdeck.cli.policies import show_standing
        from quarterstore.records.ct import ShowPolicy

        found = context.client.ask(ShowPolicy(model=model))
        if context.json:
            context.out(found)
        else:
            show_standing(found)

    return run


def _list() -> click.Command:
    @command("list", "Every model that may be retrained by itself.")
    def run(context: Context) -> None:
        from quarterdeck.cli.printing import table
        from quarterstore.records.ct import ListPolicies

        found = context.client.ask(ListPolicies())
        if context.json:
            context.out(found)
            return
        rows = [
            {
                "model": each.model,
                "on": "on" if each.policy.enabled else "off",
                "pipeline": each.policy.pipeline,
                "strategy": each.policy.strategy,
                "triggers": ", ".join(f"{one.trigger} {one.state}" for one in each.triggers),
                "retrain": each.retrain,
            }
            for each in found
        ]
        table(rows, LISTED)

    return run


def _why() -> click.Command:
    @click.argument("model")
    @command("why", "Why a model was retrained by itself, who set that, what came of it, and how to stop it.")
    def run(context: Context, model: str) -> None:
        from quarterdeck.cli.policies import show_why
        from quarterstore.records.ct import ShowPolicy

        found = context.client.ask(ShowPolicy(model=model))
        if context.json:
            context.out(found)
        else:
            show_why(found)

    return run


def _resume() -> click.Command:
    @click.option("--trigger", type=click.Choice(("schedule", "drift", "accuracy", "rows")), help="else all of them")
    @click.argument("model")
    @command("resume", "Let a suppressed trigger fire again; it counts from now on.")
    def run(context: Context, model: str, trigger: Any) -> None:
        from quarterstore.records.ct import ResumeTrigger

        _told(context, ResumeTrigger(model=model, trigger=trigger))

    return run


def _retrain() -> click.Command:
    @click.argument("model")
    @command("retrain", "Retrain a model now as its policy says, unless something stands in the way.")
    def run(context: Context, model: str) -> None:
        from quarterdeck.cli.policies import retrain_words
        from quarterdeck.cli.printing import lines
        from quarterstore.records.ct import StartRetrain

        policy = context.client.ask(StartRetrain(model=model))
        if context.json:
            context.out(policy)
        else:
            lines(retrain_words(policy.retrains["person"]))

    return run


def _remove() -> click.Command:
    @click.argument("model")
    @command("remove", "Forget when a model is retrained, and the schedules of that.")
    def run(context: Context, model: str) -> None:
        from quarterstore.records.ct import RemovePolicy

        policy = context.client.ask(RemovePolicy(model=model))
        if context.json:
            context.out(policy)
        else:
            context.say(f"{model} is not retrained by itself any more; the pipeline {policy.pipeline} is kept")

    return run
