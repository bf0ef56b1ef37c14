"""Graphs on OpenVINO, in float32, bfloat16 or int8, for images of any size.

Compiled graphs are cached on disk, with a checksum, in a folder that several processes may use; the
least recently used entries are removed. OpenVINO's own cache (CACHE_DIR) has neither a checksum nor
a size limit: it loads damaged weights without an error.
"""

import hashlib
import os
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any, cast, final

import numpy as np
import openvino
from openvino import CompiledModel, ConstOutput, InferRequest, Model, Tensor, Type
from openvino.op import Constant
from openvino.preprocess import PrePostProcessor

from d2csr.core.bundle import Bundle
from d2csr.core.errors import BundleError, UsageError, first_line, is_out_of_memory
from d2csr.core.files import cache_folder, read_regular, write_atomically
from d2csr.core.hardware import MIB, lacks_address_space, out_of_memory
from d2csr.engine.backends.base import (
    Graph,
    NchwArray,
    Precision,
    bf16_to_float32,
    check_role,
    convert_out_of_memory,
    device_choices,
    float32_to_bf16,
    graph_role,
)
from d2csr.engine.backends.openvino_rewrites import (
    average_rows_first,
    pool_after_squeeze,
    split_bf16,
    split_bicubic_base,
)

READY = ["d2csr", "fast_form"]  # marks graphs that `optimize_graph` changed at export

_CACHE_LIMIT_BYTES = 512 << 20  # about 300 graphs of the small models, 25 of the paper's
_LOADING_BYTES = 128 * MIB  # without them OpenVINO takes graphs that it can't load for damaged ones
_DIGEST_BYTES = 32
_FORM = "6"  # version of `_prepare`'s result: a new number invalidates cached graphs
# Set explicitly because the plugins default to less: bf16 on processors that have it, fp16 on GPUs.
_HINTS: dict[Precision, str] = {"fp32": "f32", "bf16": "bf16", "int8": "bf16"}
_FEATURES = "features"  # 16 bits between the graphs where they are computed in bfloat16


@final
class OpenVinoBackend:
    """OpenVINO."""

    def find_device(self, name: str) -> str:
        """Return OpenVINO's name of a device; `auto` is the processor.

        Raises:
            UsageError: there is no such device.
        """
        if name.lower() in ("auto", "cpu", "-1"):
            return "CPU"  # always there; listing the others takes 0.1 s
        return select_device(name, _core().available_devices)

    def precisions(self, device: str) -> tuple[Precision, ...]:
        """Return the precisions that a device multiplies in, the fastest first."""
        capabilities = _core().get_property(device, "OPTIMIZATION_CAPABILITIES")
        return (*(("int8", "bf16") if "BF16" in capabilities else ()), "fp32")

    def compile_graph(
        self, bundle: Bundle, role: str, *, device: str, precision: Precision
    ) -> Graph:
        """Return the graph of a role, from the cache if an earlier run compiled it.

        Raises:
            BundleError: OpenVINO can't read or compile the graph, or it is of another role.
            OutOfMemoryError: an allocation failed.
        """
        path = bundle.graph(graph_role(role, precision))
        with _convert_loading_errors(path, device=device):
            compiled = _load_compiled(path, device=device, precision=precision)
        check_role(path, role, inputs=[name for port in compiled.inputs[:1] for name in port.names])
        is_whole_image = role in ("trunk", "whole")
        return _CompiledGraph(compiled, where=str(path), is_whole_image=is_whole_image)


def select_device(name: str, available: Sequence[str]) -> str:
    """Return OpenVINO's name of a device.

    Args:
        name: `auto`, `cpu`, `gpu`, or an index: -1 for the processor, from 0 on for GPUs.
        available: OpenVINO's names: `CPU`, and `GPU`, or `GPU.0` and `GPU.1` if there are several.

    Raises:
        UsageError: there is no such device.
    """
    gpus = [each for each in available if each.split(".")[0] == "GPU"]
    choices = device_choices("CPU", gpus, prefers_gpu=False)
    found = choices.get(name.lower())
    if found is None or found not in available:
        remedy = f"Choose one of {', '.join(choices)} (OpenVINO finds {', '.join(available)})."
        raise UsageError("device", f"{name!r} is not a device of this machine", remedy=remedy)
    return found


