"""An image file written while its rows are made: strips go straight into the encoder.

What libvips' encoders are told, by format; measured on photographs of 4.5 megapixels.

8-bit images written to files, whole or not at all, in the format the suffix names.
"""

import threading
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import numpy as np
import pyvips
from jaxtyping import UInt8

from d2csr.core.errors import ImageError
from d2csr.core.files import atomic_path
from d2csr.core.geometry import Size
from d2csr.images.exif import add_to_tiff, with_size
from d2csr.images.formats import (
    DPI_IN_EXIF,
    PixelFormat,
    format_limitations,
    supported_pixel_format,
    writable_format,
)
from d2csr.images.metadata import NOTHING_KEPT, ImageMetadata, apply_metadata, scaled_dpi
from d2csr.images.pixels import to_uint8
from d2csr.images.row_stream import RowStream

# PNG: 0.14 s and 3.9 MB; level 6 with every filter tried saves 4% in twice the time.
# TIFF: 0.2 s and 3.8 MB. WebP: effort 0 takes 0.7 s, effort 2 saves 4% in 2.6 s.
# AVIF: 1.1 s; full colour resolution, as JPEG. Deep AVIF: 12 bit are slow whatever is told (10 s at
# this quality) and lossy ones put white beside white; without loss and effort it takes 5 s.
ENCODERS: Final[Mapping[str, Mapping[str, Any]]] = {
    "png": {"compression": 3, "filter": "sub"},
    "jpeg": {"Q": 95, "subsample_mode": "off"},
    "webp": {"lossless": True, "effort": 0},
    "tiff": {"compression": "deflate", "predictor": "horizontal"},
    "avif": {"Q": 90, "subsample_mode": "off", "effort": 2, "compression": "av1"},
}
_BIGTIFF_BYTES: Final = 3_900_000_000  # below the 4 GiB that 4-byte places reach
# libvips' flags of what is kept: all, and all but EXIF, of which it would make up one of its own.
_ALL, _ALL_BUT_EXIF = 63, 62
_ONE_BLOCK_PX: Final = 8  # a side within one block of AV1: lossy, white would come back as 253
_AVIF_DEPTHS: Final[Mapping[str, Mapping[str, Any]]] = {
    "uchar": {"bitdepth": 8},
    "ushort": {"bitdepth": 12, "lossless": True, "effort": 0},
}


def encode(image: Any, path: Path) -> None:
    """Write a libvips image with all its metadata to a file, in the format the suffix names.

    Raises:
        ImageError: the suffix names none.
        OSError: the file can't be made.
        pyvips.Error: the encoder or the disk gave up.
    """
    content = writable_format(path)
    options = dict(ENCODERS[content])
    options["keep"] = _ALL if image.get_typeof("exif-data") else _ALL_BUT_EXIF
    if content == "tiff":
        samples = image.width * image.height * image.bands
        options["bigtiff"] = samples * (2 if image.format == "ushort" else 1) > _BIGTIFF_BYTES
    if content == "avif":
        options |= _AVIF_DEPTHS[image.format]
        if min(image.width, image.height) <= _ONE_BLOCK_PX:
            options["lossless"] = True
    saver = f"{'heif' if content == 'avif' else content}save_target"
    with path.open("w+b") as file:  # which any name opens; libvips keeps a descriptor of its own
        target = pyvips.Target.new_to_descriptor(file.fileno())
        getattr(image, saver)(target, **options)


