"""Formulas over columns as data: a small language that is parsed into a tree, checked, and never run as code.

    amount / mean_amount        minutes / max(calls, 1)        "late" if hour >= 22 else "day"
    coalesce(plan, "none") == "pro" and not missing(minutes)   column("odd name") * 2

Numbers, texts in quotes, true and false; `+ - * / %`, comparisons, `and or not`, `A if C else B`, and the functions of
`FUNCTIONS`. What any part of an operation lacks, the whole lacks (but for `coalesce` and `missing`); so does a division
by zero, and whatever is no finite number. Python's own grammar reads the text; only the forms below come through.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Final, Literal

from quarterstore.records.faults import Invalid, got, missing
from quarterstore.records.features import OnDemand
from quarterstore.records.names import drawn

Type = Literal["number", "text", "boolean"]
Tree = tuple[str, tuple["Tree | str | float | bool", ...]]
"""An operation and its operands: `("+", (left, right))`; `("name", ("x",))` and `("value", (1.0,))` are leaves."""

LONGEST: Final = 500
MOST: Final = 100
"""Operations of one formula."""
FUNCTIONS: Final[dict[str, tuple[int, int]]] = {
    "abs": (1, 1),
    "ceil": (1, 1),
    "coalesce": (2, 8),
    "exp": (1, 1),
    "floor": (1, 1),
    "log": (1, 1),
    "lower": (1, 1),
    "max": (2, 8),
    "min": (2, 8),
    "missing": (1, 1),
    "sqrt": (1, 1),
}
"""How few and how many operands each takes."""
_BINARY: Final[dict[type, str]] = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.Mod: "%"}
_COMPARED: Final[dict[type, str]] = {
    ast.Eq: "==",
    ast.NotEq: "!=",
    ast.Lt: "<",
    ast.LtE: "<=",
    ast.Gt: ">",
    ast.GtE: ">=",
}
_WORDS: Final = {"true": True, "false": False}


@lru_cache(maxsize=1024)
def parsed(text: str, field: str = "formula") -> Tree:
    """The tree of a formula; `Invalid` names the field and what does not belong into one."""
    if not 0 < len(text) <= LONGEST:
        raise got(field, f"{len(text)} characters", f"a formula of up to {LONGEST}")
    try:
        body = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        raise got(field, drawn(text, longest=60), "a formula such as minutes / max(calls, 1)") from None
    if sum(1 for _ in ast.walk(body)) > 3 * MOST:
        raise got(field, "a formula of many parts", f"up to {MOST} operations")
    return _tree(body, field)


def _tree(node: ast.expr, field: str) -> Tree:
    def of(*parts: ast.expr) -> tuple[Tree, ...]:
        return tuple(_tree(part, field) for part in parts)

    match node:
        case ast.Name(id=word):
            return ("value", (_WORDS[word],)) if word in _WORDS else ("name", (word,))
        case ast.Constant(value=bool() | str() as value):
            return ("value", (value,))
        case ast.Constant(value=int() | float() as value):
            return ("value", (_finite(value, field),))
        case ast.BinOp(op=op) if type(op) in _BINARY:
            return (_BINARY[type(op)], of(node.left, node.right))
        case ast.UnaryOp(op=ast.USub()):
            return ("negative", of(node.operand))
        case ast.UnaryOp(op=ast.Not()):
            return ("not", of(node.operand))
        case ast.Compare(ops=[op], comparators=[right]) if type(op) in _COMPARED:
            return (_COMPARED[type(op)], of(node.left, right))
        case ast.BoolOp(op=op):
            return ("and" if isinstance(op, ast.And) else "or", of(*node.values))
        case ast.IfExp():
            return ("if", of(node.test, node.body, node.orelse))
        case ast.Call(func=ast.Name(id="column"), args=[ast.Constant(value=str() as word)], keywords=[]):
            return ("name", (word,))
        case ast.Call(func=ast.Name(id=word), keywords=[]):
            return _called(word, node.args, field)
    raise got(field, drawn(ast.unparse(node), longest=60), "names, numbers, texts, + - * / %, comparisons, if else")


def _called(word: str, given: Sequence[ast.expr], field: str) -> Tree:
    if word not in FUNCTIONS:
        raise missing(field, word, FUNCTIONS)
    fewest, most = FUNCTIONS[word]
    if not fewest <= len(given) <= most:
        wanted = f"{fewest}" if fewest == most else f"{fewest} to {most}"
        raise got(field, f"{word} of {len(given)}", f"{wanted} operands")
    return (word, tuple(_tree(each, field) for each in given))


def _finite(value: float, field: str) -> float:
    try:
        number = float(value)
    except OverflowError:
        number = float("inf")
    if number in (float("inf"), float("-inf")):
        raise got(field, "a number without end", "one that is finite")
    return number


def names(tree: Tree) -> tuple[str, ...]:
    """The columns that a formula reads, each once, in the order in which they come."""
    word, parts = tree
    if word == "name":
        return (str(parts[0]),)
    found = (name for part in parts if isinstance(part, tuple) for name in names(part))
    return tuple(dict.fromkeys(found))


def read_for(wanted: Sequence[str], on_demand: Sequence[OnDemand]) -> list[str]:
    """The names that are read for those that are wanted: for a feature on demand the names in its formula."""
    made = {each.name: each.formula for each in on_demand}
    read = [name for each in wanted for name in (names(parsed(made[each])) if each in made else (each,))]
    return list(dict.fromkeys(read))


def type_of(tree: Tree, kinds: Mapping[str, str], field: str = "formula") -> Type:
    """What a formula gives, where `kinds` are those of the columns (integers are numbers); `Invalid` where operands do
    not go together, `NotFound` for a column that is not there."""
    word, parts = tree
    if word == "name":
        if parts[0] not in kinds:
            raise missing(field, str(parts[0]), kinds)
        return _plain(kinds[str(parts[0])])
    if word == "value":
        return "boolean" if isinstance(parts[0], bool) else "text" if isinstance(parts[0], str) else "number"
    given = [type_of(part, kinds, field) for part in parts if isinstance(part, tuple)]
    return _type(word, given, field)


def _plain(kind: str) -> Type:
    return "text" if kind == "text" else "boolean" if kind == "boolean" else "number"


def _type(word: str, given: Sequence[Type], field: str) -> Type:
    if word == "missing":
        return "boolean"
    if word in ("not", "and", "or"):
        return _all(word, given, "boolean", field)
    if word == "if":
        _all(word, given[:1], "boolean", field)
        return _alike(word, given[1:], field)
    if word in ("==", "!="):
        _alike(word, given, field)
        return "boolean"
    if word in ("<", "<=", ">", ">="):
        _all(word, given, "number", field)
        return "boolean"
    if word == "coalesce":
        return _alike(word, given, field)
    return _all(word, given, "text" if word == "lower" else "number", field)


def _all(word: str, given: Sequence[Type], wanted: Type, field: str) -> Type:
    if set(given) != {wanted}:
        raise Invalid(f"got {word} of {' and '.join(given)}, expected {wanted}", field=field)
    return wanted


def _alike(word: str, given: Sequence[Type], field: str) -> Type:
    if len(set(given)) != 1:
        raise Invalid(f"got {word} of {' and '.join(given)}, expected all of one kind", field=field)
    return given[0]
