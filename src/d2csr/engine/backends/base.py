"""The table of backends: what can run a bundle's graphs, and the few questions they answer.

Precisions that graphs are computed in, and what a model answers for in each.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from shutil import which
from typing import Any, Literal, Protocol, cast, final, get_args, runtime_checkable

import numpy as np

from d2csr.core.bundle import Bundle, ModelCard
from d2csr.core.errors import UsageError

Precision = Literal["fp32", "bf16", "int8"]
PrecisionChoice = Literal["auto", "fp32", "bf16", "int8"]

PRECISIONS: tuple[Precision, ...] = get_args(Precision)

# A mean squared error e beside the model's own m costs 10 log10(1 + e / m) dB: 26.4 dB below it,
# 0.01 dB.
_BELOW_DB = 26.4
_ASSUMED_PSNR_DB = 34.0  # of a model that was never evaluated; real pairs give 25 to 35 dB


def graph_role(role: str, precision: Precision) -> str:
    """Return the role on the card that a graph of a precision has."""
    return f"{role}_int8" if precision == "int8" else role


def has_graphs(card: ModelCard, precision: Precision) -> bool:
    """Return whether a bundle has graphs for a precision."""
    return graph_role("trunk", precision) in card.graphs


def meets_accuracy_target(card: ModelCard, precision: str) -> bool:
    """Return whether a precision costs at most 0.01 dB, by what was measured at export.

    A card without the measurement promises float32 alone.
    """
    if precision == "fp32":
        return True
    loss = card.precisions.get(precision)
    return loss is not None and loss.psnr_to_fp32_db >= reached_psnr_db(card) + _BELOW_DB


def reached_psnr_db(card: ModelCard) -> float:
    """Return the best PSNR on a model's card in dB, or 34 dB for a model without scores."""
    return max((each.psnr_db for each in card.metadata.scores), default=_ASSUMED_PSNR_DB)


def float32_to_bf16(values: np.ndarray[Any, np.dtype[Any]]) -> np.ndarray[Any, np.dtype[np.uint16]]:
    """Return float32 rounded to bfloat16, as the bits of it; bits stay as they are."""
    if values.dtype == np.uint16:
        return values
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def bf16_to_float32(bits: np.ndarray[Any, np.dtype[Any]]) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Return the float32 values of bfloat16 bits; float32 stays as it is."""
    if bits.dtype == np.float32:
        return bits
    return (bits.astype(np.uint32) << 16).view(np.float32)


# (1, c, h, w), float32; features may be bfloat16 as uint16 bits, as the graph that made them says.
NchwArray = np.ndarray[Any, np.dtype[Any]]


@runtime_checkable
class Graph(Protocol):
    """A compiled graph."""

    def __call__(self, inputs: Sequence[NchwArray]) -> list[NchwArray]:
        """Return the outputs (1, c, h, w), in the order of the file; the caller may keep them."""
        ...


@runtime_checkable
class Backend(Protocol):
    """What every module of the table offers."""

    def find_device(self, wanted: str) -> str:
        """Return the backend's name of a device, or raise UsageError with those there are."""
        ...

    def precisions(self, device: str) -> tuple[Precision, ...]:
        """Return the precisions that a device computes in, the fastest first."""
        ...

    def compile_graph(
        self, bundle: Bundle, role: str, *, device: str, precision: Precision
    ) -> Graph:
        """Return the graph of a role of the bundle's card (`whole`: all of them in one)."""
        ...


@final
@dataclass(frozen=True)
class BackendSpec:
    """A row of the table.

    Attributes:
        module: where the backend is; imported when asked for.
        package: what must be installed for it.
        extra: what to install it by; None: it always is.
        whole: runs an image in one piece, by the role `whole`; nothing is to be cut for it.
    """

    module: str
    package: str
    extra: str | None = None
    whole: bool = False


