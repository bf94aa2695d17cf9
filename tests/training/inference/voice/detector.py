"""A detector of loudness with the inputs and outputs of Silero VAD, as an ONNX file."""

from pathlib import Path

import onnx
from onnx import TensorProto, helper


def write_detector(path: Path) -> Path:
    """A file with Silero's inputs and outputs: loudest sample of frame and context, and state.

    output = max(input) + mean(state); stateN = state + 0.01.
    """
    floats, whole = TensorProto.FLOAT, TensorProto.INT64
    inputs = [
        helper.make_tensor_value_info("input", floats, [None, None]),
        helper.make_tensor_value_info("state", floats, [2, None, 128]),
        helper.make_tensor_value_info("sr", whole, []),
    ]
    outputs = [
        helper.make_tensor_value_info("output", floats, [None, 1]),
        helper.make_tensor_value_info("stateN", floats, [2, None, 128]),
    ]
    constants = [
        helper.make_tensor("one", whole, [1], [1]),
        helper.make_tensor("others", whole, [2], [0, 2]),
        helper.make_tensor("step", floats, [], [0.01]),
    ]
    nodes = [
        helper.make_node("ReduceMax", ["input", "one"], ["loudest"], keepdims=1),
        helper.make_node("ReduceMean", ["state", "others"], ["mean"], keepdims=0),
        helper.make_node("Unsqueeze", ["mean", "one"], ["column"]),
        helper.make_node("Add", ["loudest", "column"], ["output"]),
        helper.make_node("Add", ["state", "step"], ["stateN"]),
    ]
    graph = helper.make_graph(nodes, "detector", inputs, outputs, constants)
    opset = [helper.make_opsetid("", 18)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=9), path)
    return path
