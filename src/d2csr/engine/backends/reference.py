"""Networks as the literature runs them: PyTorch, eager, float32, NCHW, the whole image at once.

Expanded where the model's tails are. Slow and hungry: the oracle of every other backend, and the
baseline that speed and memory are told against.
"""

import torch
from torch import Tensor

from d2csr.checkpoint.io import load_weights
from d2csr.core.bundle import WEIGHTS_NAME, Bundle
from d2csr.engine.backends import pytorch
from d2csr.engine.backends.base import Graph, Precision


def find_device(wanted: str) -> str:
    """Return torch's name of a device; `auto` is the processor."""
    return pytorch.find_device("cpu" if wanted.lower() == "auto" else wanted)


def precisions(_device: str) -> tuple[Precision, ...]:
    """Return the one precision that it computes in."""
    return ("fp32",)


def compile_graph(bundle: Bundle, role: str, *, device: str, precision: Precision) -> Graph:
    """Return the network as the one graph `whole`: lr -> predictions, weights, sr."""
    if role != "whole":
        raise KeyError(role)
    network = load_weights(bundle.folder / WEIGHTS_NAME).requires_grad_(False).to(device)

    def run(lr: Tensor) -> list[Tensor]:
        output = network(lr.contiguous())
        return [output.predictions.flatten(1, 2), output.weights, output.sr]

    return pytorch.as_graph(
        run, device=torch.device(device), precision=precision, where=f"{bundle.folder}: {role}"
    )
