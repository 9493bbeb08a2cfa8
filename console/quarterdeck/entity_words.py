"""Words of a person as keys and rows of a feature view."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from quarterstore.records.faults import Invalid, got, missing
from quarterstore.records.features import FeatureView, Key

WORDS = {"true": True, "yes": True, "false": False, "no": False}


def keys_of(view: FeatureView, texts: Sequence[str]) -> tuple[dict[str, Any], ...]:
    """An entity each: `customer=7`, `customer=7,region=eu`, JSON, or the value alone where there is one key and
    no = in the value."""
    return tuple(_key(view.keys, text) for text in texts)


def _key(keys: Sequence[Key], text: str) -> dict[str, Any]:
    if text.startswith("{"):
        return object_of(text, "key")
    names = [key.name for key in keys]
    if len(keys) == 1 and not text.startswith(f"{names[0]}="):
        if "=" in text:  # a name that was mistyped would else be looked up as a value, and not be found
            raise _of_another_name(names[0], text)
        return {names[0]: _value(keys[0].kind, text)}
    parts = [text] if len(keys) == 1 else text.split(",")
    found = {}
    for part in parts:
        name, mark, value = part.partition("=")
        if not mark or name not in names:
            raise got("key", text, ",".join(f"{each}=VALUE" for each in names))
        found[name] = _value(keys[names.index(name)].kind, value)
    return found


def _of_another_name(name: str, text: str) -> Invalid:
    value = text.partition("=")[2]
    todo = f"say {name}={value}, or {name}={text} where the value itself has a ="
    return Invalid(got("key", text, f"{name}=VALUE").message, field="key", next=todo)


def row_of(view: FeatureView, key: str, values: Sequence[str], at: str | None) -> dict[str, Any]:
    """One row: its key, `NAME=VALUE` for each feature (nothing behind the mark is null), and its event time."""
    kinds = {each.name: each.kind for each in view.features}
    row = _key(view.keys, key)
    for text in values:
        name, mark, value = text.partition("=")
        if not mark:
            raise got("value", text, "NAME=VALUE")
        if name not in kinds:
            raise missing("value", name, kinds)
        row[name] = None if value == "" else _value(kinds[name], value)
    if at is not None:
        row[view.event_time] = at
    return row


def _value(kind: str, text: str) -> Any:
    """A word as its kind; one that is none goes as it is, and the daemon names it."""
    try:
        if kind == "integer":
            return int(text)
        if kind == "number":
            return float(text)
    except ValueError:
        return text
    return WORDS.get(text.lower(), text) if kind == "boolean" else text


def object_of(text: str | bytes, field: str) -> dict[str, Any]:
    """JSON of an object; a fault names the field that it is of."""
    try:
        return msgspec.json.decode(text, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeError) as error:
        raise got(field, f"no JSON object ({error})", '{"NAME": VALUE, ...}') from None
