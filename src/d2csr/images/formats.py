"""Formats of image files: their suffixes, and their marks in a file's first bytes.

The layout of an image's pixels, and what of it a file format can't carry.
"""

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

HEAD_BYTES = 64  # enough for every mark below
# (place, bytes there, what the file is); names outside `FORMATS` are what messages call the rest
_MARKS: tuple[tuple[int, bytes, str], ...] = (
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
    """Return whether a name ends as an image's does and isn't hidden (`._x.png` of macOS is)."""
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")


def format_from_suffix(path: Path) -> str:
    """Return the format a file's suffix promises; empty for a suffix that is none of these."""
    suffix = path.suffix.lower()
    return next((name for name, suffixes in FORMATS.items() if suffix in suffixes), "")


def sniff_format(head: bytes) -> str:
    """Return the format a file's first bytes show: a key of `FORMATS`, other words, or nothing."""
    brands = {head[at : at + 4] for at in (8, *range(16, HEAD_BYTES, 4))}
    if head[4:8] == b"ftyp" and brands & {*_AVIF_BRANDS}:
        return "avif"
    if head[4:8] == b"ftyp" and brands & {*_HEIF_BRANDS}:
        return "heif"
    return next((name for at, mark, name in _MARKS if head.startswith(mark, at)), "")


# Longest side in pixels: WebP has 14 bits; readers of JPEG and PNG stop there, and libvips of AVIF.
LONGEST_PX: Final = {"webp": 16383, "jpeg": 65500, "avif": 16384, "png": 1_000_000}
DPI_IN_EXIF: Final = ("jpeg", "webp", "avif")  # where libvips writes it nowhere else
_EIGHT_BIT: Final = ("jpeg", "webp")
WRITABLE_SUFFIXES: Final = tuple(FORMATS[name][0] for name in WRITABLE_FORMATS)


@dataclass(frozen=True)
class PixelFormat:
    """How pixels are stored.

    Attributes:
        colours: 1 gray or 3 RGB.
        alpha: whether there is an alpha channel behind them.
        bits: of each value.
    """

    colours: Literal[1, 3] = 3
    alpha: bool = False
    bits: Literal[8, 16] = 8

    @property
    def channels(self) -> int:
        """Return how many values a pixel has."""
        return self.colours + self.alpha

    @property
    def dtype(self) -> np.dtype[Any]:
        """Return the numpy type of a value."""
        return np.dtype(np.uint8 if self.bits == 8 else np.uint16)

    @property
    def white(self) -> int:
        """Return the largest value."""
        return (1 << self.bits) - 1


def format_limitations(layout: PixelFormat, path: Path, *, size: Size) -> tuple[str, ...]:
    """Return what of an image the format a path names can't carry, a sentence each.

    Args:
        layout: of the image to write.
        path: the file to write; its suffix says the format.
        size: of the image to write.

    Raises:
        ImageError: no format written here has this suffix, or the image is too large for it.
    """
    content = writable_format(path)
    longest = LONGEST_PX.get(content)
    if longest is not None and max(size.width, size.height) > longest:
        problem = f"{size.width}x{size.height} is too large for {path.suffix}"
        remedy = f"It ends at {longest} px a side: choose .tif or .png."
        raise ImageError(path, problem, remedy=remedy)
    losses = []
    if layout.alpha and content == "jpeg":
        losses.append("JPEG has no alpha: see-through pixels were laid on white")
    if layout.bits == 16 and content in _EIGHT_BIT:
        losses.append(f"{display_name(content)} has 8 bit: 16 were rounded to them")
    if layout.bits == 16 and content == "avif":
        losses.append("AVIF has 12 bit: 16 were cut to them")
    return tuple(losses)


def supported_pixel_format(layout: PixelFormat, path: Path) -> PixelFormat:
    """Return the layout an image has in the file it is written to."""
    content = writable_format(path)
    bits = 8 if content in _EIGHT_BIT else layout.bits
    return PixelFormat(layout.colours, layout.alpha and content != "jpeg", bits)


def writable_format(path: Path) -> str:
    """Return the format that a path's suffix names.

    Raises:
        ImageError: it can't be written here.
    """
    content = format_from_suffix(path)
    if content in WRITABLE_FORMATS:
        return content
    named = "names no format that can be written"
    if content == "heif":
        named = "names a format (HEVC) that this libvips has no encoder for"
    problem = f"the suffix {path.suffix or '(none)'} {named}"
    raise ImageError(path, problem, remedy=f"Choose one of {', '.join(WRITABLE_SUFFIXES)}.")


def display_name(content: str) -> str:
    """Return a format's name as people write it."""
    return {"webp": "WebP"}.get(content, content.upper())
