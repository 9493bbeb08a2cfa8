"""Records on stdout: an aligned table for people, JSON with a schema version for programs."""

from __future__ import annotations

import shutil
import sys
import textwrap
import time
import unicodedata
from collections.abc import Sequence
from typing import Any

import msgspec

from quarterstore.records.names import drawn
from quarterstore.records.runs import Curve

SCHEMA = 1
TIMES = {
    "added",
    "at",
    "created",
    "started",
    "ended",
    "since",
    "until",
    "asked",
    "decided",
    "opened",
    "changed",
    "next",
    "last",
    "expires",
    "heard",
    "updated",
    "removed",
    "acked",
    "due",
    "freed",
    "resolved",
    "revoked",
    "restarts",
}
WIDEST = 60
LONGEST_ID = 24
"""What is as wide as an id stays whole where a terminal is too narrow for a table."""
NARROWEST = 12
EMPTY: tuple[Any, ...] = (None, "", [], {}, ())
LINE = 160
WRAPPED = 100
MOST_TEXT = 2000
MOST = 20
"""Records of a list that are shown to a person."""


def out(answer: Any, as_json: bool, columns: Sequence[str] = ()) -> None:
    """Print an answer: a list as rows, a record as lines of name and value."""
    if as_json:
        for record in answer if isinstance(answer, list) else [answer]:
            print(json_line(record))
    elif isinstance(answer, list) and answer and isinstance(answer[0], Curve):
        table(points(answer))
    elif isinstance(answer, list) and answer and isinstance(answer[0], str):
        for line in answer:
            print(drawn(line.expandtabs(4), longest=MOST_TEXT))
    elif isinstance(answer, list):
        table([row(record) for record in answer], columns)
    elif isinstance(answer, msgspec.Struct):
        lines(plain(answer))
    elif answer is not None:
        print(drawn(str(answer)))


def row(record: Any) -> dict[str, Any]:
    """A record as a row of a list; a part that says in words what was found stands behind the id, as those words."""
    if not isinstance(record, msgspec.Struct):
        return {"value": record}
    fields = plain(record)
    said = {name: value["words"] for name, value in fields.items() if isinstance(value, dict) and "words" in value}
    first = next(iter(fields))
    return {first: fields[first], **said, **{name: value for name, value in fields.items() if name not in said}}


def points(curves: Sequence[Curve]) -> list[dict[str, Any]]:
    """A row a point, curve by curve, each in its own order."""
    return [
        {"key": curve.key, "step": step, "value": value, "at": at}
        for curve in curves
        for step, value, at in zip(curve.steps, curve.values, curve.times, strict=True)
    ]


def plain(record: Any) -> dict[str, Any]:
    """A record as a dict, floats kept."""
    found: dict[str, Any] = msgspec.to_builtins(record)
    return found


def json_line(record: Any) -> str:
    """One JSON object with `schema_version`; NaN and infinities as text, because JSON has none."""
    fields = msgspec.to_builtins(record) if isinstance(record, msgspec.Struct) else {"value": record}
    text = msgspec.json.encode({"schema_version": SCHEMA, **_finite(fields)}).decode()
    return text if drawn(text) == text else "".join(map(_escaped, text))


def _escaped(char: str) -> str:
    """A character as JSON may also write it, when a terminal would obey it (JSON itself only escapes below U+0020)."""
    if drawn(char) == char:
        return char
    code = ord(char)
    if code < 0x10000:
        return f"\\u{code:04x}"
    return f"\\u{0xD800 + ((code - 0x10000) >> 10):04x}\\u{0xDC00 + ((code - 0x10000) & 0x3FF):04x}"


def _finite(value: Any) -> Any:
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return str(value)
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return value


def say(words: str) -> None:
    """Talk: on stderr, so that stdout stays data."""
    print(drawn(words), file=sys.stderr)


def lines(fields: dict[str, Any]) -> None:
    """Name and value on a line each; a list of records a line each below it, in short: `--json` has all of it."""
    width = max((len(name) for name in fields), default=0)
    room = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    for name, value in fields.items():
        if value in EMPTY:
            continue
        first, *more = [part for line in nested(name, value) for part in folded(line, room and room - width - 2)]
        print(f"{name:<{width}}  {first}")
        for line in more:
            print(f"{'':<{width}}  {line}")


def folded(line: str, room: int | None) -> list[str]:
    """A line as it fits a terminal's room, broken between words, what goes on a little further in."""
    if room is None or wide(line) <= room or room < NARROWEST:
        return [line]
    start = " " * (len(line) - len(line.lstrip()) + 2)
    return textwrap.wrap(line, room, subsequent_indent=start, drop_whitespace=True, break_on_hyphens=False)


def nested(name: str, value: Any) -> list[str]:
    """A value as lines: what a record holds on one line where it fits, else each on its own, texts whole; records of a
    list a line each; other lists as JSON that is cut; a text of several lines line by line."""
    if isinstance(value, str) and "\n" in value.strip("\n"):
        return [drawn(line) for line in value.strip("\n").expandtabs(4).splitlines()]
    if isinstance(value, dict):
        return _below({key: shown(name, one, WIDEST) for key, one in value.items()} if name in TIMES else value)
    if isinstance(value, list | tuple) and all(isinstance(one, dict) for one in value):
        more = [f"and {len(value) - MOST} more (--json has them)"] if len(value) > MOST else []
        return [_joined(one) for one in value[:MOST]] + more
    if isinstance(value, list | tuple):
        return [drawn(", ".join(shown(name, one, WIDEST) for one in value), longest=4 * LINE)]
    return [shown(name, value, MOST_TEXT)]


