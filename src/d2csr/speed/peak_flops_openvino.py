"""Chains of products and convolutions on OpenVINO, in float32, bfloat16 and int8."""

import numpy as np
import openvino
from openvino import Model, Node, opset13

from d2csr.engine.backends.base import Precision
from d2csr.speed.peak_flops import Chain, KernelShape

_HINTS = {"fp32": openvino.Type.f32, "bf16": openvino.Type.bf16, "int8": openvino.Type.bf16}
_LIMIT = 4.0  # of quantised values; those of the chain are mostly below


def make(shape: KernelShape, precision: Precision) -> Chain | None:
    """Return a compiled chain; None where this processor lacks the precision."""
    core = openvino.Core()
    able = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    if precision.upper() not in able:
        return None
    start = shape.start()
    image = opset13.parameter(list(start.shape), openvino.Type.f32)
    node: Node = image
    for _ in range(shape.links):
        node = _link(node, shape, quantised=precision == "int8")
    hint = _HINTS[precision] if "BF16" in able else openvino.Type.f32
    properties = {"INFERENCE_PRECISION_HINT": hint, "PERFORMANCE_HINT": "LATENCY"}
    model = Model([node], [image], "chain")  # pyright: ignore[reportGeneralTypeIssues] - its stub
    compiled = core.compile_model(model, "CPU", properties)
    request, tensor = compiled.create_infer_request(), openvino.Tensor(start, shared_memory=True)
    return lambda: request.infer([tensor], share_inputs=True, share_outputs=True)


def _link(node: Node, shape: KernelShape, *, quantised: bool) -> Node:
    weights: Node = opset13.constant(shape.weights())
    if quantised:
        node, weights = _quantised(node, levels=256), _quantised(weights, levels=255)
    if shape.operation == "matmul":
        return opset13.matmul(node, weights, transpose_a=False, transpose_b=False)
    return opset13.convolution(node, weights, [1, 1], [1, 1], [1, 1], [1, 1])


def _quantised(node: Node, *, levels: int) -> Node:
    low, high = (opset13.constant(np.float32(sign * _LIMIT)) for sign in (-1, 1))
    return opset13.fake_quantize(node, low, high, low, high, levels)
