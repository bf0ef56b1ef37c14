"""The streamed trunk of a bundle: its passes, compiled one at a time, on the processor."""

from functools import cached_property
from typing import Any, final

import numpy as np
from openvino import Core

from d2csr.engine.backend import Graph, Planes, Runner
from d2csr.engine.backend_openvino import compile_piece, precisions
from d2csr.engine.passes import CutTrunk, Pass
from d2csr.engine.plan import Streaming
from d2csr.engine.precision import Precision
from d2csr.engine.scratch import Scratch
from d2csr.engine.stream import Features, run_passes

_DEVICE = "CPU"


@final
class StreamedTrunk:
    """A trunk that runs pass by pass, whatever backend runs the rest.

    Always on OpenVINO, which every installation has, and never in int8: its graph has other places
    to be cut at.
    """

    def __init__(self, runner: Runner) -> None:
        """Keep what to run; the graph is read and cut when first asked for."""
        self._runner = runner

    @cached_property
    def _precision(self) -> Precision:
        rounded = self._runner.precision != "fp32" and "bf16" in precisions(_DEVICE)
        return "bf16" if rounded else "fp32"

    @cached_property
    def _cut(self) -> CutTrunk:
        return CutTrunk(Core().read_model(self._runner.bundle.graph("trunk")))

    @property
    def dtype(self) -> np.dtype[Any]:
        """Return the type that maps are kept in: float32, or the bits of bfloat16."""
        return np.dtype(np.float32 if self._precision == "fp32" else np.uint16)

    @property
    def asks(self) -> Streaming:
        """Return what it asks for, whatever the picture."""
        halo_rows = max(each.halo_rows for each in self._cut.passes)
        return Streaming(self._cut.live_channels, halo_rows)

    def run(self, lr: Planes, *, scratch: Scratch, window_rows: int) -> Features:
        """Return the features of a picture (1, 3, h, w)."""
        return run_passes(
            self._cut, lr, scratch=scratch, window_rows=window_rows, compiled=self._compiled
        )

    def _compiled(self, chosen: Pass) -> Graph:
        """Return a pass's graph; dropped after its pass, so that its memory goes back."""
        half = self._precision != "fp32"
        return compile_piece(
            self._cut.model(chosen, half=half),
            where=str(self._runner.bundle.graph("trunk")),
            device=_DEVICE,
            precision=self._precision,
        )
