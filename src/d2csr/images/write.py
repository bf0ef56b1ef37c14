"""8-bit pictures written to files, whole or not at all, in the format the suffix names."""

from pathlib import Path
from typing import Any

import numpy as np
import pyvips
from jaxtyping import UInt8

from d2csr.core.errors import ImageError
from d2csr.core.files import atomic_path
from d2csr.core.grid import Size
from d2csr.images.encoders import encode
from d2csr.images.layout import Layout, losses_of


def write_rgb8(path: Path, rgb8: UInt8[np.ndarray, "h w 3"]) -> None:
    """Write an 8-bit RGB picture atomically; PNG, WebP and TIFF keep every pixel.

    Raises:
        ImageError: the suffix names no format, or the disk refuses.
        UsageError: a folder is in the way, or its folder can't be written to.
    """
    _write(path, rgb8, layout=Layout(3), interpretation="srgb")


def write_gray8(path: Path, gray8: UInt8[np.ndarray, "h w"]) -> None:
    """Write an 8-bit gray picture (a mask, a map) atomically.

    Raises:
        ImageError: the suffix names no format, or the disk refuses.
        UsageError: a folder is in the way, or its folder can't be written to.
    """
    _write(path, gray8, layout=Layout(1), interpretation="b-w")


def _write(path: Path, pixels: np.ndarray, *, layout: Layout, interpretation: str) -> None:
    losses_of(layout, path, size=Size(pixels.shape[1], pixels.shape[0]))
    image: Any = pyvips.Image.new_from_array(np.ascontiguousarray(pixels))
    try:
        with atomic_path(path) as beside:
            encode(image.copy(interpretation=interpretation), beside)
    except pyvips.Error as error:
        detail = " ".join(str(error).split())
        remedy = "Choose another format or folder."
        raise ImageError(path, f"can't be written ({detail})", remedy=remedy) from error
    except OSError as error:
        problem = f"can't be written: {error.strerror}"
        raise ImageError(path, problem, remedy="Choose a folder you may write to.") from error
