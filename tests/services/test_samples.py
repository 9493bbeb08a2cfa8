"""The schema that rows show: types by their values, sizes by their lists, the first one that of the batch."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quarterdeckd.services.samples import schema_of
from quarterstore.records.admission import Golden
from quarterstore.records.faults import Invalid
from quarterstore.records.registry import Tensor


@pytest.mark.parametrize(
    ("values", "tensor"),
    [
        ([[1, 2], [3, 4]], Tensor("a", "FP32", (-1, 2))),
        ([1.5, None], Tensor("a", "FP32", (-1,))),
        ([["x"], [None]], Tensor("a", "BYTES", (-1, 1))),
        ([True, False], Tensor("a", "BOOL", (-1,))),
        ([[[1.0], [2.0]]], Tensor("a", "FP32", (-1, 2, 1))),
    ],
)
def test_an_input_is_what_its_values_are(values: Any, tensor: Tensor) -> None:
    assert schema_of(Golden(inputs={"a": values}, outputs={})).inputs == (tensor,)


def test_outputs_say_the_task_and_whole_numbers_among_them_are_whole() -> None:
    found = schema_of(Golden(inputs={}, outputs={"label": [0, 1], "score": [[0.1, 0.9], [1, 0]]}))
    assert found.outputs == (Tensor("label", "INT64", (-1,)), Tensor("score", "FP32", (-1, 2)))
    assert (found.task, found.label, found.score) == ("classification", "label", "score")
    assert schema_of(Golden(inputs={}, outputs={"value": [[1.5]]})).task == "regression"


@pytest.mark.parametrize(
    "values",
    [[[1], [2, 3]], [1, [2]], [], [[]], 5, None, [None], [1, "a"], [True, 1], [{"a": 1}], [[[[[[[[[[1]]]]]]]]]]],
)
def test_rows_that_show_no_schema_are_refused_by_name(values: Any) -> None:
    with pytest.raises(Invalid, match=r"golden\.inputs\.a"):
        schema_of(Golden(inputs={"a": values}, outputs={}))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=2),
    max_leaves=20,
)


@given(JSON)
def test_any_json_is_a_tensor_or_a_fault(values: Any) -> None:
    try:
        [tensor] = schema_of(Golden(inputs={"a": values}, outputs={})).inputs
    except Invalid:
        return
    assert tensor.shape[0] == -1 and tensor.datatype in ("FP32", "BYTES", "BOOL")
