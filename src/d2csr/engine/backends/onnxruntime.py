"""Graphs on ONNX Runtime, in float32: on the processor, or CUDA where its provider is there."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnxruntime

from d2csr.core.bundle import Bundle
from d2csr.core.errors import (
    BundleError,
    OutOfMemoryError,
    UsageError,
    first_line,
    is_out_of_memory,
)
from d2csr.engine.backends.base import Graph, NchwArray, Precision

_CPU, _CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
_ERRORS_ONLY = 3  # it warns of every shape that it can't infer


def find_device(wanted: str) -> str:
    """Return `cpu`, or `cuda:` and an index.

    Raises:
        UsageError: there is no such device.
    """
    on_gpu = _CUDA in onnxruntime.get_available_providers()
    word = wanted.lower()
    if word in ("cpu", "-1") or (word == "auto" and not on_gpu):
        return "cpu"
    if on_gpu and (word in ("auto", "gpu") or word.isdecimal()):
        return f"cuda:{word if word.isdecimal() else 0}"
    remedy = f"Choose one of auto, cpu, -1{', gpu, 0' if on_gpu else ''}."
    raise UsageError("device", f"{wanted!r} is no device of ONNX Runtime here", remedy=remedy)


def precisions(_device: str) -> tuple[Precision, ...]:
    """Return the precisions that a device computes in: float32."""
    return ("fp32",)


def compile_graph(bundle: Bundle, role: str, *, device: str, precision: Precision) -> Graph:
    """Return the graph of a role.

    Raises:
        BundleError: ONNX Runtime can't read the graph, or the device isn't there.
    """
    path = bundle.graph(role)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _ERRORS_ONLY
    try:
        session = onnxruntime.InferenceSession(
            path, options, providers=[_provider(device), _CPU][: 1 if device == "cpu" else 2]
        )
    except Exception as error:  # its errors have no common class but this
        problem = f"ONNX Runtime can't read it in {precision} ({first_line(error)})"
        raise BundleError(path, problem, remedy="Copy the bundle again.") from error
    names = [each.name for each in session.get_inputs()]
    outputs = [each.name for each in session.get_outputs()]

    def run(inputs: Sequence[NchwArray]) -> list[NchwArray]:
        contiguous = [np.ascontiguousarray(each) for each in inputs]
        try:
            results = session.run(outputs, dict(zip(names, contiguous, strict=False)))
            return [np.asarray(each, np.float32) for each in results]
        except Exception as error:  # its errors have no common class but this
            if not is_out_of_memory(error):
                raise
            shapes = ", ".join(str(each.shape) for each in inputs)
            problem = f"ONNX Runtime fails on inputs {shapes} ({first_line(error)})"
            remedy = "Give a smaller image, or free some memory."
            raise OutOfMemoryError(path, problem, remedy=remedy) from error

    return run


def _provider(device: str) -> str | tuple[str, dict[str, Any]]:
    """Return what ONNX Runtime calls a device; float32 there, not the GPUs' 10 bits."""
    if device == "cpu":
        return _CPU
    return _CUDA, {"device_id": int(device.removeprefix("cuda:")), "use_tf32": 0}
