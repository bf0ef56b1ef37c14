"""Backends: the libraries that run a bundle's graphs, and the choice among them.

A backend is a row of the table `BACKENDS` and a class with the methods of `Backend`. Its module is
imported when it is used, so that torch and ONNX Runtime stay optional. A precision other than
float32 is chosen automatically only if the model's card shows that it costs little accuracy.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from shutil import which
from typing import Any, Literal, Protocol, cast, final, get_args, runtime_checkable

import numpy as np

from d2csr.core.bundle import CARD_NAME, Bundle, ModelCard
from d2csr.core.errors import (
    BundleError,
    OutOfMemoryError,
    UsageError,
    first_line,
    is_out_of_memory,
)

Precision = Literal["fp32", "bf16", "int8"]
PrecisionChoice = Literal["auto", "fp32", "bf16", "int8"]

PRECISIONS: tuple[Precision, ...] = get_args(Precision)

# (1, c, h, w), float32; features may be bfloat16 as uint16 bits, as the graph that made them has it
NchwArray = np.ndarray[Any, np.dtype[Any]]

# A mean squared error e beside the model's own m costs 10 log10(1 + e / m) dB: 26.4 dB below it,
# 0.01 dB.
_BELOW_DB = 26.4
_ASSUMED_PSNR_DB = 34.0  # of a model that was never evaluated; real pairs give 25 to 35 dB


@runtime_checkable
class Graph(Protocol):
    """A compiled graph; several threads may call it at once."""

    def __call__(self, inputs: Sequence[NchwArray]) -> list[NchwArray]:
        """Return the outputs (1, c, h, w) in the order of the file, as arrays of the caller's own.

        Raises:
            OutOfMemoryError: an allocation failed.
        """
        ...


@runtime_checkable
class Backend(Protocol):
    """A library that runs graphs."""

    def find_device(self, name: str) -> str:
        """Return the library's name of a device.

        Args:
            name: `auto`, `cpu`, `gpu`, or an index: -1 for the processor, from 0 on for GPUs.

        Raises:
            UsageError: there is no such device; the error lists those that exist.
        """
        ...

    def precisions(self, device: str) -> tuple[Precision, ...]:
        """Return the precisions that a device computes in, the fastest first."""
        ...

    def compile_graph(
        self, bundle: Bundle, role: str, *, device: str, precision: Precision
    ) -> Graph:
        """Return the graph of a role on the bundle's card (`whole`: all of them as one).

        Raises:
            BundleError: the graph can't be read or compiled.
        """
        ...


@final
@dataclass(frozen=True)
class BackendSpec:
    """A row of the table.

    Attributes:
        module: module of the backend's class.
        class_name: name of the class, which is created without arguments.
        package: package that must be installed.
        extra: extra of d2csr that installs the package; None if d2csr always does.
        whole: whether the backend runs each image in one piece, by the role `whole`.
    """

    module: str
    class_name: str
    package: str
    extra: str | None = None
    whole: bool = False


_ROOM = "d2csr.engine.backends"
BACKENDS = {
    "openvino": BackendSpec(f"{_ROOM}.openvino", "OpenVinoBackend", "openvino"),
    "onnxruntime": BackendSpec(
        f"{_ROOM}.onnxruntime", "OnnxRuntimeBackend", "onnxruntime", "onnxruntime"
    ),
    "torch": BackendSpec(f"{_ROOM}.pytorch", "TorchBackend", "torch", "train"),
    "reference": BackendSpec(f"{_ROOM}.pytorch", "ReferenceBackend", "torch", "train", whole=True),
}


@dataclass(frozen=True)
class DeviceOptions:
    """The device to compute on, and the precision.

    Attributes:
        device: `auto`, `cpu`, `gpu`, or an index: -1 for the processor, from 0 on for GPUs.
        precision: `auto`, or one that the backend has.
    """

    device: str = "auto"
    precision: PrecisionChoice = "auto"


@final
@dataclass(frozen=True)
class ResolvedBackend:
    """A backend, device and precision for one bundle, with nothing left to choose.

    Attributes:
        bundle: the model.
        name: the backend's name in the table.
        device: the device, as the backend names it.
        precision: the precision.
    """

    bundle: Bundle
    name: str
    device: str
    precision: Precision

    @property
    def whole(self) -> bool:
        """Return whether images run in one piece, by the role `whole`."""
        return BACKENDS[self.name].whole

    def compile(self, role: str) -> Graph:
        """Return the compiled graph of a role; `whole`: lr -> predictions, weights, sr."""
        return load_backend(self.name).compile_graph(
            self.bundle, role, device=self.device, precision=self.precision
        )


def load_backend(name: str) -> Backend:
    """Return a backend of the table.

    Raises:
        UsageError: there is no such backend, or its package isn't installed.
    """
    if name not in BACKENDS:
        remedy = f"Choose one of auto, {', '.join(BACKENDS)}."
        raise UsageError("backend", f"no backend is called {name!r}", remedy=remedy)
    spec = BACKENDS[name]
    if not is_installed(name):
        problem = f"{name!r} needs {spec.package}, which isn't installed"
        raise UsageError("backend", problem, remedy=f"Run `pip install 'd2csr[{spec.extra}]'`.")
    return cast("Backend", getattr(import_module(spec.module), spec.class_name)())


def is_installed(name: str) -> bool:
    """Return whether the package of a backend is installed."""
    return find_spec(BACKENDS[name].package) is not None


def resolve_backend(bundle: Bundle, *, backend: str, options: DeviceOptions) -> ResolvedBackend:
    """Return the backend, device and precision to run a bundle with.

    Args:
        bundle: the model to run.
        backend: a name of the table; `auto` takes torch if device `auto` or `gpu` can be an NVIDIA
            GPU, and OpenVINO otherwise.
        options: device and precision; precision `auto` is the fastest that costs the model at most
            0.01 dB.

    Raises:
        UsageError: there is no such backend, device or precision.
    """
    name = _fastest(options.device) if backend == "auto" else backend
    loaded = load_backend(name)
    device = loaded.find_device(options.device)
    available: list[Precision] = [
        each for each in loaded.precisions(device) if has_graphs(bundle.card, each)
    ]
    if options.precision == "auto":
        accurate: list[Precision] = [
            each for each in available if meets_accuracy_target(bundle.card, each)
        ]
        return ResolvedBackend(bundle, name, device, accurate[0])  # float32 always is
    for precision in available:
        if precision == options.precision:
            return ResolvedBackend(bundle, name, device, precision)
    problem = f"{name} has no {options.precision} for {bundle.card.name} on {device}"
    raise UsageError("precision", problem, remedy=f"Choose one of auto, {', '.join(available)}.")


def _fastest(device: str) -> str:
    """Return the fastest backend for a device: torch on an NVIDIA GPU, otherwise OpenVINO.

    Torch takes seconds to import, so it is only imported on machines with such a GPU.
    """
    if device.lower() in ("cpu", "-1") or not _has_nvidia_gpu() or not is_installed("torch"):
        return "openvino"
    found = load_backend("torch").find_device("auto")
    return "torch" if found.startswith("cuda") else "openvino"


def _has_nvidia_gpu() -> bool:
    return Path("/proc/driver/nvidia/version").exists() or which("nvidia-smi") is not None


def device_choices(cpu: str, gpus: Sequence[str], *, prefers_gpu: bool) -> Mapping[str, str]:
    """Return the names that users give devices, each with the library's name.

    Args:
        cpu: the library's name of the processor.
        gpus: its names of the GPUs, in order.
        prefers_gpu: whether `auto` is the first GPU, if there is one.
    """
    choices = {"auto": gpus[0] if gpus and prefers_gpu else cpu, "cpu": cpu, "-1": cpu}
    choices |= {str(index): name for index, name in enumerate(gpus)}
    return choices | ({"gpu": gpus[0]} if gpus else {})


@contextmanager
def convert_out_of_memory(
    library: str, *, where: object, inputs: Sequence[NchwArray]
) -> Iterator[None]:
    """Raise OutOfMemoryError where a library's own error reports a failed allocation.

    Args:
        library: the library's name, for the message.
        where: the graph, for the message.
        inputs: the arrays that the graph was called with.
    """
    try:
        yield
    except Exception as error:  # the libraries' errors have no base class but this
        if not is_out_of_memory(error):
            raise
        shapes = ", ".join(str(each.shape) for each in inputs)
        problem = f"{library} runs out of memory on inputs {shapes} ({first_line(error)})"
        remedy = "Enlarge a smaller image, or free some memory."
        raise OutOfMemoryError(where, problem, remedy) from error


def graph_role(role: str, precision: Precision) -> str:
    """Return the role on the card of a graph in a precision."""
    return f"{role}_int8" if precision == "int8" else role


# The first input of each graph: what it is, whatever role the card gives it.
_FIRST_INPUT = {
    "trunk": "lr",
    "tail": "features",
    "border_tail": "features",
    "fusion": "predictions",
    "whole": "lr",
}


def check_role(path: Path, role: str, *, inputs: Iterable[str]) -> None:
    """Check that a graph file is one of its role.

    Args:
        path: the file.
        role: on the card, without precision.
        inputs: the names of the graph's first input.

    Raises:
        BundleError: it is the graph of another role.
    """
    names = list(inputs)
    if _FIRST_INPUT[role] not in names:
        problem = f"is no graph {role}: its first input is {', '.join(names) or 'missing'}"
        remedy = f"Its role on {CARD_NAME} is wrong; copy the bundle again."
        raise BundleError(path, problem, remedy)


def has_graphs(card: ModelCard, precision: Precision) -> bool:
    """Return whether a bundle has graphs for a precision."""
    if "whole" in card.graphs:
        return precision != "int8"
    return graph_role("trunk", precision) in card.graphs


def meets_accuracy_target(card: ModelCard, precision: str) -> bool:
    """Return whether a precision costs at most 0.01 dB, as measured at export.

    Of a precision that the card has no measurement of, it is False; of float32 always True.
    """
    if precision == "fp32":
        return True
    measured = card.precisions.get(precision)
    return measured is not None and measured.psnr_to_fp32_db >= reached_psnr_db(card) + _BELOW_DB


def reached_psnr_db(card: ModelCard) -> float:
    """Return the best PSNR on a model's card in dB, or 34 dB for a model without scores."""
    return max((each.psnr_db for each in card.metadata.scores), default=_ASSUMED_PSNR_DB)


def float32_to_bf16(values: np.ndarray[Any, np.dtype[Any]]) -> np.ndarray[Any, np.dtype[np.uint16]]:
    """Return float32 rounded to bfloat16, as uint16 bits; bits are returned unchanged."""
    if values.dtype == np.uint16:
        return values
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def bf16_to_float32(bits: np.ndarray[Any, np.dtype[Any]]) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Return the float32 values of bfloat16 bits; float32 is returned unchanged."""
    if bits.dtype == np.float32:
        return bits
    return (bits.astype(np.uint32) << 16).view(np.float32)
