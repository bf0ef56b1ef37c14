"""The table of backends: what can run a bundle's graphs, and the one question they answer."""

from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from d2csr.core.errors import UsageError

Planes = np.ndarray[Any, np.dtype[np.float32]]

# name -> where its `compile_graph` is; `auto` takes the first.
BACKENDS = {"openvino": "d2csr.engine.backend_openvino"}


@runtime_checkable
class Graph(Protocol):
    """A compiled graph."""

    def __call__(self, inputs: Sequence[Planes]) -> list[Planes]:
        """Return the outputs (1, c, h, w), in the order of the file; the caller may keep them."""
        ...


CompileGraph = Callable[[Path, str], Graph]


def find_backend(name: str) -> CompileGraph:
    """Return the function of a backend that compiles a graph file for a device.

    Raises:
        UsageError: no backend of that name.
    """
    chosen = next(iter(BACKENDS)) if name == "auto" else name
    if chosen not in BACKENDS:
        remedy = f"Choose one of auto, {', '.join(BACKENDS)}."
        raise UsageError("backend", f"no backend is called {name!r}", remedy=remedy)
    compile_graph: CompileGraph = import_module(BACKENDS[chosen]).compile_graph
    return compile_graph
