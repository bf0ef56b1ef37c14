"""Trunks that don't run on the whole image at once: in segments, or on tiles.

A segment runs over the image in row windows, and its feature maps are stored in between: bit for
bit the trunk of the OpenVINO backend, in little memory. Windows go from top to bottom and read
every row of a map once; rows that two windows share are taken from the earlier one. So the rows
that a window writes may overwrite the rows that it has read, and a segment needs no more space than
its own results.

Tiles are for images whose maps fit neither in memory nor on the disk.
"""

from collections.abc import Callable, Sequence
from threading import Lock
from typing import Any, NamedTuple, final

import numpy as np

from d2csr.engine.backends.base import Graph, NchwArray, Precision, ResolvedBackend
from d2csr.engine.backends.openvino import OpenVinoBackend, compile_model, read_graph
from d2csr.engine.feature_store import FeatureStore, Rows
from d2csr.engine.planning import StreamingRequirements
from d2csr.engine.segments import Segment, SegmentedTrunk

_DEVICE = "CPU"

Compile = Callable[[Segment], Graph]


class Window(NamedTuple):
    """Rows to read, `top` to `bottom`, and rows to write among them, `first` to `last`."""

    top: int
    bottom: int
    first: int
    last: int


def plan_windows(height: int, *, rows: int, halo_rows: int) -> list[Window]:
    """Return windows of one height that cover an image; a lower image is one window.

    They have one height so that the graph is prepared for one shape. Windows at the edges of the
    image write more rows, because they need no halo there.

    Args:
        height: rows of the image.
        rows: of a window, halo included; at least one row more than both halos.
        halo_rows: rows that aren't exact at an end of a window inside the image.
    """
    windows = [Window(0, min(rows, height), 0, height if rows >= height else rows - halo_rows)]
    while (first := windows[-1].last) < height:
        top = min(first - halo_rows, height - rows)
        last = height if top + rows == height else top + rows - halo_rows
        windows.append(Window(top, top + rows, first, last))
    return windows


@final
class Features:
    """The features of all leaves for one image, in a feature store."""

    def __init__(self, store: FeatureStore, maps: Sequence[int]) -> None:
        """Hold the store and the indices of the leaves' maps, in the order of their channels."""
        self._store, self._maps = store, maps

    def read(self, first: int, last: int) -> Rows:
        """Return rows (1, leaves * c, rows, w)."""
        return np.concatenate(
            [self._store.read(each, first=first, last=last) for each in self._maps], axis=1
        )


def run_segments(
    trunk: SegmentedTrunk,
    lr: NchwArray,
    *,
    store: FeatureStore,
    window_rows: int,
    compile_segment: Compile,
) -> Features:
    """Return the features of an image after all segments.

    Args:
        trunk: the segments.
        lr: the image (1, 3, h, w).
        store: where the maps are stored.
        window_rows: rows that a segment reads at once; more if its halo leaves no row to write.
        compile_segment: returns a segment's graph, ready to run.
    """
    maps: dict[str, int] = {}
    means: dict[str, NchwArray] = {}
    unused: dict[int, list[int]] = {}  # channels -> maps that may be overwritten
    for each in trunk.segments:
        sources = [_MapReader(store, maps.get(name), lr=lr) for name in each.reads]
        for name in each.frees:
            unused.setdefault(trunk.channels[name], []).append(maps[name])
        for name in each.writes:
            channels = trunk.channels[name]
            available = unused.get(channels)
            maps[name] = available.pop() if available else store.add(channels)
        rows = max(window_rows, 2 * each.halo_rows + 1)
        row_means = _run_segment(
            compile_segment(each),
            plan_windows(lr.shape[2], rows=rows, halo_rows=each.halo_rows),
            sources=sources,
            means=[means[name] for name in each.means],
            store=store,
            targets=[maps[name] for name in each.writes],
        )
        if each.averaged is not None:
            means[each.averaged] = np.concatenate(row_means, axis=2)
    return Features(store, [maps[name] for name in trunk.leaves])


@final
class _MapReader:
    """A map read window by window, every row once; without an index, the image."""

    def __init__(self, store: FeatureStore, index: int | None, *, lr: NchwArray) -> None:
        self._store, self._index, self._lr = store, index, lr
        self._top, self._rows = 0, lr[:, :, :0]

    def read(self, window: Window) -> Rows:
        """Return a window's rows; those of the window before may be overwritten already."""
        if self._index is None:
            return np.ascontiguousarray(self._lr[:, :, window.top : window.bottom])
        known = self._rows[:, :, window.top - self._top :]
        first = window.top + known.shape[2]
        fresh = self._store.read(self._index, first=first, last=window.bottom)
        rows = np.concatenate([known, fresh], axis=2) if known.shape[2] else fresh
        self._top, self._rows = window.top, rows
        return rows


