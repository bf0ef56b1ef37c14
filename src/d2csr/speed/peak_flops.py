"""Ceilings: what this machine multiplies per second at best, library by library."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Literal, Protocol, cast, final, runtime_checkable

import numpy as np

from d2csr.engine.backends.base import Precision

Operation = Literal["matmul", "convolution"]
Chain = Callable[[], object]

MATRIX_SIDE = 2048
IMAGE_SIDE = 512
STANDARD_CHANNELS = 64
_CHAIN_FLOP = 12e9  # of one call at least, so that copies in and out count for little
_LEAST_RUNS, _LEAST_S = 5, 0.3


@final
@dataclass(frozen=True)
class Library:
    """A row of the table: which module builds its chains, and which packages that needs."""

    module: str
    packages: tuple[str, ...]


LIBRARIES = {
    "openvino": Library("d2csr.speed.peak_flops_openvino", ("openvino",)),
    "onnxruntime": Library("d2csr.speed.peak_flops_onnxruntime", ("onnxruntime", "onnx")),
    "torch": Library("d2csr.speed.peak_flops_torch", ("torch",)),
    "torch-compile": Library("d2csr.speed.peak_flops_torch_compile", ("torch",)),
}


@final
@dataclass(frozen=True)
class KernelShape:
    """One operation, repeated as a chain: every output is the next input.

    Attributes:
        operation: a product of square matrices, or 3x3 convolutions of a square image.
        side: of the matrices, or of the image in pixels.
        channels: of the image; 0 for matrices.
    """

    operation: Operation
    side: int
    channels: int = 0

    @property
    def flop(self) -> float:
        """Return multiplications and additions of one link of the chain."""
        if self.operation == "matmul":
            return 2.0 * self.side**3
        return 2.0 * 9 * self.channels**2 * self.side**2

    @property
    def links(self) -> int:
        """Return how often the operation follows itself."""
        return max(2, min(16, round(_CHAIN_FLOP / self.flop)))

    def start(self) -> np.ndarray[Any, np.dtype[np.float32]]:
        """Return what goes into the first link: a matrix, or (1, c, h, w)."""
        side, channels = self.side, self.channels
        shape = (side, side) if self.operation == "matmul" else (1, channels, side, side)
        return np.random.default_rng(0).standard_normal(shape, np.float32)

    def weights(self) -> np.ndarray[Any, np.dtype[np.float32]]:
        """Return a matrix or kernel that keeps the values' size."""
        side, channels = self.side, self.channels
        shape = (side, side) if self.operation == "matmul" else (channels, channels, 3, 3)
        values = np.random.default_rng(1).standard_normal(shape, np.float32)
        return values / np.float32(np.sqrt(np.prod(shape[1:])))


@runtime_checkable
class ChainMaker(Protocol):
    """What every module of the table offers."""

    def make(self, shape: KernelShape, precision: Precision) -> Chain | None:
        """Return a chain ready to run; None where the library has no such one here."""
        ...


def libraries() -> list[str]:
    """Return the libraries of the table that are installed."""
    return [
        name for name, row in LIBRARIES.items() if all(find_spec(each) for each in row.packages)
    ]


def shapes(channels: set[int]) -> list[KernelShape]:
    """Return what to measure: the matrix product, and convolutions of all those widths."""
    widths = sorted({STANDARD_CHANNELS, *channels}, reverse=True)
    images = [KernelShape("convolution", IMAGE_SIDE, width) for width in widths]
    return [KernelShape("matmul", MATRIX_SIDE), *images]


def measure(
    library: str, *, operation: Operation, side: int, channels: int, precision: Precision
) -> float | None:
    """Return the median GFLOP/s of a chain; None where the library has no such one."""
    shape = KernelShape(operation, side, channels)
    maker = cast("ChainMaker", import_module(LIBRARIES[library].module))
    chain = maker.make(shape, precision)
    if chain is None:
        return None
    chain()
    chain()  # the second call finds all memory there
    seconds: list[float] = []
    while len(seconds) < _LEAST_RUNS or sum(seconds) < _LEAST_S:
        begun = time.perf_counter()
        chain()
        seconds.append(time.perf_counter() - begun)
    return shape.links * shape.flop / statistics.median(seconds) / 1e9
