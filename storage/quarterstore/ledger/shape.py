"""What a kind of record is made of, as it is written: its fields with their types, and the records that are in it."""

from __future__ import annotations

import functools
import inspect
import re
import sys
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple, get_args

import msgspec

_NAMES = re.compile(r"[A-Za-z_][\w.]*")


class Written(NamedTuple):
    """The type of a field, and the module whose names it is written in."""

    text: str
    module: str


@functools.cache
def written(kind: type[msgspec.Struct]) -> dict[str, Written]:
    """The types of a record's fields by their names, in the order of the fields. Read and not evaluated: a start that
    has Python make types of them (`typing.get_type_hints`, `msgspec.json.schema`) waits 80 ms longer."""
    found = {
        name: Written(text, base.__module__)
        for base in reversed(kind.__mro__)
        for name, text in inspect.get_annotations(base).items()
    }
    return {name: found[name] for name in kind.__struct_fields__}


@functools.cache
def meant(name: str, module: str) -> Any:
    """What a name (`records.Thing`) is in a module; None for what every module knows."""
    found: Any = sys.modules[module]
    for part in name.split("."):
        found = getattr(found, part, None)
    return found


def shape_of(kinds: Iterable[type[msgspec.Struct]]) -> dict[str, dict[str, str]]:
    """The fields of these records and of all that are in them, with their types and defaults, by the record's name:
    by it a file of them is known to be of these and of no others."""
    found: dict[str, dict[str, str]] = {}
    left = list(kinds)
    while left:
        kind = left.pop()
        name = f"{kind.__module__}.{kind.__qualname__}"
        if name in found:
            continue
        found[name] = {"tag": str(kind.__struct_config__.tag), "defaults": _defaults_of(kind)}
        for field, (text, module) in written(kind).items():
            named = {each: meant(each, module) for each in _NAMES.findall(text)}
            meanings = [
                f"{each} = {what!r}" for each, what in named.items() if what is not None and not _is_record(what)
            ]
            found[name][f"field {field}"] = "; ".join([text, *meanings])
            left.extend(record for each in named.values() for record in _records_in(each))
    return found


def _defaults_of(kind: type[msgspec.Struct]) -> str:
    return msgspec.json.encode(kind.__struct_defaults__, enc_hook=_made_by).decode()


def _made_by(default: Any) -> str:
    """A default that is made anew for each record (`msgspec.field(default_factory=dict)`) by its maker's name."""
    return str(getattr(getattr(default, "factory", default), "__qualname__", type(default).__qualname__))


def _records_in(found: Any) -> Iterator[type[msgspec.Struct]]:
    if _is_record(found):
        yield found
    for part in get_args(found):
        yield from _records_in(part)


def _is_record(found: Any) -> bool:
    return isinstance(found, type) and issubclass(found, msgspec.Struct)
