"""The streamed trunk of a bundle: its passes, compiled one at a time, on the processor.

The trunk run pass by pass in row windows, its maps kept in scratch: exact, on little memory.

Windows go top to bottom and read every row of a map once: what two windows share is taken from the
window before. So the rows that a window writes may lie where the rows it has read lay, and a pass
needs no more room than its own results.

A trunk run over parts of an image, where the whole fits neither in memory nor on the disk.
"""

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, NamedTuple, final

import numpy as np
from openvino import Core

from d2csr.engine.backends.base import Graph, NchwArray, Precision, ResolvedBackend
from d2csr.engine.backends.openvino import compile_model, precisions
from d2csr.engine.feature_store import FeatureStore, Rows
from d2csr.engine.planning import StreamingRequirements
from d2csr.engine.segments import Segment, SegmentedTrunk

Compile = Callable[[Segment], Graph]


class Window(NamedTuple):
    """Rows to read, `top` to `bottom`, and rows to write among them, `first` to `last`."""

    top: int
    bottom: int
    first: int
    last: int


def plan_windows(height: int, *, rows: int, halo_rows: int) -> list[Window]:
    """Return windows of one height that cover an image; a lower image is one window.

    Of one height, so that the graph is prepared for one shape: those at the image's frame write
    more rows, having no halo there.

    Args:
        height: rows of the image.
        rows: of a window, halo included; at least one row more than both halos.
        halo_rows: rows that are not exact at an end of a window that is no frame of the image.
    """
    windows = [Window(0, min(rows, height), 0, height if rows >= height else rows - halo_rows)]
    while (first := windows[-1].last) < height:
        top = min(first - halo_rows, height - rows)
        last = height if top + rows == height else top + rows - halo_rows
        windows.append(Window(top, top + rows, first, last))
    return windows


@final
class Features:
    """The leaf features of one image, in scratch."""

    def __init__(self, scratch: FeatureStore, planes: Sequence[int]) -> None:
        """Keep what `run_segments` made: where the leaves are, in the order of their channels."""
        self._scratch, self._planes = scratch, planes

    def read(self, first: int, last: int) -> Rows:
        """Return rows (1, leaves * c, rows, w)."""
        return np.concatenate(
            [self._scratch.read(each, first=first, last=last) for each in self._planes], axis=1
        )


def run_segments(
    trunk: SegmentedTrunk,
    lr: NchwArray,
    *,
    scratch: FeatureStore,
    window_rows: int,
    compiled: Compile,
) -> Features:
    """Return the features of an image (1, 3, h, w) after all passes.

    Args:
        trunk: the passes.
        lr: the image.
        scratch: empty planes of its size.
        window_rows: rows that a pass reads at once; more where its halo leaves no row to write.
        compiled: returns a pass's graph, ready to run.
    """
    planes: dict[str, int] = {}
    means: dict[str, NchwArray] = {}
    spare: dict[int, list[int]] = {}  # channels -> planes that may be written over
    for each in trunk.passes:
        sources = [_Source(scratch, planes.get(name), lr=lr) for name in each.reads]
        for name in each.frees:
            spare.setdefault(trunk.channels[name], []).append(planes[name])
        for name in each.writes:
            channels = trunk.channels[name]
            room = spare.get(channels)
            planes[name] = room.pop() if room else scratch.add(channels)
        targets = [planes[name] for name in each.writes]
        gates = [means[name] for name in each.means]
        rows = max(window_rows, 2 * each.halo_rows + 1)
        windows = plan_windows(lr.shape[2], rows=rows, halo_rows=each.halo_rows)
        mean = _walk(
            compiled(each), windows, sources=sources, gates=gates, scratch=scratch, targets=targets
        )
        if each.averaged is not None:
            means[each.averaged] = mean
    return Features(scratch, [planes[name] for name in trunk.leaves])


@final
class _Source:
    """A map (the image, where it has no planes) read window by window, every row once."""

    def __init__(self, scratch: FeatureStore, planes: int | None, *, lr: NchwArray) -> None:
        self._scratch, self._planes, self._lr = scratch, planes, lr
        self._top, self._rows = 0, lr[:, :, :0]

    def read(self, window: Window) -> Rows:
        """Return a window's rows; what it shares with the last one may be overwritten already."""
        if self._planes is None:
            return np.ascontiguousarray(self._lr[:, :, window.top : window.bottom])
        known = self._rows[:, :, window.top - self._top :]
        first = window.top + known.shape[2]
        fresh = self._scratch.read(self._planes, first=first, last=window.bottom)
        rows = np.concatenate([known, fresh], axis=2) if known.shape[2] else fresh
        self._top, self._rows = window.top, rows
        return rows