def read_graph(path: Path) -> Model:
    """Return the graph of a file, not yet compiled.

    Raises:
        BundleError: OpenVINO can't read it.
        OutOfMemoryError: an allocation failed.
    """
    with _convert_loading_errors(path, device="CPU"):
        return _core().read_model(path)


@contextmanager
def _convert_loading_errors(where: str | Path, *, device: str) -> Iterator[None]:
    """Raise BundleError for OpenVINO's errors, or OutOfMemoryError if memory is the reason."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        if is_out_of_memory(error) or lacks_address_space(_LOADING_BYTES):
            raise out_of_memory(error) from error
        problem = f"OpenVINO can't compile it for {device} ({first_line(error)})"
        raise BundleError(where, problem, "Copy the bundle again, or use `-g cpu`.") from error


def compile_model(model: Model, *, where: str, device: str, precision: Precision) -> Graph:
    """Return a model made in memory, compiled as graphs of bundles are, without the cache.

    Raises:
        BundleError: OpenVINO can't compile it.
        OutOfMemoryError: an allocation failed.
    """
    with _convert_loading_errors(where, device=device):
        compiled = _compile(model, device=device, precision=precision)
    return _CompiledGraph(compiled, where=where, is_whole_image=False)


def optimize_graph(model: Model) -> Model:
    """Return a graph in the form that is fastest in bfloat16 or int8, without loss of accuracy."""
    pool_after_squeeze(model)
    return split_bicubic_base(model)


@final
class _CompiledGraph:
    """A graph on OpenVINO; several threads may call it at once."""

    def __init__(self, compiled: CompiledModel, *, where: str, is_whole_image: bool) -> None:
        """Hold a compiled model.

        Args:
            compiled: the model.
            where: its name in messages.
            is_whole_image: whether it runs on whole images. Then a call's working memory is freed
                after it, and its outputs are not copied.
        """
        self._compiled, self._where, self._is_whole_image = compiled, where, is_whole_image
        self._idle: deque[InferRequest] = deque()  # a request serves one call at a time

    def __call__(self, inputs: Sequence[NchwArray]) -> list[NchwArray]:
        """Return the outputs, in the order of the file.

        Raises:
            OutOfMemoryError: an allocation failed.
        """
        try:
            request = self._idle.pop()  # atomic: no two threads get the same one
        except IndexError:
            request = self._compiled.create_infer_request()
        ports = self._compiled.inputs
        # OpenVINO drops an input that nothing reads, as `lr` without a base: it is the last one.
        tensors = [_to_tensor(each, port) for each, port in zip(inputs, ports, strict=False)]
        with convert_out_of_memory("OpenVINO", where=self._where, inputs=inputs):
            request.infer(tensors, share_inputs=True, share_outputs=True)
        count = len(self._compiled.outputs)
        outputs = [_to_array(request.get_output_tensor(index)) for index in range(count)]
        if self._is_whole_image:
            return outputs
        copies = [each.copy() for each in outputs]
        self._idle.append(request)
        return copies


def _load_compiled(path: Path, *, device: str, precision: Precision) -> CompiledModel:
    """Return the compiled graph of a file, read from the cache or written to it."""
    contents, weights = path.read_bytes(), _read_weights(path)
    versions = (_FORM, precision, openvino.__version__)
    key = cache_key(contents, weights, *versions, *_device_properties(device))
    payload = read_entry(key)
    if payload is not None:
        with suppress(RuntimeError):  # OpenVINO rejects it
            return _core().import_model(payload, device, _properties(precision))
    model = _core().read_model(contents, weights)
    _check_constants(model, path)
    compiled = _compile(model, device=device, precision=precision)
    write_entry(key, _export(compiled))
    return compiled


def _check_constants(model: Model, path: Path) -> None:
    """Raise BundleError for weights that are infinite or not numbers.

    OpenVINO computes finite values from them on some processors: a wrong image.
    """
    for node in model.get_ordered_ops():
        if node.get_type_name() != "Constant" or node.get_element_type() != Type.f32:
            continue
        if not np.isfinite(cast("Constant", node).data).all():
            problem = "has weights that are infinite or not numbers"
            raise BundleError(path, problem, "Copy the bundle again, or train the model again.")


def _compile(model: Model, *, device: str, precision: Precision) -> CompiledModel:
    model = _prepare(model, precision=precision)
    return _core().compile_model(model, device, _properties(precision))


def _prepare(model: Model, *, precision: Precision) -> Model:
    """Return a graph in its fastest form, with features of 16 bits except in float32."""
    average_rows_first(model)
    if [port.get_names() for port in model.outputs] == [{"sr"}]:
        return model  # a whole network of another system: the rest is for trunks and tails
    if precision == "fp32":
        pool_after_squeeze(model)
        return model
    if not model.has_rt_info(READY):
        model = optimize_graph(model)
    types = PrePostProcessor(model)
    for port in model.inputs:
        if _FEATURES in port.get_names():
            types.input(_FEATURES).tensor().set_element_type(Type.bf16)
    for port in model.outputs:
        if _FEATURES in port.get_names():
            types.output(_FEATURES).tensor().set_element_type(Type.bf16)
    return types.build()


def _read_weights(path: Path) -> bytes:
    """Return the constants of a graph, which OpenVINO's own format keeps in a second file."""
    return path.with_suffix(".bin").read_bytes() if path.suffix == ".xml" else b""


