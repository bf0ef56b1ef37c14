"""The process that runs one peer; `upscale_speed.py` starts it like our own backends."""

import time

import numpy as np
import torch
from peers.plain import make_network
from peers.runners import Run, compiled_run, ncnn_run, onnxruntime_run, openvino_run
from torch import nn

from d2csr.core.hardware import usable_cores
from d2csr.speed.worker import Handler, Values, serve

_CHECKED_SHAPE = (3, 40, 24)  # of an image to compare on before timing


def prepare(job: Values) -> Handler:
    """Return the handler of requests for a peer; `job` has its name and the network's values."""
    network = make_network(job["network"])
    torch.set_num_threads(usable_cores())

    def check() -> Values:
        """Return the largest difference from the network, relative to its largest value."""
        lr = np.random.default_rng(0).random(_CHECKED_SHAPE, np.float32)
        with torch.inference_mode():
            expected = make_network(job["network"])(torch.from_numpy(lr)[None])[0].numpy()
        return {"difference": float(np.abs(run(lr) - expected).max() / np.abs(expected).max())}

    def time_run(*, height: int, width: int) -> Values:
        """Return the seconds that upscaling noise of this size takes."""
        lr = np.random.default_rng(0).random((3, height, width), np.float32)
        started = time.perf_counter()
        run(lr)
        return {"seconds": time.perf_counter() - started}

    run = PEERS[job["peer"]](network)
    commands = {"check": check, "run": time_run}
    return lambda request: commands[request.pop("command")](**request)


def _ncnn_fp32(network: nn.Module) -> Run:
    return ncnn_run(network, bf16=False, threads=usable_cores())


def _ncnn_bf16(network: nn.Module) -> Run:
    return ncnn_run(network, bf16=True, threads=usable_cores())


def _onnxruntime_fp32(network: nn.Module) -> Run:
    return onnxruntime_run(network, threads=usable_cores())


def _openvino_fp32(network: nn.Module) -> Run:
    return openvino_run(network, precision="f32", threads=usable_cores())


def _openvino_bf16(network: nn.Module) -> Run:
    return openvino_run(network, precision="bf16", threads=usable_cores())


def _compiled_fp32(network: nn.Module) -> Run:
    return compiled_run(network, bf16=False)


def _compiled_bf16(network: nn.Module) -> Run:
    return compiled_run(network, bf16=True)


PEERS = {
    "ncnn fp32": _ncnn_fp32,
    "ncnn bf16": _ncnn_bf16,
    "onnxruntime fp32": _onnxruntime_fp32,
    "openvino fp32": _openvino_fp32,
    "openvino bf16": _openvino_bf16,
    "torch compile fp32": _compiled_fp32,
    "torch compile bf16": _compiled_bf16,
}


if __name__ == "__main__":
    serve(prepare)
