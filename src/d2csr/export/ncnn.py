"""Graphs for ncnn, translated from ONNX into the layers that Upscayl's build of ncnn has.

That build leaves out most layers, softmax and scale among them (`src/CMakeLists.txt` of
upscayl-ncnn). So a softmax becomes sigmoids, and a constant is subtracted by a 1x1 convolution. A
graph is two files: a `.param` lists layers with their blobs, a `.bin` has the weights in the order
of the layers, each array of a convolution's weights after four bytes that are zero for float32.
Shapes: channels, height and width; there is no axis for the batch.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any, final

import numpy as np
import onnx
from jaxtyping import Float32
from onnx import numpy_helper

INPUT, OUTPUT = "data", "output"  # the blobs that Upscayl looks for
_MAGIC = 7767517  # first line of every .param file
_EQUAL_PARTS = -233  # size of a slice: an equal share of the rest
_REPLICATE = 1  # type of padding
_ADD, _SUBTRACT, _MULTIPLY, _DIVIDE, _MAXIMUM, _FROM_SCALAR = 0, 1, 2, 3, 4, 7  # of BinaryOp
_LIMIT = 10.0  # of the logits below the largest: e^-10 is less than a hundredth of a gray level


@dataclass(frozen=True)
class _Layer:
    """A layer of a graph: kind, blobs, parameters by number, arrays."""

    kind: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    parameters: Mapping[int, object]
    arrays: tuple[np.ndarray, ...] = ()


def write_ncnn(model: onnx.ModelProto, path: Path) -> None:
    """Write a graph as `path` with the suffixes `.param` and `.bin`.

    Args:
        model: one input and one output, both images; without attention.
        path: of both files, without a suffix.

    Raises:
        ValueError: an operation that has no counterpart here.
    """
    layers = _with_splits(_Translator(model).layers())
    blobs = sum(len(layer.outputs) for layer in layers)
    lines = [str(_MAGIC), f"{len(layers)} {blobs}"]
    for index, layer in enumerate(layers):
        ends = [*layer.inputs, *layer.outputs]
        numbers = [f"{key}={value}" for key, value in layer.parameters.items()]
        counts = [str(len(layer.inputs)), str(len(layer.outputs))]
        words = [layer.kind, f"{layer.kind.lower()}_{index}", *counts, *ends, *numbers]
        lines.append(" ".join(words))
    arrays = [array for layer in layers for array in layer.arrays]
    path.with_name(f"{path.name}.param").write_text("\n".join(lines) + "\n", encoding="ascii")
    data = b"".join(np.ascontiguousarray(array, "<f4").tobytes() for array in arrays)
    path.with_name(f"{path.name}.bin").write_bytes(data)


def run_ncnn(path: Path, lr: Float32[np.ndarray, "3 h w"]) -> Float32[np.ndarray, "3 sh sw"]:
    """Return the output of a graph on ncnn, with the options of Upscayl, on the processor.

    Args:
        path: of its files, without a suffix.
        lr: RGB, range 0 to 1.

    Raises:
        ModuleNotFoundError: ncnn isn't installed.
        ValueError: ncnn can't read the graph, or it fails on this image.
    """
    ncnn: Any = import_module("ncnn")  # compiled, without types
    net = ncnn.Net()
    net.opt.use_fp16_packed = net.opt.use_fp16_storage = True
    net.opt.use_fp16_arithmetic = False
    net.opt.num_threads = 1
    files = [str(path.with_name(path.name + suffix)) for suffix in (".param", ".bin")]
    if net.load_param(files[0]) or net.load_model(files[1]):
        raise ValueError(f"ncnn can't read {path.name}")
    extractor = net.create_extractor()
    contiguous = np.ascontiguousarray(lr)  # named, because ncnn's matrix doesn't keep it alive
    extractor.input(INPUT, ncnn.Mat(contiguous))
    failed, output = extractor.extract(OUTPUT)
    if failed:
        raise ValueError(f"ncnn fails on {path.name}")
    return np.array(output, np.float32)


@final
class _Translator:
    """The layers of one graph, added node by node; a blob has the name of its ONNX value."""

    def __init__(self, model: onnx.ModelProto) -> None:
        graph = model.graph
        self._nodes = list(graph.node)
        self._constants = {each.name: numpy_helper.to_array(each) for each in graph.initializer}
        self._same: dict[str, str] = {graph.input[0].name: INPUT}  # value -> blob with its numbers
        self._layers: list[_Layer] = []
        self._parts: dict[str, int] = {}  # blob of weights -> number of predictions
        self._output = graph.output[0].name

    def layers(self) -> list[_Layer]:
        """Return all layers in an order in which they can run."""
        self._add("Input", [], outputs=[INPUT])
        translate: dict[str, Callable[[onnx.NodeProto], None]] = {
            "Add": lambda node: self._binary(node, _ADD),
            "Clip": self._identity,  # limits that no value comes near
            "Concat": lambda node: self._simple(node, "Concat", parameters={0: 0}),
            "Conv": self._convolution,
            "DepthToSpace": self._shuffle,
            "Identity": self._identity,
            "Mul": lambda node: self._binary(node, _MULTIPLY),
            "Pad": self._pad,
            "Relu": lambda node: self._simple(node, "ReLU", parameters={}),
            "Softmax": self._softmax,
            "Split": self._split,
            "Sub": self._subtract_constant,
        }
        for node in self._nodes:
            if node.op_type not in translate:
                raise ValueError(f"no layer of Upscayl's ncnn computes {node.op_type}")
            translate[node.op_type](node)
        last = self._same[self._output]
        return [_renamed(layer, {last: OUTPUT}) for layer in self._layers]

    def _add(
        self,
        kind: str,
        inputs: Sequence[str],
        *,
        outputs: Sequence[str],
        parameters: Mapping[int, object] | None = None,
        arrays: Sequence[np.ndarray] = (),
    ) -> None:
        blobs = tuple(self._same.get(name, name) for name in inputs)
        layer = _Layer(kind, blobs, tuple(outputs), parameters or {}, tuple(arrays))
        self._layers.append(layer)

    def _simple(self, node: onnx.NodeProto, kind: str, *, parameters: Mapping[int, object]) -> None:
        self._add(kind, node.input, outputs=node.output, parameters=parameters)

    def _identity(self, node: onnx.NodeProto) -> None:
        self._same[node.output[0]] = self._same.get(node.input[0], node.input[0])

    def _binary(self, node: onnx.NodeProto, operation: int) -> None:
        constant = self._constants.get(node.input[1])
        if constant is None:
            self._simple(node, "BinaryOp", parameters={0: operation})
            return
        parameters = {0: operation, 1: 1, 2: f"{constant.item():.9g}"}
        self._add("BinaryOp", node.input[:1], outputs=node.output, parameters=parameters)

    def _subtract_constant(self, node: onnx.NodeProto) -> None:
        """Subtract a number per channel: a 1x1 convolution with the identity and a bias."""
        offset = self._constants[node.input[1]].reshape(-1)
        weight = np.eye(offset.size, dtype=np.float32)[:, :, None, None]
        self._add_convolution(node.input[0], node.output[0], weight=weight, bias=-offset)

    def _convolution(self, node: onnx.NodeProto) -> None:
        weight = self._constants[node.input[1]]
        groups = next((each.i for each in node.attribute if each.name == "group"), 1)
        bias = self._constants[node.input[2]] if len(node.input) > 2 else None
        pads = next((each.ints[0] for each in node.attribute if each.name == "pads"), 0)
        dense = _dense(weight, groups=groups)
        self._add_convolution(
            node.input[0], node.output[0], weight=dense, bias=bias, padding_px=pads
        )

    def _add_convolution(
        self,
        image: str,
        name: str,
        *,
        weight: np.ndarray,
        bias: np.ndarray | None,
        padding_px: int = 0,
    ) -> None:
        parameters = {0: weight.shape[0], 1: weight.shape[3], 11: weight.shape[2], 4: padding_px}
        parameters |= {5: int(bias is not None), 6: weight.size}
        arrays = [np.zeros(1), weight] + ([] if bias is None else [bias])
        self._add("Convolution", [image], outputs=[name], parameters=parameters, arrays=arrays)

    def _pad(self, node: onnx.NodeProto) -> None:
        """Repeat the outermost pixels, equally on each side."""
        side = int(self._constants[node.input[1]].max())
        parameters = dict.fromkeys(range(4), side) | {4: _REPLICATE}
        self._add("Padding", node.input[:1], outputs=node.output, parameters=parameters)

    def _shuffle(self, node: onnx.NodeProto) -> None:
        factor = next(each.i for each in node.attribute if each.name == "blocksize")
        self._simple(node, "PixelShuffle", parameters={0: factor})

    def _split(self, node: onnx.NodeProto) -> None:
        image = node.input[0]
        if image in self._parts:  # a softmax, whose parts exist already
            self._same |= {part: f"{image}_{i}" for i, part in enumerate(node.output)}
            return
        self._slice(image, node.output)

    def _slice(self, image: str, parts: Sequence[str]) -> None:
        sizes = ",".join([str(len(parts)), *[str(_EQUAL_PARTS)] * len(parts)])
        self._add("Slice", [image], outputs=parts, parameters={-23300: sizes})

    def _softmax(self, node: onnx.NodeProto) -> None:
        """Add one blob per channel: a sigmoid of the difference of two, or shares of more.

        e^x is sigmoid(x) / (1 - sigmoid(x)), taken of logits less their largest.
        """
        name, logits = node.output[0], node.input[0]
        source = next(layer for layer in self._layers if logits in layer.outputs)
        count = self._channels(source)
        self._parts[name] = count
        parts = [f"{logits}_{index}" for index in range(count)]
        shares = [f"{name}_{index}" for index in range(count)]
        self._slice(logits, parts)
        if count == 2:
            for share, pair in zip(shares, (parts, parts[::-1]), strict=True):
                self._add("BinaryOp", pair, outputs=[f"{share}_less"], parameters={0: _SUBTRACT})
                self._add("Sigmoid", [f"{share}_less"], outputs=[share])
            return
        largest = self._reduce(parts, _MAXIMUM, name=f"{name}_largest")
        powers = [self._power(part, largest, name=f"{name}_power_{part}") for part in parts]
        total = self._reduce(powers, _ADD, name=f"{name}_total")
        for power, share in zip(powers, shares, strict=True):
            self._add("BinaryOp", [power, total], outputs=[share], parameters={0: _DIVIDE})

    def _power(self, logit: str, largest: str, *, name: str) -> str:
        """Return e to the logit less the largest one."""
        self._add("BinaryOp", [logit, largest], outputs=[f"{name}_less"], parameters={0: _SUBTRACT})
        limits: dict[int, object] = {0: -_LIMIT, 1: 0.0}
        self._add("Clip", [f"{name}_less"], outputs=[f"{name}_clipped"], parameters=limits)
        self._add("Sigmoid", [f"{name}_clipped"], outputs=[f"{name}_sigmoid"])
        rest: dict[int, object] = {0: _FROM_SCALAR, 1: 1, 2: 1.0}
        self._add("BinaryOp", [f"{name}_sigmoid"], outputs=[f"{name}_rest"], parameters=rest)
        ends = [f"{name}_sigmoid", f"{name}_rest"]
        self._add("BinaryOp", ends, outputs=[name], parameters={0: _DIVIDE})
        return name

    def _reduce(self, values: Sequence[str], operation: int, *, name: str) -> str:
        total, *others = values
        for index, other in enumerate(others):
            joined = f"{name}_{index}"
            self._add("BinaryOp", [total, other], outputs=[joined], parameters={0: operation})
            total = joined
        return total

    def _channels(self, layer: _Layer) -> int:
        """Return the channels of a layer that follows convolutions, by the last of them."""
        if layer.kind == "Convolution":
            return int(str(layer.parameters[0]))
        source = next(each for each in self._layers if layer.inputs[0] in each.outputs)
        divisor = int(str(layer.parameters[0])) ** 2 if layer.kind == "PixelShuffle" else 1
        return self._channels(source) // divisor


def _dense(weight: Float32[np.ndarray, "o i kh kw"], *, groups: int) -> np.ndarray:
    """Return the weights of a convolution in groups as those of one that sees every channel."""
    outputs, inputs, *taps = weight.shape
    dense = np.zeros((outputs, inputs * groups, *taps), np.float32)
    for group in range(groups):
        rows = slice(group * outputs // groups, (group + 1) * outputs // groups)
        dense[rows, group * inputs : (group + 1) * inputs] = weight[rows]
    return dense


def _renamed(layer: _Layer, names: Mapping[str, str]) -> _Layer:
    inputs, outputs = (
        tuple(names.get(name, name) for name in ends) for ends in (layer.inputs, layer.outputs)
    )
    return replace(layer, inputs=inputs, outputs=outputs)


def _with_splits(layers: Sequence[_Layer]) -> list[_Layer]:
    """Return the layers with a `Split` after each blob that several of them read."""
    used = Counter(name for layer in layers for name in layer.inputs)
    taken: defaultdict[str, int] = defaultdict(int)
    result: list[_Layer] = []
    for layer in layers:
        inputs = []
        for name in layer.inputs:
            shared = used[name] > 1
            inputs.append(f"{name}_copy_{taken[name]}" if shared else name)
            taken[name] += 1
        result.append(replace(layer, inputs=tuple(inputs)))
        for name in layer.outputs:
            if used[name] > 1:
                copies = tuple(f"{name}_copy_{index}" for index in range(used[name]))
                result.append(_Layer("Split", (name,), copies, {}))
    return result
