"""Chains of convolutions on PyTorch, compiled, their weights laid out once."""

import os
import shutil
from importlib import import_module
from typing import Any

from d2csr.engine.backends.base import Precision
from d2csr.speed import peak_flops_torch
from d2csr.speed.peak_flops import Chain, KernelShape


def make(shape: KernelShape, precision: Precision) -> Chain | None:
    """Return a chain; None for int8, for products (nothing there to fuse), or no C++ compiler."""
    if shape.operation == "matmul" or shutil.which(os.environ.get("CXX", "g++")) is None:
        return None
    return peak_flops_torch.chain(shape, precision, prepare=_compiled)


def _compiled(module: Any) -> Any:
    torch: Any = import_module("torch")
    inductor: Any = import_module("torch._inductor.config")
    inductor.freezing = True
    return torch.compile(module)
