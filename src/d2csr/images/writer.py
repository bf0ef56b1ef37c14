"""Writing image files: completely or not at all, in the format that the suffix names.

`ImageWriter` encodes rows while they are computed; `write_rgb8`, `write_gray8` take whole images.
"""

import threading
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pyvips
from jaxtyping import UInt8

from d2csr.core.errors import ImageError
from d2csr.core.files import atomic_path
from d2csr.core.geometry import Size
from d2csr.images.encoding import encoder_options
from d2csr.images.exif import add_to_tiff, with_size
from d2csr.images.formats import (
    DPI_IN_EXIF,
    PixelFormat,
    format_limitations,
    supported_pixel_format,
    writable_format,
)
from d2csr.images.metadata import NO_METADATA, ImageMetadata, apply_metadata, scaled_dpi
from d2csr.images.pixels import to_uint8
from d2csr.images.row_stream import RowStream

# libvips' flags of metadata to write: all, and all but EXIF, of which it would make up its own.
_ALL, _ALL_BUT_EXIF = 63, 62


def encode(image: Any, path: Path, *, quality: int | None = None) -> None:
    """Write a libvips image with its metadata to a file, in the format that the suffix names.

    Args:
        image: of libvips.
        path: the file.
        quality: of lossy compression, 1 to 100; None is the format's default.

    Raises:
        ImageError: the suffix names no writable format.
        OSError: the file can't be created.
        pyvips.Error: the encoder failed, or the disk is full.
    """
    content = writable_format(path)
    options = encoder_options(content, image, quality=quality)
    options["keep"] = _ALL if image.get_typeof("exif-data") else _ALL_BUT_EXIF
    saver = f"{'heif' if content == 'avif' else content}save_target"
    with path.open("w+b") as file:  # libvips duplicates the descriptor
        target = pyvips.Target.new_to_descriptor(file.fileno())
        getattr(image, saver)(target, **options)


