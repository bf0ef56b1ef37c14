"""Picture files read into 8-bit RGB arrays, with faults told in plain words."""

from pathlib import Path
from typing import Any

import numpy as np
import pyvips
from jaxtyping import UInt8

from d2csr.core.errors import ImageError
from d2csr.core.grid import Size
from d2csr.images.formats import IMAGE_SUFFIXES, is_image_name

__all__ = ["IMAGE_SUFFIXES", "content_format", "image_size", "is_image_name", "read_rgb8"]

REPLACE = "Replace the file, or take it out."
_SIDEWAYS = (5, 6, 7, 8)  # EXIF orientations that swap width and height


def read_rgb8(path: Path) -> UInt8[np.ndarray, "h w 3"]:
    """Return a picture as 8-bit RGB, turned upright by its EXIF orientation.

    Gray is repeated, alpha dropped; 16 bit become 8 by rounding. Pixel values stay as stored: an
    embedded profile is not applied. Of several pages or frames the first is read. The content
    decides the format, not the suffix.

    Raises:
        ImageError: the file is missing, empty, damaged, cut short, or no picture.
    """
    image = _opened(path)
    try:
        pixels = _upright_rgb(image).numpy()
    except pyvips.Error as error:
        raise _damaged(path, error) from error
    return _eight_bit(path, pixels)


def image_size(path: Path) -> Size:
    """Return width and height of the upright picture, from the file's header alone.

    Raises:
        ImageError: as `read_rgb8`, but damage behind the header goes unseen.
    """
    image = _opened(path)
    if _orientation(image) in _SIDEWAYS:
        return Size(image.height, image.width)
    return Size(image.width, image.height)


def content_format(path: Path) -> str:
    """Return the format a file's content has, a key of `FORMATS` or libvips' name for another."""
    return str(_opened(path).get("vips-loader")).split("load", maxsplit=1)[0]


def _opened(path: Path) -> Any:
    """Return a libvips image whose pixels are not read yet.

    From a source: libvips would remember a file by its name and show old pixels after a change,
    and would take brackets in a name for options.
    """
    _refuse_unreadable(path)
    try:
        source = pyvips.Source.new_from_file(str(path))
        return pyvips.Image.new_from_source(source, "", fail_on="error")
    except pyvips.Error as error:
        if "known format" in str(error):
            known = ", ".join(sorted(IMAGE_SUFFIXES))
            problem = "is no picture in a format known here"
            raise ImageError(path, problem, remedy=f"Known are {known}. {REPLACE}") from error
        raise _damaged(path, error) from error


def _refuse_unreadable(path: Path) -> None:
    try:
        with path.open("rb") as file:
            empty = not file.read(1)
    except FileNotFoundError as error:
        raise ImageError(path, "does not exist", remedy="Check the name.") from error
    except OSError as error:
        problem = f"can't be read: {error.strerror}"
        raise ImageError(path, problem, remedy="Give a readable picture file.") from error
    if empty:
        raise ImageError(path, "is empty (0 bytes)", remedy=REPLACE)


def _damaged(path: Path, error: pyvips.Error) -> ImageError:
    detail = " ".join(str(error).split())
    return ImageError(path, f"is damaged or cut short ({detail})", remedy=REPLACE)


def _orientation(image: Any) -> int:
    return int(image.get("orientation")) if image.get_typeof("orientation") else 1


def _upright_rgb(image: Any) -> Any:
    """Return three bands, or one of gray, upright, in the bit depth of the file."""
    image = image.autorot()
    if image.interpretation == "cmyk":
        image = image.colourspace("srgb")
    if image.hasalpha():
        image = image[: image.bands - 1]
    return image


def _eight_bit(path: Path, pixels: np.ndarray) -> UInt8[np.ndarray, "h w 3"]:
    if pixels.dtype == np.uint16:
        pixels = ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)  # 65535 = 257 * 255
    pixels = pixels.reshape(*pixels.shape[:2], -1)  # libvips drops the axis of a single band
    if pixels.dtype != np.uint8 or pixels.shape[2] not in (1, 3):
        problem = f"has {pixels.shape[2]} channels of type {pixels.dtype}"
        raise ImageError(path, problem, remedy="Convert it to 8 or 16 bit gray or RGB.")
    return np.ascontiguousarray(np.broadcast_to(pixels, (*pixels.shape[:2], 3)))
