"""A builder of ONNX graphs: operations are added one after the other, then written to a file.

The graphs are not traced from torch. A trace of the smallest network took 15 s, where this takes
milliseconds, and it depended on the version of the tracer. `verification` compares every graph
with the network anyway.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

OPSET = 20  # read by OpenVINO >= 2024.2 and ONNX Runtime >= 1.17
_IR_VERSION = 9  # of that opset's onnx release


class GraphBuilder:
    """Nodes and constants of one graph; methods return the name of the value they compute."""

    def __init__(
        self, name: str, inputs: Mapping[str, int], *, weights: Mapping[str, Tensor]
    ) -> None:
        """Start a graph.

        Args:
            name: of the graph.
            inputs: name -> channels of each (1, channels, height, width) input, both sides dynamic.
            weights: name -> tensor, for `layer`.
        """
        self._name = name
        self._inputs = [_image(name, channels) for name, channels in inputs.items()]
        self._weights = weights
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[TensorProto] = []

    def add(
        self,
        operation: str,
        inputs: Sequence[str],
        *,
        attributes: Mapping[str, Any] | None = None,
    ) -> str:
        """Return the one output of a new node."""
        return self._add_node(operation, inputs, outputs=1, attributes=attributes or {})[0]

    def constant(self, values: Tensor) -> str:
        """Return the name of a constant; floating values are kept as float32."""
        name = f"constant_{len(self._constants)}"
        values = values.float() if values.is_floating_point() else values
        array = np.ascontiguousarray(values.detach().cpu().numpy())
        self._constants.append(numpy_helper.from_array(array, name))
        return name

    def convolution(self, image: str, weight: Tensor, *, bias: Tensor | None) -> str:
        """Return the output of a zero-padded convolution, of the same size."""
        padding = weight.shape[-1] // 2
        inputs = [image, self.constant(weight)]
        inputs += [] if bias is None else [self.constant(bias)]
        return self.add("Conv", inputs, attributes={"pads": [padding] * 4})

    def layer(self, image: str, name: str) -> str:
        """Return the output of the convolution of a name in the weights."""
        bias = self._weights.get(f"{name}.bias")
        return self.convolution(image, self._weights[f"{name}.weight"], bias=bias)

    def shuffle(self, image: str, factor: int) -> str:
        """Return an image enlarged as by `torch.nn.functional.pixel_shuffle`."""
        attributes = {"blocksize": factor, "mode": "CRD"}
        return self.add("DepthToSpace", [image], attributes=attributes)

    def parts(self, image: str, count: int) -> list[str]:
        """Return an image's channels in `count` equal parts."""
        attributes = {"axis": 1, "num_outputs": count}
        return self._add_node("Split", [image], outputs=count, attributes=attributes)

    def write(self, path: Path, outputs: Mapping[str, str]) -> None:
        """Write the graph, its outputs renamed (value -> name)."""
        nodes = [
            *self._nodes,
            *(helper.make_node("Identity", [v], [n]) for v, n in outputs.items()),
        ]
        results = [
            helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in outputs.values()
        ]
        graph = helper.make_graph(nodes, self._name, self._inputs, results, self._constants)
        imports = [helper.make_opsetid("", OPSET)]
        model = helper.make_model(graph, opset_imports=imports, ir_version=_IR_VERSION)
        model.producer_name = "d2csr"
        onnx.checker.check_model(onnx.shape_inference.infer_shapes(model), full_check=True)
        path.write_bytes(model.SerializeToString(deterministic=True))

    def _add_node(
        self,
        operation: str,
        inputs: Sequence[str],
        *,
        outputs: int,
        attributes: Mapping[str, Any],
    ) -> list[str]:
        index = len(self._nodes)
        names = [f"{operation.lower()}_{index}_{output}" for output in range(outputs)]
        self._nodes.append(helper.make_node(operation, inputs, names, **attributes))
        return names


def to_half(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a graph that computes in float16; its inputs and outputs stay in float32."""
    half = onnx.ModelProto()
    half.CopyFrom(model)
    graph = half.graph
    for tensor in graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            values = numpy_helper.to_array(tensor).astype(np.float16)
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    inputs, outputs = ([value.name for value in ends] for ends in (graph.input, graph.output))
    for node in graph.node:
        for names in (node.input, node.output):
            names[:] = [f"{n}_half" if n in (*inputs, *outputs) else n for n in names]
    nodes = [
        *(_cast(name, f"{name}_half", kind=TensorProto.FLOAT16) for name in inputs),
        *graph.node,
        *(_cast(f"{name}_half", name, kind=TensorProto.FLOAT) for name in outputs),
    ]
    del graph.node[:]
    graph.node.extend(nodes)
    onnx.checker.check_model(onnx.shape_inference.infer_shapes(half), full_check=True)
    return half


def _cast(value: str, name: str, *, kind: int) -> onnx.NodeProto:
    return helper.make_node("Cast", [value], [name], to=kind)


def _image(name: str, channels: int) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, channels, "height", "width"])
