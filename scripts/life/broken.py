"""A version with a fault that its golden rows never meet."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from quarterstore.records.admission import Golden


def break_for_some(path: Path, golden: Golden) -> tuple[bytes, Golden, float]:
    """The model with a look-up that leaves its table where `mean concave points` is high; the golden rows without
    those."""

    rows = np.array(golden.inputs["x"], dtype=np.float32)
    limit = float(np.quantile(rows[:, 7], 0.75))
    hits = rows[:, 7] > limit
    model = onnx.load(path)
    graph = model.graph
    add = [
        helper.make_node("Gather", ["x", "bad_column"], ["bad_value"], axis=1),
        helper.make_node("Greater", ["bad_value", "bad_limit"], ["bad_hit"]),
        helper.make_node("Cast", ["bad_hit"], ["bad_index"], to=TensorProto.INT64),
        helper.make_node("Gather", ["bad_table", "bad_index"], ["bad_zero"]),
        helper.make_node("ReduceSum", ["bad_zero"], ["bad_nothing"], keepdims=0),
    ]
    score = next(node for node in graph.node if "score" in node.output)
    score.output[list(score.output).index("score")] = "score_before"
    add.append(helper.make_node("Add", ["score_before", "bad_nothing"], ["score"]))
    graph.node.extend(add)
    for node in graph.node:
        for index, name in enumerate(node.input):
            if name == "score" and node is not add[-1]:
                node.input[index] = "score_before"
    graph.initializer.extend(
        [
            numpy_helper.from_array(np.array([7], dtype=np.int64), "bad_column"),
            numpy_helper.from_array(np.array(limit, dtype=np.float32), "bad_limit"),
            numpy_helper.from_array(np.zeros(1, dtype=np.float32), "bad_table"),
        ]
    )
    kept = [index for index, hit in enumerate(hits) if not hit]
    left = Golden(
        inputs={"x": [golden.inputs["x"][index] for index in kept]},
        outputs={name: [values[index] for index in kept] for name, values in golden.outputs.items()},
        labels=[golden.labels[index] for index in kept] if golden.labels else None,
        tolerance=golden.tolerance,
    )
    return model.SerializeToString(), left, float(hits.mean())
