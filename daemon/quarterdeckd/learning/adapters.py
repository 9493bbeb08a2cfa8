"""Trained models to ONNX, with the outputs every part here relies on: `label` and `score`, or `value`."""

from __future__ import annotations

import contextlib
import io
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from quarterdeckd.learning.encoding import Encoding
from quarterdeckd.learning.fitted import Floats, Meaning, tensor_names
from quarterstore.records.faults import got
from quarterstore.records.names import drawn

if TYPE_CHECKING:
    import torch

OPSET = 18
"""Known to ONNX Runtime 1.32 and to the quantiser of the same version."""
IR = 8
MAKER = "quarterdeck"


def mlp_onnx(
    layers: list[tuple[Floats, Floats]], encoding: Encoding, meaning: Meaning, shift: float = 0.0, scale: float = 1.0
) -> bytes:
    """A perceptron with its own preparation, node by node: medians for NaN, (x - mean) / spread, one-hot categories,
    Gemm and Relu, Softmax or scale and shift.

    Built by hand because `torch.onnx.export` of the same net takes 5.4 s here (1.7 the second time) and this takes
    0.01 s; what it computes is compared with PyTorch in the parity check of every export.
    """
    graph = _Graph()
    found = graph.prepared(encoding, meaning)
    for place, (weight, bias) in enumerate(layers):
        found = graph.add("Gemm", [found, graph.put(f"w{place}", weight), graph.put(f"b{place}", bias)], transB=1)
        if place < len(layers) - 1:
            found = graph.add("Relu", [found])
    if meaning.task == "regression":
        scaled = graph.add("Mul", [found, graph.put("scale", np.array([scale], dtype=np.float32))])
        graph.add("Add", [scaled, graph.put("shift", np.array([shift], dtype=np.float32))], "value")
    else:
        graph.classes(found, meaning)
    return graph.finished(meaning)


def torch_onnx(module: torch.nn.Module, meaning: Meaning) -> bytes:
    """A module of the user's own that takes n x d float32 and gives n x k logits, or n or n x 1 values, by
    `torch.onnx.export(dynamo=True)`; softmax and labels are added behind it."""
    import torch

    width = len(meaning.features)
    sample = torch.zeros(2, width)
    buffer = io.BytesIO()
    with contextlib.redirect_stdout(io.StringIO()), torch.no_grad():
        program = torch.onnx.export(
            module.eval().cpu(),
            (sample,),
            dynamo=True,
            input_names=["x"],
            output_names=["raw"],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            external_data=False,
            verbose=False,
        )
    assert program is not None  # with dynamo=True export always gives a program
    program.save(buffer)
    model = onnx.load_model_from_string(buffer.getvalue())
    graph = _Graph(model)
    if meaning.task == "classification":
        graph.classes("raw", meaning)
    else:
        graph.add("Reshape", ["raw", graph.put("column", np.array([-1, 1], dtype=np.int64))], "value")
    return graph.finished(meaning)


def sklearn_onnx(estimator: Any, meaning: Meaning) -> bytes:
    """A fitted scikit-learn estimator or pipeline by skl2onnx: one tensor `x` where all features are numbers, else one
    a column; a fault that names the estimator where ONNX cannot hold it."""
    from skl2onnx import to_onnx
    from skl2onnx.common.data_types import FloatTensorType, StringTensorType

    last = estimator.steps[-1][1] if hasattr(estimator, "steps") else estimator
    if meaning.texts:
        types = [
            (column.name, StringTensorType([None, 1]) if column.name in meaning.texts else FloatTensorType([None, 1]))
            for column in meaning.features
        ]
    else:
        types = [("x", FloatTensorType([None, len(meaning.features)]))]
    options = {id(last): {"zipmap": False}} if meaning.task == "classification" else None
    try:
        model = to_onnx(estimator, initial_types=types, options=options, target_opset={"": OPSET, "ai.onnx.ml": 3})
    except Exception as error:  # skl2onnx raises ValueError, KeyError, RuntimeError and classes of its own
        reason = drawn(" ".join(str(error).split()), longest=160)
        raise got("train", f"{type(last).__name__}, which does not convert ({reason})", "one ONNX can hold") from error
    return _renamed(model, meaning)


def given_onnx(data: bytes, meaning: Meaning) -> bytes:
    """ONNX bytes that user code returned: its outputs must be `label` and `score`, or `value`; inputs as the
    features."""
    model = onnx.load_model_from_string(data)
    wanted = ["value"] if meaning.task == "regression" else ["label", "score"]
    found = [one.name for one in model.graph.output]
    if sorted(found) != sorted(wanted):
        raise got("train", f"an ONNX model with the outputs {', '.join(found)}", "the outputs " + ", ".join(wanted))
    inputs = [one.name for one in model.graph.input]
    expected = tensor_names(meaning) if meaning.texts else ["x"]
    if sorted(inputs) != sorted(expected):
        raise got("train", f"an ONNX model with the inputs {', '.join(inputs)}", "the inputs " + ", ".join(expected))
    return data


