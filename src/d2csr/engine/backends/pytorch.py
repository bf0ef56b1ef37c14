"""Networks on PyTorch: collapsed, channels last, in float32 or bfloat16 by autocast."""

from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from d2csr.checkpoint.io import load_weights
from d2csr.core.bundle import WEIGHTS_NAME, Bundle
from d2csr.core.errors import OutOfMemoryError, UsageError, first_line, is_out_of_memory
from d2csr.core.hardware import cpu_has_bf16
from d2csr.engine.backends.base import Graph, NchwArray, Precision
from d2csr.models.d2csr import D2CSR, fuse
from d2csr.models.tail import CENTRE, BorderAwareTail

_Run = Callable[..., list[Tensor]]


def find_device(wanted: str) -> str:
    """Return torch's name of a device.

    Raises:
        UsageError: there is no such device.
    """
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    gpus = [f"cuda:{index}" for index in range(count)]
    gpus += ["mps"] if torch.backends.mps.is_available() else []
    choices = {"auto": gpus[0] if gpus else "cpu", "cpu": "cpu", "-1": "cpu"}
    choices |= {str(index): name for index, name in enumerate(gpus)}
    choices |= {"gpu": gpus[0]} if gpus else {}
    if wanted.lower() not in choices:
        remedy = f"Choose one of {', '.join(choices)}."
        raise UsageError("device", f"{wanted!r} is no device of torch here", remedy=remedy)
    return choices[wanted.lower()]


def precisions(device: str) -> tuple[Precision, ...]:
    """Return the precisions that a device computes in, the fastest first.

    On a processor that doesn't multiply in bfloat16, torch emulates it, slowly.
    """
    if device == "cpu" and not cpu_has_bf16():
        return ("fp32", "bf16")
    return ("bf16", "fp32")


def compile_graph(bundle: Bundle, role: str, *, device: str, precision: Precision) -> Graph:
    """Return a part of the network as the graph of that role.

    Raises:
        CheckpointError: the bundle's weights can't be read.
    """
    network = _network(bundle.folder / WEIGHTS_NAME, device)
    run, place = _roles(network)[role], torch.device(device)
    return as_graph(run, device=place, precision=precision, where=f"{bundle.folder}: {role}")


def as_graph(run: _Run, *, device: torch.device, precision: Precision, where: str) -> Graph:
    """Return a function of tensors as one of planes, run on a device in a precision."""
    half = precision == "bf16"

    def graph(inputs: Sequence[NchwArray]) -> list[NchwArray]:
        cudnn = torch.backends.cudnn.flags(allow_tf32=False)  # float32 means 24 bits, not 11
        try:
            with (
                torch.inference_mode(),
                cudnn,
                torch.autocast(device.type, torch.bfloat16, enabled=half),
            ):
                return [_planes(each) for each in run(*(_tensor(each, device) for each in inputs))]
        except (MemoryError, RuntimeError) as error:  # out of memory is a RuntimeError too
            if not is_out_of_memory(error):
                raise
            shapes = ", ".join(str(each.shape) for each in inputs)
            problem = f"torch fails on inputs {shapes} ({first_line(error)})"
            remedy = "Give a smaller image, or free some memory."
            raise OutOfMemoryError(where, problem, remedy=remedy) from error

    return graph


@lru_cache(maxsize=1)  # the roles of one bundle, one after the other
def _network(path: Path, device: str) -> D2CSR:
    network = load_weights(path).collapse().eval().requires_grad_(False)
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d):  # a framed tail's nine kernels have five axes
            module.weight.data = module.weight.contiguous(memory_format=torch.channels_last)
    return network.to(device)


def _roles(network: D2CSR) -> dict[str, _Run]:
    """Return every role that a card may name."""
    tree, leaves = network.divergence, network.config.leaves

    def predicted(features: Tensor, lr: Tensor, *, border: bool) -> Tensor:
        rest = tree.base_image(lr)
        images = [
            tree.add_base(_tail(tail, leaf, border=border), rest)
            for tail, leaf in zip(tree.tails, features.chunk(leaves, 1), strict=True)
        ]
        return torch.stack(images, 1)

    def fused(predictions: Tensor) -> list[Tensor]:
        weights = network.convergence(predictions).float()
        return [weights, fuse(predictions, weights)]

    def tail(features: Tensor, lr: Tensor) -> list[Tensor]:
        predictions = predicted(features, lr, border=False)
        if network.config.tail_border == "each":
            return [predictions.flatten(1, 2)]
        return [predictions.flatten(1, 2), *fused(predictions)]

    return {
        "trunk": lambda lr: [torch.cat(tree.features(lr), 1)],
        "tail": tail,
        "border_tail": lambda *both: [predicted(*both, border=True).flatten(1, 2)],
        "fusion": lambda planes: fused(planes.unflatten(1, (leaves, 3))),
    }


def _tail(tail: torch.nn.Module, features: Tensor, *, border: bool) -> Tensor:
    """Return a tail's image; `frame`: by the stages it was collapsed from."""
    if not isinstance(tail, BorderAwareTail):
        return tail(features)
    if border:
        return tail.expanded(features)
    image = F.conv2d(features, tail.weight[CENTRE], tail.bias[CENTRE], padding=2)
    return F.pixel_shuffle(image, tail.scale)


def _tensor(planes: NchwArray, device: torch.device) -> Tensor:
    """Return planes on a device, channels last; bits as the bfloat16 that they are."""
    planes = np.ascontiguousarray(planes)
    halves = planes.dtype == np.uint16
    tensor = torch.from_numpy(planes.view(np.int16) if halves else planes)
    tensor = tensor.view(torch.bfloat16) if halves else tensor
    return tensor.to(device).contiguous(memory_format=torch.channels_last)


def _planes(tensor: Tensor) -> NchwArray:
    """Return a tensor as planes; bfloat16 as its bits."""
    tensor = tensor.cpu().contiguous()
    if tensor.dtype != torch.bfloat16:
        return tensor.numpy()
    bits: np.ndarray[Any, np.dtype[Any]] = tensor.view(torch.int16).numpy()
    return bits.view(np.uint16)
