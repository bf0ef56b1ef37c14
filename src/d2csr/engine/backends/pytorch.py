"""Networks on PyTorch, which is imported with this module.

`TorchBackend` runs them collapsed and channels last, in float32 or bfloat16 by autocast.
`ReferenceBackend` runs them as the literature does: expanded, float32, NCHW, the whole image at
once. It is slow and takes much memory: the oracle of the other backends, and the baseline of
speed and memory measurements.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import Any, final

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from d2csr.checkpoint.io import load_weights
from d2csr.checkpoint.systems import load_system_weights
from d2csr.core.bundle import WEIGHTS_NAME, Bundle
from d2csr.core.errors import UsageError
from d2csr.core.hardware import cpu_has_bf16
from d2csr.core.system_config import SystemConfig
from d2csr.engine.backends.base import (
    Graph,
    NchwArray,
    Precision,
    convert_out_of_memory,
    device_choices,
)
from d2csr.models.d2csr import D2CSR, fuse
from d2csr.models.networks.base import SystemNetwork
from d2csr.models.tail import CENTRE, BorderAwareTail

_Run = Callable[..., list[Tensor]]
_CUDNN_FLAGS = Lock()  # of the process, not of a thread: one call at a time may change them


@final
class TorchBackend:
    """PyTorch with the fastest form of each network."""

    def find_device(self, name: str) -> str:
        """Return torch's name of a device; `auto` is the first GPU, or else the processor.

        Raises:
            UsageError: there is no such device.
        """
        return _find_device(name)

    def precisions(self, device: str) -> tuple[Precision, ...]:
        """Return the precisions that a device computes in, the fastest first.

        On a processor without bfloat16 instructions, torch emulates it, slowly.
        """
        if device == "cpu" and not cpu_has_bf16():
            return ("fp32", "bf16")
        return ("bf16", "fp32")

    def compile_graph(
        self, bundle: Bundle, role: str, *, device: str, precision: Precision
    ) -> Graph:
        """Return a part of the network as the graph of that role.

        Raises:
            CheckpointError: the bundle's weights can't be read.
        """
        path = bundle.folder / WEIGHTS_NAME
        if isinstance(bundle.card.config, SystemConfig):
            run = _system_run(load_system_weights(path).for_inference(), device)
        else:
            run = _roles(_load_collapsed(path, device, sha256=bundle.weights_sha256))[role]
        return _as_graph(run, device=device, precision=precision, where=f"{bundle.folder}: {role}")


@final
class ReferenceBackend:
    """PyTorch with each network as it was trained, on the whole image."""

    def find_device(self, name: str) -> str:
        """Return torch's name of a device; `auto` is the processor.

        Raises:
            UsageError: there is no such device.
        """
        return _find_device("cpu" if name.lower() == "auto" else name)

    def precisions(self, device: str) -> tuple[Precision, ...]:
        """Return the only precision, float32."""
        del device
        return ("fp32",)

    def compile_graph(
        self, bundle: Bundle, role: str, *, device: str, precision: Precision
    ) -> Graph:
        """Return the network as the graph `whole`: lr -> predictions, weights, sr.

        Of a compared system it is lr -> sr.

        Raises:
            KeyError: another role.
            CheckpointError: the bundle's weights can't be read.
        """
        if role != "whole":
            raise KeyError(role)
        path, where = bundle.folder / WEIGHTS_NAME, f"{bundle.folder}: {role}"
        if isinstance(bundle.card.config, SystemConfig):
            run = _system_run(load_system_weights(path), device)
            return _as_graph(run, device=device, precision=precision, where=where)
        network = load_weights(path).requires_grad_(False).to(device)

        def run(lr: Tensor) -> list[Tensor]:
            output = network(lr.contiguous())
            return [output.predictions.flatten(1, 2), output.weights, output.sr]

        return _as_graph(run, device=device, precision=precision, where=where)


def _system_run(network: SystemNetwork, device: str) -> _Run:
    """Return the function lr -> sr of a compared system."""
    network = network.eval().requires_grad_(False).to(device)
    return lambda lr: [network(lr.contiguous()).float()]


def _find_device(name: str) -> str:
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    gpus = [f"cuda:{index}" for index in range(count)]
    gpus += ["mps"] if torch.backends.mps.is_available() else []
    choices = device_choices("cpu", gpus, prefers_gpu=True)
    if name.lower() not in choices:
        remedy = f"Choose one of {', '.join(choices)}."
        raise UsageError(
            "device", f"{name!r} is not a device that PyTorch finds here", remedy=remedy
        )
    return choices[name.lower()]


def _as_graph(run: _Run, *, device: str, precision: Precision, where: str) -> Graph:
    """Return a function of tensors as one of arrays, run on a device in a precision."""
    target, is_bf16 = torch.device(device), precision == "bf16"

    def graph(inputs: Sequence[NchwArray]) -> list[NchwArray]:
        with (
            convert_out_of_memory("torch", where=where, inputs=inputs),
            torch.inference_mode(),
            _CUDNN_FLAGS if target.type == "cuda" else nullcontext(),
            _exact_float32(target),
            torch.autocast(target.type, torch.bfloat16, enabled=is_bf16),
        ):
            return [_to_array(each) for each in run(*(_to_tensor(each, target) for each in inputs))]

    return graph


def _exact_float32(device: torch.device) -> AbstractContextManager[object]:
    """Return a context in which cuDNN multiplies float32 in 24 bits, not in TF32's 11."""
    if device.type != "cuda":
        return nullcontext()
    return torch.backends.cudnn.flags(allow_tf32=False)


