"""Pictures written to files, whole or not at all, in the format the suffix names."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyvips
from jaxtyping import UInt8

from d2csr.core.errors import ImageError
from d2csr.core.files import atomic_path
from d2csr.images.formats import format_of_name

# What libvips' writers are told; JPEG is the one format that loses something.
WRITERS: Mapping[str, Mapping[str, Any]] = {
    "png": {"compression": 6},
    "jpeg": {"Q": 95, "subsample_mode": "off"},
    "webp": {"lossless": True},
    "tiff": {"compression": "deflate", "predictor": "horizontal"},
}


def write_rgb8(path: Path, rgb8: UInt8[np.ndarray, "h w 3"]) -> None:
    """Write an 8-bit RGB picture atomically; PNG, WebP and TIFF keep every pixel, JPEG doesn't.

    Raises:
        ImageError: the suffix names no format, or the disk refuses.
        UsageError: a folder is in the way, or its folder can't be written to.
    """
    _write(path, _srgb(rgb8))


def write_gray8(path: Path, gray8: UInt8[np.ndarray, "h w"]) -> None:
    """Write an 8-bit gray picture (a mask, a map) atomically.

    Raises:
        ImageError: the suffix names no format, or the disk refuses.
        UsageError: a folder is in the way, or its folder can't be written to.
    """
    image: Any = pyvips.Image.new_from_array(np.ascontiguousarray(gray8))
    _write(path, image.copy(interpretation="b-w"))


def _srgb(rgb8: UInt8[np.ndarray, "h w 3"]) -> Any:
    image: Any = pyvips.Image.new_from_array(np.ascontiguousarray(rgb8))
    return image.copy(interpretation="srgb")


def _write(path: Path, image: Any) -> None:
    options = WRITERS.get(format_of_name(path))
    if options is None:
        problem = f"the suffix {path.suffix or '(none)'} names no format that can be written"
        raise ImageError(path, problem, remedy="Choose .png, .jpg, .webp or .tif.")
    try:
        with atomic_path(path) as beside:
            image.write_to_file(str(beside), **options)
    except pyvips.Error as error:
        detail = " ".join(str(error).split())
        remedy = "Choose another format or folder; WebP ends at 16383 px a side."
        raise ImageError(path, f"can't be written ({detail})", remedy=remedy) from error
    except OSError as error:
        problem = f"can't be written: {error.strerror}"
        raise ImageError(path, problem, remedy="Choose a folder you may write to.") from error