class ImageWriter:
    """Writes one image, rows top to bottom, whole or not at all.

    The encoder runs in a thread beside; PNG, JPEG and TIFF hold a few strips of the image, WebP
    and AVIF all of it, as their encoders must. The file appears under its name when the block ends
    with every row written; an error in the block leaves nothing.
    """

    def __init__(
        self,
        path: Path,
        *,
        size: Size,
        layout: PixelFormat,
        kept: ImageMetadata = NOTHING_KEPT,
        scale: float = 1.0,
    ) -> None:
        """Settle what will be written; nothing is touched yet.

        Args:
            path: the file; its suffix says the format.
            size: of the image.
            layout: of the rows that `write` will be given; what the format can't carry of it
                (`format_limitations`) is taken out here.
            kept: what the image read said besides its pixels.
            scale: how many times larger this one is; its print size stays.

        Raises:
            ImageError: no format written here has this suffix, or the image is too large for it.
        """
        format_limitations(layout, path, size=size)
        self.path = path
        self.size = size
        self.layout = layout
        self._kept = kept
        self._scale = scale
        self._stored = supported_pixel_format(layout, path)
        self._carrier = RowStream(size, self._stored)
        self._undone = ExitStack()
        self._rows = 0
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._encode, name="encoder", daemon=True)
        self._beside = path

    def __enter__(self) -> "ImageWriter":
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
            raise self._told() from self._error

    def __exit__(  # noqa: PLR0917 - as the language calls it
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Finish the file and give it its name; after an error, remove it.

        Raises:
            ImageError: the encoder or the disk gave up.
            ValueError: rows are missing.
        """
        if error is not None or self._rows < self.size.height:
            self._carrier.abort()
        self._thread.join()
        if error is not None:
            self._undone.__exit__(kind, error, trace)  # removes what is half-written
            return
        with self._undone:
            if self._rows < self.size.height:
                raise ValueError(f"{self._rows} of {self.size.height} rows were written")
            if self._error is not None:
                raise self._told() from self._error

    def _encode(self) -> None:
        """Read rows and write the file beside the real one, in the encoder's thread."""
        try:
            content = writable_format(self.path)
            image: Any = apply_metadata(
                self._carrier.image(),
                self._kept,
                size=self.size,
                scale=self._scale,
                exif_for_dpi=content in DPI_IN_EXIF,
            )
            encode(image, self._beside)
            if content == "tiff" and self._kept.exif:
                dpi = scaled_dpi(self._kept, self._scale)
                add_to_tiff(self._beside, with_size(self._kept.exif, self.size, dpi=dpi))
        except BaseException as error:  # noqa: BLE001 - told by the thread that writes
            self._error = error
        finally:
            self._carrier.abort()

    def _told(self) -> BaseException:
        """Return the encoder's error in plain words."""
        if isinstance(self._error, pyvips.Error):
            detail = " ".join(str(self._error).split())[:400]
            remedy = "Look for room on the disk, or choose another format."
            return ImageError(self.path, f"can't be written ({detail})", remedy=remedy)
        if isinstance(self._error, OSError):
            problem = f"can't be written: {self._error.strerror}"
            return ImageError(self.path, problem, remedy="Choose a folder you may write to.")
        return self._error or ValueError("rows after the end")


def _stored(rows: np.ndarray, layout: PixelFormat, *, stored: PixelFormat) -> np.ndarray:
    """Return a copy of rows as the format stores them: without alpha, in 8 bit."""
    if layout.alpha and not stored.alpha:
        colours, alpha = rows[..., :-1].astype(np.uint32), rows[..., -1:].astype(np.uint32)
        on_white = colours * alpha + layout.white * (layout.white - alpha)
        rows = ((on_white + layout.white // 2) // layout.white).astype(layout.dtype)
    if layout.bits == 16 and stored.bits == 8:
        return to_uint8(rows)
    return np.array(rows, order="C", copy=True)


def write_rgb8(path: Path, rgb8: UInt8[np.ndarray, "h w 3"]) -> None:
    """Write an 8-bit RGB image atomically; PNG, WebP and TIFF keep every pixel.

    Raises:
        ImageError: the suffix names no format, or the disk refuses.
        UsageError: a folder is in the way, or its folder can't be written to.
    """
    _write(path, rgb8, layout=PixelFormat(3), interpretation="srgb")


def write_gray8(path: Path, gray8: UInt8[np.ndarray, "h w"]) -> None:
    """Write an 8-bit gray image (a mask, a map) atomically.

    Raises:
        ImageError: the suffix names no format, or the disk refuses.
        UsageError: a folder is in the way, or its folder can't be written to.
    """
    _write(path, gray8, layout=PixelFormat(1), interpretation="b-w")


def _write(path: Path, pixels: np.ndarray, *, layout: PixelFormat, interpretation: str) -> None:
    format_limitations(layout, path, size=Size(pixels.shape[1], pixels.shape[0]))
    image: Any = pyvips.Image.new_from_array(np.ascontiguousarray(pixels))
    try:
        with atomic_path(path) as beside:
            encode(image.copy(interpretation=interpretation), beside)
    except pyvips.Error as error:
        detail = " ".join(str(error).split())
        remedy = "Choose another format or folder."
        raise ImageError(path, f"can't be written ({detail})", remedy=remedy) from error
    except OSError as error:
        problem = f"can't be written: {error.strerror}"
        raise ImageError(path, problem, remedy="Choose a folder you may write to.") from error
