"""The carrier: rows handed to libvips while they are made, as an uncompressed BigTIFF read once.

Of the formats that libvips' wheel reads from a stream, this is the one without compression. Nothing
of it is ever on disk: header and rows are made up as libvips asks for them, top to bottom.
"""

import struct
import threading
from collections import deque
from typing import Any, Final

import numpy as np
import pyvips

from d2csr.core.geometry import Size
from d2csr.images.formats import PixelFormat

_STRIP_ROWS: Final = 16  # what libtiff decodes at once
_WAITING_BYTES: Final = 8 << 20  # rows made and not yet read; more is waited for
_SHORT, _LONG, _LONG8 = 3, 4, 16
_HEAD_BYTES: Final = 16


class RowStream:
    """A pipe of rows from the thread that makes them to the one that encodes them.

    `put`, `finish` and `abort` belong to the maker, `image` to the encoder; `abort` may be
    called by both, and lets go whoever waits.
    """

    def __init__(self, size: Size, layout: PixelFormat) -> None:
        """Say what the rows will be; nothing is read or held yet."""
        self._header = _header(size, layout)
        self._length = len(self._header) + size.height * size.width * _pixel_bytes(layout)
        self._changed = threading.Condition()
        self._rows: deque[memoryview] = deque()
        self._waiting = 0
        self._first = len(self._header)  # place in the stream of the oldest rows held
        self._place = 0  # where libvips reads
        self._broken = False
        self._gray = layout.colours == 1
        self._deep = layout.bits == 16
        self._source = pyvips.SourceCustom()  # held here: libvips calls back into it
        self._source.on_read(self._read)
        self._source.on_seek(self._seek)

    def image(self) -> Any:
        """Return the libvips image that reads the rows, once, top to bottom.

        Raises:
            pyvips.Error: broken off.
        """
        image = pyvips.Operation.call(
            "tiffload_source", self._source, access="sequential", fail_on="error"
        )
        kinds = {(True, False): "b-w", (True, True): "grey16", (False, False): "srgb"}
        image = image.copy(interpretation=kinds.get((self._gray, self._deep), "rgb16"))
        for name in ("bits-per-sample", "n-pages", "orientation"):
            if image.get_typeof(name):
                image.remove(name)
        return image

    def put(self, rows: np.ndarray) -> bool:
        """Hand on rows; wait while many lie unread; return False once broken off.

        Args:
            rows: contiguous, and not to be changed any more.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._broken or self._waiting < _WAITING_BYTES)
            if self._broken:
                return False
            if rows.size:
                self._rows.append(rows.data.cast("B"))
                self._waiting += rows.nbytes
                self._changed.notify_all()
            return True

    def abort(self) -> None:
        """End the stream early, so that the encoder fails, and let go of all rows."""
        with self._changed:
            self._broken = True
            self._rows.clear()
            self._changed.notify_all()

    def _read(self, wanted: int) -> Any:
        """Answer libvips: up to `wanted` bytes from where it stands; none at the end."""
        if self._place < len(self._header):
            found: Any = self._header[self._place : self._place + wanted]
        elif self._place >= self._length:
            return None
        else:
            found = self._rows_at(wanted)
        if found is not None:
            self._place += len(found)
        return found

    def _rows_at(self, wanted: int) -> memoryview | None:
        with self._changed:
            while True:
                self._changed.wait_for(lambda: self._broken or bool(self._rows))
                if self._broken:
                    return None
                oldest = self._rows[0]
                start = self._place - self._first
                if start < 0:  # libvips went back, which nothing here can
                    return None
                if start < len(oldest):
                    return oldest[start : start + wanted]
                self._rows.popleft()
                self._first += len(oldest)
                self._waiting -= len(oldest)
                self._changed.notify_all()

    def _seek(self, offset: int, whence: int) -> int:
        self._place = offset + (0, self._place, self._length)[whence]
        return self._place


def _pixel_bytes(layout: PixelFormat) -> int:
    return layout.channels * layout.dtype.itemsize


def _header(size: Size, layout: PixelFormat) -> bytes:
    """Return everything before the rows (TIFF 6.0, section 2, with BigTIFF's 8-byte places)."""
    strips = -(-size.height // _STRIP_ROWS)
    strip = _STRIP_ROWS * size.width * _pixel_bytes(layout)
    last = size.height * size.width * _pixel_bytes(layout) - strip * (strips - 1)
    lengths = np.full(strips, strip, "<u8")
    lengths[-1] = last
    tags: dict[int, tuple[int, np.ndarray]] = {
        256: (_LONG, np.array([size.width], "<u4")),
        257: (_LONG, np.array([size.height], "<u4")),
        258: (_SHORT, np.full(layout.channels, layout.bits, "<u2")),
        259: (_SHORT, np.array([1], "<u2")),  # not compressed
        262: (_SHORT, np.array([1 if layout.colours == 1 else 2], "<u2")),  # gray, RGB
        273: (_LONG8, np.arange(strips, dtype="<u8") * strip),  # moved on below
        277: (_SHORT, np.array([layout.channels], "<u2")),
        278: (_LONG, np.array([_STRIP_ROWS], "<u4")),
        279: (_LONG8, lengths),
        284: (_SHORT, np.array([1], "<u2")),  # channels side by side
    }
    if layout.alpha:
        tags[338] = (_SHORT, np.array([2], "<u2"))  # not weighted by it
    values_at = _HEAD_BYTES + 8 + 20 * len(tags) + 8
    values_bytes = sum(_aside(values) for _, values in tags.values())
    tags[273] = (_LONG8, tags[273][1] + values_at + values_bytes)
    entries = values_aside = b""
    for number, (kind, values) in tags.items():
        value = values.tobytes().ljust(8, b"\0")
        if _aside(values):
            value = struct.pack("<Q", values_at + len(values_aside))
            values_aside += values.tobytes()
        entries += struct.pack("<HHQ", number, kind, len(values)) + value
    head = b"II" + struct.pack("<HHHQQ", 43, 8, 0, _HEAD_BYTES, len(tags))
    return head + entries + struct.pack("<Q", 0) + values_aside


def _aside(values: np.ndarray) -> int:
    """Return the bytes of values too long for their entry."""
    return values.nbytes if values.nbytes > 8 else 0
