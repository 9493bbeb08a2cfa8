"""The generated commands: `qd <noun> <verb>` for every message a person may ask, made from its class when it is
needed."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, get_args, get_origin, get_type_hints

import click
import msgspec

from quarterdeck.cli.context import Context, global_options
from quarterstore.records.faults import Invalid
from quarterstore.records.misfits import misfit, refuse_unknown

HIDDEN = ("store.put_blob", "store.get_blob", "runs.log_metrics", "store.replay", "runs.beat")
ALONE = "alone_"
"""The parameter of the only value that a message needs, given without its option."""
WIDEST_CHOICES = 50
"""Choices that stand in an option's own line; more of them are its help, which is folded."""


def askable() -> dict[str, dict[str, type]]:
    """Noun -> verb -> message class, for what people may ask."""
    from quarterstore.records.base import tag_of
    from quarterstore.records.messages import ASKABLE

    found: dict[str, dict[str, type]] = {}
    for kind in ASKABLE:
        tag = tag_of(kind)
        if kind.role != "daemon" and tag not in HIDDEN:  # type: ignore[attr-defined]
            noun, _, verb = tag.partition(".")
            found.setdefault(noun, {})[verb.replace("_", "-")] = kind
    return found


def command_of(kind: type, verb: str) -> click.Command:
    """A command whose options are the fields of a message; the only one that it needs may also stand alone, where it is
    a text: `qd predictions show ID`."""
    hints = get_type_hints(kind)
    fields = msgspec.structs.fields(kind)
    parameters: list[click.Parameter] = [_option(field, hints[field.name]) for field in fields]
    needed = [option for option in parameters if option.required]
    only = (
        needed[0] if len(needed) == 1 and needed[0].type is click.STRING and _is_text(hints[needed[0].name]) else None
    )
    if only is not None:
        only.required = False
        parameters.append(click.Argument([ALONE], required=False, metavar=f"[{only.name.upper()}]"))

    def run(**given: Any) -> None:
        click_context = click.get_current_context()
        context = click_context.find_object(Context)
        assert context is not None
        if only is not None:
            alone = given.pop(ALONE)
            if (alone is None) == (given[only.name] is None):
                words = f"{only.opts[0]}: got {'nothing' if alone is None else 'it twice'}, expected it once"
                raise click.UsageError(words, click_context)
            given[only.name] = given[only.name] if alone is None else alone
        context.out(
            context.client.ask(message_of(kind, {name: value for name, value in given.items() if value is not None}))
        )

    help_text = " ".join(inspect.getdoc(kind).split()) if kind.__doc__ else ""  # type: ignore[union-attr]
    return global_options(click.Command(verb, callback=run, params=parameters, help=help_text))  # type: ignore[no-any-return]


def message_of(kind: type, given: dict[str, Any]) -> Any:
    """A message from texts: numbers and booleans as they are written, everything nested as JSON."""
    hints = get_type_hints(kind)
    values: dict[str, Any] = {}
    for name, value in given.items():
        if isinstance(value, str) and name in hints and not _is_text(hints[name]):
            try:
                value = msgspec.json.decode(value.encode())
            except msgspec.DecodeError as error:
                raise Invalid(f"got {value[:100]}, expected JSON ({error})", field=name) from error
        values[name] = value
    _refuse_unknown(kind, values)
    try:
        return msgspec.convert(values, kind, strict=False)
    except msgspec.ValidationError as error:
        raise misfit(kind, str(error)) from error


def _refuse_unknown(kind: type, values: dict[str, Any]) -> None:
    """What a person wrote is looked at whole, the act inside a schedule or a proposal too."""
    from quarterstore.records.messages import BY_TAG

    refuse_unknown(kind, values)
    act = values.get("act")
    if isinstance(act, dict) and (inner := BY_TAG.get(str(act.get("type")))):
        refuse_unknown(inner, act, "act")


def _option(field: Any, hint: Any) -> click.Option:
    flag = f"--{field.name.replace('_', '-')}"
    plain = _plain(hint)
    required = field.required
    if plain is bool:
        return click.Option([f"{flag}/--no-{field.name.replace('_', '-')}", field.name], default=None)
    kind: Any = {int: click.INT, float: click.FLOAT}.get(plain, click.STRING)
    literal = (
        get_args(plain)
        if get_origin(plain) is not None and all(isinstance(each, str) for each in get_args(plain))
        else ()
    )
    if literal:
        kind = click.Choice(literal)
    words = None if _is_text(hint) or plain in (int, float) or literal else "JSON"
    many = len("|".join(literal)) > WIDEST_CHOICES
    return click.Option(
        [flag, field.name],
        type=kind,
        required=required,
        help=", ".join(literal) if many else words,
        metavar="ONE" if many else None,
    )


def _plain(hint: Any) -> Any:
    options = [each for each in get_args(hint) if each is not type(None)]
    return options[0] if len(options) == 1 and type(None) in get_args(hint) else hint


def _is_text(hint: Any) -> bool:
    plain = _plain(hint)
    arguments = get_args(plain)
    return plain is str or (bool(arguments) and all(isinstance(each, str) for each in arguments))


class Noun(click.Group):
    """The verbs of one noun, made when they are looked for."""

    def __init__(
        self,
        name: str,
        extra: dict[str, Callable[[], click.Command]] | None = None,
        alone: Callable[[], click.Command] | None = None,
    ) -> None:
        def without_verb() -> None:
            context = click.get_current_context()
            if alone is not None and context.invoked_subcommand is None:
                context.invoke(alone())

        super().__init__(
            name,
            help=f"every act and query of {name}",
            callback=without_verb,
            invoke_without_command=alone is not None,
        )
        self._extra = extra or {}

    def list_commands(self, context: click.Context) -> list[str]:
        return sorted({*askable().get(self.name or "", {}), *self._extra})

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        if name in self._extra:
            return self._extra[name]()
        kind = askable().get(self.name or "", {}).get(name)
        return command_of(kind, name) if kind is not None else None

    def resolve_command(self, context: click.Context, args: list[str]) -> Any:
        found = self.get_command(context, args[0]) if args else None
        if found is None and args and args[0].endswith(".toml") and "run" in self._extra:
            return super().resolve_command(context, ["run", *args])  # `qd tune t.toml`: a definition is there to be run
        if found is None and args and not args[0].startswith("-"):
            from quarterdeck.cli.tried import unknown

            raise click.UsageError(unknown(args[0], self.list_commands(context), self.name or ""), context)
        return super().resolve_command(context, args)
