"""Luma of RGB images, as the field's figures are measured on it."""

import numpy as np
from jaxtyping import Float, UInt8

# Rec. ITU-R BT.601 with footroom, as MATLAB's rgb2ycbcr has it: black 16, white 235.
LUMA_WEIGHTS = (65.481, 128.553, 24.966)
LUMA_BLACK = 16.0


def luma_of_rgb8(rgb8: UInt8[np.ndarray, "*b h w 3"]) -> Float[np.ndarray, "*b h w"]:
    """Return the luma of 8-bit RGB, 16..235, not rounded."""
    return weighted(rgb8.astype(np.float64) / 255.0, LUMA_WEIGHTS) + LUMA_BLACK


def weighted(
    image: Float[np.ndarray, "*b h w 3"], weights: tuple[float, float, float]
) -> Float[np.ndarray, "*b h w"]:
    """Return the weighted sum of the three channels."""
    total: np.ndarray = image @ np.asarray(weights, image.dtype)
    return total


def rounded_rgb8(rgb01: Float[np.ndarray, "*b h w 3"]) -> UInt8[np.ndarray, "*b h w 3"]:
    """Return values 0..1 as 8 bit: clipped, then rounded to the nearest, halves to even."""
    return np.rint(np.clip(rgb01, 0.0, 1.0) * 255.0).astype(np.uint8)
