"""Graphs on ONNX Runtime, in float32: on the processor, or on CUDA if its provider is there."""

from collections.abc import Sequence
from typing import Any, final

import numpy as np
import onnxruntime

from d2csr.core.bundle import Bundle
from d2csr.core.errors import BundleError, UsageError, first_line, is_out_of_memory
from d2csr.core.hardware import out_of_memory
from d2csr.engine.backends.base import (
    Graph,
    NchwArray,
    Precision,
    check_role,
    convert_out_of_memory,
)

_CPU, _CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
_ERRORS_ONLY = 3  # it warns of every shape that it can't infer


@final
class OnnxRuntimeBackend:
    """ONNX Runtime."""

    def find_device(self, name: str) -> str:
        """Return `cpu`, or `cuda:` and an index; `auto` is the first GPU, or else the processor.

        Raises:
            UsageError: there is no such device.
        """
        has_cuda = _CUDA in onnxruntime.get_available_providers()
        word = name.lower()
        if word in ("cpu", "-1") or (word == "auto" and not has_cuda):
            return "cpu"
        if has_cuda and (word in ("auto", "gpu") or word.isdecimal()):
            return f"cuda:{word if word.isdecimal() else 0}"
        remedy = f"Choose one of auto, cpu, -1{', gpu, 0' if has_cuda else ''}."
        raise UsageError(
            "device", f"{name!r} is not a device that ONNX Runtime finds here", remedy=remedy
        )

    def precisions(self, device: str) -> tuple[Precision, ...]:
        """Return the only precision, float32."""
        del device
        return ("fp32",)

    def compile_graph(
        self, bundle: Bundle, role: str, *, device: str, precision: Precision
    ) -> Graph:
        """Return the graph of a role.

        Raises:
            BundleError: ONNX Runtime can't read the graph, it is of another role, or the device
                isn't there.
            OutOfMemoryError: an allocation failed.
        """
        path = bundle.graph(role)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = _ERRORS_ONLY
        try:
            session = onnxruntime.InferenceSession(path, options, providers=_providers(device))
        except Exception as error:  # its errors have no base class but this
            if is_out_of_memory(error):
                raise out_of_memory(error) from error
            problem = f"ONNX Runtime can't read it in {precision} ({first_line(error)})"
            raise BundleError(path, problem, remedy="Copy the bundle again.") from error
        names = [each.name for each in session.get_inputs()]
        check_role(path, role, inputs=names[:1])
        outputs = [each.name for each in session.get_outputs()]

        def run(inputs: Sequence[NchwArray]) -> list[NchwArray]:
            contiguous = [np.ascontiguousarray(each) for each in inputs]
            with convert_out_of_memory("ONNX Runtime", where=path, inputs=inputs):
                results = session.run(outputs, dict(zip(names, contiguous, strict=False)))
                return [np.asarray(each, np.float32) for each in results]

        return run


def _providers(device: str) -> list[str | tuple[str, dict[str, Any]]]:
    """Return ONNX Runtime's providers for a device; on GPUs float32 in full, not TF32's 11 bits."""
    if device == "cpu":
        return [_CPU]
    return [(_CUDA, {"device_id": int(device.removeprefix("cuda:")), "use_tf32": 0}), _CPU]
