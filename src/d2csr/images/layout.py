"""The layout of a picture's pixels, and what of it a file format can't carry."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np

from d2csr.core.errors import ImageError
from d2csr.core.grid import Size
from d2csr.images.formats import FORMATS, WRITABLE_FORMATS, format_of_name

# Longest side in pixels: WebP has 14 bits; readers of JPEG and PNG stop there, and libvips of AVIF.
LONGEST_PX: Final = {"webp": 16383, "jpeg": 65500, "avif": 16384, "png": 1_000_000}
DPI_IN_EXIF: Final = ("jpeg", "webp", "avif")  # where libvips writes it nowhere else
_EIGHT_BIT: Final = ("jpeg", "webp")
WRITABLE_SUFFIXES: Final = tuple(FORMATS[name][0] for name in WRITABLE_FORMATS)


@dataclass(frozen=True)
class Layout:
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


def losses_of(layout: Layout, path: Path, *, size: Size) -> tuple[str, ...]:
    """Return what of a picture the format a path names can't carry, a sentence each.

    Args:
        layout: of the picture to write.
        path: the file to write; its suffix says the format.
        size: of the picture to write.

    Raises:
        ImageError: no format written here has this suffix, or the picture is too large for it.
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
        losses.append(f"{content_name(content)} has 8 bit: 16 were rounded to them")
    if layout.bits == 16 and content == "avif":
        losses.append("AVIF has 12 bit: 16 were cut to them")
    return tuple(losses)


def layout_in(layout: Layout, path: Path) -> Layout:
    """Return the layout a picture has in the file it is written to."""
    content = writable_format(path)
    bits = 8 if content in _EIGHT_BIT else layout.bits
    return Layout(layout.colours, layout.alpha and content != "jpeg", bits)


def writable_format(path: Path) -> str:
    """Return the format that a path's suffix names.

    Raises:
        ImageError: it can't be written here.
    """
    content = format_of_name(path)
    if content in WRITABLE_FORMATS:
        return content
    named = "names no format that can be written"
    if content == "heif":
        named = "names a format (HEVC) that this libvips has no encoder for"
    problem = f"the suffix {path.suffix or '(none)'} {named}"
    raise ImageError(path, problem, remedy=f"Choose one of {', '.join(WRITABLE_SUFFIXES)}.")


def content_name(content: str) -> str:
    """Return a format's name as people write it."""
    return {"webp": "WebP"}.get(content, content.upper())
