"""The pixels of a pair and of its mask, read from their files and checked against its sizes."""

from typing import Any

import numpy as np
from jaxtyping import UInt8

from d2csr.core.errors import PairError
from d2csr.core.geometry import Size, excess_px
from d2csr.core.manifest import Pair
from d2csr.images.reader import read_rgb8

Bytes = np.ndarray[Any, np.dtype[np.uint8]]


def load_pair(
    pair: Pair, *, scale: int
) -> tuple[UInt8[np.ndarray, "h w 3"], UInt8[np.ndarray, "sh sw 3"]]:
    """Return a pair's LR and HR pixels, HR cropped to `hr_size` from the top left corner.

    Raises:
        ImageError: a file is missing, damaged or no image.
        PairError: the sizes don't fit the scale.
    """
    lr, hr = read_rgb8(pair.lr), read_rgb8(pair.hr)
    if problem := describe_size_mismatch(pair, scale, lr=_size(lr), hr=_size(hr)):
        raise PairError(pair.hr, problem, remedy=SIZE_REMEDY)
    height, width = lr.shape[0] * scale, lr.shape[1] * scale
    return lr, hr[:height, :width]


def load_mask(pair: Pair) -> UInt8[np.ndarray, "h w"] | None:
    """Return a pair's mask on the LR grid, 0 = avoid; None if it has none.

    Raises:
        ImageError: the file is missing, damaged or no image.
        PairError: the mask isn't as large as the LR image.
    """
    if pair.mask is None:
        return None
    mask = read_rgb8(pair.mask)[..., 0]
    if _size(mask) != pair.lr_size:
        problem = f"is {_size(mask)} px, but the LR image {pair.lr.name} is {pair.lr_size} px"
        raise PairError(pair.mask, problem, remedy="Give a mask of the LR image's size.")
    return np.ascontiguousarray(mask)


SIZE_REMEDY = "Crop or replace the images, or choose another scale."


def describe_size_mismatch(pair: Pair, scale: int, *, lr: Size, hr: Size) -> str:
    """Return the problem of the sizes of two files; empty if they fit.

    HR may exceed `scale` times LR by less than one LR pixel if the manifest leaves this part
    unused (its `hr_size` is the smaller one).
    """
    expected = lr.times(scale)
    if expected == hr:
        return ""
    unused = excess_px(expected, hr)
    if pair.hr_size == expected and all(0 <= side < scale for side in unused):
        return ""
    if hr.width < lr.width and hr.height < lr.height:
        return f"HR is {hr} px, smaller than LR {pair.lr.name} ({lr} px): the two look swapped"
    return (
        f"HR is {hr} px; LR {pair.lr.name} is {lr} px, so that scale {scale} expects {expected} px"
    )


def _size(image: Bytes) -> Size:
    return Size(image.shape[1], image.shape[0])