def _below(fields: dict[str, Any]) -> list[str]:
    deep = any(isinstance(one, dict | list | tuple) for one in fields.values())
    whole = ", ".join(f"{name} {shown(name, value, MOST_TEXT)}" for name, value in fields.items() if value not in EMPTY)
    if not deep and len(whole) <= WRAPPED:
        return [whole]
    found: list[str] = []
    for name, value in fields.items():
        if isinstance(value, dict) and value:
            first, *more = _below(value)
            found += [f"{name} {first}", *(f"  {line}" for line in more)]
        elif value not in EMPTY:
            longest = WIDEST if isinstance(value, list | tuple) else MOST_TEXT
            found += textwrap.wrap(f"{name} {shown(name, value, longest)}", WRAPPED, subsequent_indent="  ")
    return found or [""]


def _pairs(fields: dict[str, Any]) -> list[str]:
    return [f"{name} {shown(name, value, WIDEST)}" for name, value in fields.items() if value not in EMPTY]


def _joined(fields: dict[str, Any]) -> str:
    return drawn(", ".join(_pairs(fields)), longest=LINE)


def table(rows: Sequence[dict[str, Any]], columns: Sequence[str] = (), headings: dict[str, str] | None = None) -> None:
    """Aligned columns under their names, or the headings given for them; width counts what a terminal draws, not
    characters."""
    if not rows:
        say("none")
        return
    names = list(columns) or [name for name, value in rows[0].items() if not isinstance(value, dict | list)][:8]
    room = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    longest = max(WIDEST, room or 0)  # what has room on a terminal is not cut
    cells = [[shown(name, row.get(name), longest) for name in names] for row in rows]
    heads = [drawn((headings or {}).get(name, name.upper()), longest=WIDEST) for name in names]
    widths = _widths(heads, cells)
    if room is not None:
        fits = fitting(widths, room)
        if fits < len(names):
            say(f"{', '.join(names[fits:])}: no room here, --json has all")
            heads, widths, cells = heads[:fits], widths[:fits], [line[:fits] for line in cells]
        most = narrowed(widths, room)
        cells = [[drawn(text, longest=width) for text, width in zip(line, most, strict=True)] for line in cells]
        widths = _widths(heads, cells)
    print("  ".join(pad(head, width) for head, width in zip(heads, widths, strict=True)).rstrip())
    for line in cells:
        print("  ".join(pad(text, width) for text, width in zip(line, widths, strict=True)).rstrip())


def _widths(heads: list[str], cells: list[list[str]]) -> list[int]:
    return [max(wide(text) for text in (head, *(line[index] for line in cells))) for index, head in enumerate(heads)]


def narrowed(widths: list[int], room: int) -> list[int]:
    """What each column may take for a table to fit: the wide texts give way together, down to one width, nothing as
    short as an id does. One that cannot fit stays whole: a cut would cost words and win no line."""
    for most in range(max(widths, default=0), NARROWEST - 1, -1):
        found = [min(width, most) if width > LONGEST_ID else width for width in widths]
        if sum(found) + 2 * (len(found) - 1) <= room:
            return found
    return list(widths)


def fitting(widths: list[int], room: int) -> int:
    """How many columns a terminal has room for, once the wide ones gave way: at least two, whatever they take."""
    count = len(widths)
    while count > 2 and sum(narrowed(widths[:count], room)) + 2 * (count - 1) > room:
        count -= 1
    return count


def shown(name: str, value: Any, longest: int) -> str:
    """A value as one safe line."""
    if value is None:
        return "-"
    if isinstance(value, float) and (name in TIMES or name.endswith(("_since", "_at"))):
        return _moment(value)
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, dict | list | tuple):
        value = msgspec.json.encode(_finite(value)).decode()
    return drawn(str(value).replace("\n", " "), longest=longest)


def _moment(at: float) -> str:
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))
    except (OverflowError, ValueError, OSError):  # a time that no calendar has, from another store or an older one
        return f"{at:.6g}"


def wide(text: str) -> int:
    """Columns a text takes in a terminal (Unicode TR 11: wide and full width count two, combining none)."""
    return sum(
        0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text
    )


def pad(text: str, width: int) -> str:
    """A text filled up to a width."""
    return text + " " * max(0, width - wide(text))


class ProgressBar:
    """A bar on stderr when that is a terminal, else nothing."""

    def __init__(self) -> None:
        self._on = sys.stderr.isatty()

    def show(self, step: str, fraction: float | None, words: str) -> None:
        """Draw anew."""
        if not self._on:
            return
        filled = round((fraction or 0.0) * 24)
        line = f"{step:<10} {'█' * filled}{'░' * (24 - filled)} {words}"
        print(f"\r\x1b[K{drawn(line, longest=100)}", end="", file=sys.stderr, flush=True)

    def done(self) -> None:
        """Leave an empty line."""
        if self._on:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
