"""A trunk run over parts of a picture, where the whole fits neither in memory nor on the disk."""

from typing import final

import numpy as np

from d2csr.engine.backend import Graph, Planes


@final
class WindowedTrunk:
    """Features of a picture, computed part by part from the top as they are read."""

    def __init__(self, trunk: Graph, lr: Planes, *, rows: int, reach_rows: int) -> None:
        """Keep what to run.

        Args:
            trunk: LR rows to their features.
            lr: the picture (1, 3, h, w).
            rows: LR rows of a part.
            reach_rows: rows beyond a part, on each side, that its features depend on.
        """
        self._trunk, self._lr = trunk, lr
        self._rows, self._reach_rows = rows, reach_rows
        self._first = self._last = 0
        self._part: Planes | None = None

    def read(self, first: int, last: int) -> Planes:
        """Return the features of some rows, at most a part's, all of them from one part."""
        if self._part is None or first < self._first or last > self._last:
            self._part = None  # its memory is needed
            self._part = self._computed(first, max(first + self._rows, last))
        rows = slice(first - self._first, last - self._first)
        return np.ascontiguousarray(self._part[:, :, rows])

    def _computed(self, first: int, last: int) -> Planes:
        """Return a part's features, without those of its halo."""
        height = self._lr.shape[2]
        self._first, self._last = first, min(last, height)
        top = max(first - self._reach_rows, 0)
        bottom = min(self._last + self._reach_rows, height)
        (features,) = self._trunk([np.ascontiguousarray(self._lr[:, :, top:bottom])])
        return features[:, :, self._first - top : self._last - top]
