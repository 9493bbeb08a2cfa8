"""How a short form is made: a click command with the options every command has."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from quarterdeck.cli.context import Context, global_options, here

Made = Callable[[], click.Command]


def command(name: str, help_text: str) -> Callable[[Any], click.Command]:
    """Wrap a function of the context into a command that is printed, failed and exited as every other."""

    def wrap(function: Any) -> click.Command:
        made: click.Command = global_options(click.command(name, help=help_text)(here(function)))
        return made

    return wrap


def do_or_propose(context: Context, act: Any, reason: str, wait: bool = False) -> None:
    """Do it, or where it needs another person, ask for that and say who has to run what; raises `NeedsApproval`."""
    import msgspec

    from quarterstore.records.faults import NeedsApproval
    from quarterstore.records.governance import Propose

    try:
        shown(context, context.client.ask(act), wait)
    except NeedsApproval as needed:
        approval = context.client.ask(Propose(act=msgspec.to_builtins(act), reason=reason))
        context.out(approval)
        raise NeedsApproval(
            f"{approval.id} waits for another person", field="approval", next=f"they run: qd approve {approval.id}"
        ) from needed


def shown(context: Context, answer: Any, wait: bool) -> None:
    """Print an answer; with `wait` what it has become at its end."""
    from quarterdeck.cli.brief import brief

    if not wait:
        brief(context, answer)
        return
    from quarterdeck.cli.waiting import check_gate, to_the_end

    answer = to_the_end(context, answer)
    brief(context, answer)
    check_gate(answer)
