"""Photographs as alignment needs them: upright RGB of 8 or 16 bit, and what the camera says."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8, UInt16

from d2csr.align.camera_info import NO_FACTS, CameraInfo, facts_of_file
from d2csr.core.errors import ImageError
from d2csr.core.geometry import Size
from d2csr.images.formats import is_image_name
from d2csr.images.reader import read_image

RAW_SUFFIXES = frozenset(
    {".3fr", ".arw", ".cr2", ".cr3", ".dng", ".iiq", ".kdc", ".mos", ".nef", ".nrw", ".orf", ".pef",
     ".raf", ".raw", ".rw2", ".rwl", ".sr2", ".srf", ".srw", ".x3f"}
)  # fmt: skip
LEAST_PX = 64  # a side

# Both photographs of a pair are developed alike: white balance as the wide one has it, sRGB's
# curve, no brightening by content, no sharpening; demosaicing of LibRaw's default (AHD).
DEVELOPMENT: Mapping[str, Any] = {"output_bps": 16, "no_auto_bright": True, "gamma": (2.4, 12.92)}

WhiteBalance = tuple[float, float, float, float]


@dataclass(frozen=True)
class Photo:
    """A photograph's pixels, sRGB as stored, and the facts its file tells."""

    path: Path
    pixels: UInt8[np.ndarray, "h w 3"] | UInt16[np.ndarray, "h w 3"]
    facts: CameraInfo = NO_FACTS
    notes: tuple[str, ...] = ()

    @property
    def size(self) -> Size:
        """Return width and height."""
        return Size(self.pixels.shape[1], self.pixels.shape[0])


def is_photo_name(path: Path) -> bool:
    """Return whether a name ends as an image's or a camera RAW file's does."""
    return is_image_name(path) or (is_raw_name(path) and not path.name.startswith("."))


def is_raw_name(path: Path) -> bool:
    """Return whether a name ends as a camera RAW file's does."""
    return path.suffix.lower() in RAW_SUFFIXES


def read_pair(wide: Path, tele: Path) -> tuple[Photo, Photo]:
    """Return both photographs of a pair; RAW files share the wide one's white balance.

    Raises:
        ImageError: a file is missing, damaged, tiny, or no photograph.
    """
    balance = raw_white_balance(wide) if is_raw_name(wide) else None
    return read_photo(wide, balance=balance), read_photo(tele, balance=balance)


def read_photo(path: Path, *, balance: WhiteBalance | None = None) -> Photo:
    """Return a photograph; gray is repeated, alpha left out.

    Args:
        path: image or RAW file.
        balance: multipliers of a RAW file's channels; its camera's own for None.

    Raises:
        ImageError: the file is missing, damaged, tiny, or no photograph.
    """
    if is_raw_name(path):
        pixels, notes = _developed(path, balance), ()
    else:
        image = read_image(path)
        pixels, notes = image.pixels, image.warnings
        if pixels.shape[2] == 1:
            pixels = np.repeat(pixels, 3, axis=2)
    if min(pixels.shape[:2]) < LEAST_PX:
        problem = f"is {pixels.shape[1]}x{pixels.shape[0]} px"
        remedy = f"Give photographs of {LEAST_PX} px or more a side."
        raise ImageError(path, problem, remedy=remedy)
    return Photo(path, pixels, facts_of_file(path), notes)


def raw_white_balance(path: Path) -> WhiteBalance:
    """Return the multipliers that a RAW file's camera chose.

    Raises:
        ImageError: the file is missing, damaged, or of an unknown camera.
    """
    import rawpy  # only where RAW files are

    with _opened(path) as raw:
        red, green, blue, second = raw.camera_whitebalance
        if red <= 0:
            red, green, blue, second = raw.daylight_whitebalance
    del rawpy
    return float(red), float(green), float(blue), float(second or green)


def _developed(path: Path, balance: WhiteBalance | None) -> UInt16[np.ndarray, "h w 3"]:
    import rawpy

    chosen: dict[str, Any] = {"use_camera_wb": True} if balance is None else {"user_wb": [*balance]}
    with _opened(path) as raw:
        try:
            return raw.postprocess(**DEVELOPMENT, **chosen)
        except rawpy.LibRawError as error:
            raise _damaged(path, error) from error


def _opened(path: Path) -> Any:
    import rawpy

    if not path.is_file():
        raise ImageError(path, "does not exist", remedy="Check the name.")
    try:
        return rawpy.imread(str(path))
    except rawpy.LibRawError as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> ImageError:
    problem = f"is damaged, or RAW of an unknown camera ({error})"
    return ImageError(path, problem, remedy="Replace it, or develop it to TIFF first.")
