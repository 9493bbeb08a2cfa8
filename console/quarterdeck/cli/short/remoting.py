"""`qd remote`: other decks that versions are sent to, and the senders whose bundles are taken here."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from quarterdeck.cli.context import Context
from quarterdeck.cli.short.making import Made, command

ENDPOINTS = ("endpoint", "state", "live", "epoch", "requests", "errors", "p95", "why")
CHANGES = ("id", "remote", "kind", "endpoint", "version", "digest", "state", "there", "asked_by", "at", "why")
BUNDLES = ("id", "sender", "theirs", "version", "digest", "by", "at")


def remote_group() -> dict[str, Made]:
    return {
        "add": _add,
        "rm": _rm,
        "ls": _list("ls", "ListRemotes", "Every remote.", ("name", "url", "kept", "within", "added_by", "added")),
        "status": _status,
        "changes": _changes,
        "rollback": _rollback,
        "key": _key,
        "trust": _trust,
        "distrust": _distrust,
        "senders": _list(
            "senders", "ListSenders", "Whose bundles are taken here.", ("name", "key", "added_by", "added")
        ),
        "bundles": _list("bundles", "ListBundles", "The bundles that were taken, newest first.", BUNDLES),
    }


def _add() -> click.Command:
    @click.option("--token-file", type=click.Path(path_type=Path), help="a 0600 file; read from stdin unless given")
    @click.option("--keyring", is_flag=True, help="keep the token in the desktop's keyring, not in a 0600 file")
    @click.option("--credentials", is_flag=True, help="it is remote-NAME in the service's credentials (systemd)")
    @click.option("--ca-file", type=click.Path(path_type=Path), help="certificates to trust beside the usual ones")
    @click.option("--within", type=float, default=10.0, show_default=True, help="seconds that one request may take")
    @click.option("--allow-private", is_flag=True, help="loopback and private addresses")
    @click.option("--allow-http", is_flag=True, help="plain http to others than loopback")
    @click.argument("url")
    @click.argument("name")
    @command("add", "Name another deck (the address of its --remote door) that versions may be sent to; needs admin.")
    def run(context: Context, name: str, token_file: Path | None, **given: Any) -> None:
        from quarterdeck.tokens import handed_over

        keyring, credentials = given.pop("keyring"), given.pop("credentials")
        ca_file: Path | None = given.pop("ca_file")
        kept = "keyring" if keyring else "credentials" if credentials else "file"
        with handed_over(context.place(), name, token_file, kept) as file:
            from quarterstore.records.remotes import AddRemote

            act = AddRemote(
                name=name,
                token_file=str(file) if file else None,
                kept=kept,  # type: ignore[arg-type]
                ca_file=str(ca_file.absolute()) if ca_file else None,
                **given,
            )
            context.out(context.client.ask(act))
        context.say(f"try it: qd remote status {name}; the other deck has to trust this one: qd remote key")

    return run


def _rm() -> click.Command:
    @click.argument("remote")
    @command("rm", "Forget a remote and its token; what was deployed there stays there. Needs admin.")
    def run(context: Context, remote: str) -> None:
        from quarterstore.records.remotes import RemoveRemote

        removed = context.client.ask(RemoveRemote(remote=remote))
        if removed.kept == "keyring":
            from quarterdeck.keyring_secrets import drop

            drop(context.place(), f"remote-{removed.name}")
        context.out(removed)

    return run


def _list(word: str, message: str, words: str, columns: tuple[str, ...]) -> Made:
    def made() -> click.Command:
        @command(word, words)
        def run(context: Context) -> None:
            from quarterstore.records import remotes

            context.out(context.client.ask(getattr(remotes, message)()), columns)

        return run

    return made


def _status() -> click.Command:
    @click.argument("remote")
    @command("status", "How a remote is now, and what answers there; exit 3 where it is UNREACHABLE.")
    def run(context: Context, remote: str) -> None:
        from quarterdeck.cli.printing import plain, table
        from quarterstore.records.faults import Refused, Unreachable
        from quarterstore.records.names import drawn
        from quarterstore.records.remotes import ShowRemote

        found = context.client.ask(ShowRemote(remote=remote))
        if context.json:
            context.out(found)
        else:
            print(drawn(f"{found.remote} {found.state} {found.url}"))
            if found.endpoints:
                table(
                    [plain(each) for each in found.endpoints],
                    ENDPOINTS,
                    {"requests": "REQUESTS/S", "errors": "ERRORS/S"},
                )
        if found.state != "REACHABLE":
            fault = Unreachable if found.state == "UNREACHABLE" else Refused
            raise fault(found.why, field=found.remote)

    return run


def _changes() -> click.Command:
    @click.option("--limit", default=50)
    @click.argument("remote", required=False)
    @command("changes", "What was asked of remotes, newest first: who, which file, when, and what came of it.")
    def run(context: Context, remote: str | None, limit: int) -> None:
        from quarterstore.records.remotes import ListChanges

        context.out(context.client.ask(ListChanges(remote=remote, limit=limit)), CHANGES)

    return run


def _rollback() -> click.Command:
    @click.option("--reason", default="")
    @click.argument("endpoint")
    @click.argument("remote")
    @command("rollback", "Give the traffic of an endpoint of a remote back to the version before.")
    def run(context: Context, remote: str, endpoint: str, reason: str) -> None:
        from quarterstore.records.remotes import RollBackThere

        followed(context, context.client.ask(RollBackThere(remote=remote, endpoint=endpoint, reason=reason)))

    return run


def _key() -> click.Command:
    @command("key", "The public key that signs what this deck sends: an admin of the other deck trusts it.")
    def run(context: Context) -> None:
        from quarterstore.records.remotes import ShowIdentity

        found = context.client.ask(ShowIdentity())
        if context.json:
            context.out(found)
        else:
            print(found.key)
            context.say(f"on the other deck: qd remote trust {found.key} NAME")

    return run


def _trust() -> click.Command:
    @click.argument("name")
    @click.argument("key")
    @command("trust", "Take bundles that this key signed, under a name for their sender; needs admin.")
    def run(context: Context, key: str, name: str) -> None:
        from quarterstore.records.remotes import TrustSender

        context.out(context.client.ask(TrustSender(key=key, name=name)))

    return run


def _distrust() -> click.Command:
    @click.argument("name")
    @command("distrust", "Take no more bundles of a sender; needs admin.")
    def run(context: Context, name: str) -> None:
        from quarterstore.records.remotes import DistrustSender

        context.out(context.client.ask(DistrustSender(name=name)))

    return run


def deployed(context: Context, version: str, remote: str, endpoint: str | None, environment: str) -> None:
    """Send a version to a remote, deploy it there, and follow that to its end."""
    from quarterstore.records.remotes import SendVersion

    act = SendVersion(version=version, remote=remote, endpoint=endpoint, environment=environment)
    followed(context, context.client.ask(act))


def followed(context: Context, change: Any) -> None:
    """A change of a remote to its end: its progress on stderr, then printed; the fault that ended it is raised."""
    from quarterdeck.cli.printing import ProgressBar
    from quarterdeck.feed import follow
    from quarterstore.records.faults import FaultRecord, raised
    from quarterstore.records.remotes import SendProgress, ShowChange
    from quarterstore.records.store import ShowStatus

    since, bar = context.client.ask(ShowStatus()).seq, ProgressBar()
    question = ShowChange(change=change.id)
    feed, found = follow(context.client, since), context.client.ask(question)
    try:
        while found.state == "WAITING":
            item = next(feed)
            if not isinstance(item, SendProgress):
                found = context.client.ask(question)
            elif item.change == change.id and not context.quiet:
                bar.show("sending", item.sent / item.size, f"{item.sent:,} of {item.size:,} bytes, {item.words}")
    except KeyboardInterrupt:
        context.say(f"it goes on in the daemon: qd remote changes {change.remote}")
        sys.exit(130)
    finally:
        bar.done()
        feed.close()  # type: ignore[attr-defined]
    context.out(found)
    if found.state == "FAILED":
        raise raised(FaultRecord(kind=found.fault or "Failed", message=found.why))
