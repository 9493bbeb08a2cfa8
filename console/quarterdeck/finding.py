"""What a person writes to find runs, as one expression: theirs as it stands, a plain text as what is looked for in
id, name and experiment."""

from __future__ import annotations

import re

_expression = re.compile(r"[<>=]|\bis\s+(not\s+)?null\b|\bi?like\s*['\"]|\bin\s*\(", re.IGNORECASE)
_plain = re.compile(r"[^\W\d][\w/\-]*(\.[\w/\-]+)*\Z")


def is_expression(text: str) -> bool:
    """Whether it compares something; else it is a text that is looked for."""
    return _expression.search(text) is not None


def expression(where: str, state: str | None = None, text: str = "") -> str:
    """One expression of what was given; texts quoted, so that they are never words of it."""
    if not state and not text:
        return where
    parts = [f"({where})"] if where.strip() else []
    if state:
        parts.append(f"state = {quoted(state.upper())}")
    if text:
        likes = (f"{column} ilike {quoted(f'%{text}%')}" for column in ("id", "name", "experiment"))
        parts.append(f"({' or '.join(likes)})")
    return " and ".join(parts)


def quoted(text: str) -> str:
    """A text as a value of an expression."""
    return "'" + text.replace("\\", "\\\\").replace("'", "''") + "'"


def column(kind: str, name: str) -> str:
    """A column as an expression names it: ``metrics.acc``, ``params.`batch size` ``."""
    if _plain.match(name):
        return f"{kind}.{name}"
    if "`" not in name:
        return f"{kind}.`{name}`"
    return f'{kind}."' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'
