"""An ONNX graph under construction: operations added one after the other, then one file.

The graphs are written down here, not traced from torch: a trace of the smallest network took 15 s
and followed every change of the tracer; this takes milliseconds, and `verify` compares the result
with the network it stands for, whichever way it was made.
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
    """Nodes and constants of one graph; methods return the name of what they compute."""

    def __init__(
        self, name: str, inputs: Mapping[str, int], *, weights: Mapping[str, Tensor]
    ) -> None:
        """Start a graph.

        Args:
            name: of the graph.
            inputs: name -> channels of each (1, channels, height, width) input, both sides dynamic.
            weights: what `layer` looks its weights up in.
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
        """Return the output of a new node."""
        return self._added(operation, inputs, outputs=1, attributes=attributes or {})[0]

    def constant(self, values: Tensor) -> str:
        """Return the name of a constant; floating values are kept as float32."""
        name = f"constant_{len(self._constants)}"
        values = values.float() if values.is_floating_point() else values
        array = np.ascontiguousarray(values.detach().cpu().numpy())
        self._constants.append(numpy_helper.from_array(array, name))
        return name

    def convolution(self, image: str, weight: Tensor, *, bias: Tensor | None) -> str:
        """Return a zero-padded convolution that keeps the size."""
        reach = weight.shape[-1] // 2
        inputs = [image, self.constant(weight)]
        inputs += [] if bias is None else [self.constant(bias)]
        return self.add("Conv", inputs, attributes={"pads": [reach] * 4})

    def layer(self, image: str, name: str) -> str:
        """Return what the convolution of that name makes of an image."""
        bias = self._weights.get(f"{name}.bias")
        return self.convolution(image, self._weights[f"{name}.weight"], bias=bias)

    def shuffle(self, image: str, factor: int) -> str:
        """Return what `torch.nn.functional.pixel_shuffle` does."""
        attributes = {"blocksize": factor, "mode": "CRD"}
        return self.add("DepthToSpace", [image], attributes=attributes)

    def parts(self, image: str, count: int) -> list[str]:
        """Return an image's channels in `count` equal parts."""
        attributes = {"axis": 1, "num_outputs": count}
        return self._added("Split", [image], outputs=count, attributes=attributes)

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

    def _added(
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


def _image(name: str, channels: int) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, channels, "height", "width"])
