"""GraphQL as it is written: the text of a query as fields within fields, within the limits that MLflow sets."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from graphql import GraphQLError
from graphql.language import ast, parse

DEEPEST, MOST_SELECTED, MOST_ROOTS, MOST_ALIASES = 10, 1000, 10, 10
"""mlflow.server.graphql.graphql_no_batching, 3.17."""
LONGEST, MOST_TOKENS = 200_000, 20_000
LONGEST_NUMBER = 20
"""Digits and sign of a 64-bit number."""
DIRECTIVES = ("component", "include", "skip")


class Wrong(Exception):
    """What a query says that it may not."""


class Field(NamedTuple):
    """One field: under which name it is answered, its arguments, what is asked of it."""

    name: str
    alias: str
    given: dict[str, Any]
    fields: list[Field]


def asked(text: str, name: str | None, variables: Mapping[str, Any]) -> tuple[str, list[Field]]:
    """The kind and the fields of the operation of that name, variables and fragments filled in; raises `Wrong`."""
    if len(text) > LONGEST:
        raise Wrong(f"Query exceeds maximum length of {LONGEST}")
    try:
        document = parse(text, no_location=True, max_tokens=MOST_TOKENS)
    except GraphQLError as error:
        raise Wrong(error.message) from error
    except RecursionError as error:
        raise Wrong(f"Query exceeds maximum depth of {DEEPEST}") from error
    operations = [each for each in document.definitions if isinstance(each, ast.OperationDefinitionNode)]
    fragments = {each.name.value: each for each in document.definitions if isinstance(each, ast.FragmentDefinitionNode)}
    found = _named(operations, name)
    given = {
        each.variable.name.value: variables.get(each.variable.name.value, _value(each.default_value, {}))
        for each in found.variable_definitions or ()
    }
    filled = _Filling(fragments, given).fields(found.selection_set, 1, ())
    if len(filled) > MOST_ROOTS:
        raise Wrong(_too_many(MOST_ROOTS, "root fields", len(filled)))
    if found.operation.value not in ("query", "mutation"):
        raise Wrong(f"The schema has no {found.operation.value}.")
    return found.operation.value, filled


def _named(operations: list[ast.OperationDefinitionNode], name: str | None) -> ast.OperationDefinitionNode:
    if name is None and len(operations) == 1:
        return operations[0]
    for each in operations:
        if name is not None and each.name is not None and each.name.value == name:
            return each
    raise Wrong(f'Unknown operation named "{name}".' if name else "Must provide operation name.")


def _too_many(most: int, noun: str, found: int) -> str:
    return f"GraphQL queries should have at most {most} {noun}, got {found} {noun}."


class _Filling:
    """Selections with their fragments and variables in place, counted."""

    def __init__(self, fragments: Mapping[str, ast.FragmentDefinitionNode], given: Mapping[str, Any]) -> None:
        self._fragments = fragments
        self._given = given
        self._selected = 0

    def fields(self, selections: ast.SelectionSetNode | None, depth: int, within: tuple[str, ...]) -> list[Field]:
        """The fields of a selection that are to be answered; `within` names the fragments it stands in."""
        if selections is None:
            return []
        if depth > DEEPEST:
            raise Wrong(f"Query exceeds maximum depth of {DEEPEST}")
        found: list[Field] = []
        for each in selections.selections:
            self._selected += 1
            if self._selected > MOST_SELECTED:
                raise Wrong(f"Query exceeds maximum total selections of {MOST_SELECTED}")
            if not self._let(each):
                continue
            if isinstance(each, ast.FieldNode):
                found.append(self._field(each, depth, within))
            elif isinstance(each, ast.InlineFragmentNode):
                found += self.fields(each.selection_set, depth, within)
            elif isinstance(each, ast.FragmentSpreadNode):
                name = each.name.value
                if name in within or name not in self._fragments:
                    raise Wrong(f'Unknown fragment "{name}".')
                found += self.fields(self._fragments[name].selection_set, depth, (*within, name))
        aliases = sum(each.alias != each.name for each in found)
        if aliases > MOST_ALIASES and depth > 1:
            raise Wrong(_too_many(MOST_ALIASES, "aliases", aliases))
        return found

    def _field(self, node: ast.FieldNode, depth: int, within: tuple[str, ...]) -> Field:
        name = node.name.value
        given = {each.name.value: _value(each.value, self._given) for each in node.arguments or ()}
        inner = self.fields(node.selection_set, depth + 1, within)
        return Field(name, node.alias.value if node.alias else name, given, inner)

    def _let(self, node: ast.SelectionNode) -> bool:
        """What `@include` and `@skip` say of it."""
        let: dict[str, Any] = {"include": True, "skip": False}
        for each in node.directives or ():
            if each.name.value not in DIRECTIVES:
                raise Wrong(f'Unknown directive "@{each.name.value}".')
            values = {one.name.value: _value(one.value, self._given) for one in each.arguments or ()}
            let[each.name.value] = values.get("if", let.get(each.name.value))
        return let["include"] is not False and let["skip"] is not True


def _value(node: ast.ValueNode | None, given: Mapping[str, Any]) -> Any:
    """A value of the query as JSON has it."""
    if isinstance(node, ast.VariableNode):
        if node.name.value not in given:
            raise Wrong(f'Variable "${node.name.value}" is not defined.')
        return given[node.name.value]
    if isinstance(node, ast.ObjectValueNode):
        return {each.name.value: _value(each.value, given) for each in node.fields}
    if isinstance(node, ast.ListValueNode):
        return [_value(each, given) for each in node.values]
    read = READ.get(type(node))
    return read(node) if read else None


def _whole(text: str) -> int:
    if len(text) > LONGEST_NUMBER:
        raise Wrong(f"Int cannot represent a number of {len(text)} digits.")
    return int(text)


READ: dict[type, Callable[[Any], Any]] = {
    ast.IntValueNode: lambda node: _whole(node.value),
    ast.FloatValueNode: lambda node: float(node.value),
    ast.BooleanValueNode: lambda node: node.value,
    ast.StringValueNode: lambda node: node.value,
    ast.EnumValueNode: lambda node: node.value,
}
