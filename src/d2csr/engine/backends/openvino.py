"""Graphs on OpenVINO, in float32, bfloat16 or int8, for any image; kept compiled on disk.

Compiled graphs kept on disk: written whole, checked when read, the oldest thrown out.
"""

import hashlib
import os
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, final

import numpy as np
import openvino
from openvino import CompiledModel, ConstOutput, InferRequest, Model, Tensor, Type
from openvino.preprocess import PrePostProcessor

from d2csr.core.bundle import Bundle
from d2csr.core.errors import (
    BundleError,
    OutOfMemoryError,
    UsageError,
    first_line,
    is_out_of_memory,
)
from d2csr.core.files import cache_folder, write_atomically
from d2csr.engine.backends.base import (
    Graph,
    NchwArray,
    Precision,
    bf16_to_float32,
    float32_to_bf16,
    graph_role,
)
from d2csr.engine.backends.openvino_rewrites import (
    pool_after_squeeze,
    split_bf16,
    split_bicubic_base,
)

_LIMIT_BYTES = 512 << 20  # about 300 graphs of the small models, 25 of the paper's
_DIGEST_BYTES = 32


def cache_key(*parts: bytes | str) -> str:
    """Return the name of an entry that depends on all parts, each told from its neighbours."""
    digest = hashlib.sha256()
    for part in parts:
        raw = part.encode() if isinstance(part, str) else part
        digest.update(len(raw).to_bytes(8, "little") + raw)
    return digest.hexdigest()


def read_entry(key: str) -> bytes | None:
    """Return what was kept under a key; None where nothing was, or it is damaged."""
    path = _path(key)
    try:
        contents = path.read_bytes()
    except OSError:
        return None
    payload = contents[_DIGEST_BYTES:]
    if hashlib.sha256(payload).digest() != contents[:_DIGEST_BYTES]:
        return None
    with suppress(OSError):
        os.utime(path)  # used now: others are thrown out first
    return payload


def write_entry(key: str, payload: bytes) -> None:
    """Keep a payload, for any process; where nothing can be written, nothing is kept.

    Two processes that write the same entry both write it whole; the last one stands.
    """
    with suppress(OSError, UsageError):
        write_atomically(_path(key), hashlib.sha256(payload).digest() + payload)
        _throw_out(_path(key).parent, keep=_LIMIT_BYTES)


def _path(key: str) -> Path:
    return cache_folder() / "graphs" / f"{key}.blob"


def _throw_out(folder: Path, *, keep: int) -> None:
    """Remove the entries not used for longest until the rest take no more than `keep` bytes."""
    found: list[tuple[float, int, Path]] = []
    for path in folder.glob("*.blob"):
        with suppress(OSError):  # another process threw it out
            status = path.stat()
            found.append((status.st_mtime, status.st_size, path))
    size = sum(bytes_ for _, bytes_, _ in found)
    for _, bytes_, path in sorted(found):
        if size <= keep:
            return
        path.unlink(missing_ok=True)
        size -= bytes_


# Said aloud because the plugins choose less by themselves: bf16 on processors that have it, fp16
# on GPUs.
_HINTS: dict[Precision, str] = {"fp32": "f32", "bf16": "bf16", "int8": "bf16"}
_FORM = "4"  # of what `_prepared` makes of a graph; another number forgets what was compiled
_FEATURES = "features"  # kept in 16 bits between the graphs where they are computed in them
READY = ["d2csr", "fast_form"]  # said by graphs that were brought into that form at export


def find_device(wanted: str) -> str:
    """Return OpenVINO's name of a device of this machine."""
    if wanted.lower() in ("auto", "cpu", "-1"):
        return "CPU"  # always there; to list the others takes a tenth of a second
    return device_among(wanted, _core().available_devices)


def device_among(wanted: str, available: Sequence[str]) -> str:
    """Return OpenVINO's name of a device.

    Args:
        wanted: `auto`, `cpu`, `gpu`, or an index: -1 the processor, from 0 on the GPUs.
        available: OpenVINO's names: `CPU`, `GPU` or, where there are several, `GPU.0`, `GPU.1`.

    Raises:
        UsageError: there is no such device.
    """
    gpus = [name for name in available if name.split(".")[0] == "GPU"]
    choices = {"auto": "CPU", "cpu": "CPU", "-1": "CPU"}
    choices |= {str(index): name for index, name in enumerate(gpus)}
    choices |= {"gpu": gpus[0]} if gpus else {}
    name = choices.get(wanted.lower())
    if name is None or name not in available:
        remedy = f"Choose one of {', '.join(choices)} (OpenVINO finds {', '.join(available)})."
        raise UsageError("device", f"{wanted!r} is no device of this machine", remedy=remedy)
    return name


def precisions(device: str) -> tuple[Precision, ...]:
    """Return the precisions that a device multiplies in, the fastest first."""
    able = _core().get_property(device, "OPTIMIZATION_CAPABILITIES")
    return (*(("int8", "bf16") if "BF16" in able else ()), "fp32")


