"""Rows by name as tensors: read at once or column by column, it is the same table and the same complaint."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from quarterdeckd.serving import plain
from quarterstore.records.faults import Fault
from quarterstore.records.registry import Feature, Signature, Tensor

NAMES = ("c", "a", "b")
values = st.one_of(
    st.floats(-1e39, 1e39),
    st.integers(-(2**65), 2**65),
    st.sampled_from([0, 1, 2, 3, 0.5, True, False, None, "x", float("nan"), float("inf"), [1.0], [], {}]),
)
rows = st.lists(
    st.fixed_dictionaries({}, optional=dict.fromkeys(NAMES, values)) | st.just(dict.fromkeys(NAMES, 3)),
    min_size=1,
    max_size=4,
)


def read(given: list[dict[str, Any]], datatype: str, optional: bool, shape: tuple[int, ...]) -> Any:
    """The tensor, or the complaint."""
    tensor = Tensor(name="t", datatype=datatype, shape=shape)
    features = tuple(
        Feature(name=name, kind="number", input="t", index=index, optional=optional and name == "b")
        for index, name in enumerate(NAMES)
    )
    loaded: Any = SimpleNamespace(inputs=(tensor,))
    try:
        return plain.feed_of_rows(given, loaded, Signature((tensor,), (), features))["t"]
    except Fault as fault:
        return fault.line()


@given(rows, st.sampled_from(["FP32", "FP64", "INT64", "UINT8", "BOOL"]), st.booleans())
def test_both_ways_of_reading_rows_agree(given: list[dict[str, Any]], datatype: str, optional: bool) -> None:
    optional = optional and datatype.startswith("FP")
    at_once = read(given, datatype, optional, (-1, 3))
    quick, plain._at_once = plain._at_once, lambda *any: None  # type: ignore[assignment]
    try:
        one_by_one = read(given, datatype, optional, (-1, 3))
    finally:
        plain._at_once = quick
    if isinstance(at_once, str) or isinstance(one_by_one, str):
        assert at_once == one_by_one
    else:
        assert at_once.dtype == one_by_one.dtype and at_once.shape == one_by_one.shape
        assert np.array_equal(at_once, one_by_one, equal_nan=at_once.dtype.kind == "f")
