"""Peak throughput of this machine: matrix products and convolutions, library by library.

Each library is imported only by the function that builds its chain, so none has to be installed.
"""

import os
import shutil
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal, final

import numpy as np

from d2csr.core.hardware import usable_cores
from d2csr.engine.backends.base import Precision

if TYPE_CHECKING:
    import openvino

Operation = Literal["matmul", "convolution"]
Chain = Callable[[], object]  # runs all links once

MATRIX_SIDE = 2048
IMAGE_SIDE = 512
STANDARD_CHANNELS = 64
_MIN_CHAIN_FLOP = 12e9  # per call, so that copying inputs and outputs takes a negligible share
_MIN_RUNS, _MIN_S = 5, 0.3
_INT8_LIMIT = 4.0  # of quantized values; most values of a chain are below


@final
@dataclass(frozen=True)
class KernelShape:
    """One operation, repeated as a chain: each output is the next input.

    Attributes:
        operation: a product of square matrices, or a 3x3 convolution of a square image.
        side: of the matrices, or of the image in pixels.
        channels: of the image; 0 for matrices.
    """

    operation: Operation
    side: int
    channels: int = 0

    @property
    def flop(self) -> float:
        """Return the multiplications and additions of one link of the chain."""
        if self.operation == "matmul":
            return 2.0 * self.side**3
        return 2.0 * 9 * self.channels**2 * self.side**2

    @property
    def links(self) -> int:
        """Return the number of operations in the chain."""
        return max(2, min(16, round(_MIN_CHAIN_FLOP / self.flop)))

    def start(self) -> np.ndarray[Any, np.dtype[np.float32]]:
        """Return the input of the first link: a matrix, or an image of shape (1, c, h, w)."""
        side, channels = self.side, self.channels
        shape = (side, side) if self.operation == "matmul" else (1, channels, side, side)
        return np.random.default_rng(0).standard_normal(shape, np.float32)

    def weights(self) -> np.ndarray[Any, np.dtype[np.float32]]:
        """Return a matrix or kernel that preserves the variance of its input."""
        side, channels = self.side, self.channels
        shape = (side, side) if self.operation == "matmul" else (channels, channels, 3, 3)
        values = np.random.default_rng(1).standard_normal(shape, np.float32)
        return values / np.float32(np.sqrt(np.prod(shape[1:])))


def libraries() -> list[str]:
    """Return the libraries that are installed, by their names in `LIBRARIES`."""
    return [
        name
        for name, library in LIBRARIES.items()
        if all(find_spec(package) for package in library.packages)
    ]


def shapes(channels: set[int]) -> list[KernelShape]:
    """Return the shapes to measure: one matrix product, and a convolution per channel count."""
    widths = sorted({STANDARD_CHANNELS, *channels}, reverse=True)
    images = [KernelShape("convolution", IMAGE_SIDE, width) for width in widths]
    return [KernelShape("matmul", MATRIX_SIDE), *images]


def measure(
    library: str, *, operation: Operation, side: int, channels: int, precision: Precision
) -> float | None:
    """Return the median GFLOP/s of a chain, or None if the library can't run it here."""
    shape = KernelShape(operation, side, channels)
    chain = LIBRARIES[library].build(shape, precision)
    if chain is None:
        return None
    chain()
    chain()  # all memory is allocated by the second call
    seconds: list[float] = []
    while len(seconds) < _MIN_RUNS or sum(seconds) < _MIN_S:
        started = time.perf_counter()
        chain()
        seconds.append(time.perf_counter() - started)
    return shape.links * shape.flop / statistics.median(seconds) / 1e9


def build_openvino(shape: KernelShape, precision: Precision) -> Chain | None:
    """Return a chain in OpenVINO, or None if this processor lacks the precision."""
    import openvino
    from openvino import opset13

    core = openvino.Core()
    capabilities = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    if precision.upper() not in capabilities:
        return None
    start = shape.start()
    parameter = opset13.parameter(list(start.shape), openvino.Type.f32)
    node: openvino.Node = parameter
    for _ in range(shape.links):
        node = _openvino_link(node, shape, quantized=precision == "int8")
    has_bf16 = "BF16" in capabilities and precision != "fp32"
    hint = openvino.Type.bf16 if has_bf16 else openvino.Type.f32
    properties = {"INFERENCE_PRECISION_HINT": hint, "PERFORMANCE_HINT": "LATENCY"}
    model = openvino.Model([node], [parameter], "chain")  # pyright: ignore[reportGeneralTypeIssues] - its stub
    request = core.compile_model(model, "CPU", properties).create_infer_request()
    tensor = openvino.Tensor(start, shared_memory=True)
    return lambda: request.infer([tensor], share_inputs=True, share_outputs=True)


