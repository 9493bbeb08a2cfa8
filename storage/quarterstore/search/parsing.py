"""An expression as a tree, in our words or in MLflow's.

Ours: `acc > 0.9 or (lr < 1e-3 and team = 'x')`, with `and`, `or`, `not`, `in`, `like`, `ilike`, `is null`; a bare name
is an attribute, a metric, a parameter or a tag, and `metrics.acc`, `params."a b"` say which. MLflow's (its filter
strings, mlflow.utils.search_utils, 3.17): comparisons joined by `and`, texts in quotes, a bare name is an attribute.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Literal, NamedTuple

from quarterstore.records.names import composed
from quarterstore.search.matching import ATTRIBUTES as KNOWN
from quarterstore.search.matching import DATASET, NUMBERS
from quarterstore.search.reading import Token, tokens, unquoted
from quarterstore.search.tree import Column, Compare, Joined, Kind, Not, Order, Tree, wrong

Vocabulary = Literal["deck", "mlflow"]
DEEPEST = 50
MOST = 500
"""Comparisons in one expression."""
ATTRIBUTES = tuple(name for name in KNOWN if name != "artefacts")
_RESERVED = ("and", "or", "not", "null", "in", "is")
_NUMBERS = ("nan", "inf", "infinity")
_KINDS: dict[str, Kind] = {
    **dict.fromkeys(("metric", "metrics"), "metric"),
    **dict.fromkeys(("param", "params", "parameter", "parameters"), "param"),
    **dict.fromkeys(("tag", "tags"), "tag"),
    **dict.fromkeys(("attribute", "attributes", "attr", "run"), "attribute"),
    **dict.fromkeys(("dataset", "datasets"), "dataset"),
}


class Theirs(NamedTuple):
    """MLflow's names of what something has by itself, each as a column here; its times are milliseconds."""

    columns: Mapping[str, tuple[Kind, str]]
    lists: tuple[str, ...]
    """Which of them may stand before `in`."""
    tags: Mapping[str, tuple[Kind, str]] = {}
    """Tags that are not kept as tags."""
    kinds: tuple[Kind, ...] = ("metric", "param", "tag", "dataset")
    """What it has beside them."""


def attributes(**names: str) -> dict[str, tuple[Kind, str]]:
    """A table of columns that are all attributes."""
    return {theirs: ("attribute", ours) for theirs, ours in names.items()}


RUNS = Theirs(
    {
        **attributes(run_id="id", run_name="name", status="state", user_id="actor", artifact_uri="artefacts"),
        **attributes(start_time="started", created="started", Created="started", end_time="ended"),
        **dict.fromkeys(("run name", "Run name", "Run Name"), ("attribute", "name")),
    },
    ("run_id",),
    {"mlflow.runName": ("attribute", "name")},
)
_MLFLOW_STATES = {"SCHEDULED": "RUNNING"}


