"""A record that does not take what it was given, said with the field, what was found and what fits."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import msgspec

from quarterstore.records.faults import Invalid, got
from quarterstore.records.names import drawn


def misfit(kind: type, words: str, given: Any = None) -> Invalid:
    """msgspec's words for a field that does not fit (`… - at `$.stage``), as a fault of that field; where what was
    `given` is at hand, the entry of a table (`views[...].ttl`) is named (`views.usage.ttl`)."""
    what, _, path = words.partition(" - at `$")
    place = path.strip("`.")
    field = (_named(kind, given, place) if isinstance(given, dict) and "[...]" in place else place) or "message"
    if lacking := re.fullmatch(r"Object missing required field `(.+)`", what):
        return got(lacking[1] if field == "message" else f"{field}.{lacking[1]}", "nothing", "a value")
    enum = re.fullmatch(r"Invalid enum value '?(.*?)'?", what, re.DOTALL)
    if enum and (known := [value for hint in _hints_at(kind, place) for value in _literals(hint)]):
        by_small = {name.lower(): name for name in known}
        near = difflib.get_close_matches(enum[1].lower(), by_small, n=3, cutoff=0.5)
        return Invalid(
            f"got {drawn(enum[1], longest=100)}, expected {', '.join(known)}",
            field=drawn(field, longest=100),
            nearest=[by_small[name] for name in near],
        )
    if wrong := re.fullmatch(r"Expected `(.+)`, got `(.+)`", what):
        return got(drawn(field, longest=100), wrong[2], wrong[1])
    return Invalid(drawn(what[:1].lower() + what[1:], longest=200), field=drawn(field, longest=100))


def refuse_unknown(kind: Any, given: Any, at: str = "") -> None:
    """Raise for the first name in `given`, at any depth, that no field of `kind` has. For what a person wrote: msgspec
    passes over unknown fields, as a reader of the wire has to."""
    for hint in _parts(kind):
        origin, inner = get_origin(hint), get_args(hint)
        if isinstance(given, dict) and _is_record(hint):
            _refuse_in(hint, given, at)
        elif isinstance(given, dict) and origin is dict:
            for name, value in given.items():
                refuse_unknown(inner[1], value, f"{at}.{name}" if at else str(name))
        elif isinstance(given, list | tuple) and origin in (list, tuple):
            for place, value in enumerate(given):
                refuse_unknown(inner[0], value, f"{at}[{place}]")


def _refuse_in(kind: Any, given: dict[Any, Any], at: str) -> None:
    hints = get_type_hints(kind)
    known = [field.encode_name for field in msgspec.structs.fields(kind)]
    tag = kind.__struct_config__.tag_field
    for name, value in given.items():
        place = f"{at}.{name}" if at else str(name)
        if name in known:
            refuse_unknown(hints[name], value, place)
        elif name != tag:
            raise unknown_name(place, str(name), known)


def unknown_name(field: str, name: str, known: Iterable[str]) -> Invalid:
    """`Invalid` for a name that nothing has, with those it may have been meant for: up to three that exist."""
    names = list(known)
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.3) or names[:3]
    return Invalid(
        f"got {drawn(name, longest=100)}, expected {'one of ' if names else 'nothing'}{', '.join(names)}",
        field=drawn(field, longest=100),
        nearest=near,
    )


def _is_record(hint: Any) -> bool:
    return isinstance(hint, type) and issubclass(hint, msgspec.Struct)


def _parts(hint: Any) -> tuple[Any, ...]:
    """The members of a union, or the hint itself."""
    return get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)


def _hints_at(kind: type, path: str) -> Iterator[Any]:
    """The types that a place such as `split.by`, `roles[0]` or `objectives[...]` (of a table) may have."""
    found: list[Any] = [kind]
    for step in re.findall(r"\.\.\.|[^.\[\]]+", path):
        parts = [part for hint in found for part in _parts(hint)]
        found = [
            get_type_hints(part)[step]
            if _is_record(part) and step in part.__struct_fields__
            else (get_args(part) or (None,))[-1 if get_origin(part) is dict else 0]
            for part in parts
            if part is not type(None)
        ]
    yield from found


def _named(kind: type, given: Any, path: str) -> str:
    """A place with the names of its tables' entries: of each the first that does not fit."""
    before, _, after = path.partition("[...]")
    for step in re.findall(r"[^.\[\]]+", before):
        given = given[int(step) if isinstance(given, list) else step]
    for name, value in given.items():
        for hint in _hints_at(kind, f"{before}[...]"):
            try:
                msgspec.convert(value, hint)
            except msgspec.ValidationError:
                rest = _named(hint, value, after.removeprefix(".")) if "[...]" in after else after.removeprefix(".")
                place = f"{before}.{name}".removeprefix(".")
                return f"{place}.{rest}" if rest and not rest.startswith("[") else place + rest
    return path


def _literals(hint: Any) -> list[str]:
    """The values of a Literal, also inside an optional."""
    found = [value for part in _parts(hint) if get_origin(part) is Literal for value in get_args(part)]
    return [value for value in found if isinstance(value, str)]