def _openvino_link(
    node: "openvino.Node", shape: KernelShape, *, quantized: bool
) -> "openvino.Node":
    from openvino import opset13

    weights: openvino.Node = opset13.constant(shape.weights())
    if quantized:
        low, high = (opset13.constant(np.float32(sign * _INT8_LIMIT)) for sign in (-1, 1))
        node = opset13.fake_quantize(node, low, high, low, high, levels=256)
        weights = opset13.fake_quantize(weights, low, high, low, high, levels=255)
    if shape.operation == "matmul":
        return opset13.matmul(node, weights, transpose_a=False, transpose_b=False)
    return opset13.convolution(node, weights, [1, 1], [1, 1], [1, 1], [1, 1])


def build_onnxruntime(shape: KernelShape, precision: Precision) -> Chain | None:
    """Return a chain in ONNX Runtime on the processor, or None for precisions except float32."""
    if precision != "fp32":
        return None
    runtime: Any = import_module("onnxruntime")  # by name: the package is optional
    options = runtime.SessionOptions()
    options.intra_op_num_threads = usable_cores()
    model = _onnx_model(shape)
    session = runtime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    inputs = {"0": shape.start()}
    return lambda: session.run(None, inputs)


def _onnx_model(shape: KernelShape) -> bytes:
    """Return the chain as the contents of an ONNX file."""
    onnx: Any = import_module("onnx")
    size = list(shape.start().shape)
    operation, attributes = "MatMul", {}
    if shape.operation == "convolution":
        operation, attributes = "Conv", {"pads": [1, 1, 1, 1]}
    nodes = [
        onnx.helper.make_node(operation, [str(link), "weights"], [str(link + 1)], **attributes)
        for link in range(shape.links)
    ]
    first, last = (
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, size)
        for name in ("0", str(shape.links))
    )
    weights = onnx.numpy_helper.from_array(shape.weights(), "weights")
    graph = onnx.helper.make_graph(nodes, "chain", [first], [last], initializer=[weights])
    versions = [onnx.helper.make_opsetid("", 18)]
    return onnx.helper.make_model(graph, opset_imports=versions, ir_version=9).SerializeToString()


def build_torch(shape: KernelShape, precision: Precision) -> Chain | None:
    """Return a chain in eager PyTorch, images channels last, or None for int8, which it lacks."""
    return _torch_chain(shape, precision, compiled=False)


def build_torch_compile(shape: KernelShape, precision: Precision) -> Chain | None:
    """Return a chain in compiled PyTorch, its weights laid out once.

    None for int8, for matrix products (there is nothing to fuse), or without a C++ compiler.
    """
    if shape.operation == "matmul" or shutil.which(os.environ.get("CXX", "g++")) is None:
        return None
    return _torch_chain(shape, precision, compiled=True)


def _torch_chain(shape: KernelShape, precision: Precision, *, compiled: bool) -> Chain | None:
    if precision == "int8":
        return None
    torch: Any = import_module("torch")  # by name: the package is optional
    weights, start = (torch.from_numpy(each) for each in (shape.weights(), shape.start()))
    if shape.operation == "matmul":
        layer = torch.nn.Linear(shape.side, shape.side, bias=False)
    else:
        layer = torch.nn.Conv2d(shape.channels, shape.channels, 3, padding=1, bias=False)
    layer.weight.data = weights
    dtype = torch.float32 if precision == "fp32" else torch.bfloat16
    network = torch.nn.Sequential(*[layer] * shape.links).eval().to(dtype)
    start = start.to(dtype)
    if shape.operation == "convolution":
        network = network.to(memory_format=torch.channels_last)
        start = start.to(memory_format=torch.channels_last)
    if compiled:
        inductor: Any = import_module("torch._inductor.config")
        inductor.freezing = True
        network = torch.compile(network)

    def run() -> object:
        with torch.inference_mode():
            return network(start)

    return run


@final
@dataclass(frozen=True)
class Library:
    """A row of the table: the function that builds chains, and the packages that it needs."""

    build: Callable[[KernelShape, Precision], Chain | None]
    packages: tuple[str, ...]


LIBRARIES = {
    "openvino": Library(build_openvino, ("openvino",)),
    "onnxruntime": Library(build_onnxruntime, ("onnxruntime", "onnx")),
    "torch": Library(build_torch, ("torch",)),
    "torch-compile": Library(build_torch_compile, ("torch",)),
}