class _Parser:
    """Recursive descent over the tokens of one text."""

    def __init__(self, field: str, text: str, vocabulary: Vocabulary, theirs: Theirs) -> None:
        self.field, self.text, self.mlflow = field, text, vocabulary == "mlflow"
        self.theirs = theirs
        self.tokens = tokens(field, text)
        self.in_lists = False
        self.place = 0
        self.count = 0

    def peek(self) -> Token:
        return self.tokens[self.place]

    def next(self) -> Token:
        token = self.tokens[self.place]
        self.place = min(self.place + 1, len(self.tokens) - 1)
        return token

    def stop(self, token: Token, expected: str, nearest: list[str] | None = None) -> Exception:
        found = token.text or "the end"
        return wrong(self.field, self.text, token.at, f"got {found}, expected {expected}", nearest or ())

    def whole(self) -> Tree:
        tree = self.either(0)
        if self.peek().kind != "end":
            raise self.stop(self.peek(), "and" if self.mlflow else "and, or, or the end")
        return tree

    def either(self, depth: int) -> Tree:
        return self.joined("or", depth) if not self.mlflow else self.joined("and", depth)

    def joined(self, word: Literal["and", "or"], depth: int) -> Tree:
        parts = [self.joined("and", depth) if word == "or" else self.one(depth)]
        while self.peek().word() == word:
            self.next()
            parts.append(self.joined("and", depth) if word == "or" else self.one(depth))
        return parts[0] if len(parts) == 1 else Joined(word, tuple(parts))

    def one(self, depth: int) -> Tree:
        token = self.peek()
        if depth > DEEPEST:
            raise self.stop(token, f"at most {DEEPEST} parentheses within each other")
        if not self.mlflow and token.word() == "not":
            self.next()
            return Not(self.one(depth + 1))
        if not self.mlflow and token.text == "(":
            self.next()
            tree = self.either(depth + 1)
            if (end := self.next()).text != ")":
                raise self.stop(end, ")")
            return tree
        return self.comparison()

    def comparison(self) -> Tree:
        self.count += 1
        if self.count > MOST:
            raise self.stop(self.peek(), f"at most {MOST} comparisons")
        column = self.column()
        token = self.next()
        word = token.word()
        if token.kind == "operator":
            operator = token.text if self.mlflow else {"==": "=", "<>": "!="}.get(token.text, token.text)
            self.allowed(column, operator, token)
            return Compare(column, operator, self.value(column, operator))
        if word in ("like", "ilike"):
            self.allowed(column, word, token)
            return Compare(column, word, self.value(column, word))
        negated = word == "not"
        if negated:
            token = self.next()
            word = token.word()
            if word in ("like", "ilike") and not self.mlflow:
                return Not(Compare(column, word, self.value(column, word)))
        if word == "in":
            self.allowed(column, "in", token)
            found: Tree = Compare(column, "in", self.values(column))
            return Not(found) if negated else found
        if word == "is" and not negated:
            self.allowed(column, "null", token)
            return self.null(column)
        raise self.stop(token, "=, !=, <, <=, >, >=, like, ilike, in or is null")

    def null(self, column: Column) -> Tree:
        negated = self.peek().word() == "not"
        if negated:
            self.next()
        if (token := self.next()).word() != "null":
            raise self.stop(token, "null")
        found = Compare(column, "null", None)
        return Not(found) if negated else found

    def column(self) -> Column:
        token = self.next()
        if token.kind not in ("word", "quoted", "text") or token.word() in ("and", "or", "in", "is", "null"):
            raise self.stop(token, "a column, as in metrics.loss")
        if self.peek().text == "." and token.kind == "word":
            if token.word() not in _KINDS:
                near = difflib.get_close_matches(token.word(), ("metrics", "params", "tags", "attributes", "datasets"))
                raise self.stop(token, "metrics, params, tags, attributes or datasets", near)
            self.next()
            return self.named(_KINDS[token.word()], self.key(), token)
        if token.kind == "text" and not (self.mlflow and token.text.startswith('"')):
            raise self.stop(token, "a column, as in metrics.loss")
        name = token.text[1:-1] if token.kind != "word" else token.text
        return self.named("attribute" if self.mlflow else "any", name, token)

    def key(self) -> str:
        """A name after the dot: quoted in any way, or words, numbers and dots as they stand."""
        token = self.next()
        if token.kind == "text":
            return unquoted(token.text)
        if token.kind == "quoted":
            return token.text[1:-1]
        if token.kind not in ("word", "number"):
            raise self.stop(token, "a name; put others between backticks")
        end = token.at + len(token.text)
        while (
            self.peek().kind in ("word", "number", "mark") and self.peek().at == end and self.peek().text not in "(),"
        ):
            end += len(self.next().text)
        return self.text[token.at : end]

    def named(self, kind: Kind, name: str, token: Token) -> Column:
        if self.mlflow:
            return self.theirs_named(kind, name, token)
        if kind == "attribute" and name not in ATTRIBUTES:
            raise self.stop(token, "an attribute of a run", _near(name, ATTRIBUTES))
        self.check_dataset(kind, name, token)
        return Column(kind, composed(name), token.at)

    def theirs_named(self, kind: Kind, name: str, token: Token) -> Column:
        theirs = self.theirs
        if kind == "attribute" and name not in theirs.columns:
            words = f"Invalid attribute key '{name}' specified. Valid keys are {', '.join(theirs.columns)}"
            raise wrong(self.field, self.text, token.at, words, _near(name, theirs.columns))
        if kind not in ("attribute", *theirs.kinds):
            words = f"Invalid entity type '{kind}'. Valid entity types are {', '.join(('attribute', *theirs.kinds))}"
            raise wrong(self.field, self.text, token.at, words)
        self.check_dataset(kind, name, token)
        self.in_lists = kind == "dataset" or (kind == "attribute" and name in theirs.lists)
        known = theirs.columns if kind == "attribute" else theirs.tags if kind == "tag" else {}
        return Column(*known.get(name, (kind, composed(name))), token.at)

    def check_dataset(self, kind: Kind, name: str, token: Token) -> None:
        if kind == "dataset" and name not in DATASET:
            raise self.stop(token, "datasets.name, datasets.digest or datasets.context")

    def value(self, column: Column, operator: str) -> float | str:
        token = self.next()
        return self.their_value(column, operator, token) if self.mlflow else self.our_value(column, operator, token)

    def our_value(self, column: Column, operator: str, token: Token) -> float | str:
        likes, numeric = operator in ("like", "ilike"), self.numeric(column)
        if token.kind == "text":
            text = unquoted(token.text)
        elif token.kind in ("word", "number") and token.word() not in _RESERVED and not likes:
            text = token.text
        else:
            raise self.stop(token, "a number" if numeric else "a text in quotes" if likes else "a value")
        if column.kind == "attribute" or (column.kind == "any" and column.name in ATTRIBUTES):
            if numeric and likes:
                raise self.stop(token, "a number")
            return self.moment(column, token, text) if numeric else text.upper() if column.name == "state" else text
        if token.kind == "number" or token.word() in _NUMBERS:
            return float(text)
        if numeric:
            raise self.stop(token, "a number")
        return text

    def moment(self, column: Column, token: Token, text: str) -> float:
        """Seconds, or a date as in '2026-11-24' or '2026-11-24T12:30'; UTC where it names no zone."""
        try:
            return float(text)
        except ValueError:
            pass
        try:
            found = datetime.fromisoformat(text)
        except ValueError:
            raise self.stop(token, "a number of seconds, or a date as in '2026-11-24'") from None
        if column.name == "duration":
            raise self.stop(token, "a number of seconds")
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()

    def their_value(self, column: Column, operator: str, token: Token) -> float | str:
        if self.numeric(column):
            if token.kind != "number":
                raise self.stop(token, "a number")
            return float(token.text) / 1000 if column.kind == "attribute" else float(token.text)
        if token.kind != "text":
            raise self.stop(token, "a text in quotes")
        text = token.text[1:-1]
        return _MLFLOW_STATES.get(text, text) if column.name == "state" else text

    def numeric(self, column: Column) -> bool:
        return column.kind == "metric" or (column.kind in ("attribute", "any") and column.name in NUMBERS)

    def allowed(self, column: Column, operator: str, token: Token) -> None:
        """MLflow's tables of which column may be compared how."""
        if not self.mlflow:
            return
        numeric = self.numeric(column)
        known = ["=", "!=", *(("<", "<=", ">", ">=") if numeric else ("like", "ilike"))]
        known += ["in"] if self.in_lists else ["null"] if column.kind in ("param", "tag") else []
        if operator not in known:
            words = {"null": "is null", "in": "in, not in"}
            raise self.stop(token, "one of " + ", ".join(words.get(each, each) for each in known))

    def values(self, column: Column) -> tuple[float | str, ...]:
        if (token := self.next()).text != "(":
            raise self.stop(token, "( and values")
        found = [self.value(column, "=")]
        while (token := self.next()).text == ",":
            found.append(self.value(column, "="))
        if token.text != ")":
            raise self.stop(token, ", or )")
        return tuple(found)


