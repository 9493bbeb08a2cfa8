"""What every command shares: whose daemon, who asks, how answers are printed; errors become one line and an exit
code."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

if TYPE_CHECKING:
    from quarterdeck.client import Client


class Context:
    """The global options, and the client they lead to (made when it is first needed)."""

    def __init__(self) -> None:
        self.home: str | None = None
        self.caller: str | None = None
        self.json = False
        self.timeout = 30.0
        self.quiet = False
        self._client: Client | None = None

    @property
    def client(self) -> Client:
        """The connection of this command."""
        if self._client is None:
            from quarterdeck.client import connect

            self._client = connect(self.home, self.caller, self.timeout)
        return self._client

    def place(self) -> Any:
        """The home that was asked for."""
        from quarterstore.records.places import Home, default_home

        return Home(Path(self.home) if self.home else default_home())

    def out(self, answer: Any, columns: tuple[str, ...] = ()) -> None:
        """Print an answer as data."""
        from quarterdeck.cli.printing import out

        out(answer, self.json, columns)

    def say(self, words: str) -> None:
        """Talk on stderr, unless told to be quiet."""
        if not self.quiet:
            from quarterdeck.cli.printing import say

            say(words)


def exit_with(fault: Any) -> NoReturn:
    """A fault as one line on stderr and its exit code."""
    from quarterstore.records.faults import MEANINGS
    from quarterstore.records.names import drawn

    print(f"error: {drawn(' '.join(fault.line().split()))}", file=sys.stderr)
    for line in fault.pointed():
        print(f"  {drawn(line)}", file=sys.stderr)
    code = next((MEANINGS[kind].exit for kind in type(fault).__mro__ if kind in MEANINGS), 1)
    sys.exit(code)


def _usage(error: click.UsageError) -> str:
    """What was wrong with the words of a command."""
    words = " ".join(error.format_message().split()).rstrip(".")
    if isinstance(error, click.exceptions.NoArgsIsHelpError) or words == "Missing command":
        words = "got no verb"
    if words == "got no verb" and error.ctx and isinstance(error.ctx.command, click.Group):
        return f"got no verb, expected one of {', '.join(error.ctx.command.list_commands(error.ctx))}"
    return words


def guarded(run: Callable[[], Any]) -> int:
    """Run the command line: faults, usage errors and ctrl-C become their codes, nothing becomes a traceback."""
    from quarterstore.records.faults import Fault
    from quarterstore.records.names import drawn

    try:
        run()
    except Fault as fault:
        exit_with(fault)
    except click.UsageError as error:
        command = error.ctx.command_path if error.ctx else "qd"
        print(f"error: {command}: {_usage(error)}; see {command} --help", file=sys.stderr)
        return 2
    except click.exceptions.Exit as error:
        return int(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        print("interrupted; what runs in the daemon goes on", file=sys.stderr)
        return 130
    except BrokenPipeError:
        return 0
    except UnicodeError as error:
        given = drawn(str(getattr(error, "object", error)), longest=60)
        print(f"error: text: got {given}, expected UTF-8", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"error: {error.filename or 'file'}: got {error.strerror}, expected to read or write it", file=sys.stderr)
        return 2
    return 0


def global_options(command: Any) -> Any:
    """The options that every command takes, wherever they stand in the line."""

    def keep(name: str) -> Callable[[click.Context, click.Parameter, Any], Any]:
        def callback(context: click.Context, parameter: click.Parameter, value: Any) -> Any:
            if value is not None and value is not False:
                setattr(context.ensure_object(Context), name, value)
            return value

        return callback

    for option in (
        click.option("--home", expose_value=False, callback=keep("home"), help="the daemon's home"),
        click.option("--as", "caller", expose_value=False, callback=keep("caller"), help="whose key to ask with"),
        click.option("--json", "json_", is_flag=True, expose_value=False, callback=keep("json"), help="JSON lines"),
        click.option(
            "--timeout",
            type=click.FloatRange(min=0, min_open=True),
            expose_value=False,
            callback=keep("timeout"),
            help="seconds to wait",
        ),
        click.option("-q", "--quiet", is_flag=True, expose_value=False, callback=keep("quiet"), help="no talk"),
        click.option("--no-color", is_flag=True, expose_value=False, help="accepted; output has no colour"),
    ):
        command = option(command)
    return command


here = click.make_pass_decorator(Context, ensure=True)
