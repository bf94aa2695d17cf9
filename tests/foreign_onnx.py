"""A file of ONNX that another program could have written."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import onnx


def write_foreign(
    path: Path,
    shape: Sequence[str | int],
    *,
    outputs: Sequence[str] = ("embedding",),
    entries: Mapping[str, str] | None = None,
) -> Path:
    """A file of another program: each output is the mean and the maximum of its input."""
    axes = list(range(1, len(shape)))
    nodes = [
        onnx.helper.make_node("ReduceMean", ["x"], ["mean"], axes=axes, keepdims=0),
        onnx.helper.make_node("ReduceMax", ["x"], ["max"], axes=axes, keepdims=0),
        onnx.helper.make_node("Unsqueeze", ["mean", "one"], ["mean1"]),
        onnx.helper.make_node("Unsqueeze", ["max", "one"], ["max1"]),
        *(onnx.helper.make_node("Concat", ["mean1", "max1"], [n], axis=1) for n in outputs),
    ]
    value, one = onnx.helper.make_tensor_value_info, onnx.helper.make_tensor("one", 7, [1], [1])
    made = [value(name, 1, ["batch", 2]) for name in outputs]
    graph = onnx.helper.make_graph(nodes, "g", [value("x", 1, shape)], made, [one])
    opset = [onnx.helper.make_opsetid("", 17)]
    model = onnx.helper.make_model(graph, opset_imports=opset, ir_version=8)
    onnx.helper.set_model_props(model, dict(entries or {}))
    path.write_bytes(model.SerializeToString())
    return path
