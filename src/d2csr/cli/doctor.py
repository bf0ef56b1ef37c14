"""Command `doctor`: a report of what works on this machine, and how to fix the rest."""

import os
import platform
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from d2csr import __version__
from d2csr.core.console import print_line
from d2csr.core.errors import D2csrError, first_line
from d2csr.core.hardware import cpu_flags, usable_cores

State = Literal["works", "absent", "partly", "broken"]

# Instructions that the speed of the engine depends on, by their names in /proc/cpuinfo.
_PROCESSOR_FEATURES = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8")
_FORMATS = {
    "JPEG": ("jpegload", "jpegsave"),
    "PNG": ("pngload", "pngsave"),
    "WebP": ("webpload", "webpsave"),
    "TIFF": ("tiffload", "tiffsave"),
    "HEIF/AVIF": ("heifload", "heifsave"),
}


@dataclass(frozen=True)
class Finding:
    """One line of the report.

    Attributes:
        topic: the name of the check.
        state: `absent` is fine; `partly` gives exit code 1, `broken` 2.
        text: details.
    """

    topic: str
    state: State
    text: str


def doctor() -> int:
    """Report what works on this machine.

    Exit code: 0 if everything works (optional parts may be absent), 1 if an optional part is
    broken, 2 if photographs can't be enlarged.
    """
    worst = 0
    for topic, check in _CHECKS.items():
        for finding in _findings(topic, check):
            worst = max(worst, {"partly": 1, "broken": 2}.get(finding.state, 0))
            print_line(f"{finding.state:7} {finding.topic:11} {finding.text}")
    return worst


def _findings(topic: str, check: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    """Yield the findings of a check; an error in the check is a finding, too."""
    try:
        yield from check()
    except D2csrError as error:
        yield Finding(topic, "broken", str(error))
    except Exception as error:  # noqa: BLE001 - a broken installation can raise anything
        yield Finding(topic, "broken", _describe(error))


def _describe(error: Exception) -> str:
    """Return the class and the first line of an error."""
    return f"{type(error).__name__}: {first_line(error)}"


def _python() -> Iterator[Finding]:
    """Report the versions of d2csr and Python."""
    text = f"d2csr {__version__}, Python {platform.python_version()}, {sys.executable}"
    yield Finding("python", "works", text)


def _processor() -> Iterator[Finding]:
    """Report the instructions that make bf16 and int8 fast."""
    flags = cpu_flags()
    present = [name for name in _PROCESSOR_FEATURES if name in flags]
    missing = [name for name in _PROCESSOR_FEATURES if name not in flags]
    text = f"{platform.machine()}, {usable_cores()} cores; has {', '.join(present) or 'none known'}"
    yield Finding("processor", "works", f"{text}; lacks {', '.join(missing) or 'none'}")


def _engine() -> Iterator[Finding]:
    """Report the engine's version, its devices and the precisions that they are fast in."""
    import openvino

    devices = openvino.Core().available_devices
    capabilities = openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    precisions = ", ".join(
        name for name in ("FP32", "BF16", "FP16", "INT8") if name in capabilities
    )
    text = f"OpenVINO {openvino.__version__.split('-')[0]} on {', '.join(devices)}; {precisions}"
    yield Finding("engine", "works", text)


def _backends() -> Iterator[Finding]:
    """Report the backends that can run models, and their precisions, fastest first."""
    from d2csr.engine.backends.base import BACKENDS, is_installed, load_backend

    for name, entry in BACKENDS.items():
        if not is_installed(name):
            text = f"{name}: no {entry.package}; pip install 'd2csr[{entry.extra}]'"
            yield Finding("backends", "absent", text)
            continue
        try:
            backend = load_backend(name)
            device = backend.find_device("auto")
            text = f"{name} on {device}: {', '.join(backend.precisions(device))}"
        except Exception as error:  # noqa: BLE001 - the other backends may work
            text = f"{name}: {_describe(error)}"
            yield Finding("backends", "broken" if entry.extra is None else "partly", text)
        else:
            yield Finding("backends", "works", text)


def _images() -> Iterator[Finding]:
    """Report the image formats that can be read and written."""
    import pyvips

    version = ".".join(str(pyvips.version(part)) for part in range(3))
    formats = {
        name: [bool(pyvips.type_find("VipsOperation", operation)) for operation in operations]
        for name, operations in _FORMATS.items()
    }
    reads = ", ".join(name for name, (read, _) in formats.items() if read)
    writes = ", ".join(name for name, (_, write) in formats.items() if write)
    needed = all(formats["PNG"]) and all(formats["JPEG"])
    heic = "HEIC by pillow-heif" if find_spec("pillow_heif") else "no HEIC without d2csr[heif]"
    text = f"libvips {version} reads {reads}; writes {writes}; {heic}"
    yield Finding("images", "works" if needed else "broken", text)


def _models() -> Iterator[Finding]:
    """Verify the hashes of all files of the shipped models."""
    from d2csr.core.bundle import read_bundle, verify_bundle
    from d2csr.engine.backends.base import DeviceOptions, resolve_backend
    from d2csr.engine.model import find_bundle, shipped_names

    for name in shipped_names():
        try:
            bundle = read_bundle(find_bundle(name))
            verify_bundle(bundle)
            auto = resolve_backend(bundle, backend="auto", options=DeviceOptions())
        except D2csrError as error:  # the other models may work
            yield Finding("models", "broken", str(error))
        else:
            runs = f"`auto` runs it on {auto.name} ({auto.device}) in {auto.precision}"
            yield Finding("models", "works", f"{name}: all files match their hashes; {runs}")
    if not shipped_names():
        yield Finding("models", "absent", "none ship with this installation")


def _training() -> Iterator[Finding]:
    """Report PyTorch and its GPUs, which only training needs."""
    if find_spec("torch") is None:
        yield Finding("training", "absent", "no torch; to train: pip install 'd2csr[train]'")
        return
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    names = [torch.cuda.get_device_name(index) for index in range(count)]
    text = f"torch {torch.__version__}; CUDA: {', '.join(names) or 'none'}"
    yield Finding("training", "works", text)


def _data() -> Iterator[Finding]:
    """Report the folder of photographs that recipes and benchmarks use."""
    folder = os.environ.get("D2CSR_DATA")
    if not folder:
        yield Finding("data", "absent", "D2CSR_DATA is not set; tests on real pairs are skipped")
    elif not Path(folder).is_dir():
        yield Finding("data", "partly", f"D2CSR_DATA is {folder}, which is not a folder")
    else:
        sets = sorted(entry.name for entry in Path(folder).iterdir() if entry.is_dir())
        yield Finding("data", "works", f"D2CSR_DATA is {folder}: {', '.join(sets) or 'empty'}")


_CHECKS: dict[str, Callable[[], Iterator[Finding]]] = {
    "python": _python,
    "processor": _processor,
    "engine": _engine,
    "backends": _backends,
    "images": _images,
    "models": _models,
    "training": _training,
    "data": _data,
}