BACKENDS = {
    "openvino": BackendSpec("d2csr.engine.backends.openvino", "openvino"),
    "onnxruntime": BackendSpec("d2csr.engine.backends.onnxruntime", "onnxruntime", "onnxruntime"),
    "torch": BackendSpec("d2csr.engine.backends.pytorch", "torch", "train"),
    "reference": BackendSpec("d2csr.engine.backends.reference", "torch", "train", whole=True),
}


@dataclass(frozen=True)
class DeviceOptions:
    """Where to compute, and how finely.

    Attributes:
        device: `auto`, `cpu`, `gpu`, or a GPU's index; -1 is the processor.
        precision: `auto`, or one of those that the backend has.
    """

    device: str = "auto"
    precision: PrecisionChoice = "auto"


@final
@dataclass(frozen=True)
class ResolvedBackend:
    """A backend with its device and precision chosen, for one bundle."""

    bundle: Bundle
    backend: str
    device: str
    precision: Precision

    @property
    def whole(self) -> bool:
        """Return whether images are to be run in one piece, by the role `whole`."""
        return BACKENDS[self.backend].whole

    def compile(self, role: str) -> Graph:
        """Return the compiled graph of a role; `whole`: lr -> predictions, weights, sr."""
        return load_backend(self.backend).compile_graph(
            self.bundle, role, device=self.device, precision=self.precision
        )


def load_backend(name: str) -> Backend:
    """Return a backend of the table.

    Raises:
        UsageError: no backend of that name, or what it needs isn't installed.
    """
    if name not in BACKENDS:
        remedy = f"Choose one of auto, {', '.join(BACKENDS)}."
        raise UsageError("backend", f"no backend is called {name!r}", remedy=remedy)
    entry = BACKENDS[name]
    if not is_installed(name):
        problem = f"{name!r} needs {entry.package}, which isn't installed"
        raise UsageError("backend", problem, remedy=f"Run `pip install 'd2csr[{entry.extra}]'`.")
    return cast("Backend", import_module(entry.module))


def is_installed(name: str) -> bool:
    """Return whether a backend of the table has the package that it needs."""
    return find_spec(BACKENDS[name].package) is not None


def resolve_backend(bundle: Bundle, *, backend: str, options: DeviceOptions) -> ResolvedBackend:
    """Return the backend, device and precision that a wish comes to.

    Args:
        bundle: what is to be run.
        backend: a name of the table; `auto` takes the fastest that is installed.
        options: the wish; where it leaves the precision open, the fastest that costs the model at
            most 0.01 dB.

    Raises:
        UsageError: no such backend, device or precision here.
    """
    name = _fastest(options.device) if backend == "auto" else backend
    chosen = load_backend(name)
    device = chosen.find_device(options.device)
    able = chosen.precisions(device)
    there: list[Precision] = [each for each in able if has_graphs(bundle.card, each)]
    if options.precision == "auto":
        kept: list[Precision] = [each for each in there if meets_accuracy_target(bundle.card, each)]
        return ResolvedBackend(bundle, name, device, kept[0])  # float32 always is
    for precision in there:
        if precision == options.precision:
            return ResolvedBackend(bundle, name, device, precision)
    problem = f"{name} has no {options.precision} for {bundle.card.name} on {device}"
    raise UsageError("precision", problem, remedy=f"Choose one of auto, {', '.join(there)}.")


def _fastest(device: str) -> str:
    """Return the backend that is fastest on a device: torch on NVIDIA's GPUs, else OpenVINO.

    Torch takes seconds to load, so it is asked only where there is such a GPU.
    """
    if device.lower() in ("cpu", "-1") or not _has_nvidia_gpu() or not is_installed("torch"):
        return "openvino"
    found = load_backend("torch").find_device("auto")
    return "torch" if found.startswith("cuda") else "openvino"


def _has_nvidia_gpu() -> bool:
    return Path("/proc/driver/nvidia/version").exists() or which("nvidia-smi") is not None
