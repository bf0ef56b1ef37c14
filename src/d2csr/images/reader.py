"""Reading image files: pixels at their own depth with metadata, or plain 8-bit RGB."""

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyvips
from jaxtyping import UInt8

from d2csr.core.errors import ImageError, format_beyond
from d2csr.core.geometry import Size
from d2csr.images.decode import (
    SWAPPED_SIDES,
    check_jpeg,
    check_tiff_jpeg,
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
from d2csr.images.encoding import read_quality
from d2csr.images.formats import (
    DEFAULT_LIMIT_MP,
    FORMATS,
    PixelFormat,
    display_name,
    format_from_suffix,
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

_SRGB_GAMMAS: Final = (0.43, 0.48)
_HEIF_FORMATS: Final = ("avif", "heif")
_CHECKS: Final = {"jpeg": check_jpeg, "tiff": check_tiff_jpeg}  # for data lost without an error


@dataclass(frozen=True)
class DecodedImage:
    """The upright pixels of an image file, and its metadata.

    Attributes:
        pixels: (h, w, 3) RGB or (h, w, 1) gray, 8 or 16 bit as in the file, not premultiplied by
            alpha.
        alpha: (h, w) of the same type, or None.
        metadata: profile, EXIF and the rest.
        warnings: sentences for the user.
        quality: at which the file was compressed, 1 to 100; None: without loss, or not known.
        content: the file's format, a key of `FORMATS`; empty if unknown.
    """

    pixels: np.ndarray
    alpha: np.ndarray | None
    metadata: ImageMetadata
    warnings: tuple[str, ...] = ()
    quality: int | None = None
    content: str = ""

    @property
    def pixel_format(self) -> PixelFormat:
        """Return the channels and depth of the pixels."""
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
    """Return the upright pixels of an image file at their own depth, and its metadata.

    Args:
        path: PNG, JPEG, WebP, TIFF, GIF, AVIF or HEIF; the content decides, not the suffix.
        limit_mp: most megapixels an image may have; checked in its header, before decoding.

    Raises:
        ImageError: the file is missing, empty, damaged, cut short, too large or unsupported.
    """
    content = detect_format(path)
    container = read_container_info(path, content)
    if content == "tiff":
        check_tiff_supported(path)
    image = open_image(path, sequential=True)
    _check_size(path, image, limit_mp=limit_mp)
    doubts = _CHECKS[content](path) if content in _CHECKS else []
    turn = orientation(image)
    image = decode_hevc(path, image)
    try:
        image, warnings = to_rgb(path, image)
        colors = color_channels(path, image)
        written = 1 if container.is_gray else colors
        metadata, omissions = read_metadata(
            image, path, color_channels=written, container=container
        )
        warnings += doubts + omissions + _warnings(path, content, image=image, container=container)
        metadata = _with_profile(path, metadata, container=container, warnings=warnings)
        pixels = image.numpy()
    except pyvips.Error as error:
        raise decode_error(path, error) from error
    pixels = _upright(pixels.reshape(*pixels.shape[:2], -1), turn)
    if content in _HEIF_FORMATS and pixels.dtype == np.uint16:
        pixels = _to_full_range(pixels, bits=int(image.get("bits-per-sample")))
    alpha = np.ascontiguousarray(pixels[..., colors]) if pixels.shape[2] > colors else None
    if alpha is not None and content == "gif" and (alpha == 255).all():
        alpha = None  # libvips gives every animation an alpha channel
    pixels = np.ascontiguousarray(pixels[..., :written])
    quality = read_quality(path, content)
    return DecodedImage(pixels, alpha, metadata, tuple(warnings), quality, content)


def read_rgb8(path: Path) -> UInt8[np.ndarray, "h w 3"]:
    """Return an image as upright 8-bit RGB.

    Gray is repeated, alpha is dropped, 16-bit values are rounded to 8 bit. No color profile is
    applied. Of several pages or frames the first is read. The content decides the format, not the
    suffix.

    Raises:
        ImageError: the file is missing, empty, damaged, cut short, or unsupported.
    """
    image = decode_hevc(path, open_image(path))
    if str(image.get("vips-loader")).startswith("jpeg"):
        check_jpeg(path)
    try:
        image = image.autorot()
        if image.interpretation == "cmyk":
            image = image.colourspace("srgb")
        if image.hasalpha():
            image = image[: image.bands - 1]
        pixels = image.numpy()
    except pyvips.Error as error:
        raise decode_error(path, error) from error
    pixels = pixels.reshape(*pixels.shape[:2], -1)  # libvips drops the axis of a single channel
    if pixels.dtype not in (np.uint8, np.uint16) or pixels.shape[2] not in (1, 3):
        problem = f"has {pixels.shape[2]} channels of type {pixels.dtype}"
        raise ImageError(path, problem, "Convert it to 8- or 16-bit gray or RGB.")
    return np.ascontiguousarray(np.broadcast_to(to_uint8(pixels), (*pixels.shape[:2], 3)))


def read_size(path: Path, *, limit_mp: float = math.inf) -> Size:
    """Return width and height of the upright image, from the file's header alone.

    Args:
        path: an image file.
        limit_mp: most megapixels an image may have.

    Raises:
        ImageError: as `read_image`, but damage after the header goes unnoticed.
    """
    image = open_image(path, sequential=True)
    _check_size(path, image, limit_mp=limit_mp)
    return upright_size(image)


# The most that a byte can hold: in JPEG one bit per block of 8x8 (T.81, F.1.2.1), in Deflate, of
# which PNG consists, 1032 bytes (RFC 1951: 258 bytes for two bits) of at least 8 pixels.
_MAX_PIXELS_PER_BYTE: Final = {"jpeg": 8 * 64, "png": 1032 * 8}


def _check_size(path: Path, image: Any, *, limit_mp: float) -> None:
    pixels = image.width * image.height
    if pixels > limit_mp * 1e6:
        area = format_beyond(pixels / 1e6, limit_mp, spec=".0f")
        problem = f"is {image.width}x{image.height}, {area} MP, above the limit of {limit_mp:g}"
        raise ImageError(path, problem, "If you trust the file, raise the limit with --limit-mp.")
    content = str(image.get("vips-loader")).partition("load")[0]
    size = path.stat().st_size
    if pixels > _MAX_PIXELS_PER_BYTE.get(content, math.inf) * size:
        problem = f"declares {image.width}x{image.height}, but {size:,} bytes can't hold them"
        raise ImageError(path, problem, "Replace the file, or leave it out.")


def _warnings(path: Path, content: str, *, image: Any, container: ContainerInfo) -> list[str]:
    """Return sentences about a wrong suffix, further images, and an unusual gamma."""
    warnings = []
    expected = format_from_suffix(path)
    if content != expected and {content, expected} != {*_HEIF_FORMATS}:
        suffix = path.suffix or "no suffix"
        name = display_name(content)
        warnings.append(f"mislabelled: {suffix}, but its content is {name} ({FORMATS[content][0]})")
    pages = int(image.get("n-pages")) if image.get_typeof("n-pages") else 1
    images = max(pages, container.frames)
    if images > 1:
        main = "main one" if content in _HEIF_FORMATS else "first"
        warnings.append(f"only the {main} of {images} images in the file was read")
    low, high = _SRGB_GAMMAS
    if container.gamma is not None and not low < container.gamma < high:
        warnings.append(f"its gamma ({container.gamma:g}) isn't sRGB's and was not applied")
    return warnings


def _with_profile(
    path: Path, metadata: ImageMetadata, *, container: ContainerInfo, warnings: list[str]
) -> ImageMetadata:
    """Return the metadata with the profile of a color space that the file gives by number only.

    Raises:
        ImageError: the number stands for HDR, for which there is no profile.
    """
    if metadata.icc is not None:
        return metadata
    if container.transfer in HDR_TRANSFERS:
        problem = f"is an HDR image ({HDR_TRANSFERS[container.transfer]})"
        raise ImageError(path, problem, "Convert it to standard dynamic range first.")
    if container.primaries in P3_PRIMARIES and not container.is_gray:
        return replace(metadata, icc=bytes(pyvips.Operation.call("profile_load", "p3")))
    if container.primaries not in SRGB_PRIMARIES:
        number = container.primaries
        warnings.append(f"its color primaries (number {number} of H.273) were not carried over")
    return metadata


def _upright(pixels: np.ndarray, turn: int) -> np.ndarray:
    """Return a view of the pixels rotated and mirrored by EXIF orientation (Exif 2.32, 4.6.4.A)."""
    if turn in SWAPPED_SIDES:
        pixels = pixels.swapaxes(0, 1)
    down = turn in (3, 4, 7, 8)
    across = turn in (2, 3, 6, 7)
    return pixels[:: -1 if down else 1, :: -1 if across else 1]


def _to_full_range(pixels: np.ndarray, *, bits: int) -> np.ndarray:
    """Return 10- or 12-bit values, which libvips shifts up, with white at 65535."""
    if not 8 < bits < 16:
        return pixels
    white = (1 << bits) - 1
    values = (pixels >> (16 - bits)).astype(np.uint32)
    return ((values * 65535 + white // 2) // white).astype(np.uint16)
