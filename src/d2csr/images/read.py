"""Picture files read into 8-bit RGB arrays, with faults told in plain words."""

from pathlib import Path
from typing import Any

import numpy as np
import pyvips
from jaxtyping import UInt8, UInt16

from d2csr.core.errors import ImageError
from d2csr.core.grid import Size
from d2csr.images.formats import IMAGE_SUFFIXES, is_image_name
from d2csr.images.hevc import with_hevc_pixels
from d2csr.images.source import content_format, damaged, open_picture, upright_size

__all__ = ["IMAGE_SUFFIXES", "content_format", "image_size", "is_image_name", "read_rgb8"]


def read_rgb8(path: Path) -> UInt8[np.ndarray, "h w 3"]:
    """Return a picture as 8-bit RGB, turned upright by its EXIF orientation.

    Gray is repeated, alpha dropped; 16 bit become 8 by rounding. Pixel values stay as stored: an
    embedded profile is not applied. Of several pages or frames the first is read. The content
    decides the format, not the suffix.

    Raises:
        ImageError: the file is missing, empty, damaged, cut short, or no picture.
    """
    image = with_hevc_pixels(path, open_picture(path))
    try:
        pixels = _upright_rgb(image).numpy()
    except pyvips.Error as error:
        raise damaged(path, error) from error
    return _rgb8(path, pixels)


def image_size(path: Path) -> Size:
    """Return width and height of the upright picture, from the file's header alone.

    Raises:
        ImageError: as `read_rgb8`, but damage behind the header goes unseen.
    """
    return upright_size(open_picture(path))


def eight_bit(pixels: UInt16[np.ndarray, "*n"]) -> UInt8[np.ndarray, "*n"]:
    """Return 16-bit values as the nearest of 8 bit; white stays white."""
    return ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)  # 65535 = 257 * 255


def _upright_rgb(image: Any) -> Any:
    """Return three bands, or one of gray, upright, in the bit depth of the file."""
    image = image.autorot()
    if image.interpretation == "cmyk":
        image = image.colourspace("srgb")
    if image.hasalpha():
        image = image[: image.bands - 1]
    return image


def _rgb8(path: Path, pixels: np.ndarray) -> UInt8[np.ndarray, "h w 3"]:
    if pixels.dtype == np.uint16:
        pixels = eight_bit(pixels)
    pixels = pixels.reshape(*pixels.shape[:2], -1)  # libvips drops the axis of a single band
    if pixels.dtype != np.uint8 or pixels.shape[2] not in (1, 3):
        problem = f"has {pixels.shape[2]} channels of type {pixels.dtype}"
        raise ImageError(path, problem, remedy="Convert it to 8 or 16 bit gray or RGB.")
    return np.ascontiguousarray(np.broadcast_to(pixels, (*pixels.shape[:2], 3)))
