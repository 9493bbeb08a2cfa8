"""What a name may be: cleaned when written and again before it is drawn."""

from __future__ import annotations

import re
import unicodedata
from typing import Final

from quarterstore.records.faults import got

LONGEST: Final = 200
LONGEST_KEY: Final = 250
"""Characters of the name of a metric, a parameter or a tag."""
LONGEST_EXPERIMENT: Final = 500
LONGEST_VALUE: Final = 8000
"""Characters of a tag's or a parameter's value."""
DEEPEST: Final = 20
"""Parts of a path inside a run or a model."""

_word = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*\Z")
_letters = re.compile(r"[^\W\d_]+")
_alphabets: Final = {"LATIN", "CYRILLIC", "GREEK"}
_bidi: Final = set(map(chr, (0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))))
_invisible: Final = set(map(chr, (0x200B, 0x200C, 0x200D, 0x2060, 0xFEFF)))


def checked_word(field: str, name: str) -> str:
    """A name that becomes part of a path, a URL or a socket: letters, digits, `.`, `_`, `-`; at most 200 characters."""
    if len(name) > LONGEST or not _word.match(name) or ".." in name:
        raise got(field, name[:LONGEST], "letters, digits, '.', '_' or '-', starting with a letter or digit")
    return name


def checked_name(field: str, name: str) -> str:
    """A name that people choose and that stands before `@` in an id: as `checked_text`, without `/`, `:` and `@`,
    without blanks around it, and with letters of one alphabet in each word (a Cyrillic е among Latin letters makes a
    twin that no eye tells apart: Unicode TS 39, mixed-script detection)."""
    found = checked_text(field, name)
    for word in _letters.findall(found):
        if not word.isascii() and len(_alphabets & {unicodedata.name(each, "").partition(" ")[0] for each in word}) > 1:
            raise got(field, found, f"letters of one alphabet in {word!r}")
    if found != found.strip() or any(mark in found for mark in "/:@"):
        raise got(field, found, "a name without '/', ':' and '@', and without blanks around it")
    return found


def checked_text(field: str, text: str, *, longest: int = LONGEST) -> str:
    """A name people choose freely: NFC, printable, one line; control, bidi and zero-width characters are refused."""
    if len(text) > longest:
        raise got(field, f"{len(text)} characters", f"at most {longest}")
    if not text.strip():
        raise got(field, text, "a name that is not blank")
    normal = composed(text)
    if drawn(normal) != normal:
        raise got(field, normal, "no control, direction or zero-width characters")
    return normal


def checked_path(path: str) -> str:
    """A relative path inside a run or a model, without `.` and `..`."""
    parts = path.split("/")
    for part in parts:
        checked_text("path", part)
        if part in (".", "..") or "\\" in part or len(parts) > DEEPEST:
            raise got("path", path, "a relative path inside the run, without . or ..")
    return path


def composed(text: str) -> str:
    """A text in the form in which names are kept (NFC), for looking one up: two spellings of one name are one name."""
    return unicodedata.normalize("NFC", text)


def drawn(text: str, *, longest: int | None = None) -> str:
    """Text as it may be drawn in a terminal: every control, direction or invisible character replaced by U+FFFD."""
    if longest is not None and len(text) > longest:
        text = text[: longest - 1] + "…"
    if text.isascii() and text.isprintable():
        return text
    return "".join("\ufffd" if _unsafe(char) else char for char in text)


def _unsafe(char: str) -> bool:
    return char in _bidi or char in _invisible or unicodedata.category(char) in ("Cc", "Cs", "Cn", "Zl", "Zp")