def _export(compiled: CompiledModel) -> bytes:
    exported = compiled.export_model()
    return exported if isinstance(exported, bytes) else exported.getvalue()


def _properties(precision: Precision) -> dict[str, Any]:
    return {"INFERENCE_PRECISION_HINT": _HINTS[precision], "PERFORMANCE_HINT": "LATENCY"}


def _device_properties(device: str) -> list[str]:
    """Return the properties of a device that a compiled graph depends on."""
    names = ("FULL_DEVICE_NAME", "OPTIMIZATION_CAPABILITIES")
    return [device, *(str(_core().get_property(device, name)) for name in names)]


def _to_tensor(array: NchwArray, port: ConstOutput) -> Tensor:
    """Return an array as an input, without a copy if its memory and type fit."""
    channels = port.get_partial_shape()[1].get_length()
    if channels != array.shape[1]:
        array = split_bf16(array)
    array = np.ascontiguousarray(array)
    if port.get_element_type() == Type.bf16:
        return Tensor(float32_to_bf16(array), list(array.shape), Type.bf16)
    return Tensor(bf16_to_float32(array), shared_memory=True)


def _to_array(tensor: Tensor) -> NchwArray:
    """Return a view of an output; bfloat16 as uint16 bits."""
    return tensor.data.view(np.uint16) if tensor.get_element_type() == Type.bf16 else tensor.data


@cache
def _core() -> openvino.Core:
    """Return the process's only OpenVINO core, which loads its plugins once."""
    return openvino.Core()


def cache_key(*parts: bytes | str) -> str:
    """Return the name of a cache entry that depends on all parts and on their boundaries."""
    digest = hashlib.sha256()
    for part in parts:
        raw = part.encode() if isinstance(part, str) else part
        digest.update(len(raw).to_bytes(8, "little") + raw)
    return digest.hexdigest()


def read_entry(key: str) -> bytes | None:
    """Return a cached payload; None if there is none, or one that is damaged or of another key."""
    try:
        path = _entry_path(key)
        contents = read_regular(path, max_bytes=_CACHE_LIMIT_BYTES)
    except OSError:
        return None
    payload = contents[_DIGEST_BYTES:]
    if _digest(key, payload) != contents[:_DIGEST_BYTES]:
        return None
    with suppress(OSError):
        os.utime(path)  # most recently used
    return payload


def write_entry(key: str, payload: bytes) -> None:
    """Write a payload to the cache, if its folder is writable.

    Of two processes that write the same entry, each writes a whole file, and the last one stays.
    """
    with suppress(OSError, UsageError):
        write_atomically(_entry_path(key), _digest(key, payload) + payload)
        _evict(_entry_path(key).parent, limit_bytes=_CACHE_LIMIT_BYTES)


def _digest(key: str, payload: bytes) -> bytes:
    """Return a hash of the payload and its key, so that no entry is valid under another name."""
    return bytes.fromhex(cache_key(key, payload))


def _entry_path(key: str) -> Path:
    return cache_folder() / "graphs" / f"{key}.blob"


def _evict(folder: Path, *, limit_bytes: int) -> None:
    """Remove the least recently used entries until the rest fits the limit."""
    entries: list[tuple[float, int, Path]] = []
    for path in folder.glob("*.blob"):
        with suppress(OSError):  # another process removed it
            status = path.stat()
            entries.append((status.st_mtime, status.st_size, path))
    total = sum(size for _, size, _ in entries)
    for _, size, path in sorted(entries):
        if total <= limit_bytes:
            return
        path.unlink(missing_ok=True)
        total -= size