def _near(name: str, known: Iterable[str]) -> list[str]:
    return difflib.get_close_matches(name, list(known), n=3, cutoff=0.3)


def parsed(text: str, vocabulary: Vocabulary, field: str = "where", theirs: Theirs = RUNS) -> Tree | None:
    """The tree of an expression, nothing for a blank one; raises `Invalid` that points at what is wrong. In MLflow's
    vocabulary `theirs` says of what."""
    return _Parser(field, text, vocabulary, theirs).whole() if text.strip() else None


def ordered(text: str, vocabulary: Vocabulary, field: str = "order", theirs: Theirs = RUNS) -> Order:
    """One column to sort by: `-metrics.acc` in our words, `metrics.acc DESC` in MLflow's."""
    down = vocabulary == "deck" and text.startswith("-")
    parser = _Parser(field, text[1:] if down else text, vocabulary, theirs)
    column, first = parser.column(), parser.tokens[0]
    if column.kind == "dataset":
        raise parser.stop(first, "a column of one value")
    word = parser.peek().word()
    if word in ("asc", "desc"):
        down = parser.next().word() == "desc"
    if parser.peek().kind != "end":
        raise parser.stop(parser.peek(), "asc, desc or the end")
    return Order(column, down, texts=vocabulary == "mlflow" and column.kind in ("param", "tag"))
