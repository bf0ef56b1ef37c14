"""Pixels coded in HEVC, as phones store them, for which libvips' wheel has no decoder."""

from pathlib import Path
from typing import Any, Final

import numpy as np
import pyvips

from d2csr.core.errors import ImageError

_REPLACE: Final = "Replace the file, or take it out."
_OF_LIBVIPS: Final = "vips-loader"  # the fields from this one on are the file's, not the array's
_FAULTS: Final = (OSError, ValueError, RuntimeError, EOFError, SyntaxError, IndexError)


def with_hevc_pixels(path: Path, image: Any) -> Any:
    """Return an opened picture with pixels: itself, or, of HEVC, decoded by pillow-heif.

    Without pillow-heif (the extra `heif`) libvips is left to try. Turns and cuts that the file asks
    for are done by the decoder, as libvips does them.

    Args:
        path: the file.
        image: of `open_picture`; its size must have been agreed to.

    Raises:
        ImageError: the pixels are damaged or cut short.
    """
    if not image.get_typeof("heif-compression") or image.get("heif-compression") != "hevc":
        return image
    try:
        import pillow_heif
    except ImportError:
        return image
    try:
        with path.open("rb") as file:
            opened = pillow_heif.open_heif(file, convert_hdr_to_8bit=False)
            shown = opened[opened.primary_index]
            pixels = np.ascontiguousarray(shown)
    except _FAULTS as error:
        raise _damaged(path, str(error) or type(error).__name__) from error
    if pixels.shape[:2] != (image.height, image.width):
        raise _damaged(path, "its size is not what its header says")
    return _as_opened(pixels, image, premultiplied="RGBa" in shown.mode)


def _as_opened(pixels: np.ndarray, image: Any, *, premultiplied: bool) -> Any:
    """Return pixels as an image of libvips with all that the file says besides."""
    white = float(np.iinfo(pixels.dtype).max)
    decoded = pyvips.Image.new_from_array(pixels)
    if premultiplied:
        decoded = decoded.unpremultiply(max_alpha=white).rint().cast(decoded.format)
    colour = "srgb" if decoded.bands > 2 else "b-w"
    wide = {"srgb": "rgb16", "b-w": "grey16"}
    interpretation = wide[colour] if pixels.dtype == np.uint16 else colour
    decoded = decoded.copy(interpretation=interpretation, xres=image.xres, yres=image.yres)
    fields = image.get_fields()
    for name in fields[fields.index(_OF_LIBVIPS) :]:
        decoded.set_type(image.get_typeof(name), name, image.get(name))
    return decoded


def _damaged(path: Path, detail: str) -> ImageError:
    return ImageError(path, f"is damaged or cut short ({detail[:400]})", remedy=_REPLACE)