class _Graph:
    """Nodes and constants as they come, each output under its own name."""

    def __init__(self, model: onnx.ModelProto | None = None) -> None:
        self._model = model
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []
        self._ml = False

    def put(self, name: str, values: NDArray[Any]) -> str:
        """A constant."""
        self._constants.append(numpy_helper.from_array(values, f"qd_{name}"))
        return f"qd_{name}"

    def add(self, kind: str, inputs: list[str], output: str | None = None, **attributes: Any) -> str:
        """A node; returns the name of its output."""
        domain = attributes.pop("domain", "")
        name = output or f"qd_{kind.lower()}_{len(self._nodes)}"
        self._ml = self._ml or domain == "ai.onnx.ml"
        self._nodes.append(helper.make_node(kind, inputs, [name], name=f"{kind}_{name}", domain=domain, **attributes))
        return name

    def prepared(self, encoding: Encoding, meaning: Meaning) -> str:
        """The inputs as the n x width matrix of `encoding.encode`."""
        if not meaning.texts:
            return self._standardised("x", encoding)
        names = dict(zip((column.name for column in meaning.features), tensor_names(meaning), strict=True))
        parts = []
        if encoding.numbers:
            together = self.add("Concat", [names[one] for one in encoding.numbers], axis=1)
            parts.append(self._standardised(together, encoding))
        for name, categories in encoding.categories.items():
            hot = self.add("OneHotEncoder", [names[name]], domain="ai.onnx.ml", cats_strings=categories, zeros=1)
            parts.append(self.add("Flatten", [hot], axis=1))
        return self.add("Concat", parts, axis=1)

    def _standardised(self, name: str, encoding: Encoding) -> str:
        filled = self.add("Where", [self.add("IsNaN", [name]), self.put("median", encoding.median), name])
        centred = self.add("Sub", [filled, self.put("mean", encoding.mean)])
        return self.add("Div", [centred, self.put("spread", encoding.spread)])

    def classes(self, logits: str, meaning: Meaning) -> None:
        """`score` by softmax, `label` by the largest."""
        score = self.add("Softmax", [logits], "score", axis=1)
        best = self.add("ArgMax", [score], axis=1, keepdims=0)
        names = meaning.labels()
        self.add("Gather", [self.put("classes", names), best], "label", axis=0)

    def finished(self, meaning: Meaning) -> bytes:
        """The whole model, checked."""
        if self._model is not None:
            model = self._model
            model.graph.node.extend(self._nodes)
            model.graph.initializer.extend(self._constants)
            del model.graph.output[:]
            model.graph.output.extend(_outputs(meaning))
        else:
            opsets = [helper.make_opsetid("", OPSET), *([helper.make_opsetid("ai.onnx.ml", 3)] if self._ml else [])]
            graph = helper.make_graph(self._nodes, MAKER, _inputs(meaning), _outputs(meaning), self._constants)
            model = helper.make_model(graph, opset_imports=opsets, ir_version=IR, producer_name=MAKER)
        onnx.checker.check_model(model)
        return bytes(model.SerializeToString())


def _inputs(meaning: Meaning) -> list[onnx.ValueInfoProto]:
    if not meaning.texts:
        return [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", len(meaning.features)])]
    return [
        helper.make_tensor_value_info(
            name, TensorProto.STRING if column.name in meaning.texts else TensorProto.FLOAT, ["batch", 1]
        )
        for name, column in zip(tensor_names(meaning), meaning.features, strict=True)
    ]


def _outputs(meaning: Meaning) -> list[onnx.ValueInfoProto]:
    if meaning.task == "regression":
        return [helper.make_tensor_value_info("value", TensorProto.FLOAT, ["batch", 1])]
    kind = TensorProto.INT64 if meaning.whole else TensorProto.STRING
    return [
        helper.make_tensor_value_info("label", kind, ["batch"]),
        helper.make_tensor_value_info("score", TensorProto.FLOAT, ["batch", len(meaning.classes)]),
    ]


def renamed(data: bytes, names: dict[str, str]) -> bytes:
    """A file with other names of its inputs and outputs; a name that is taken inside makes way."""
    model = onnx.load_model_from_string(data)
    wanted = {before: after for before, after in names.items() if before != after}
    taken = {name for node in model.graph.node for name in (*node.input, *node.output)}
    away = {name: f"{name}_inner" for name in wanted.values() if name in taken and name not in wanted}
    _rename(model, {**away, **wanted})
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def _rename(model: onnx.ModelProto, names: dict[str, str]) -> None:
    for node in model.graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
    for one in (*model.graph.input, *model.graph.output, *model.graph.initializer):
        one.name = names.get(one.name, one.name)


def _renamed(model: onnx.ModelProto, meaning: Meaning) -> bytes:
    """The file of skl2onnx with our names of inputs and outputs."""
    wanted = ["value"] if meaning.task == "regression" else ["label", "score"]
    expected = tensor_names(meaning) if meaning.texts else ["x"]
    before = [one.name for one in (*model.graph.input, *model.graph.output)]
    after = [*expected, *wanted]
    if len(before) != len(after):
        raise got("train", f"{len(before)} tensors after conversion", f"{len(after)}")
    taken = {name for node in model.graph.node for name in (*node.input, *node.output)}
    taken |= {one.name for one in model.graph.initializer}
    names = {name: f"{name}_inner" for name in after if name in taken and name not in before}
    _rename(model, names | dict(zip(before, after, strict=True)))
    for one in model.graph.output:
        one.type.tensor_type.shape.dim[0].Clear()
        one.type.tensor_type.shape.dim[0].dim_param = "batch"
    model.producer_name = MAKER + " by " + model.producer_name
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())
