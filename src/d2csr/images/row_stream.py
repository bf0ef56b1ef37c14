"""A stream of rows from the thread that makes them to libvips, as an uncompressed BigTIFF.

Of the formats that libvips' wheel reads from a stream, this is the one without compression. The
file never exists: header and rows are generated as libvips reads them, top to bottom, once.
"""

import threading
from collections import deque
from typing import Any, Final

import numpy as np
import pyvips

from d2csr.core.geometry import Size
from d2csr.images.exif import (
    BITS,
    COMPRESSION,
    HEIGHT,
    LONG8,
    PHOTOMETRIC,
    WIDTH,
    Tag,
    bigtiff_header,
    long_tag,
    short_tag,
)
from d2csr.images.formats import PixelFormat

_STRIP_ROWS: Final = 16  # decoded at once by libtiff
_MAX_QUEUED_BYTES: Final = 8 << 20  # of rows not yet read; `put` waits while there are more
_STRIP_OFFSETS, _SAMPLES, _ROWS_PER_STRIP, _STRIP_BYTES, _PLANES, _EXTRA_SAMPLES = (
    273, 277, 278, 279, 284, 338,
)  # fmt: skip


class RowStream:
    """A queue of rows between the thread that makes them and the thread that encodes them.

    The producer calls `put`, the encoder `image`; either may call `abort`, which wakes both.
    """

    def __init__(self, size: Size, pixel_format: PixelFormat) -> None:
        """Prepare the header of an image of this size and pixel format."""
        self._header = _header(size, pixel_format)
        self._length = len(self._header) + size.height * _row_bytes(size, pixel_format)
        self._changed = threading.Condition()
        self._rows: deque[memoryview] = deque()
        self._queued_bytes = 0
        self._first = len(self._header)  # offset in the file of the oldest queued rows
        self._position = 0  # offset that libvips reads next
        self._is_aborted = False
        self._is_gray = pixel_format.color_channels == 1
        self._is_16_bit = pixel_format.bits == 16
        self._source = pyvips.SourceCustom()  # libvips calls back into it, so it must stay alive
        self._source.on_read(self._read)
        self._source.on_seek(self._seek)

    def image(self) -> Any:
        """Return the libvips image that reads the rows, once, top to bottom.

        Raises:
            pyvips.Error: the stream was aborted.
        """
        image = pyvips.Operation.call(
            "tiffload_source", self._source, access="sequential", fail_on="error"
        )
        gray, color = ("grey16", "rgb16") if self._is_16_bit else ("b-w", "srgb")
        image = image.copy(interpretation=gray if self._is_gray else color)
        for name in ("bits-per-sample", "n-pages", "orientation"):
            if image.get_typeof(name):
                image.remove(name)
        return image

    def put(self, rows: np.ndarray) -> bool:
        """Queue rows, waiting while many are unread; return False if the stream was aborted.

        Args:
            rows: contiguous; they must not change afterwards.
        """
        with self._changed:
            self._changed.wait_for(
                lambda: self._is_aborted or self._queued_bytes < _MAX_QUEUED_BYTES
            )
            if self._is_aborted:
                return False
            if rows.size:
                self._rows.append(rows.data.cast("B"))
                self._queued_bytes += rows.nbytes
                self._changed.notify_all()
            return True

    def abort(self) -> None:
        """End the stream early, so that the encoder fails, and drop the queued rows."""
        with self._changed:
            self._is_aborted = True
            self._rows.clear()
            self._changed.notify_all()

    def _read(self, length: int) -> Any:
        """Return up to `length` bytes from the current position, None at the end."""
        if self._position < len(self._header):
            data: Any = self._header[self._position : self._position + length]
        elif self._position >= self._length:
            return None
        else:
            data = self._read_rows(length)
        if data is not None:
            self._position += len(data)
        return data

    def _read_rows(self, length: int) -> memoryview | None:
        with self._changed:
            while True:
                self._changed.wait_for(lambda: self._is_aborted or bool(self._rows))
                if self._is_aborted:
                    return None
                oldest = self._rows[0]
                start = self._position - self._first
                if start < 0:  # libvips went back to rows that are gone
                    return None
                if start < len(oldest):
                    return oldest[start : start + length]
                self._rows.popleft()
                self._first += len(oldest)
                self._queued_bytes -= len(oldest)
                self._changed.notify_all()

    def _seek(self, offset: int, whence: int) -> int:
        self._position = offset + (0, self._position, self._length)[whence]
        return self._position


def _row_bytes(size: Size, pixel_format: PixelFormat) -> int:
    return size.width * pixel_format.channels * pixel_format.dtype.itemsize


def _header(size: Size, pixel_format: PixelFormat) -> bytes:
    """Return everything in the file before the rows."""
    row_bytes = _row_bytes(size, pixel_format)
    strips = -(-size.height // _STRIP_ROWS)
    offsets = np.arange(strips, dtype="<u8") * np.uint64(_STRIP_ROWS * row_bytes)
    lengths = np.diff(offsets, append=np.uint64(size.height * row_bytes))
    tags = {
        WIDTH: long_tag(size.width),
        HEIGHT: long_tag(size.height),
        BITS: short_tag(*[pixel_format.bits] * pixel_format.channels),
        COMPRESSION: short_tag(1),  # none
        PHOTOMETRIC: short_tag(1 if pixel_format.color_channels == 1 else 2),  # gray, RGB
        _STRIP_OFFSETS: Tag(LONG8, offsets.tobytes()),
        _SAMPLES: short_tag(pixel_format.channels),
        _ROWS_PER_STRIP: long_tag(_STRIP_ROWS),
        _STRIP_BYTES: Tag(LONG8, lengths.astype("<u8").tobytes()),
        _PLANES: short_tag(1),  # channels interleaved
    }
    if pixel_format.has_alpha:
        tags[_EXTRA_SAMPLES] = short_tag(2)  # alpha that colors are not multiplied by
    start = len(bigtiff_header(tags))  # the same whatever the offsets
    tags[_STRIP_OFFSETS] = Tag(LONG8, (offsets + np.uint64(start)).tobytes())
    return bigtiff_header(tags)
