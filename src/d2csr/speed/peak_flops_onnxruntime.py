"""Chains of products and convolutions on ONNX Runtime, in float32 on the processor."""

from importlib import import_module
from typing import Any

from d2csr.engine.backends.base import Precision
from d2csr.speed.peak_flops import Chain, KernelShape
from d2csr.speed.worker import cores


def make(shape: KernelShape, precision: Precision) -> Chain | None:
    """Return a chain; None for other precisions than float32."""
    if precision != "fp32":
        return None
    runtime: Any = import_module("onnxruntime")  # by name: nothing here needs it to be installed
    options = runtime.SessionOptions()
    options.intra_op_num_threads = cores()
    session = runtime.InferenceSession(_graph(shape), options, providers=["CPUExecutionProvider"])
    feed = {"0": shape.start()}
    return lambda: session.run(None, feed)


def _graph(shape: KernelShape) -> bytes:
    """Return the chain as an ONNX file's contents."""
    onnx: Any = import_module("onnx")
    size = list(shape.start().shape)
    operation, options = "MatMul", {}
    if shape.operation == "convolution":
        operation, options = "Conv", {"pads": [1, 1, 1, 1]}
    nodes = [
        onnx.helper.make_node(operation, [str(link), "weights"], [str(link + 1)], **options)
        for link in range(shape.links)
    ]
    ends = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, size)
        for name in ("0", str(shape.links))
    ]
    weights = onnx.numpy_helper.from_array(shape.weights(), "weights")
    graph = onnx.helper.make_graph(nodes, "chain", ends[:1], ends[1:], initializer=[weights])
    versions = [onnx.helper.make_opsetid("", 18)]
    return onnx.helper.make_model(graph, opset_imports=versions, ir_version=9).SerializeToString()
