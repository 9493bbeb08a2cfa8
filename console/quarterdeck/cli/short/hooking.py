"""`qd hook`: what is called when something happens, what it was told, and what it missed."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from quarterdeck.cli.context import Context
from quarterdeck.cli.short.making import Made, command

COLUMNS = (
    "id",
    "event",
    "model",
    "stage",
    "kind",
    "target",
    "gate",
    "paused",
    "waiting",
    "made",
    "failed",
    "last_error",
)
DELIVERIES = ("id", "state", "event", "subject", "seq", "at", "tries", "error")
PATIENCE = 240.0
"""Seconds that three attempts of a program may take."""


def hook_group() -> dict[str, Made]:
    return {
        "add": _add,
        "ls": _ls,
        "rm": _one("rm", "RemoveHook", "Forget a hook with its deliveries; needs admin."),
        "pause": _one(
            "pause", "PauseHook", "Call a hook no more for now; what happens meanwhile is counted, not told."
        ),
        "resume": _one("resume", "ResumeHook", "Call a paused hook again."),
        "test": _test,
        "deliveries": _deliveries,
        "redeliver": _redeliver,
        "events": _events,
    }


def _add() -> click.Command:
    @click.option("--model", help="only of this model")
    @click.option("--stage", help="with promote: only into this stage")
    @click.option("--gate", is_flag=True, help="ask it before; a no, or no answer, refuses the promotion")
    @click.option("--secret-file", type=click.Path(path_type=Path), help="what signs; made by the daemon unless given")
    @click.option("--allow-private", is_flag=True, help="receivers on loopback and private addresses")
    @click.option("--allow-http", is_flag=True, help="plain http to others than loopback")
    @click.argument("args", nargs=-1)
    @click.argument("target")
    @click.argument("event")
    @command("add", "Run a program or tell a receiver when an event happens (qd hook events); needs admin.")
    def run(
        context: Context,
        event: str,
        target: str,
        args: tuple[str, ...],
        model: str | None,
        stage: str | None,
        gate: bool,
        secret_file: Path | None,
        allow_private: bool,
        allow_http: bool,
    ) -> None:
        from quarterstore.records.hooks import AddHook

        if target.startswith("exec:"):
            target = f"exec:{Path(target.removeprefix('exec:')).expanduser().absolute()}"
        hook = context.client.ask(
            AddHook(
                event=event,
                target=target,
                args=args,
                model=model,
                stage=stage,
                gate=gate,
                allow_private=allow_private,
                allow_http=allow_http,
                secret_file=str(secret_file.absolute()) if secret_file else None,
            )
        )
        context.out(hook)
        if hook.secret is not None:
            context.say(f"its requests are signed with {context.place().hook_secret(hook.secret)}")
        context.say(f"try it: qd hook test {hook.id}")

    return run


def _ls() -> click.Command:
    @click.option("--model")
    @command("ls", "Every hook, what it was told and what failed.")
    def run(context: Context, model: str | None) -> None:
        from quarterstore.records.hooks import ListHooks

        context.out(context.client.ask(ListHooks(model=model)), COLUMNS)

    return run


def _one(word: str, message: str, words: str) -> Made:
    def made() -> click.Command:
        @click.argument("hook")
        @command(word, words)
        def run(context: Context, hook: str) -> None:
            from quarterstore.records import hooks

            context.out(context.client.ask(getattr(hooks, message)(hook=hook)))

        return run

    return made


def _test() -> click.Command:
    @click.argument("hook")
    @command("test", "Send a hook a test the way every delivery goes, and wait for what comes of it.")
    def run(context: Context, hook: str) -> None:
        from quarterstore.records.hooks import TestHook

        _followed(context, context.client.ask(TestHook(hook=hook)))

    return run


def _redeliver() -> click.Command:
    @click.argument("delivery")
    @command("redeliver", "Send a delivery again under its id, a dead letter say, and wait for what comes of it.")
    def run(context: Context, delivery: str) -> None:
        from quarterstore.records.hooks import Redeliver

        _followed(context, context.client.ask(Redeliver(delivery=delivery)))

    return run


def _followed(context: Context, delivery: Any) -> None:
    """A delivery to its end: printed, and exit 1 where it was not made."""
    from quarterdeck.feed import follow
    from quarterstore.records.faults import Failed, TimedOut
    from quarterstore.records.hooks import ShowDelivery
    from quarterstore.records.store import ShowStatus

    feed, deadline = follow(context.client, context.client.ask(ShowStatus()).seq), time.monotonic() + PATIENCE
    question = ShowDelivery(delivery=delivery.id)
    try:
        found = context.client.ask(question)
        while found.state == "WAITING":
            next(feed)
            found = context.client.ask(question)
            if time.monotonic() > deadline:
                raise TimedOut(f"it still goes on after {PATIENCE:g} s", field=found.id)
    finally:
        feed.close()  # type: ignore[attr-defined]
    context.out(found)
    if found.state == "FAILED":
        raise Failed(f"not delivered: {found.error}", field=found.id, next=f"qd hook redeliver {found.id}")


def _deliveries() -> click.Command:
    @click.option("--limit", default=50)
    @click.option("--state", type=click.Choice(("WAITING", "MADE", "FAILED"), case_sensitive=False))
    @click.argument("hook", required=False)
    @command("deliveries", "What waits, what was made, and the dead letters (FAILED), newest first.")
    def run(context: Context, hook: str | None, **asked: Any) -> None:
        from quarterdeck.cli.printing import plain, table
        from quarterstore.records.hooks import ListDeliveries

        found = context.client.ask(ListDeliveries(hook=hook, **asked))
        if context.json:
            context.out(found)
        else:
            table([{**plain(each), "tries": len(each.attempts)} for each in found], DELIVERIES)

    return run


def _events() -> click.Command:
    @command("events", "The words a hook can be set on, and the deck's events behind each.")
    def run(context: Context) -> None:
        from quarterdeck.cli.printing import json_line, table
        from quarterstore.records.base import tag_of
        from quarterstore.records.hooks import TABLE

        rows = [
            {
                "event": word,
                "events": ", ".join(map(tag_of, told.events)),
                "filters": {"promote": "--model, --stage"}.get(word, "--model" if told.of_a_model else ""),
            }
            for word, told in TABLE.items()
        ]
        if context.json:
            for row in rows:
                print(json_line(row))
        else:
            table(rows, ("event", "filters", "events"))

    return run
