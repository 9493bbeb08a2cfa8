"""Small real model files: what is registered has to be one."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def onnx_file(mark: str = "", size: int = 0, outputs: int = 1, y: str = "y", inputs: int = 2) -> bytes:
    """y = x @ w for x of `inputs` numbers; another `mark` is another file, `size` is at least how large it is."""
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], [y])],
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", inputs])],
        [helper.make_tensor_value_info(y, TensorProto.FLOAT, ["n", outputs])],
        [numpy_helper.from_array(np.full((inputs, outputs), 0.5, np.float32), "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    model.doc_string = mark.ljust(size)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())