def _run_segment(
    graph: Graph,
    windows: Sequence[Window],
    *,
    sources: Sequence[_MapReader],
    means: Sequence[NchwArray],
    store: FeatureStore,
    targets: Sequence[int],
) -> list[NchwArray]:
    """Run a segment; return its next output, the row means (1, c, rows, 1), window by window."""
    row_means: list[NchwArray] = []
    for window in windows:
        results = graph([*(source.read(window) for source in sources), *means])
        own = slice(window.first - window.top, window.last - window.top)
        for index, rows in zip(targets, results, strict=False):
            store.write(index, first=window.first, rows=rows[:, :, own])
        row_means += [each[:, :, own] for each in results[len(targets) : len(targets) + 1]]
    return row_means


@final
class StreamedTrunk:
    """A trunk that runs in segments, whichever backend runs the rest. Threads may share it.

    It always runs on OpenVINO, which every installation has, on the processor, and never in int8,
    whose graph would have to be cut elsewhere.
    """

    def __init__(self, backend: ResolvedBackend) -> None:
        """Hold the bundle to run; its graph is read and cut when it is first needed."""
        self._bundle, self._rounds = backend.bundle, backend.precision != "fp32"
        self._lock = Lock()
        self._trunk: SegmentedTrunk | None = None

    @property
    def dtype(self) -> np.dtype[Any]:
        """Return the type of stored maps: float32, or uint16 as the bits of bfloat16."""
        return np.dtype(np.float32 if self._precision == "fp32" else np.uint16)

    @property
    def requirements(self) -> StreamingRequirements:
        """Return the requirements that hold for images of any size."""
        trunk = self._cut_trunk()
        halo_rows = max(each.halo_rows for each in trunk.segments)
        return StreamingRequirements(trunk.peak_channels, halo_rows)

    def run(self, lr: NchwArray, *, store: FeatureStore, window_rows: int) -> Features:
        """Return the features of an image (1, 3, h, w)."""
        return run_segments(
            self._cut_trunk(),
            lr,
            store=store,
            window_rows=window_rows,
            compile_segment=self._compile,
        )

    @property
    def _precision(self) -> Precision:
        rounds = self._rounds and "bf16" in OpenVinoBackend().precisions(_DEVICE)
        return "bf16" if rounds else "fp32"

    def _cut_trunk(self) -> SegmentedTrunk:
        """Return the trunk cut into segments, once for all threads."""
        with self._lock:
            if self._trunk is None:
                self._trunk = SegmentedTrunk(read_graph(self._bundle.graph("trunk")))
            return self._trunk

    def _compile(self, segment: Segment) -> Graph:
        """Return a segment's graph, to be dropped after its run so that its memory is freed."""
        trunk = self._cut_trunk()
        with self._lock:  # OpenVINO doesn't document that two threads may copy one graph
            model = trunk.model(segment, is_bf16=self._precision != "fp32")
        return compile_model(
            model,
            where=str(self._bundle.graph("trunk")),
            device=_DEVICE,
            precision=self._precision,
        )


@final
class TiledTrunk:
    """The features of an image, computed tile by tile from the top as they are read."""

    def __init__(self, trunk: Graph, lr: NchwArray, *, rows: int, halo_rows: int) -> None:
        """Hold the image and its trunk.

        Args:
            trunk: LR rows -> their features.
            lr: the image (1, 3, h, w).
            rows: LR rows of a tile.
            halo_rows: LR rows beyond a tile, on each side, that its features depend on.
        """
        self._trunk, self._lr = trunk, lr
        self._rows, self._halo_rows = rows, halo_rows
        self._first = self._last = 0
        self._tile: NchwArray | None = None

    def read(self, first: int, last: int) -> NchwArray:
        """Return the features of rows, at most those of a tile, all of them from one tile."""
        if self._tile is None or first < self._first or last > self._last:
            self._tile = None  # frees its memory for the next one
            self._tile = self._compute(first, max(first + self._rows, last))
        rows = slice(first - self._first, last - self._first)
        return np.ascontiguousarray(self._tile[:, :, rows])

    def _compute(self, first: int, last: int) -> NchwArray:
        """Return a tile's features, without those of its halo."""
        height = self._lr.shape[2]
        self._first, self._last = first, min(last, height)
        top = max(first - self._halo_rows, 0)
        bottom = min(self._last + self._halo_rows, height)
        (features,) = self._trunk([np.ascontiguousarray(self._lr[:, :, top:bottom])])
        return features[:, :, self._first - top : self._last - top]