def _walk(
    graph: Graph,
    windows: Sequence[Window],
    *,
    sources: Sequence[_Source],
    gates: Sequence[NchwArray],
    scratch: FeatureStore,
    targets: Sequence[int],
) -> NchwArray:
    """Run one pass; return the mean (1, c, 1, 1) of the map that its graph averages, or zeros."""
    total = np.zeros((1, 1, 1, 1))
    for window in windows:
        results = graph([*(source.read(window) for source in sources), *gates])
        own = slice(window.first - window.top, window.last - window.top)
        for planes, rows in zip(targets, results, strict=False):
            scratch.write(planes, first=window.first, rows=rows[:, :, own])
        for row_means in results[len(targets) :]:
            total = total + row_means[:, :, own].sum(axis=2, dtype=np.float64, keepdims=True)
    return (total / windows[-1].last).astype(np.float32)


_DEVICE = "CPU"


@final
class StreamedTrunk:
    """A trunk that runs pass by pass, whatever backend runs the rest.

    Always on OpenVINO, which every installation has, and never in int8: its graph has other places
    to be cut at.
    """

    def __init__(self, runner: ResolvedBackend) -> None:
        """Keep what to run; the graph is read and cut when first asked for."""
        self._runner = runner

    @cached_property
    def _precision(self) -> Precision:
        rounded = self._runner.precision != "fp32" and "bf16" in precisions(_DEVICE)
        return "bf16" if rounded else "fp32"

    @cached_property
    def _cut(self) -> SegmentedTrunk:
        return SegmentedTrunk(Core().read_model(self._runner.bundle.graph("trunk")))

    @property
    def dtype(self) -> np.dtype[Any]:
        """Return the type that maps are kept in: float32, or the bits of bfloat16."""
        return np.dtype(np.float32 if self._precision == "fp32" else np.uint16)

    @property
    def requirements(self) -> StreamingRequirements:
        """Return what it asks for, whatever the image."""
        halo_rows = max(each.halo_rows for each in self._cut.passes)
        return StreamingRequirements(self._cut.live_channels, halo_rows)

    def run(self, lr: NchwArray, *, scratch: FeatureStore, window_rows: int) -> Features:
        """Return the features of an image (1, 3, h, w)."""
        return run_segments(
            self._cut, lr, scratch=scratch, window_rows=window_rows, compiled=self._compiled
        )

    def _compiled(self, chosen: Segment) -> Graph:
        """Return a pass's graph; dropped after its pass, so that its memory goes back."""
        half = self._precision != "fp32"
        return compile_model(
            self._cut.model(chosen, half=half),
            where=str(self._runner.bundle.graph("trunk")),
            device=_DEVICE,
            precision=self._precision,
        )


@final
class TiledTrunk:
    """Features of an image, computed part by part from the top as they are read."""

    def __init__(self, trunk: Graph, lr: NchwArray, *, rows: int, reach_rows: int) -> None:
        """Keep what to run.

        Args:
            trunk: LR rows to their features.
            lr: the image (1, 3, h, w).
            rows: LR rows of a part.
            reach_rows: rows beyond a part, on each side, that its features depend on.
        """
        self._trunk, self._lr = trunk, lr
        self._rows, self._reach_rows = rows, reach_rows
        self._first = self._last = 0
        self._part: NchwArray | None = None

    def read(self, first: int, last: int) -> NchwArray:
        """Return the features of some rows, at most a part's, all of them from one part."""
        if self._part is None or first < self._first or last > self._last:
            self._part = None  # its memory is needed
            self._part = self._computed(first, max(first + self._rows, last))
        rows = slice(first - self._first, last - self._first)
        return np.ascontiguousarray(self._part[:, :, rows])

    def _computed(self, first: int, last: int) -> NchwArray:
        """Return a part's features, without those of its halo."""
        height = self._lr.shape[2]
        self._first, self._last = first, min(last, height)
        top = max(first - self._reach_rows, 0)
        bottom = min(self._last + self._reach_rows, height)
        (features,) = self._trunk([np.ascontiguousarray(self._lr[:, :, top:bottom])])
        return features[:, :, self._first - top : self._last - top]
