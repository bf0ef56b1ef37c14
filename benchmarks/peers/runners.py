"""Networks of the peers on other engines, each set up for its best speed on a processor."""

import tempfile
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

NchwImage = np.ndarray[Any, np.dtype[np.float32]]
Run = Callable[[NchwImage], NchwImage]  # (3, h, w) in 0..1 -> (3, S h, S w)


def ncnn_run(network: nn.Module, *, bf16: bool, threads: int) -> Run:
    """Return the network on ncnn with its defaults, Winograd and packed layouts."""
    ncnn: Any = import_module("ncnn")  # compiled, without types
    pnnx: Any = import_module("pnnx")  # its converter from PyTorch

    net = ncnn.Net()
    net.opt.num_threads = threads
    net.opt.use_bf16_storage = bf16
    with tempfile.TemporaryDirectory() as folder:
        pnnx.export(
            network,
            str(Path(folder) / "peer.pt"),
            inputs=torch.zeros(1, 3, 16, 24),
            inputs2=torch.zeros(1, 3, 32, 40),  # other sides: they stay free
            fp16=False,
        )
        net.load_param(str(Path(folder) / "peer.ncnn.param"))
        net.load_model(str(Path(folder) / "peer.ncnn.bin"))

    def run(lr: NchwImage) -> NchwImage:
        extractor = net.create_extractor()
        extractor.input("in0", ncnn.Mat(np.ascontiguousarray(lr)))
        _, sr = extractor.extract("out0")
        return np.array(sr)

    return run


def onnxruntime_run(network: nn.Module, *, threads: int) -> Run:
    """Return the network on ONNX Runtime with its float32 kernels and all graph optimizations."""
    onnxruntime: Any = import_module("onnxruntime")

    with tempfile.TemporaryDirectory() as folder:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        session = onnxruntime.InferenceSession(
            _export(network, Path(folder)), options, providers=["CPUExecutionProvider"]
        )
    return lambda lr: session.run(None, {"lr": lr[None]})[0][0]


def openvino_run(network: nn.Module, *, precision: str, threads: int) -> Run:
    """Return the network on OpenVINO, compiled for each size of its input.

    Args:
        network: to run.
        precision: `f32` or `bf16`.
        threads: of the processor.
    """
    openvino: Any = import_module("openvino")

    core = openvino.Core()
    with tempfile.TemporaryDirectory() as folder:
        model = core.read_model(_export(network, Path(folder)))
    hints = {"INFERENCE_PRECISION_HINT": precision, "PERFORMANCE_HINT": "LATENCY"}
    compiled: dict[tuple[int, ...], Any] = {}

    def run(lr: NchwImage) -> NchwImage:
        if lr.shape not in compiled:
            model.reshape([1, *lr.shape])
            settings = {**hints, "INFERENCE_NUM_THREADS": threads}
            compiled[lr.shape] = core.compile_model(model, "CPU", settings)
        return compiled[lr.shape](lr[None])[0][0]

    return run


def _export(network: nn.Module, folder: Path) -> str:
    """Write the network as ONNX with free height and width; return the file."""
    path = str(folder / "peer.onnx")
    sizes = {2: "h", 3: "w"}
    torch.onnx.export(
        network, (torch.zeros(1, 3, 16, 16),), path, input_names=["lr"],
        dynamic_axes={"lr": sizes}, dynamo=False,
    )  # fmt: skip
    return path


def compiled_run(network: nn.Module, *, bf16: bool) -> Run:
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
