"""A record that does not take what it was given, said with the field, what was found and what fits."""

from __future__ import annotations

import difflib
import re
from typing import Any, get_args, get_type_hints

from quarterstore.records.faults import Invalid, got
from quarterstore.records.names import drawn


def misfit(kind: type, words: str) -> Invalid:
    """msgspec's words for a field that does not fit (`… - at `$.stage``), as a fault of that field."""
    what, _, path = words.partition(" - at `$")
    field = path.strip("`.") or "message"
    if lacking := re.fullmatch(r"Object missing required field `(.+)`", what):
        return got(lacking[1] if field == "message" else f"{field}.{lacking[1]}", "nothing", "a value")
    hints = get_type_hints(kind)
    if (enum := re.fullmatch(r"Invalid enum value '?(.*?)'?", what, re.DOTALL)) and field in hints:
        known = [str(value) for value in _literals(hints[field])]
        by_small = {name.lower(): name for name in known}
        near = difflib.get_close_matches(enum[1].lower(), by_small, n=3, cutoff=0.5)
        return Invalid(
            f"got {drawn(enum[1], longest=100)}, expected {', '.join(known)}",
            field=field,
            nearest=[by_small[name] for name in near],
        )
    if wrong := re.fullmatch(r"Expected `(.+)`, got `(.+)`", what):
        return got(drawn(field, longest=100), wrong[2], wrong[1])
    return Invalid(drawn(what[:1].lower() + what[1:], longest=200), field=drawn(field, longest=100))


def _literals(hint: Any) -> tuple[Any, ...]:
    """The values of a Literal, also inside an optional."""
    return tuple(value for part in get_args(hint) for value in (get_args(part) or (part,)) if isinstance(value, str))
