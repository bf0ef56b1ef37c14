"""A picture file written while its rows are made: strips go straight into the encoder."""

import threading
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pyvips

from d2csr.core.errors import ImageError
from d2csr.core.files import atomic_path
from d2csr.core.grid import Size
from d2csr.images.carrier import Carrier
from d2csr.images.encoders import encode
from d2csr.images.kept import NOTHING_KEPT, Kept, dressed, scaled_dpi
from d2csr.images.layout import DPI_IN_EXIF, Layout, layout_in, losses_of, writable_format
from d2csr.images.read import eight_bit
from d2csr.images.tags import add_to_tiff, of_size


class StripWriter:
    """Writes one picture, rows top to bottom, whole or not at all.

    The encoder runs in a thread beside; PNG, JPEG and TIFF hold a few strips of the picture, WebP
    and AVIF all of it, as their encoders must. The file appears under its name when the block ends
    with every row written; a fault in the block leaves nothing.
    """

    def __init__(
        self,
        path: Path,
        *,
        size: Size,
        layout: Layout,
        kept: Kept = NOTHING_KEPT,
        scale: float = 1.0,
    ) -> None:
        """Settle what will be written; nothing is touched yet.

        Args:
            path: the file; its suffix says the format.
            size: of the picture.
            layout: of the rows that `write` will be given; what the format can't carry of it
                (`losses_of`) is taken out here.
            kept: what the picture read said besides its pixels.
            scale: how many times larger this one is; its print size stays.

        Raises:
            ImageError: no format written here has this suffix, or the picture is too large for it.
        """
        losses_of(layout, path, size=size)
        self.path = path
        self.size = size
        self.layout = layout
        self._kept = kept
        self._scale = scale
        self._stored = layout_in(layout, path)
        self._carrier = Carrier(size, self._stored)
        self._undone = ExitStack()
        self._rows = 0
        self._fault: BaseException | None = None
        self._thread = threading.Thread(target=self._encode, name="encoder", daemon=True)
        self._beside = path

    def __enter__(self) -> "StripWriter":
        """Start the encoder.

        Raises:
            UsageError: nothing can be written there.
        """
        self._beside = self._undone.enter_context(atomic_path(self.path))
        self._thread.start()
        return self

    def write(self, rows: np.ndarray) -> None:
        """Hand on the next rows, (r, width, channels); they may be changed afterwards.

        Raises:
            ImageError: the encoder or the disk gave up.
            ValueError: rows of another shape or type than the layout's, or too many.
        """
        expected = (self.size.width, self.layout.channels)
        if rows.ndim != 3 or rows.shape[1:] != expected or rows.dtype != self.layout.dtype:
            found = f"{rows.shape} of {rows.dtype}"
            raise ValueError(f"rows are {found}, not (rows, {expected}) of {self.layout.dtype}")
        self._rows += len(rows)
        if self._rows > self.size.height:
            raise ValueError(f"more rows than {self.size.height}")
        if len(rows) and not self._carrier.put(_stored(rows, self.layout, stored=self._stored)):
            self._thread.join()
            raise self._told() from self._fault

    def __exit__(  # noqa: PLR0917 - as the language calls it
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Finish the file and give it its name; after a fault, remove it.

        Raises:
            ImageError: the encoder or the disk gave up.
            ValueError: rows are missing.
        """
        if error is not None or self._rows < self.size.height:
            self._carrier.break_off()
        self._thread.join()
        if error is not None:
            self._undone.__exit__(kind, error, trace)  # removes what is half-written
            return
        with self._undone:
            if self._rows < self.size.height:
                raise ValueError(f"{self._rows} of {self.size.height} rows were written")
            if self._fault is not None:
                raise self._told() from self._fault

    def _encode(self) -> None:
        """Read rows and write the file beside the real one, in the encoder's thread."""
        try:
            content = writable_format(self.path)
            image: Any = dressed(
                self._carrier.image(),
                self._kept,
                size=self.size,
                scale=self._scale,
                exif_for_dpi=content in DPI_IN_EXIF,
            )
            encode(image, self._beside)
            if content == "tiff" and self._kept.exif:
                dpi = scaled_dpi(self._kept, self._scale)
                add_to_tiff(self._beside, of_size(self._kept.exif, self.size, dpi=dpi))
        except BaseException as fault:  # noqa: BLE001 - told by the thread that writes
            self._fault = fault
        finally:
            self._carrier.break_off()

    def _told(self) -> BaseException:
        """Return the encoder's fault in plain words."""
        if isinstance(self._fault, pyvips.Error):
            detail = " ".join(str(self._fault).split())[:400]
            remedy = "Look for room on the disk, or choose another format."
            return ImageError(self.path, f"can't be written ({detail})", remedy=remedy)
        if isinstance(self._fault, OSError):
            problem = f"can't be written: {self._fault.strerror}"
            return ImageError(self.path, problem, remedy="Choose a folder you may write to.")
        return self._fault or ValueError("rows after the end")


def _stored(rows: np.ndarray, layout: Layout, *, stored: Layout) -> np.ndarray:
    """Return a copy of rows as the format stores them: without alpha, in 8 bit."""
    if layout.alpha and not stored.alpha:
        colours, alpha = rows[..., :-1].astype(np.uint32), rows[..., -1:].astype(np.uint32)
        on_white = colours * alpha + layout.white * (layout.white - alpha)
        rows = ((on_white + layout.white // 2) // layout.white).astype(layout.dtype)
    if layout.bits == 16 and stored.bits == 8:
        return eight_bit(rows)
    return np.array(rows, order="C", copy=True)
