"""The YAML of MLflow's `meta.yaml` files: names with scalars, one level of names below a name, and nothing else."""

from __future__ import annotations

import re

from quarterstore.records.faults import got

Scalar = str | int | float | bool | None
Meta = dict[str, "Scalar | dict[str, Scalar]"]
DEEPEST = 2
EXPECTED = "the YAML that MLflow writes"

_entry = re.compile(
    r"(?P<key>'(?:[^']|'')*'|[^\s'\"\[\]{},&*!|>%@`#?:-](?:[^:#\n]|:(?! |\Z)|(?<! )#)*):(?: +(?P<rest>.*))?\Z"
)
_breaks = re.compile("[\r\x00-\x08\x0b-\x1f\x7f\x85\u2028\u2029\ufeff]")
_whole = re.compile(r"-?(?:0|[1-9][0-9]*)\Z")
_broken = re.compile(r"-?[0-9]+\.[0-9]*(?:e[+-][0-9]+)?\Z")
_other = re.compile(
    r"(?:~|null|true|false|yes|no|on|off|<<|=|[-+]?0b[01_]+|[-+]?0x[0-9a-f_]+|[-+]?[0-9][0-9_]*(?:(?::[0-5]?[0-9])+|)|"
    r"[-+]?(?:[0-9][0-9_:]*\.[0-9_]*|\.[0-9][0-9_]*)(?:e[-+][0-9]+)?|[-+]?\.(?:inf|nan)|\d{4}-\d\d?-\d\d?.*)\Z",
    re.IGNORECASE,
)
"""Plain words that some reader of YAML takes for no text: written in quotes, and in no other way, by MLflow."""
_marks = tuple("&*!|>%@`\"'[]{},#")
_escape = re.compile(r"\\(?:x([0-9A-Fa-f]{2})|u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8})|(.))", re.DOTALL)
_escapes = {
    "0": "\0",
    "a": "\a",
    "b": "\b",
    "t": "\t",
    "n": "\n",
    "v": "\v",
    "f": "\f",
    "r": "\r",
    "e": "\x1b",
    " ": " ",
    '"': '"',
    "/": "/",
    "\\": "\\",
    "N": "\x85",
    "_": "\xa0",
    "L": "\u2028",
    "P": "\u2029",
}


def parsed(text: str) -> Meta:
    """The names and values of a file. `Invalid` for whatever MLflow's writer does not make: links, types, lists,
    comments, two of one name."""
    if found := _breaks.search(text):
        raise got("yaml", repr(found.group()), EXPECTED)
    lines = text.split("\n")
    while lines and not lines[-1]:
        lines.pop()
    if any(line.endswith((" ", "\t")) for line in lines):
        raise got("yaml", "blanks at the end of a line", EXPECTED)
    return _mapping(lines, 0)


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip(" "))


def _mapping(lines: list[str], indent: int) -> Meta:
    found: Meta = {}
    while lines:
        line = lines.pop(0)
        entry = _entry.match(line[indent:])
        if _indent(line) != indent or entry is None:
            raise got("yaml", line, EXPECTED)
        key = _plain_key(entry["key"])
        if key in found:
            raise got("yaml", f"{key} twice", "each name once")
        below = _taken_below(lines, indent)
        rest = (entry["rest"] or "").rstrip(" ")
        if rest:
            found[key] = _scalar([rest, *below])
        elif below and indent // 2 + 1 < DEEPEST:
            found[key] = _mapping(below, indent + 2)  # type: ignore[assignment]
        else:
            raise got("yaml", line, EXPECTED)
    return found


def _plain_key(text: str) -> str:
    if text.startswith("'"):
        return text[1:-1].replace("''", "'")
    if _other.match(text):
        raise got("yaml", text, "a name in quotes")
    return text.rstrip(" ")


def _taken_below(lines: list[str], indent: int) -> list[str]:
    """The lines that belong to the name above them: those further in, and the empty ones between them."""
    count = next((at for at, line in enumerate(lines) if line and _indent(line) <= indent), len(lines))
    below, lines[:] = lines[:count], lines[count:]
    return below


def _scalar(lines: list[str]) -> Scalar | dict[str, Scalar]:
    first = lines[0]
    if first.startswith("'"):
        return _single(lines)
    if first.startswith('"'):
        return _double(lines)
    if first in ("{}", "[]") and len(lines) == 1:
        return {}
    if first.startswith(_marks) or first.startswith(("- ", "? ", ": ")) or first in ("-", "?", ":"):
        raise got("yaml", first, EXPECTED)
    if any(": " in line or " #" in line or "\t" in line or line.endswith(":") for line in lines):
        raise got("yaml", first, EXPECTED)
    text = _folded(lines)
    return text if len(lines) > 1 else _plain(text)


def _plain(text: str) -> Scalar:
    if _whole.match(text):
        return int(text) if -(2**63) <= int(text[:25]) < 2**63 else _refused(text)
    if text in ("null", "true", "false"):
        return {"null": None, "true": True, "false": False}[text]
    if _broken.match(text):
        return float(text)
    return _refused(text) if _other.match(text) else text


def _refused(text: str) -> Scalar:
    raise got("yaml", text, "a text in quotes, a number of 64 bits, true, false or null")


def _folded(lines: list[str]) -> str:
    """A scalar of several lines as one: a break is a blank, an empty line a break."""
    text, empty = lines[0].rstrip(" ") if len(lines) > 1 else lines[0], 0
    for at, line in enumerate(lines[1:], 2):
        part = line.strip(" ") if at < len(lines) else line.lstrip(" ")
        if part or at == len(lines):
            text, empty = text + ("\n" * empty or " ") + part, 0
        else:
            empty += 1
    return text


def _single(lines: list[str]) -> str:
    text = _folded(lines)[1:]
    inner = text[:-1]
    if not text.endswith("'") or "'" in inner.replace("''", ""):
        raise got("yaml", text[:80], "a text that its quote ends")
    return inner.replace("''", "'")


def _double(lines: list[str]) -> str:
    joined, empty = lines[0][1:], 0
    for at, line in enumerate(lines[1:], 2):
        part = line.lstrip(" ")
        if not part and at < len(lines):
            empty += 1
            continue
        if _open_escape(joined):
            joined, blank = joined[:-1], ""
        else:
            joined, blank = joined.rstrip(" "), " "
        joined, empty = joined + ("\n" * empty or blank) + part, 0
    closed = re.fullmatch(r'((?:[^"\\]|\\.)*)"', joined, re.DOTALL)
    if closed is None:
        raise got("yaml", joined[:80], "a text that its quote ends")
    return _escape.sub(_unescaped, closed[1])


def _open_escape(text: str) -> bool:
    return (len(text) - len(text.rstrip("\\"))) % 2 == 1


def _unescaped(found: re.Match[str]) -> str:
    code = found[1] or found[2] or found[3]
    if code is None and found[4] in _escapes:
        return _escapes[found[4]]
    if code is None or int(code, 16) > 0x10FFFF or 0xD800 <= int(code, 16) < 0xE000:
        raise got("yaml", found[0], "an escape of YAML")
    return chr(int(code, 16))
