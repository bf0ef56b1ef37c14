"""Graphs on OpenVINO, in float32, for pictures of any size."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import openvino

from d2csr.core.errors import BundleError, UsageError
from d2csr.engine.backend import Graph, Planes

# Said aloud because the plugins choose less by themselves: bf16 on processors that have it, fp16
# on GPUs.
_PROPERTIES = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}


def compile_graph(path: Path, device: str) -> Graph:
    """Return a graph compiled once for all picture sizes.

    Args:
        path: an ONNX file.
        device: `auto` or `cpu` (the processor), `gpu`, or a GPU's index; -1 is the processor.

    Raises:
        UsageError: there is no such device; those that are there are named.
        BundleError: OpenVINO can't read or run the graph.
    """
    device_name = find_device(device, _core().available_devices)
    try:
        compiled = _core().compile_model(path, device_name, _PROPERTIES)
    except RuntimeError as fault:
        problem = f"OpenVINO can't compile it for {device_name} ({_first_line(fault)})"
        raise BundleError(
            path, problem, remedy="Copy the bundle again, or use `-g cpu`."
        ) from fault
    request = compiled.create_infer_request()

    def run(inputs: Sequence[Planes]) -> list[Planes]:
        try:
            results = request.infer(list(inputs), share_inputs=True)
        except RuntimeError as fault:  # out of memory, most often
            shapes = ", ".join(str(each.shape) for each in inputs)
            problem = f"OpenVINO fails on inputs {shapes} ({_first_line(fault)})"
            remedy = "Give a smaller picture, or free some memory."
            raise BundleError(path, problem, remedy=remedy) from fault
        return list(results.values())  # copies: the next call reuses the request's memory

    return run


def find_device(wanted: str, available: Sequence[str]) -> str:
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


@cache
def _core() -> openvino.Core:
    """Return the one OpenVINO core of the process; it loads its plugins once."""
    return openvino.Core()


def _first_line(fault: RuntimeError) -> str:
    lines = [line.strip() for line in str(fault).splitlines() if line.strip()]
    return lines[0] if lines else type(fault).__name__
