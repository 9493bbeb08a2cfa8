"""The text of an expression as tokens, each with its place."""

from __future__ import annotations

import re
from typing import NamedTuple

from quarterstore.search.tree import wrong

LONGEST = 100_000
_token = re.compile(
    r"""(?P<space>\s+)
    |(?P<number>[-+]?(?:\d+\.\d*|\.\d+|\d+)(?:[eE][-+]?\d+)?(?![\w.])|[-+](?:inf|Inf|INF)(?![\w.]))
    |(?P<text>'(?:[^'\\]|\\.|'')*'|"(?:[^"\\]|\\.|"")*")
    |(?P<quoted>`[^`]*`)
    |(?P<operator><=|>=|!=|<>|==|=|<|>)
    |(?P<mark>[(),.])
    |(?P<word>[^\W\d][\w\u0300-\u036f/\-]*)""",
    re.VERBOSE,
)


class Token(NamedTuple):
    """A piece of the text: `kind` number, text, quoted, operator, mark, word or end."""

    kind: str
    text: str
    at: int

    def word(self) -> str:
        """A bare word in small letters; nothing for anything else."""
        return self.text.lower() if self.kind == "word" else ""


def tokens(field: str, text: str) -> list[Token]:
    """The tokens and an end; raises `Invalid` at the first character that begins none."""
    if len(text) > LONGEST:
        raise wrong(field, text, 0, f"got {len(text)} characters, expected at most {LONGEST}")
    found: list[Token] = []
    at = 0
    while at < len(text):
        match = _token.match(text, at)
        if match is None:
            what = "a text that does not end" if text[at] in "'\"`" else repr(text[at])
            raise wrong(field, text, at, f"got {what}, expected a column, a value or an operator")
        if match.lastgroup != "space":
            found.append(Token(str(match.lastgroup), match.group(), at))
        at = match.end()
    return [*found, Token("end", "", len(text))]


def unquoted(text: str) -> str:
    """What a quoted text says: a doubled quote is one, and so is a backslash or a quote after a backslash."""
    mark, inner = text[0], text[1:-1]
    return re.sub(rf"\\([\\'\"])|{mark}{mark}", lambda found: found[1] or mark, inner)
