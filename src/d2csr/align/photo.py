"""Reading photographs for alignment: upright RGB of 8 or 16 bit, with camera information."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8, UInt16

from d2csr.align.camera_info import UNKNOWN_CAMERA, CameraInfo, read_camera_info
from d2csr.core.errors import ImageError
from d2csr.core.geometry import Size
from d2csr.images.formats import is_image_name
from d2csr.images.reader import read_image

RAW_SUFFIXES = frozenset(
    {".3fr", ".arw", ".cr2", ".cr3", ".dng", ".iiq", ".kdc", ".mos", ".nef", ".nrw", ".orf", ".pef",
     ".raf", ".raw", ".rw2", ".rwl", ".sr2", ".srf", ".srw", ".x3f"}
)  # fmt: skip
MIN_SIDE_PX = 64

# Both photographs of a pair are developed alike: the white balance of the wide one, the sRGB curve,
# no automatic brightness, no sharpening, LibRaw's default demosaicing (AHD).
DEVELOPMENT: Mapping[str, Any] = {"output_bps": 16, "no_auto_bright": True, "gamma": (2.4, 12.92)}

WhiteBalance = tuple[float, float, float, float]


@dataclass(frozen=True)
class Photo:
    """A photograph.

    Attributes:
        path: of its file.
        pixels: sRGB as stored.
        camera: camera information from EXIF.
        notes: warnings about the file.
    """

    path: Path
    pixels: UInt8[np.ndarray, "h w 3"] | UInt16[np.ndarray, "h w 3"]
    camera: CameraInfo = UNKNOWN_CAMERA
    notes: tuple[str, ...] = ()

    @property
    def size(self) -> Size:
        """Return width and height in pixels."""
        return Size(self.pixels.shape[1], self.pixels.shape[0])


def is_photo_name(path: Path) -> bool:
    """Return whether a name has the suffix of an image or of a camera RAW file."""
    return is_image_name(path) or (is_raw_name(path) and not path.name.startswith("."))


def is_raw_name(path: Path) -> bool:
    """Return whether a name has the suffix of a camera RAW file."""
    return path.suffix.lower() in RAW_SUFFIXES


def read_pair(wide: Path, tele: Path) -> tuple[Photo, Photo]:
    """Return both photographs of a pair; RAW files get the white balance of the wide one.

    Raises:
        ImageError: a file is missing, damaged, too small, or not a photograph.
    """
    balance = raw_white_balance(wide) if is_raw_name(wide) else None
    return read_photo(wide, balance=balance), read_photo(tele, balance=balance)


def read_photo(path: Path, *, balance: WhiteBalance | None = None) -> Photo:
    """Return a photograph as RGB, without alpha.

    Args:
        path: image or RAW file.
        balance: channel multipliers for a RAW file; None uses those of its camera.

    Raises:
        ImageError: the file is missing, damaged, too small, or not a photograph.
    """
    if is_raw_name(path):
        pixels, notes = _develop(path, balance), ()
    else:
        image = read_image(path)
        pixels, notes = image.pixels, image.warnings
        if pixels.shape[2] == 1:
            pixels = np.repeat(pixels, 3, axis=2)
    if min(pixels.shape[:2]) < MIN_SIDE_PX:
        problem = f"is {pixels.shape[1]}x{pixels.shape[0]} px"
        remedy = f"Use photographs of at least {MIN_SIDE_PX}x{MIN_SIDE_PX} px."
        raise ImageError(path, problem, remedy=remedy)
    try:
        camera = read_camera_info(path)
    except ImageError as error:  # the pixels could be read
        camera, notes = UNKNOWN_CAMERA, (*notes, error.problem)
    return Photo(path, pixels, camera, notes)


def raw_white_balance(path: Path) -> WhiteBalance:
    """Return the channel multipliers that the camera stored in a RAW file.

    Raises:
        ImageError: the file is missing, damaged, or from an unknown camera.
    """
    with _open_raw(path) as raw:
        red, green, blue, second = raw.camera_whitebalance
        if red <= 0:
            red, green, blue, second = raw.daylight_whitebalance
    return float(red), float(green), float(blue), float(second or green)


def _develop(path: Path, balance: WhiteBalance | None) -> UInt16[np.ndarray, "h w 3"]:
    import rawpy

    chosen: dict[str, Any] = {"use_camera_wb": True} if balance is None else {"user_wb": [*balance]}
    with _open_raw(path) as raw:
        try:
            return raw.postprocess(**DEVELOPMENT, **chosen)
        except rawpy.LibRawError as error:
            raise _raw_error(path, error) from error


def _open_raw(path: Path) -> Any:
    import rawpy  # slow to import, and needed for RAW files only

    if not path.is_file():
        raise ImageError(path, "does not exist", "Check the name.")
    try:
        return rawpy.imread(str(path))
    except rawpy.LibRawError as error:
        raise _raw_error(path, error) from error


def _raw_error(path: Path, error: Exception) -> ImageError:
    problem = f"is damaged, or a RAW file of an unknown camera ({error})"
    return ImageError(path, problem, "Replace it, or convert it to TIFF first.")
