"""Brightness shift: how far SR moves the local brightness away from the bicubic enlargement.

A photograph has the brightness that its camera recorded, and SR should only add detail to it. The
means of whole blocks are compared in linear light: lens blur averages light, so a right SR of a
blurred texture has a lower mean of encoded values than the blurred image, but the same mean light.
Means are encoded again, so that the shift is in levels as seen.
"""

from typing import Final, NamedTuple

import numpy as np
from jaxtyping import Float, UInt8

from d2csr.images.pixels import exact_linear_to_srgb, srgb_to_linear
from d2csr.metrics.sparsification import block_means

SHIFT_BLOCK_PX: Final = 32
_LINEAR_OF_LEVEL: Final[Float[np.ndarray, " 256"]] = srgb_to_linear(np.arange(256) / 255.0)


class BlockShifts(NamedTuple):
    """Absolute brightness shift of an image's blocks, in sRGB levels (0 to 255)."""

    p50: float
    p95: float


def brightness_shift(
    sr: UInt8[np.ndarray, "h w 3"], bicubic: UInt8[np.ndarray, "h w 3"]
) -> BlockShifts | None:
    """Return median and 95th percentile of the shift over blocks; None if no block fits.

    Args:
        sr: sRGB image.
        bicubic: bicubic enlargement of the same LR image.
    """
    if min(sr.shape[:2]) < SHIFT_BLOCK_PX:
        return None
    shifts = block_shifts(sr, bicubic)
    return BlockShifts(float(np.median(shifts)), float(np.percentile(shifts, 95)))


def block_shifts(
    sr: UInt8[np.ndarray, "h w 3"], bicubic: UInt8[np.ndarray, "h w 3"]
) -> Float[np.ndarray, " n"]:
    """Return the absolute shift of each whole block, the mean over R, G and B; row by row.

    Absolute values are averaged, so that a change of color doesn't cancel out. Incomplete blocks at
    the right and the lower edge are left out.

    Raises:
        ValueError: no block fits.
    """
    return np.abs(_block_levels(sr) - _block_levels(bicubic)).mean(axis=0)


def _block_levels(image: UInt8[np.ndarray, "h w 3"]) -> Float[np.ndarray, "3 n"]:
    """Return the mean light of each channel and block, as sRGB levels."""
    light = [
        block_means(_LINEAR_OF_LEVEL[image[..., channel]], side_px=SHIFT_BLOCK_PX)
        for channel in range(3)
    ]
    return 255.0 * exact_linear_to_srgb(np.stack(light))