class ImageWriter:
    """Writes one image, rows top to bottom, completely or not at all.

    The encoder runs in its own thread. PNG, JPEG and TIFF hold a few strips of the image, WebP and
    AVIF all of it, because their encoders need it. The file appears under its name when the block
    ends after every row; an error in the block leaves nothing behind.
    """

    def __init__(
        self,
        path: Path,
        *,
        size: Size,
        pixel_format: PixelFormat,
        metadata: ImageMetadata = NO_METADATA,
        scale: float = 1.0,
        quality: int | None = None,
    ) -> None:
        """Prepare to write; no file is created yet.

        Args:
            path: the file; its suffix decides the format.
            size: of the image.
            pixel_format: of the rows given to `write`; they are converted where the format can't
                store it (`format_limitations`).
            metadata: of the image that this one was made from.
            scale: ratio of the sides to those of that image; the print size stays the same.
            quality: of lossy compression, 1 to 100; None is the format's default.

        Raises:
            ImageError: the suffix names no writable format, or the image is too large for it.
        """
        format_limitations(pixel_format, path, size=size)
        self.path = path
        self.size = size
        self.pixel_format = pixel_format
        self._metadata = metadata
        self._scale = scale
        self._quality = quality
        self._stored = supported_pixel_format(pixel_format, path)
        self._stream = RowStream(size, self._stored)
        self._cleanup = ExitStack()
        self._rows = 0
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._encode, name="encoder", daemon=True)
        self._temporary = path

    def __enter__(self) -> "ImageWriter":
        """Start the encoder.

        Raises:
            UsageError: nothing can be written there.
        """
        self._temporary = self._cleanup.enter_context(atomic_path(self.path))
        self._thread.start()
        return self

    def write(self, rows: np.ndarray) -> None:
        """Queue the next rows, (r, width, channels); the array may be changed afterwards.

        Raises:
            ImageError: the encoder failed, or the disk is full.
            ValueError: the rows have another shape or type than the pixel format, or are too many.
        """
        expected = (self.size.width, self.pixel_format.channels)
        if rows.ndim != 3 or rows.shape[1:] != expected or rows.dtype != self.pixel_format.dtype:
            found = f"{rows.shape} of {rows.dtype}"
            raise ValueError(
                f"rows are {found}, not (rows, {expected}) of {self.pixel_format.dtype}"
            )
        self._rows += len(rows)
        if self._rows > self.size.height:
            raise ValueError(f"more rows than {self.size.height}")
        converted = _convert(rows, self.pixel_format, stored=self._stored)
        if len(rows) and not self._stream.put(converted):
            self._thread.join()
            raise self._encoder_error() from self._error

    def __exit__(  # noqa: PLR0917 - the signature of the protocol
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Finish the file and rename it to its name; after an error, remove it.

        Raises:
            ImageError: the encoder failed, or the disk is full.
            ValueError: rows are missing.
        """
        if error is not None or self._rows < self.size.height:
            self._stream.abort()
        self._thread.join()
        if error is not None:
            self._cleanup.__exit__(kind, error, trace)  # removes the incomplete file
            return
        with self._cleanup:
            if self._rows < self.size.height:
                raise ValueError(f"{self._rows} of {self.size.height} rows were written")
            if self._error is not None:
                raise self._encoder_error() from self._error

    def _encode(self) -> None:
        """Write the temporary file from the stream of rows, in the encoder's thread."""
        try:
            content = writable_format(self.path)
            image: Any = apply_metadata(
                self._stream.image(),
                self._metadata,
                size=self.size,
                scale=self._scale,
                exif_for_dpi=content in DPI_IN_EXIF,
            )
            encode(image, self._temporary, quality=self._quality)
            if content == "tiff" and self._metadata.exif:
                dpi = scaled_dpi(self._metadata, self._scale)
                add_to_tiff(self._temporary, with_size(self._metadata.exif, self.size, dpi=dpi))
        except BaseException as error:  # noqa: BLE001 - raised by the thread that writes
            self._error = error
        finally:
            self._stream.abort()

    def _encoder_error(self) -> BaseException:
        """Return the error to raise for the encoder's."""
        if isinstance(self._error, pyvips.Error | OSError):
            return _write_error(self.path, self._error)
        return self._error or ValueError("rows after the end")


def _convert(rows: np.ndarray, pixel_format: PixelFormat, *, stored: PixelFormat) -> np.ndarray:
    """Return a copy of rows as the format stores them: blended with white, or in 8 bit."""
    if pixel_format.has_alpha and not stored.has_alpha:
        colors, alpha = rows[..., :-1].astype(np.uint32), rows[..., -1:].astype(np.uint32)
        on_white = colors * alpha + pixel_format.white * (pixel_format.white - alpha)
        half = pixel_format.white // 2
        rows = ((on_white + half) // pixel_format.white).astype(pixel_format.dtype)
    if pixel_format.bits == 16 and stored.bits == 8:
        return to_uint8(rows)
    return np.array(rows, order="C", copy=True)


def write_rgb8(path: Path, rgb8: UInt8[np.ndarray, "h w 3"]) -> None:
    """Write an 8-bit RGB image atomically; PNG, WebP and TIFF store every pixel exactly.

    Raises:
        ImageError: the suffix names no writable format, or writing failed.
        UsageError: a folder has the file's name, or its folder isn't writable.
    """
    _write(path, rgb8, pixel_format=PixelFormat(3), interpretation="srgb")


def write_gray8(path: Path, gray8: UInt8[np.ndarray, "h w"]) -> None:
    """Write an 8-bit gray image, such as a mask, atomically.

    Raises:
        ImageError: the suffix names no writable format, or writing failed.
        UsageError: a folder has the file's name, or its folder isn't writable.
    """
    _write(path, gray8, pixel_format=PixelFormat(1), interpretation="b-w")


def _write(
    path: Path, pixels: np.ndarray, *, pixel_format: PixelFormat, interpretation: str
) -> None:
    format_limitations(pixel_format, path, size=Size(pixels.shape[1], pixels.shape[0]))
    image: Any = pyvips.Image.new_from_array(np.ascontiguousarray(pixels))
    try:
        with atomic_path(path) as temporary:
            encode(image.copy(interpretation=interpretation), temporary)
    except (pyvips.Error, OSError) as error:
        raise _write_error(path, error) from error


def _write_error(path: Path, error: pyvips.Error | OSError) -> ImageError:
    if isinstance(error, OSError):
        problem = f"can't be written: {error.strerror}"
        return ImageError(path, problem, "Choose a folder you may write to.")
    detail = " ".join(str(error).split())[:400]
    remedy = "Free some disk space, or choose another format."
    return ImageError(path, f"can't be written ({detail})", remedy)