@lru_cache(maxsize=1)  # the roles of one bundle are compiled one after the other
def _load_collapsed(path: Path, device: str, *, sha256: str) -> D2CSR:
    """Return a network collapsed and on a device; the hash tells a file from its predecessor."""
    del sha256
    network = load_weights(path).collapse().eval().requires_grad_(False)
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d):  # a border-aware tail's nine kernels have five axes
            module.weight.data = module.weight.contiguous(memory_format=torch.channels_last)
    return network.to(device)


def _roles(network: D2CSR) -> dict[str, _Run]:
    """Return the function of every role that a card may name."""
    tree, leaves = network.divergence, network.config.leaves

    def predict(features: Tensor, lr: Tensor, *, border: bool) -> Tensor:
        base = tree.base_image(lr)
        images = [
            tree.add_base(_run_tail(tail, leaf, border=border), base)
            for tail, leaf in zip(tree.tails, features.chunk(leaves, 1), strict=True)
        ]
        return torch.stack(images, 1)

    def fuse_predictions(predictions: Tensor) -> list[Tensor]:
        weights = network.convergence(predictions).float()
        return [weights, fuse(predictions, weights)]

    def run_tail(features: Tensor, lr: Tensor) -> list[Tensor]:
        predictions = predict(features, lr, border=False)
        if network.config.tail_border == "each":
            return [predictions.flatten(1, 2)]
        return [predictions.flatten(1, 2), *fuse_predictions(predictions)]

    return {
        "trunk": lambda lr: [torch.cat(tree.features(lr), 1)],
        "tail": run_tail,
        "border_tail": lambda *both: [predict(*both, border=True).flatten(1, 2)],
        "fusion": lambda images: fuse_predictions(images.unflatten(1, (leaves, 3))),
    }


def _run_tail(tail: torch.nn.Module, features: Tensor, *, border: bool) -> Tensor:
    """Return a tail's image; at the border, by the stages that it was collapsed from."""
    if not isinstance(tail, BorderAwareTail):
        return tail(features)
    if border:
        return tail.expanded(features)
    image = F.conv2d(features, tail.weight[CENTRE], tail.bias[CENTRE], padding=2)
    return F.pixel_shuffle(image, tail.scale)


def _to_tensor(array: NchwArray, device: torch.device) -> Tensor:
    """Return an array on a device, channels last; uint16 bits as the bfloat16 that they are."""
    array = np.ascontiguousarray(array)
    is_bf16 = array.dtype == np.uint16
    tensor = torch.from_numpy(array.view(np.int16) if is_bf16 else array)
    tensor = tensor.view(torch.bfloat16) if is_bf16 else tensor
    return tensor.to(device).contiguous(memory_format=torch.channels_last)


def _to_array(tensor: Tensor) -> NchwArray:
    """Return a tensor as an array; bfloat16 as uint16 bits."""
    tensor = tensor.cpu().contiguous()
    if tensor.dtype != torch.bfloat16:
        return tensor.numpy()
    bits: np.ndarray[Any, np.dtype[Any]] = tensor.view(torch.int16).numpy()
    return bits.view(np.uint16)
