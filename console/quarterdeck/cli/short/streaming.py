"""`qd stream MODEL --in A --out B`, and how streams stand."""

from __future__ import annotations

from typing import Any

import click

from quarterdeck.cli.context import Context
from quarterdeck.cli.short.making import command

COLUMNS = ("id", "model", "state", "in", "out", "waiting", "doubles", "errors", "lag", "note")


def stream() -> click.Command:
    @click.option("--in", "input", metavar="ADDRESS", help="tcp://HOST:PORT or ipc://NAME; connect: before it calls")
    @click.option("--out", "output", metavar="ADDRESS", help="where answers go, in the same form")
    @click.option("--waiting", type=int, help="messages that may wait for the consumer (1000)")
    @click.option("--window", type=int, help="keys remembered at least (131072)")
    @click.option("--public", is_flag=True, help="bind beyond this machine: whoever reaches it may send and read")
    @click.option("--reason", default="")
    @click.option("--live", is_flag=True, help="list: leave out those that ended")
    @click.argument("words", nargs=-1, required=True, metavar="MODEL | list | show STREAM | stop STREAM")
    @command("stream", "Answer messages over ZeroMQ as they come, at least once each, by a version or what is live.")
    def run(context: Context, words: tuple[str, ...], reason: str, live: bool, **given: Any) -> None:
        from quarterstore.records.faults import got
        from quarterstore.records.streams import ListStreams, ShowStream, StartStream, StopStream

        if words == ("list",):
            _list(context, context.client.ask(ListStreams(live=live)))
        elif len(words) == 2 and words[0] == "show":
            context.out(context.client.ask(ShowStream(stream=words[1])))
        elif len(words) == 2 and words[0] == "stop":
            context.out(context.client.ask(StopStream(stream=words[1], reason=reason)))
        elif words in (("show",), ("stop",)):
            raise got("stream", "none", f"the id of one: qd stream {words[0]} STREAM; see qd stream list")
        elif len(words) != 1:
            raise got("model", " ".join(words), "a model, list, show STREAM or stop STREAM")
        else:
            for name, option in (("input", "--in"), ("output", "--out")):
                if not given[name]:
                    raise got(name, "none", f"{option} tcp://HOST:PORT")
            asked = {name: value for name, value in given.items() if value is not None}
            context.out(context.client.ask(StartStream(model=words[0], **asked)))

    return run


def _list(context: Context, found: list[Any]) -> None:
    """A line for each: what came, what went, what waits."""
    if context.json:
        context.out(found)
        return
    from quarterdeck.cli.printing import table

    rows = []
    for each in found:
        counts = each.counts
        figures = (counts.taken, counts.answered, counts.waiting, counts.duplicates, counts.errors)
        about = (each.id, each.model, each.state, *figures, f"{counts.lag:.1f} s", counts.note or each.why)
        rows.append(dict(zip(COLUMNS, about, strict=True)))
    table(rows, COLUMNS)