def compile_graph(bundle: Bundle, role: str, *, device: str, precision: Precision) -> Graph:
    """Return the graph of a role, from the cache where an earlier run compiled it.

    Raises:
        BundleError: OpenVINO can't read or compile the graph.
    """
    path = bundle.graph(graph_role(role, precision))
    try:
        contents, weights = path.read_bytes(), _weights(path)
        versions = (_FORM, precision, openvino.__version__)
        key = cache_key(contents, weights, *versions, *_machine(device))
        compiled = _imported(read_entry(key), device=device, precision=precision)
        if compiled is None:
            model = _core().read_model(contents, weights)
            compiled = _compiled(model, device=device, precision=precision)
            write_entry(key, _exported(compiled))
    except (OSError, RuntimeError) as error:
        problem = f"OpenVINO can't compile it for {device} ({first_line(error)})"
        raise BundleError(
            path, problem, remedy="Copy the bundle again, or use `-g cpu`."
        ) from error
    return _Compiled(compiled, where=str(path), once=role == "trunk")


def compile_model(model: Model, *, where: str, device: str, precision: Precision) -> Graph:
    """Return a graph made in memory, compiled like those of a bundle; it is not kept on disk."""
    return _Compiled(_compiled(model, device=device, precision=precision), where=where, once=False)


@final
class _Compiled:
    """A graph on OpenVINO; several threads may call it at once."""

    def __init__(self, compiled: CompiledModel, *, where: str, once: bool) -> None:
        """Keep the graph.

        Args:
            compiled: what runs.
            where: what to call it in messages.
            once: a call's working memory goes back to the system after it, and its outputs are
                not copied; for graphs that run on whole images.
        """
        self._compiled, self._where, self._once = compiled, where, once
        self._idle: deque[InferRequest] = deque()  # a request serves one call at a time

    def __call__(self, inputs: Sequence[NchwArray]) -> list[NchwArray]:
        """Return the outputs, in the order of the file."""
        try:
            request = self._idle.pop()  # atomic: no two threads get the same one
        except IndexError:
            request = self._compiled.create_infer_request()
        ports = self._compiled.inputs
        # OpenVINO drops an input that nothing reads, as `lr` without a base: it is the last one.
        tensors = [_tensor(each, port) for each, port in zip(inputs, ports, strict=False)]
        try:
            request.infer(tensors, share_inputs=True, share_outputs=True)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            shapes = ", ".join(str(each.shape) for each in inputs)
            problem = f"OpenVINO fails on inputs {shapes} ({first_line(error)})"
            raise OutOfMemoryError(
                self._where, problem, remedy="Give a smaller image, or free some memory."
            ) from error
        outputs = [_array(request.get_output_tensor(i)) for i in range(len(self._compiled.outputs))]
        if self._once:
            return outputs
        copies = [each.copy() for each in outputs]
        self._idle.append(request)
        return copies


def optimize_graph(model: Model) -> Model:
    """Return a graph in the form that runs fastest in bfloat16 or int8, as exact as before."""
    pool_after_squeeze(model)
    return split_bicubic_base(model)


def _prepared(model: Model, *, precision: Precision) -> Model:
    """Return a graph in the form that runs fastest, its features in 16 bits where they may be."""
    if precision == "fp32":
        pool_after_squeeze(model)
        return model
    if not model.has_rt_info(READY):
        model = optimize_graph(model)
    wires = PrePostProcessor(model)
    for port in model.inputs:
        if _FEATURES in port.get_names():
            wires.input(_FEATURES).tensor().set_element_type(Type.bf16)
    for port in model.outputs:
        if _FEATURES in port.get_names():
            wires.output(_FEATURES).tensor().set_element_type(Type.bf16)
    return wires.build()


def _compiled(model: Model, *, device: str, precision: Precision) -> CompiledModel:
    model = _prepared(model, precision=precision)
    return _core().compile_model(model, device, _properties(precision))


def _imported(payload: bytes | None, *, device: str, precision: Precision) -> CompiledModel | None:
    """Return a graph compiled earlier; None where there is none, or OpenVINO refuses it."""
    if payload is None:
        return None
    try:
        return _core().import_model(payload, device, _properties(precision))
    except RuntimeError:
        return None


def _weights(path: Path) -> bytes:
    """Return the constants of a graph that OpenVINO keeps in a file of their own."""
    return path.with_suffix(".bin").read_bytes() if path.suffix == ".xml" else b""


def _exported(compiled: CompiledModel) -> bytes:
    exported = compiled.export_model()
    return exported if isinstance(exported, bytes) else exported.getvalue()


def _properties(precision: Precision) -> dict[str, Any]:
    return {"INFERENCE_PRECISION_HINT": _HINTS[precision], "PERFORMANCE_HINT": "LATENCY"}


def _machine(device: str) -> list[str]:
    """Return what a compiled graph depends on besides itself."""
    names = ("FULL_DEVICE_NAME", "OPTIMIZATION_CAPABILITIES")
    return [device, *(str(_core().get_property(device, name)) for name in names)]


def _tensor(planes: NchwArray, port: ConstOutput) -> Tensor:
    """Return planes as an input, without a copy where memory and type are as they must be."""
    channels = port.get_partial_shape()[1].get_length()
    if channels != planes.shape[1]:
        planes = split_bf16(planes)
    planes = np.ascontiguousarray(planes)
    if port.get_element_type() == Type.bf16:
        return Tensor(float32_to_bf16(planes), list(planes.shape), Type.bf16)
    return Tensor(bf16_to_float32(planes), shared_memory=True)


def _array(tensor: Tensor) -> NchwArray:
    """Return a view of an output; bfloat16 as its bits."""
    return tensor.data.view(np.uint16) if tensor.get_element_type() == Type.bf16 else tensor.data


@cache
def _core() -> openvino.Core:
    """Return the one OpenVINO core of the process; it loads its plugins once."""
    return openvino.Core()
