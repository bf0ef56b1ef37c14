"""Feature maps stored between the segments of a trunk, in memory or in a temporary file."""

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
    """Maps (c, h, w) of one size, by index; a new map's values are undefined until written."""

    def add(self, channels: int) -> int:
        """Return the index of a new map."""
        ...

    def read(self, index: int, *, first: int, last: int) -> Rows:
        """Return a copy of a map's rows (1, c, rows, w) from `first` to before `last`."""
        ...

    def write(self, index: int, *, first: int, rows: Rows) -> None:
        """Store rows of a map, from row `first` on."""
        ...

    def close(self) -> None:
        """Free the memory or disk space of all maps."""
        ...


@final
class MemoryFeatureStore:
    """Maps in memory, which is allocated map by map."""

    def __init__(self, height: int, width: int, *, dtype: DTypeLike) -> None:
        """Create an empty store of maps of one size and type."""
        self._shape, self._dtype = (height, width), np.dtype(dtype)
        self._maps: list[Rows] = []

    def add(self, channels: int) -> int:
        """Return the index of a new map.

        Raises:
            MemoryError: it can't be allocated.
        """
        self._maps.append(np.empty((1, channels, *self._shape), self._dtype))
        return len(self._maps) - 1

    def read(self, index: int, *, first: int, last: int) -> Rows:
        """Return a copy of a map's rows (1, c, rows, w) from `first` to before `last`."""
        return self._maps[index][:, :, first:last].copy()

    def write(self, index: int, *, first: int, rows: Rows) -> None:
        """Store rows of a map, from row `first` on."""
        self._maps[index][:, :, first : first + rows.shape[2]] = rows

    def close(self) -> None:
        """Free the maps."""
        self._maps.clear()


@final
class DiskFeatureStore:
    """Maps in an anonymous temporary file, which disappears with the process.

    The file is read and written by calls, not mapped: mapped pages count as memory of the process
    until the system reclaims them, and a limit on that memory doesn't wait for it.
    """

    def __init__(self, height: int, width: int, *, dtype: DTypeLike, folder: Path) -> None:
        """Create an empty file; disk space is allocated map by map.

        Raises:
            OSError: the folder isn't writable.
        """
        self._shape, self._dtype = (height, width), np.dtype(dtype)
        self._folder = folder
        self._file = tempfile.TemporaryFile(dir=folder, prefix="d2csr-", buffering=0)  # noqa: SIM115
        self._maps: list[tuple[int, int]] = []  # channels and offset
        self._end = 0

    def add(self, channels: int) -> int:
        """Return the index of a new map.

        Raises:
            UsageError: the disk is full.
        """
        size = channels * self._shape[0] * self._shape[1] * self._dtype.itemsize
        try:  # allocated now, so that the disk can't be full later
            os.posix_fallocate(self._file.fileno(), self._end, size)
        except OSError as error:
            problem = f"has no room for {format_bytes(size)} of feature maps: {error.strerror}"
            remedy = "Free some disk space, or point TMPDIR to another folder."
            raise UsageError(self._folder, problem, remedy) from error
        self._maps.append((channels, self._end))
        self._end += size
        return len(self._maps) - 1

    def read(self, index: int, *, first: int, last: int) -> Rows:
        """Return a copy of a map's rows (1, c, rows, w) from `first` to before `last`."""
        channels, _ = self._maps[index]
        rows = np.empty((1, channels, last - first, self._shape[1]), self._dtype)
        for channel in range(channels):
            self._file.seek(self._offset(index, channel=channel, row=first))
            unread = rows[0, channel].data.cast("B")
            while len(unread):
                unread = unread[self._file.readinto(unread) :]
        return rows

    def write(self, index: int, *, first: int, rows: Rows) -> None:
        """Store rows of a map, from row `first` on."""
        for channel in range(rows.shape[1]):
            self._file.seek(self._offset(index, channel=channel, row=first))
            unwritten = np.ascontiguousarray(rows[0, channel]).data.cast("B")
            while len(unwritten):
                unwritten = unwritten[self._file.write(unwritten) :]

    def close(self) -> None:
        """Close the file, which frees its disk space."""
        self._file.close()

    def _offset(self, index: int, *, channel: int, row: int) -> int:
        height, width = self._shape
        pixels = (channel * height + row) * width
        return self._maps[index][1] + pixels * self._dtype.itemsize
