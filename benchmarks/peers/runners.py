"""The plain network on other engines, each set up for its best speed on a processor."""

import tempfile
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peers.plain import PlainNet

NchwImage = np.ndarray[Any, np.dtype[np.float32]]
Run = Callable[[NchwImage], NchwImage]  # (3, h, w) in 0..1 -> (3, S h, S w)


def ncnn_run(network: PlainNet, *, bf16: bool, threads: int) -> Run:
    """Return the network on ncnn with its defaults, Winograd and packed layouts."""
    ncnn: Any = import_module("ncnn")  # compiled, without types

    net = ncnn.Net()
    net.opt.num_threads = threads
    net.opt.use_bf16_storage = bf16
    with tempfile.TemporaryDirectory() as folder:
        graph, weights = Path(folder) / "plain.param", Path(folder) / "plain.bin"
        graph.write_text(_ncnn_graph(network))
        weights.write_bytes(b"".join(_ncnn_weights(network)))
        net.load_param(str(graph))
        net.load_model(str(weights))

    def run(lr: NchwImage) -> NchwImage:
        extractor = net.create_extractor()
        extractor.input("lr", ncnn.Mat(np.ascontiguousarray(lr)))
        _, sr = extractor.extract("sr")
        return np.array(sr)

    return run


def onnxruntime_run(network: PlainNet, *, threads: int) -> Run:
    """Return the network on ONNX Runtime with its float32 kernels and all graph optimizations."""
    onnxruntime: Any = import_module("onnxruntime")

    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "plain.onnx")
        sizes = {2: "h", 3: "w"}
        torch.onnx.export(
            network, (torch.zeros(1, 3, 16, 16),), path, input_names=["lr"],
            dynamic_axes={"lr": sizes}, dynamo=False,
        )  # fmt: skip
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda lr: session.run(None, {"lr": lr[None]})[0][0]


def compiled_run(network: PlainNet, *, bf16: bool) -> Run:
    """Return the network compiled by PyTorch, channels last, with its weights laid out once."""
    import torch._inductor.config as inductor

    inductor.freezing = True
    dtype = torch.bfloat16 if bf16 else torch.float32
    ready = network.to(dtype)
    ready.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue] - not stubbed
    compiled = torch.compile(ready, dynamic=False)

    def run(lr: NchwImage) -> NchwImage:
        with torch.inference_mode():
            lr_nchw = torch.from_numpy(lr)[None].to(dtype).to(memory_format=torch.channels_last)
            return compiled(lr_nchw).float()[0].numpy()

    return run


def _ncnn_graph(network: PlainNet) -> str:
    """Return the graph in ncnn's text format: layers with their blobs; 9=1 is a fused ReLU."""
    width, outputs = network.sizes.width, 3 * network.sizes.scale**2
    lines = ["Input lr 0 1 lr", _ncnn_convolution("head", ("lr", "f0"), sizes=(3, width))]
    for block in range(network.sizes.blocks):
        here, there = f"f{block}", f"f{block + 1}"
        inner, relu = (width, width), " 9=1"
        lines += [
            f"Split s{block} 1 2 {here} {here}a {here}b",
            _ncnn_convolution(f"c{block}", (f"{here}a", f"{here}c"), sizes=inner) + relu,
            _ncnn_convolution(f"d{block}", (f"{here}c", f"{here}d"), sizes=inner),
            f"BinaryOp a{block} 2 1 {here}b {here}d {there} 0=0",
        ]
    last = f"f{network.sizes.blocks}"
    lines.append(_ncnn_convolution("tail", (last, "phases"), sizes=(width, outputs)))
    lines.append(f"PixelShuffle shuffle 1 1 phases sr 0={network.sizes.scale}")
    blobs = 4 + 5 * network.sizes.blocks
    return "\n".join(["7767517", f"{len(lines)} {blobs}", *lines, ""])


def _ncnn_convolution(name: str, blobs: tuple[str, str], *, sizes: tuple[int, int]) -> str:
    inputs, outputs = sizes
    values = f"0={outputs} 1=3 4=1 5=1 6={9 * inputs * outputs}"
    return f"Convolution {name} 1 1 {blobs[0]} {blobs[1]} {values}"


def _ncnn_weights(network: PlainNet) -> Iterator[bytes]:
    """Yield the weights of every convolution, after a zero that means float32, and its bias."""
    convolutions = [each for each in network.modules() if isinstance(each, torch.nn.Conv2d)]
    for convolution in convolutions:
        yield bytes(4)
        yield convolution.weight.detach().numpy().tobytes()
        yield b"" if convolution.bias is None else convolution.bias.detach().numpy().tobytes()
