"""Brightness and colour of the tele picture brought to the wide one's, as a registration does it.

Both are exposed alike, but detail that a lens blurs becomes brighter in sRGB, as light is averaged
before its curve; by 1 to 4% in dense texture, which a network would learn as a change of tone.
"""

import numpy as np
from jaxtyping import Float64, UInt8

BLOCK_PX = 8  # of the LR grid; their means hardly depend on sharpness
CLIPPED = (5.0, 245.0)  # means beyond say nothing of the line


def matched(
    hr: UInt8[np.ndarray, "sh sw 3"], lr: UInt8[np.ndarray, "h w 3"]
) -> UInt8[np.ndarray, "sh sw 3"]:
    """Return HR, each channel along the straight line that brings its blocks nearest to LR's.

    A channel without at least two tones between black and white is moved by a constant, if at all.
    """
    scale = len(hr) // len(lr)
    result = np.empty_like(hr)
    for channel in range(3):
        x = _block_means(hr[..., channel], BLOCK_PX * scale)
        y = _block_means(lr[..., channel], BLOCK_PX)
        usable = (CLIPPED[0] < x) & (x < CLIPPED[1]) & (CLIPPED[0] < y) & (y < CLIPPED[1])
        slope, start = _line(x[usable], y[usable])
        moved = hr[..., channel] * np.float32(slope) + np.float32(start)
        result[..., channel] = np.clip(np.rint(moved), 0, 255)
    return result


def _block_means(channel: UInt8[np.ndarray, "h w"], side: int) -> Float64[np.ndarray, " n"]:
    height, width = (max(length // side, 1) for length in channel.shape)
    tall, wide = (min(side, length) for length in channel.shape)
    cut = channel[: height * tall, : width * wide].astype(np.float64)
    return cut.reshape(height, tall, width, wide).mean(axis=(1, 3)).ravel()


def _line(x: Float64[np.ndarray, " n"], y: Float64[np.ndarray, " n"]) -> tuple[float, float]:
    """Return slope and start of the least-squares line from x to y."""
    if not len(x):
        return 1.0, 0.0
    spread = float(x.var())
    slope = float(((x - x.mean()) * (y - y.mean())).mean()) / spread if spread > 1 else 1.0
    return slope, float(y.mean() - slope * x.mean())
