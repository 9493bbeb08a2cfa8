"""`quarterdeck` and `qd`: the console without words, the command line with them."""

from __future__ import annotations

import sys
from typing import Any

import click

from quarterdeck.cli import short
from quarterdeck.cli.context import Context, global_options, guarded

NOUNS = {
    "experiments": "named collections of runs",
    "models": "the names of models, their descriptions, tags and aliases",
    "search": "runs by an expression, searches kept under a name",
    "packages": "what was installed where a run ran",
    "logged_models": "model folders that runs made",
    "registry": "models, versions, stages",
    "datasets": "files of rows",
    "checks": "what rows have to be, and whether they are",
    "features": "values of entities over time, as they were known",
    "online": "features as serving hosts read them",
    "pipelines": "definitions and their runs",
    "studies": "spaces of parameters searched by trials",
    "schedules": "acts that the clock speaks",
    "jobs": "work in child processes",
    "deployments": "who answers where",
    "trials": "shadow, A/B and bandit beside the live version",
    "predictions": "what was asked and answered",
    "batches": "files of rows answered in a job",
    "streams": "messages in and out over ZeroMQ, at least once",
    "replays": "recorded traffic answered again by another version",
    "drills": "rollbacks rehearsed in a sandbox",
    "outcomes": "labels and other outcomes, joined to the predictions",
    "monitoring": "drift, alerts",
    "ct": "continuous training: triggers, retrains, why not",
    "compression": "smaller children, measured",
    "hooks": "programs and receivers told of what happens",
    "remotes": "other decks that versions are sent to, senders whose bundles are taken",
    "governance": "gates, approvals, audit",
    "people": "keys and roles",
    "retention": "limits of what is kept, holds",
    "store": "status, backup, undo",
    "transfer": "export and import",
}


class Words(click.Group):
    """Short forms first, then the generated commands of each noun; nothing is made before it is asked for."""

    def list_commands(self, context: click.Context) -> list[str]:
        return [*short.HELP, *(noun for noun in NOUNS if noun not in short.HELP)]

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        if f"{name}s" in NOUNS and name not in (*short.COMMANDS, *short.GROUPS):  # `qd prediction show ID`
            name = f"{name}s"
        if name in short.COMMANDS:
            return short.COMMANDS[name]()
        if name == "runs":
            return self._runs()
        if name in NOUNS or name in short.GROUPS:
            from quarterdeck.cli.generated import Noun

            more = short.GROUPS[name]() if name in short.GROUPS else None
            noun: click.Command = global_options(Noun(name, more, short.ALONE.get(name)))
            return noun
        return None

    def _runs(self) -> click.Command:
        """`qd runs` lists; with a verb behind it, it is the noun."""
        words = [word for word in sys.argv[1:] if not word.startswith("-")]
        verb = words[words.index("runs") + 1] if "runs" in words[:-1] else ""
        from quarterdeck.cli.generated import Noun, askable

        found: click.Command = global_options(Noun("runs")) if verb in askable()["runs"] else short.runs()
        return found

    def resolve_command(self, context: click.Context, args: list[str]) -> Any:
        if args and self.get_command(context, args[0]) is None:
            from quarterdeck.cli.tried import unknown

            raise click.UsageError(unknown(args[0], self.list_commands(context)), context)
        return super().resolve_command(context, args)

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        """From two small tables, so that --help makes no command (60 ms against 250)."""
        with formatter.section("Commands"):
            formatter.write_dl(list(short.HELP.items()))
        with formatter.section("Every act and query, by noun (qd NOUN --help)"):
            formatter.write_dl(list(NOUNS.items()))


def _version(context: click.Context, parameter: click.Parameter, value: bool) -> None:
    if value:
        from importlib.metadata import version

        print(f"quarterdeck {version('quarterdeck')}")
        context.exit(0)


def _root(context: click.Context) -> None:
    found = context.ensure_object(Context)
    if context.invoked_subcommand is not None:
        return
    if not sys.stdout.isatty():
        print("error: qd: got no command and no terminal, expected one of them; see qd --help", file=sys.stderr)
        context.exit(3 if not found.place().ask_socket.exists() else 2)
    from quarterdeck.keys import own_name
    from quarterdeck.tui.app import open_console

    context.exit(open_console(found.place(), found.caller or own_name()))


def command() -> click.Command:
    """The root of the command line."""
    root: Any = Words(
        "qd",
        callback=click.pass_context(_root),
        invoke_without_command=True,
        help="Quarterdeck: one model's whole life. Without a command it opens the console.",
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    )
    root = click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_version)(root)
    made: click.Command = global_options(root)
    return made


def main() -> int:
    """Run; the exit code is that of the fault, if any."""
    return guarded(lambda: command().main(prog_name="qd", standalone_mode=False))


if __name__ == "__main__":
    sys.exit(main())
