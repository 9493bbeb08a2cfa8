"""The schema that sample rows show, for a file that says none of its own."""

from __future__ import annotations

from typing import Any

from quarterstore.records.admission import Golden
from quarterstore.records.faults import got
from quarterstore.records.registry import Signature, Tensor

DEEPEST = 8


def schema_of(sample: Golden) -> Signature:
    """Tensors by the values that are there: numbers are FP32, texts BYTES, booleans BOOL, whole numbers in an output
    INT64; the first size is that of the batch. Give a schema where it is otherwise."""
    outputs = tuple(_tensor("outputs", name, values) for name, values in sample.outputs.items())
    names = [tensor.name for tensor in outputs]
    return Signature(
        inputs=tuple(_tensor("inputs", name, values) for name, values in sample.inputs.items()),
        outputs=outputs,
        task="classification" if "label" in names else "regression",
        label=next((name for name in ("label", "value") if name in names), None),
        score="score" if "score" in names else None,
    )


def _tensor(side: str, name: str, values: Any) -> Tensor:
    field = f"golden.{side}.{name}"
    shape: list[int] = []
    level = [values]
    while any(isinstance(each, list) for each in level):
        sizes = {len(each) if isinstance(each, list) else -1 for each in level}
        if len(sizes) > 1 or -1 in sizes or len(shape) == DEEPEST:
            raise got(field, "rows of different sizes", "lists of the same size at each level")
        shape.append(sizes.pop())
        level = [inner for each in level for inner in each]
    if not shape or not level:
        raise got(field, "no rows", "a list of them")
    kinds = {type(each) for each in level if each is not None}
    datatype = next((word for kind, word in _kinds(side) if kinds and kinds <= kind), None)
    if datatype is None:
        shown = ", ".join(sorted(kind.__name__ for kind in kinds)) or "nothing but null"
        raise got(field, shown, "numbers, texts or booleans; or give --schema")
    return Tensor(name=name, datatype=datatype, shape=(-1, *shape[1:]))


def _kinds(side: str) -> tuple[tuple[set[type], str], ...]:
    whole = "INT64" if side == "outputs" else "FP32"
    return ({bool}, "BOOL"), ({int}, whole), ({int, float}, "FP32"), ({str}, "BYTES")
