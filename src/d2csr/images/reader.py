"""An image file read whole: pixels in the file's own depth, upright, and what must survive.

Image files read into 8-bit RGB arrays, with errors told in plain words.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyvips
from jaxtyping import UInt8

from d2csr.core.errors import ImageError
from d2csr.core.geometry import Size
from d2csr.images.decode import (
    check_tiff_supported,
    color_channels,
    decode_error,
    decode_hevc,
    detect_format,
    open_image,
    orientation,
    to_rgb,
    upright_size,
)
from d2csr.images.formats import (
    DEFAULT_LIMIT_MP,
    FORMATS,
    IMAGE_SUFFIXES,
    PixelFormat,
    display_name,
    format_from_suffix,
    is_image_name,
)
from d2csr.images.metadata import (
    HDR_TRANSFERS,
    P3_PRIMARIES,
    SRGB_PRIMARIES,
    ContainerInfo,
    ImageMetadata,
    read_container_info,
    read_metadata,
)
from d2csr.images.pixels import to_uint8

_GAMMA_OF_SRGB: Final = (0.43, 0.48)


@dataclass(frozen=True)
class DecodedImage:
    """An image file's pixels, upright, and what must survive in the file made of it.

    Attributes:
        pixels: (h, w, 3) RGB or (h, w, 1) gray, 8 or 16 bit as the file has them, not weighted by
            alpha.
        alpha: (h, w) of the same type, or None.
        kept: profile, EXIF and the rest.
        warnings: sentences for the user.
    """

    pixels: np.ndarray
    alpha: np.ndarray | None
    kept: ImageMetadata
    warnings: tuple[str, ...] = ()

    @property
    def layout(self) -> PixelFormat:
        """Return how the pixels are stored."""
        return PixelFormat(
            1 if self.pixels.shape[2] == 1 else 3,
            self.alpha is not None,
            8 if self.pixels.dtype == np.uint8 else 16,
        )

    @property
    def size(self) -> Size:
        """Return width and height."""
        return Size(self.pixels.shape[1], self.pixels.shape[0])


def read_image(path: Path, *, limit_mp: float = DEFAULT_LIMIT_MP) -> DecodedImage:
    """Return an image file's pixels, upright, in its own depth, and what it says besides.

    Args:
        path: PNG, JPEG, WebP, TIFF, GIF, AVIF or HEIF; the content decides, not the suffix.
        limit_mp: the largest image taken, in millions of pixels, by its header, before decoding.

    Raises:
        ImageError: missing, empty, damaged, cut short, too large, or of a kind not handled.
    """
    content = detect_format(path)
    signals = read_container_info(path, content)
    if content == "tiff":
        check_tiff_supported(path)
    image = open_image(path, sequential=True)
    _refuse_large(path, image, limit_mp=limit_mp)
    turn = orientation(image)
    image = decode_hevc(path, image)
    try:
        image, warnings = to_rgb(path, image)
        colours = color_channels(path, image)
        kept, left_out = read_metadata(
            image, path, bands=1 if signals.gray else colours, signals=signals
        )
        warnings += left_out + _notes(path, content, image=image, signals=signals)
        kept = _told_by_signals(path, kept, signals=signals, warnings=warnings)
        pixels = image.numpy()
    except pyvips.Error as error:
        raise decode_error(path, error) from error
    pixels = _upright(pixels.reshape(*pixels.shape[:2], -1), turn)
    if content in ("avif", "heif") and pixels.dtype == np.uint16:
        pixels = _full_range(pixels, bits=int(image.get("bits-per-sample")))
    alpha = pixels[..., colours] if pixels.shape[2] > colours else None
    if alpha is not None and content == "gif" and (alpha == 255).all():
        alpha = None  # libvips gives every animation one
    return DecodedImage(
        np.ascontiguousarray(pixels[..., : 1 if signals.gray else colours]),
        None if alpha is None else np.ascontiguousarray(alpha),
        kept,
        tuple(warnings),
    )


def read_size(path: Path, *, limit_mp: float = DEFAULT_LIMIT_MP) -> Size:
    """Return width and height of the upright image, from the file's header alone.

    Raises:
        ImageError: as `read_image`, but damage behind the header goes unseen.
    """
    image = open_image(path, sequential=True)
    _refuse_large(path, image, limit_mp=limit_mp)
    return upright_size(image)


def _refuse_large(path: Path, image: Any, *, limit_mp: float) -> None:
    mp = image.width * image.height / 1e6
    if mp > limit_mp:
        problem = f"is {image.width}x{image.height}, {mp:.0f} MP, above the limit of {limit_mp:g}"
        raise ImageError(path, problem, remedy="If you trust the file, allow more with --limit-mp.")


def _notes(path: Path, content: str, *, image: Any, signals: ContainerInfo) -> list[str]:
    """Return what the user should know of the file."""
    notes = []
    if content != format_from_suffix(path) and {content, format_from_suffix(path)} != {
        "avif",
        "heif",
    }:
        suffix = path.suffix or "no suffix"
        name = display_name(content)
        notes.append(f"mislabelled: {suffix}, but its content is {name} ({FORMATS[content][0]})")
    told = int(image.get("n-pages")) if image.get_typeof("n-pages") else 1
    pages = max(told, signals.frames)
    if pages > 1:
        main = "main one" if content in ("avif", "heif") else "first"
        notes.append(f"only the {main} of {pages} images in the file was read")
    if signals.gamma is not None and not _GAMMA_OF_SRGB[0] < signals.gamma < _GAMMA_OF_SRGB[1]:
        notes.append(f"its gamma ({signals.gamma:g}) isn't sRGB's and was not applied")
    return notes


def _told_by_signals(
    path: Path, kept: ImageMetadata, *, signals: ContainerInfo, warnings: list[str]
) -> ImageMetadata:
    """Return what is kept, with the profile that the file names by number only.

    Raises:
        ImageError: HDR, which only its numbers say, and no profile here could.
    """
    if kept.icc is not None:
        return kept
    if signals.transfer in HDR_TRANSFERS:
        problem = f"is an HDR image ({HDR_TRANSFERS[signals.transfer]})"
        raise ImageError(path, problem, remedy="Convert it to standard range first.")
    if signals.primaries in P3_PRIMARIES and not signals.gray:
        return replace(kept, icc=bytes(pyvips.Operation.call("profile_load", "p3")))
    if signals.primaries not in SRGB_PRIMARIES:
        number = signals.primaries
        warnings.append(f"its colours are of kind {number} of H.273, which the result will not say")
    return kept


def _upright(pixels: np.ndarray, turn: int) -> np.ndarray:
    """Return pixels turned and mirrored as their EXIF orientation says (Exif 2.32, 4.6.4.A)."""
    if turn in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    down = turn in (3, 4, 7, 8)
    across = turn in (2, 3, 6, 7)
    return pixels[:: -1 if down else 1, :: -1 if across else 1]


def _full_range(pixels: np.ndarray, *, bits: int) -> np.ndarray:
    """Return values of 10 or 12 bit, shifted up by libvips, with white at 65535."""
    if not 8 < bits < 16:
        return pixels
    white = (1 << bits) - 1
    values = (pixels >> (16 - bits)).astype(np.uint32)
    return ((values * 65535 + white // 2) // white).astype(np.uint16)


__all__ = ["IMAGE_SUFFIXES", "detect_format", "image_size", "is_image_name", "read_rgb8"]


def read_rgb8(path: Path) -> UInt8[np.ndarray, "h w 3"]:
    """Return an image as 8-bit RGB, turned upright by its EXIF orientation.

    Gray is repeated, alpha dropped; 16 bit become 8 by rounding. Pixel values stay as stored: an
    embedded profile is not applied. Of several pages or frames the first is read. The content
    decides the format, not the suffix.

    Raises:
        ImageError: the file is missing, empty, damaged, cut short, or no image.
    """
    image = decode_hevc(path, open_image(path))
    try:
        pixels = _upright_rgb(image).numpy()
    except pyvips.Error as error:
        raise decode_error(path, error) from error
    return _rgb8(path, pixels)


def image_size(path: Path) -> Size:
    """Return width and height of the upright image, from the file's header alone.

    Raises:
        ImageError: as `read_rgb8`, but damage behind the header goes unseen.
    """
    return upright_size(open_image(path))


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
        pixels = to_uint8(pixels)
    pixels = pixels.reshape(*pixels.shape[:2], -1)  # libvips drops the axis of a single band
    if pixels.dtype != np.uint8 or pixels.shape[2] not in (1, 3):
        problem = f"has {pixels.shape[2]} channels of type {pixels.dtype}"
        raise ImageError(path, problem, remedy="Convert it to 8 or 16 bit gray or RGB.")
    return np.ascontiguousarray(np.broadcast_to(pixels, (*pixels.shape[:2], 3)))
