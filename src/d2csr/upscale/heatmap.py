"""Heatmaps: maps of one number per pixel as images, evenly stepped to the eye."""

import numpy as np
from jaxtyping import Float32, UInt8

# Every 17th colour of matplotlib's viridis (CC0); straight lines between them stay within 7 of its
# 255 levels.
_VIRIDIS = (
    (68, 1, 84),
    (72, 26, 108),
    (71, 47, 125),
    (65, 68, 135),
    (57, 86, 140),
    (49, 104, 142),
    (42, 120, 142),
    (35, 136, 142),
    (31, 152, 139),
    (34, 168, 132),
    (53, 183, 121),
    (84, 197, 104),
    (122, 209, 81),
    (165, 219, 54),
    (210, 226, 27),
    (253, 231, 37),
)


def heatmap(values: Float32[np.ndarray, "h w"], *, top: float) -> UInt8[np.ndarray, "h w 3"]:
    """Return 0 as dark violet and `top`, or more, as yellow; what lies between in equal steps."""
    levels = np.rint(values * np.float32(255 / top)).clip(0, 255).astype(np.uint8)
    return _table()[levels]


def _table() -> UInt8[np.ndarray, "256 3"]:
    """Return the colour of each of 256 levels."""
    anchors = np.linspace(0, 255, len(_VIRIDIS))
    colours = np.array(_VIRIDIS, np.float64).T
    channels = [np.interp(np.arange(256), anchors, channel) for channel in colours]
    return np.rint(np.stack(channels, axis=1)).astype(np.uint8)
