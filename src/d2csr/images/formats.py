"""Formats of image files: suffixes, signatures, and the pixel formats that each can store."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np

from d2csr.core.errors import ImageError
from d2csr.core.geometry import Size

FORMATS: dict[str, tuple[str, ...]] = {
    "png": (".png",),
    "jpeg": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "webp": (".webp",),
    "tiff": (".tif", ".tiff"),
    "gif": (".gif",),
    "avif": (".avif",),
    "heif": (".heic", ".heif", ".hif"),
}
IMAGE_SUFFIXES = frozenset(suffix for suffixes in FORMATS.values() for suffix in suffixes)
WRITABLE_FORMATS = ("png", "jpeg", "webp", "tiff", "avif")

DEFAULT_LIMIT_MP = 256.0  # above the largest sensors of phones and cameras; 1.5 GB at 16 bit

HEAD_BYTES = 64  # enough for every signature below
# (offset, bytes there, format); names outside `FORMATS` are for messages about unsupported files
_SIGNATURES: tuple[tuple[int, bytes, str], ...] = (
    (0, b"\x89PNG\r\n\x1a\n", "png"),
    (0, b"\xff\xd8\xff", "jpeg"),
    (8, b"WEBP", "webp"),
    (8, b"CR\x02\x00", "a raw photo (CR2)"),
    (0, b"II*\x00", "tiff"),
    (0, b"MM\x00*", "tiff"),
    (0, b"II+\x00", "tiff"),
    (0, b"MM\x00+", "tiff"),
    (0, b"GIF8", "gif"),
    (4, b"ftypcrx", "a raw photo (CR3)"),
    (0, b"FUJIFILMCCD-RAW", "a raw photo (RAF)"),
    (0, b"IIU\x00", "a raw photo (RW2)"),
    (0, b"BM", "a BMP image"),
    (0, b"%PDF", "a PDF document"),
    (0, b"8BPS", "a Photoshop document"),
    (0, b"\xff\x0a", "a JPEG XL image"),
    (0, b"\x00\x00\x00\x0cJXL ", "a JPEG XL image"),
    (0, b"\x00\x00\x00\x0cjP  ", "a JPEG 2000 image"),
    (0, b"\x76\x2f\x31\x01", "an OpenEXR image"),
    (0, b"#?RADIANCE", "a Radiance image"),
    (0, b"<svg", "an SVG drawing"),
    (0, b"<?xml", "an XML document"),
    (0, b"PK\x03\x04", "a zip archive"),
)
_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_AVIF_BRANDS = (b"avif", b"avis")


def is_image_name(path: Path) -> bool:
    """Return whether a name has an image's suffix and isn't hidden, as `._x.png` of macOS is."""
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")


def format_from_suffix(path: Path) -> str:
    """Return the format that a file's suffix stands for, a key of `FORMATS`, or an empty string."""
    suffix = path.suffix.lower()
    return next((name for name, suffixes in FORMATS.items() if suffix in suffixes), "")


def sniff_format(head: bytes) -> str:
    """Return the format of a file by its first bytes.

    Args:
        head: the first `HEAD_BYTES` of the file.

    Returns:
        A key of `FORMATS`, the name of a format that isn't supported, or an empty string.
    """
    brands = {head[offset : offset + 4] for offset in (8, *range(16, HEAD_BYTES, 4))}
    if head[4:8] == b"ftyp" and brands & {*_AVIF_BRANDS}:
        return "avif"
    if head[4:8] == b"ftyp" and brands & {*_HEIF_BRANDS}:
        return "heif"
    return next((name for offset, mark, name in _SIGNATURES if head.startswith(mark, offset)), "")


# Longest side in pixels: 14 bits in WebP; a limit of common readers for JPEG and PNG, of libvips
# for AVIF.
MAX_SIDE_PX: Final = {"webp": 16383, "jpeg": 65500, "avif": 16384, "png": 1_000_000}
DPI_IN_EXIF: Final = ("jpeg", "webp", "avif")  # formats whose resolution libvips writes only there
_EIGHT_BIT: Final = ("jpeg", "webp")
WRITABLE_SUFFIXES: Final = tuple(FORMATS[name][0] for name in WRITABLE_FORMATS)


@dataclass(frozen=True)
class PixelFormat:
    """Channels and depth of an image's pixels.

    Attributes:
        color_channels: 1 for gray, 3 for RGB.
        has_alpha: whether an alpha channel follows them.
        bits: of each value.
    """

    color_channels: Literal[1, 3] = 3
    has_alpha: bool = False
    bits: Literal[8, 16] = 8

    @property
    def channels(self) -> int:
        """Return the number of channels, alpha included."""
        return self.color_channels + self.has_alpha

    @property
    def dtype(self) -> np.dtype[Any]:
        """Return the numpy type of a value."""
        return np.dtype(np.uint8 if self.bits == 8 else np.uint16)

    @property
    def white(self) -> int:
        """Return the largest value."""
        return (1 << self.bits) - 1


def format_limitations(pixel_format: PixelFormat, path: Path, *, size: Size) -> tuple[str, ...]:
    """Return a sentence for each property of an image that a file's format can't store.

    Args:
        pixel_format: of the image to write.
        path: the file to write; its suffix decides the format.
        size: of the image to write.

    Raises:
        ImageError: the suffix belongs to no writable format, or the image is too large for it.
    """
    content = writable_format(path)
    longest = MAX_SIDE_PX.get(content)
    if longest is not None and max(size.width, size.height) > longest:
        problem = f"{size.width}x{size.height} is too large for {path.suffix}"
        remedy = f"Its sides are limited to {longest} px: choose .tif or .png."
        raise ImageError(path, problem, remedy)
    limitations = []
    if pixel_format.has_alpha and content == "jpeg":
        limitations.append("JPEG has no alpha: the image was blended with white")
    if pixel_format.bits == 16 and content in _EIGHT_BIT:
        limitations.append(f"{display_name(content)} has 8 bits: 16-bit values were rounded")
    if pixel_format.bits == 16 and content == "avif":
        limitations.append("AVIF has 12 bits: 16-bit values lost their lowest 4 bits")
    return tuple(limitations)


def supported_pixel_format(pixel_format: PixelFormat, path: Path) -> PixelFormat:
    """Return the pixel format in which an image is stored in the file it is written to."""
    content = writable_format(path)
    bits = 8 if content in _EIGHT_BIT else pixel_format.bits
    has_alpha = pixel_format.has_alpha and content != "jpeg"
    return PixelFormat(pixel_format.color_channels, has_alpha, bits)


def writable_format(path: Path) -> str:
    """Return the format that a path's suffix stands for.

    Raises:
        ImageError: that format can't be written.
    """
    content = format_from_suffix(path)
    if content in WRITABLE_FORMATS:
        return content
    reason = "belongs to no format that can be written"
    if content == "heif":
        reason = "belongs to a format (HEVC) for which libvips has no encoder here"
    problem = f"the suffix {path.suffix or '(none)'} {reason}"
    raise ImageError(path, problem, f"Choose one of {', '.join(WRITABLE_SUFFIXES)}.")


def display_name(content: str) -> str:
    """Return a format's name in its usual spelling."""
    return {"webp": "WebP"}.get(content, content.upper())
