"""Chains of products and convolutions on PyTorch, eager, images channels last."""

from collections.abc import Callable
from importlib import import_module
from typing import Any

from d2csr.engine.backends.base import Precision
from d2csr.speed.peak_flops import Chain, KernelShape


def make(shape: KernelShape, precision: Precision) -> Chain | None:
    """Return a chain; None for int8, which eager PyTorch lacks."""
    return chain(shape, precision, prepare=lambda module: module)


def chain(
    shape: KernelShape, precision: Precision, *, prepare: Callable[[Any], Any]
) -> Chain | None:
    """Return a chain that `prepare`, given it as a module, makes ready."""
    if precision == "int8":
        return None
    torch: Any = import_module("torch")  # by name: nothing here needs it to be installed
    weights, start = (torch.from_numpy(each) for each in (shape.weights(), shape.start()))
    if shape.operation == "matmul":
        layer = torch.nn.Linear(shape.side, shape.side, bias=False)
    else:
        layer = torch.nn.Conv2d(shape.channels, shape.channels, 3, padding=1, bias=False)
    layer.weight.data = weights
    links = torch.nn.Sequential(*[layer] * shape.links).eval()
    form = torch.float32 if precision == "fp32" else torch.bfloat16
    links, start = links.to(form), start.to(form)
    if shape.operation == "convolution":
        links = links.to(memory_format=torch.channels_last)
        start = start.to(memory_format=torch.channels_last)
    ready = prepare(links)

    def run() -> object:
        with torch.inference_mode():
            return ready(start)

    return run
