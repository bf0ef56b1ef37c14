"""Scratch: where the maps of a trunk wait between passes, in memory or in one file on disk."""

import os
import tempfile
from pathlib import Path
from typing import Any, Protocol, final, runtime_checkable

import numpy as np
from numpy.typing import DTypeLike

from d2csr.core.errors import UsageError
from d2csr.core.hardware import format_bytes

# (1, c, rows, w): float32, or the bits of bfloat16 as uint16.
Rows = np.ndarray[Any, np.dtype[Any]]


@runtime_checkable
class FeatureStore(Protocol):
    """Planes (c, h, w) by number, written and read in rows; their values are undefined at first."""

    def add(self, channels: int) -> int:
        """Return the number of new planes."""
        ...

    def read(self, planes: int, *, first: int, last: int) -> Rows:
        """Return a copy of rows (1, c, rows, w)."""
        ...

    def write(self, planes: int, *, first: int, rows: Rows) -> None:
        """Keep rows, from `first` on."""
        ...

    def close(self) -> None:
        """Give back what it holds."""
        ...


@final
class MemoryScratch:
    """Planes in memory."""

    def __init__(self, height: int, width: int, *, dtype: DTypeLike) -> None:
        """Hold planes of one size and type; memory is taken plane by plane."""
        self._shape, self._dtype = (height, width), np.dtype(dtype)
        self._planes: list[Rows] = []

    def add(self, channels: int) -> int:
        """Return the number of new planes; MemoryError where there is no room."""
        self._planes.append(np.empty((1, channels, *self._shape), self._dtype))
        return len(self._planes) - 1

    def read(self, planes: int, *, first: int, last: int) -> Rows:
        """Return a copy of rows (1, c, rows, w)."""
        return self._planes[planes][:, :, first:last].copy()

    def write(self, planes: int, *, first: int, rows: Rows) -> None:
        """Keep rows, from `first` on."""
        self._planes[planes][:, :, first : first + rows.shape[2]] = rows

    def close(self) -> None:
        """Forget the planes."""
        self._planes.clear()


@final
class DiskScratch:
    """Planes in a nameless file, which is gone with the process, however that ends.

    Read and written by calls, not mapped: mapped pages count as the process's own memory until the
    system takes them back, which a limit on that memory would not wait for.
    """

    def __init__(self, height: int, width: int, *, dtype: DTypeLike, folder: Path) -> None:
        """Open the file; room on disk is taken plane by plane.

        Raises:
            OSError: nothing can be written there.
        """
        self._shape, self._dtype = (height, width), np.dtype(dtype)
        self._folder = folder
        self._file = tempfile.TemporaryFile(dir=folder, prefix="d2csr-", buffering=0)  # noqa: SIM115
        self._planes: list[tuple[int, int]] = []  # channels, and where they begin
        self._end = 0

    def add(self, channels: int) -> int:
        """Return the number of new planes.

        Raises:
            UsageError: the disk is full.
        """
        size = channels * self._shape[0] * self._shape[1] * self._dtype.itemsize
        try:
            if hasattr(os, "posix_fallocate"):  # room that is promised can't run out half-way
                os.posix_fallocate(self._file.fileno(), self._end, size)
            else:
                self._file.truncate(self._end + size)
        except OSError as error:
            problem = f"can't take {format_bytes(size)} more for scratch: {error.strerror}"
            remedy = "Free some disk, or point TMPDIR elsewhere."
            raise UsageError(self._folder, problem, remedy=remedy) from error
        self._planes.append((channels, self._end))
        self._end += size
        return len(self._planes) - 1

    def read(self, planes: int, *, first: int, last: int) -> Rows:
        """Return a copy of rows (1, c, rows, w)."""
        channels, _ = self._planes[planes]
        rows = np.empty((1, channels, last - first, self._shape[1]), self._dtype)
        for channel in range(channels):
            self._file.seek(self._offset(planes, channel=channel, row=first))
            unread = rows[0, channel].data.cast("B")
            while len(unread):
                unread = unread[self._file.readinto(unread) :]
        return rows

    def write(self, planes: int, *, first: int, rows: Rows) -> None:
        """Keep rows, from `first` on."""
        for channel in range(rows.shape[1]):
            self._file.seek(self._offset(planes, channel=channel, row=first))
            unwritten = np.ascontiguousarray(rows[0, channel]).data.cast("B")
            while len(unwritten):
                unwritten = unwritten[self._file.write(unwritten) :]

    def close(self) -> None:
        """Close the file, which frees its room."""
        self._file.close()

    def _offset(self, planes: int, *, channel: int, row: int) -> int:
        height, width = self._shape
        pixels = (channel * height + row) * width
        return self._planes[planes][1] + pixels * self._dtype.itemsize
