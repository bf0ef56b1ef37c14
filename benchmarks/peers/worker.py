"""The process that runs one peer; `upscale_speed.py` starts it as it starts our own backends."""

import time

import numpy as np
import torch
from peers.plain import PlainNet, PlainSizes
from peers.runners import Run, compiled_run, ncnn_run, onnxruntime_run

from d2csr.speed.worker import Handler, Values, cores, serve

_CHECKED = (3, 40, 24)  # an image to compare on before anything is timed


def prepare(job: Values) -> Handler:
    """Return what answers requests on a peer: `job` has its name and the network's sizes."""
    network = PlainNet(PlainSizes(*job["sizes"])).eval()
    torch.set_num_threads(cores())

    def check() -> Values:
        """Return how far the peer is from the network, relative to the largest value."""
        lr = np.random.default_rng(0).random(_CHECKED, np.float32)
        with torch.inference_mode():
            wanted = PlainNet(PlainSizes(*job["sizes"]))(torch.from_numpy(lr)[None])[0].numpy()
        return {"difference": float(np.abs(run(lr) - wanted).max() / np.abs(wanted).max())}

    def timed(*, height: int, width: int) -> Values:
        lr = np.random.default_rng(0).random((3, height, width), np.float32)
        begun = time.perf_counter()
        run(lr)
        return {"seconds": time.perf_counter() - begun}

    run = PEERS[job["peer"]](network)
    asked = {"check": check, "run": timed}
    return lambda request: asked[request.pop("ask")](**request)


def _ncnn_fp32(network: PlainNet) -> Run:
    return ncnn_run(network, bf16=False, threads=cores())


def _ncnn_bf16(network: PlainNet) -> Run:
    return ncnn_run(network, bf16=True, threads=cores())


def _onnxruntime_fp32(network: PlainNet) -> Run:
    return onnxruntime_run(network, threads=cores())


def _compiled_fp32(network: PlainNet) -> Run:
    return compiled_run(network, bf16=False)


def _compiled_bf16(network: PlainNet) -> Run:
    return compiled_run(network, bf16=True)


PEERS = {
    "ncnn fp32": _ncnn_fp32,
    "ncnn bf16": _ncnn_bf16,
    "onnxruntime fp32": _onnxruntime_fp32,
    "torch compile fp32": _compiled_fp32,
    "torch compile bf16": _compiled_bf16,
}


if __name__ == "__main__":
    serve(prepare)
