"""GraphQL as it is written: the text of a query as fields within fields, within the limits that MLflow sets."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

DEEPEST, MOST_SELECTED, MOST_ROOTS, MOST_ALIASES = 10, 1000, 10, 10
"""mlflow.server.graphql.graphql_no_batching, 3.17."""
LONGEST = 200_000
DIRECTIVES = ("component", "include", "skip")

_tokens = re.compile(
    r'(?P<skip>[\s,\ufeff]+|\#[^\n\r]*)|(?P<text>"""(?:[^"]|"(?!""))*"""|"(?:[^"\\\n\r]|\\.)*")'
    r"|(?P<number>-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)|(?P<name>[_A-Za-z]\w*)|(?P<mark>\.\.\.|[!$():=@\[\]{|}])",
    re.ASCII,
)


class Wrong(Exception):
    """What a query says that it may not."""


class Field(NamedTuple):
    """One field: under which name it is answered, its arguments, what is asked of it."""

    name: str
    alias: str
    given: dict[str, Any]
    fields: list[Field]
    let: dict[str, Any]
    """What `@include` and `@skip` say of it."""

    @property
    def asked(self) -> bool:
        """Whether it is to be answered."""
        return self.let.get("include", True) is not False and self.let.get("skip", False) is not True


class Variable(NamedTuple):
    """A value that comes beside the query."""

    name: str


class Spread(NamedTuple):
    """A fragment by its name."""

    name: str


class Operation(NamedTuple):
    """One query or mutation: its kind, its fields, the variables it takes with their defaults."""

    kind: str
    fields: list[Any]
    variables: dict[str, Any]


def asked(text: str, name: str | None, variables: Mapping[str, Any]) -> tuple[str, list[Field]]:
    """The kind and the fields of the operation of that name, variables and fragments filled in; raises `Wrong`."""
    if len(text) > LONGEST:
        raise Wrong(f"Query exceeds maximum length of {LONGEST}")
    operations, fragments = _Reader(text).document()
    if name is None and len(operations) == 1:
        (found,) = operations.values()
    elif name in operations:
        found = operations[name]
    else:
        raise Wrong(f'Unknown operation named "{name}".' if name else "Must provide operation name.")
    given = {each: variables.get(each, default) for each, default in found.variables.items()}
    counted = [0]
    fields = _filled(found.fields, fragments, given, 1, counted, ())
    if len(fields) > MOST_ROOTS:
        raise Wrong(_too_many(MOST_ROOTS, "root fields", len(fields)))
    return found.kind, [each for each in fields if each.asked]


def _too_many(most: int, noun: str, found: int) -> str:
    return f"GraphQL queries should have at most {most} {noun}, got {found} {noun}."


def _filled(
    fields: list[Any],
    fragments: Mapping[str, list[Any]],
    given: Mapping[str, Any],
    depth: int,
    counted: list[int],
    within: tuple[str, ...],
) -> list[Field]:
    if depth > DEEPEST:
        raise Wrong(f"Query exceeds maximum depth of {DEEPEST}")
    found: list[Field] = []
    for each in fields:
        counted[0] += 1
        if counted[0] > MOST_SELECTED:
            raise Wrong(f"Query exceeds maximum total selections of {MOST_SELECTED}")
        if isinstance(each, Spread):
            if each.name in within or each.name not in fragments:
                raise Wrong(f'Unknown fragment "{each.name}".')
            found += _filled(fragments[each.name], fragments, given, depth, counted, (*within, each.name))
            continue
        inner = _filled(each.fields, fragments, given, depth + 1, counted, within) if each.fields else []
        inner = [one for one in inner if one.asked]
        found.append(Field(each.name, each.alias, _value(each.given, given), inner, _value(each.let, given)))
    aliases = sum(each.alias != each.name for each in found)
    if aliases > MOST_ALIASES and depth > 1:
        raise Wrong(_too_many(MOST_ALIASES, "aliases", aliases))
    return found


def _value(value: Any, given: Mapping[str, Any]) -> Any:
    if isinstance(value, Variable):
        if value.name not in given:
            raise Wrong(f'Variable "${value.name}" is not defined.')
        return given[value.name]
    if isinstance(value, dict):
        return {name: _value(each, given) for name, each in value.items()}
    return [_value(each, given) for each in value] if isinstance(value, list) else value


class _Reader:
    """Recursive descent over the tokens of one document."""

    def __init__(self, text: str) -> None:
        self.tokens: list[tuple[str, str]] = []
        self.place, at = 0, 0
        while at < len(text):
            found = _tokens.match(text, at)
            if found is None:
                raise Wrong(f"Syntax Error: Cannot parse the unexpected character {text[at]!r}.")
            if found.lastgroup != "skip":
                self.tokens.append((found.lastgroup or "", found.group()))
            at = found.end()
        self.tokens.append(("end", "<EOF>"))

    def next(self, expected: str = "") -> str:
        kind, text = self.tokens[self.place]
        if expected and expected not in (kind, text):
            raise Wrong(f"Syntax Error: Expected {expected}, found {text[:50]}.")
        self.place = min(self.place + 1, len(self.tokens) - 1)
        return text

    def at(self, text: str) -> bool:
        """Whether that stands here; it is taken then."""
        if self.tokens[self.place][1] != text or self.tokens[self.place][0] == "text":
            return False
        self.next()
        return True

    def document(self) -> tuple[dict[str | None, Operation], dict[str, list[Any]]]:
        operations: dict[str | None, Operation] = {}
        fragments: dict[str, list[Any]] = {}
        while self.tokens[self.place][0] != "end":
            if self.tokens[self.place][1] == "{":
                operations[None] = Operation("query", self.fields(1), {})
                continue
            kind = self.next("name")
            if kind == "fragment":
                name = self.next("name")
                self.next("on")
                self.next("name")
                self.directives()
                fragments[name] = self.fields(1)
            elif kind in ("query", "mutation"):
                title = self.next() if self.tokens[self.place][0] == "name" else None
                variables = self.variables() if self.at("(") else {}
                self.directives()
                operations[title] = Operation(kind, self.fields(1), variables)
            else:
                raise Wrong(f"Syntax Error: Unexpected Name {kind[:50]!r}.")
        return operations, fragments

    def variables(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        while not self.at(")"):
            self.next("$")
            name = self.next("name")
            self.next(":")
            while self.at("["):
                pass
            self.next("name")
            while self.at("]") or self.at("!"):
                pass
            found[name] = self.value(1) if self.at("=") else None
        return found

    def fields(self, depth: int) -> list[Any]:
        if depth > DEEPEST:
            raise Wrong(f"Query exceeds maximum depth of {DEEPEST}")
        self.next("{")
        found: list[Any] = []
        while not self.at("}"):
            found += self.selection(depth)
            if len(found) > MOST_SELECTED:
                raise Wrong(f"Query exceeds maximum total selections of {MOST_SELECTED}")
        return found

    def selection(self, depth: int) -> list[Any]:
        if self.at("..."):
            if self.tokens[self.place][0] == "name" and not self.at("on"):
                spread = Spread(self.next("name"))
                self.directives()
                return [spread]
            if self.tokens[self.place][0] == "name":
                self.next()
            self.directives()
            return self.fields(depth)
        name = self.next("name")
        alias, name = (name, self.next("name")) if self.at(":") else (name, name)
        given = self.arguments(1) if self.at("(") else {}
        let = self.directives()
        fields = self.fields(depth + 1) if self.tokens[self.place][1] == "{" else []
        return [Field(name, alias, given, fields, let)]

    def directives(self) -> dict[str, Any]:
        let: dict[str, Any] = {}
        while self.at("@"):
            name = self.next("name")
            if name not in DIRECTIVES:
                raise Wrong(f'Unknown directive "@{name}".')
            given = self.arguments(1) if self.at("(") else {}
            let[name] = given.get("if")
        return let

    def arguments(self, depth: int, end: str = ")") -> dict[str, Any]:
        found: dict[str, Any] = {}
        while not self.at(end):
            name = self.next("name")
            self.next(":")
            found[name] = self.value(depth)
        return found

    def value(self, depth: int) -> Any:
        if depth > DEEPEST:
            raise Wrong(f"Query exceeds maximum depth of {DEEPEST}")
        if self.at("$"):
            return Variable(self.next("name"))
        if self.at("["):
            found = []
            while not self.at("]"):
                found.append(self.value(depth + 1))
            return found
        if self.at("{"):
            return self.arguments(depth + 1, "}")
        kind, text = self.tokens[self.place]
        self.next()
        if kind == "text":
            return text[3:-3] if text.startswith('"""') else _text(text)
        if kind == "number":
            return float(text) if set(text) & set(".eE") else int(text)
        if kind != "name":
            raise Wrong(f"Syntax Error: Unexpected {text[:50]}.")
        return {"true": True, "false": False, "null": None}.get(text, text)


def _text(text: str) -> str:
    try:
        return str(msgspec.json.decode(text))
    except msgspec.DecodeError as error:
        raise Wrong("Syntax Error: Invalid character escape sequence.") from error
