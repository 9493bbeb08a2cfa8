"""The store and who may use it: audit, keys, service, backup, undo, JSON lines."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from quarterdeck.cli.context import Context
from quarterdeck.cli.short.making import Made, command
from quarterdeck.cli.spans import seconds

ROLES = click.Choice(("viewer", "operator", "approver", "admin"))


def audit_group() -> dict[str, Made]:
    def verify() -> click.Command:
        @click.option("--seq", type=int, help="of a head kept outside")
        @click.option("--hash", "hash_", help="of a head kept outside")
        @command(
            "verify",
            "Check every hash of the journal, and the last head seen from here; exit 1 where one is wrong.",
        )
        def run(context: Context, seq: int | None, hash_: str | None) -> None:
            from quarterdeck import heads
            from quarterstore.records.governance import VerifyAudit

            kept = heads.remembered(context.place()) if seq is None else None
            if kept is not None:
                seq, hash_ = kept.seq, kept.hash
                context.say(f"against the head that was seen here before: entry {seq}")
            verdict = context.client.ask(VerifyAudit(seq=seq, hash=hash_), timeout=600.0)
            context.out(verdict)
            if not verdict.ok:
                sys.exit(1)
            heads.remember(context.place(), verdict.head)

        return run

    def head() -> click.Command:
        @command("head", "The newest entry's number and hash: keep it elsewhere.")
        def run(context: Context) -> None:
            from quarterdeck import heads
            from quarterstore.records.governance import ShowHead

            head = context.client.ask(ShowHead())
            heads.remember(context.place(), head)
            context.out(head)

        return run

    return {"verify": verify, "head": head}


def keys_group() -> dict[str, Made]:
    def add() -> click.Command:
        @click.option("--role", "roles", type=ROLES, multiple=True, default=("operator",))
        @click.option("--keyring", is_flag=True, help="keep the secret in the desktop's keyring, not in a 0600 file")
        @click.argument("name")
        @command("add", "Make a key for a person and let it speak.")
        def run(context: Context, name: str, roles: tuple[str, ...], keyring: bool) -> None:
            from quarterdeck import keys
            from quarterstore.records.faults import Fault
            from quarterstore.records.people import AddKey

            home = context.place()
            client = context.client
            public = keys.make(home, name, keyring=keyring)
            try:
                context.out(client.ask(AddKey(public=public, person=name, roles=roles)))  # type: ignore[arg-type]
            except Fault:
                keys.forget(home, name)
                raise

        return run

    return {"add": add}


def service_group() -> dict[str, Made]:
    def install() -> click.Command:
        @click.option("--user", is_flag=True, help="for your own service manager, as without --system")
        @click.option("--system", is_flag=True, help="for the machine, under a user of its own")
        @click.option("--yes", is_flag=True, help="write without asking")
        @click.option("--print", "print_only", is_flag=True, help="only print")
        @command("install", "Print the systemd units for this home, then write them.")
        def run(context: Context, user: bool, system: bool, yes: bool, print_only: bool) -> None:
            from quarterdeck.cli.service import install as install_units
            from quarterstore.records.faults import got

            if user and system:
                raise got("system", "--user and --system", "one of them")
            sys.exit(install_units(context.place(), user=not system, yes=yes, print_only=print_only))

        return run

    return {"install": install}


def backup() -> click.Command:
    @click.argument("file", type=click.Path(path_type=Path))
    @command("backup", "Write a backup of the store into one file, while it is used.")
    def run(context: Context, file: Path) -> None:
        from quarterdeck.cli.storing import backup as make

        context.out(make(context, file))

    return run


def gc() -> click.Command:
    @click.option("--dry-run", is_flag=True, help="only say how much")
    @click.option("--older-than", default="0s", help="removed at least this long ago: 30m, 12h, 7d")
    @command("gc", "Free the disk of what was removed; it cannot be brought back then.")
    def run(context: Context, dry_run: bool, older_than: str) -> None:
        from quarterstore.records.store import CollectGarbage

        older = seconds("older-than", older_than)
        freed = context.client.ask(CollectGarbage(dry_run=dry_run, older=older), timeout=600.0)
        context.out(freed)
        context.say(f"{'would free' if dry_run else 'freed'} {freed.size:,} bytes")

    return run


def export() -> click.Command:
    @click.option("--all", "all_", is_flag=True, help="everything that was tracked and registered (there is no less)")
    @click.argument("folder", type=click.Path(path_type=Path))
    @command("export", "Everything that was tracked and registered, as Parquet, JSON and plain files.")
    def run(context: Context, folder: Path, all_: bool) -> None:
        from quarterdeck.cli.storing import export as write

        context.out(write(context, folder))
        context.say(f"DuckDB reads it: SELECT * FROM '{folder}/records/runs.parquet'")

    return run


def take_in() -> click.Command:
    @click.option("--from", "source", type=click.Choice(["quarterdeck", "mlflow"]), default="quarterdeck")
    @click.option("--dry-run", is_flag=True, help="only say what would be taken in")
    @click.argument("place", metavar="FOLDER|URL")
    @command(
        "import",
        "Take in what qd export wrote, as it was there, or with --from mlflow what a folder, a database or a server of "
        "MLflow holds; what is here already is left.",
    )
    def run(context: Context, place: str, source: str, dry_run: bool) -> None:
        if source == "quarterdeck":
            from quarterdeck.cli.storing import take_in as read

            context.out(read(context, Path(place), dry_run))
            return
        from quarterdeck.cli.mlflow import take_in as read_mlflow

        taken = read_mlflow(context, place, dry_run)
        context.out(taken)
        if taken.left:
            sys.exit(1)

    return run


def restore() -> click.Command:
    @click.argument("file", type=click.Path(path_type=Path))
    @command("restore", "Unpack a backup into an empty home (--home).")
    def run(context: Context, file: Path) -> None:
        from quarterdeck.cli.printing import lines
        from quarterdeck.cli.storing import restore as unpack

        lines(unpack(context.place(), file))

    return run


def undo() -> click.Command:
    @click.option("--entry", type=int, help="only if this is still your last act")
    @click.option("--skip", is_flag=True, help="leave that act as it is; the next undo takes the one before")
    @command("undo", "Take back your own last act, while it still can be.")
    def run(context: Context, entry: int | None, skip: bool) -> None:
        from quarterstore.records.store import Undo

        context.out(context.client.ask(Undo(entry=entry, skip=skip)))

    return run


def ask() -> click.Command:
    @click.argument("source", type=click.Choice(["-"]))
    @command("ask", "Messages as JSON lines on stdin, answers as JSON lines on stdout.")
    def run(context: Context, source: str) -> None:
        from quarterdeck.cli.speaking import speak

        sys.exit(speak(context))

    return run
