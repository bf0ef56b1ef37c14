"""Linear baseline: one 13x13 filter and a constant per output phase, fitted by least squares.

The filters work on sRGB values of the LR grid, are shared by R, G and B, and see reflected borders.
"""

from collections.abc import Iterator
from itertools import product

import numpy as np
from jaxtyping import Float, UInt8

from d2csr.core.manifest import Manifest
from d2csr.data.pairs import load_pair

SIDE_PX = 13
UNKNOWNS = SIDE_PX * SIDE_PX + 1  # the last is the constant
# Rows per strip: windows take 170 float64 per pixel and channel, 20 MB for 12 rows of 400 px.
STRIP_PX = 12

Filters = Float[np.ndarray, "170 phases"]


def fit_filters(manifest: Manifest) -> Filters:
    """Return 169 weights and a constant per output phase, in reading order, for RGB in 0..1.

    Raises:
        ImageError: an image can't be read.
        PairError: a pair's sizes don't fit.
    """
    gram = np.zeros((UNKNOWNS, UNKNOWNS))
    moment = np.zeros((UNKNOWNS, manifest.scale**2))
    for pair in manifest:
        lr, hr = load_pair(pair, scale=manifest.scale)
        padded = _padded(lr)
        gram += gram_matrix(padded)
        moment += moments(padded, _phases(hr / 255.0, manifest.scale))
    # lstsq instead of solve: flat images leave the normal equations singular.
    return np.linalg.lstsq(gram, moment, rcond=None)[0]


def apply_filters(lr: UInt8[np.ndarray, "h w 3"], filters: Filters) -> Float[np.ndarray, "sh sw 3"]:
    """Return the filtered enlargement, in 0..1, unclipped."""
    scale = round(filters.shape[1] ** 0.5)
    height, width = lr.shape[:2]
    sr = np.empty((height, scale, width, scale, 3))
    for rows, windows in _windows(lr):
        strip = (windows @ filters).reshape(3, -1, width, scale, scale)
        sr[rows] = strip.transpose(1, 3, 2, 4, 0)
    return sr.reshape(height * scale, width * scale, 3)


def _windows(
    lr: UInt8[np.ndarray, "h w 3"],
) -> Iterator[tuple[slice, Float[np.ndarray, "n 170"]]]:
    """Yield strips of rows with the window around each pixel of each channel, and a 1."""
    padded = _padded(lr)
    every = np.lib.stride_tricks.sliding_window_view(padded, (SIDE_PX, SIDE_PX), axis=(1, 2))
    for top in range(0, lr.shape[0], STRIP_PX):
        rows = slice(top, min(top + STRIP_PX, lr.shape[0]))
        strip = every[:, rows]
        windows = np.ones((strip[..., 0, 0].size, UNKNOWNS))
        windows[:, :-1] = strip.reshape(len(windows), -1)
        yield rows, windows


def gram_matrix(padded: Float[np.ndarray, "3 v u"]) -> Float[np.ndarray, "170 170"]:
    """Return the Gram matrix of all windows: sums of products of their values, the 1 included.

    Two positions in the window at the same offset from each other share the same products, summed
    over different rectangles. So 325 offsets are enough for 14,365 pairs of positions, which is
    four times as fast as materializing the windows.
    """
    sides = tuple(side - SIDE_PX + 1 for side in padded.shape[1:])
    products = np.zeros((SIDE_PX,) * 4)
    for down, right in product(range(SIDE_PX), range(1 - SIDE_PX, SIDE_PX)):
        top, left = np.arange(SIDE_PX - down), np.arange(max(-right, 0), SIDE_PX - max(right, 0))
        sums = _rectangle_sums(_products(padded, down, right=right), sides)
        here, there = np.ix_(top, left), np.ix_(top + down, left + right)
        products[*here, *there] = sums
        products[*there, *here] = sums
    gram = np.empty((UNKNOWNS, UNKNOWNS))
    gram[:-1, :-1] = products.reshape(UNKNOWNS - 1, UNKNOWNS - 1)
    gram[-1, :-1] = gram[:-1, -1] = _rectangle_sums(padded.sum(axis=0), sides).ravel()
    gram[-1, -1] = 3 * sides[0] * sides[1]
    return gram


def moments(
    padded: Float[np.ndarray, "3 v u"], phases: Float[np.ndarray, "3 h w phases"]
) -> Float[np.ndarray, "170 phases"]:
    """Return the sums over all windows of each value, the 1 included, times each phase's HR pixel.

    This is a correlation, computed by FFT. `padded` is 12 px larger than `phases` on each axis, so
    nothing wraps around.
    """
    shape = tuple(-(-side // 32) * 32 for side in padded.shape[1:])  # prime sizes are slow
    spectrum = np.fft.rfft2(padded, s=shape)
    sums = np.empty((UNKNOWNS, phases.shape[3]))
    for phase in range(phases.shape[3]):
        target = np.fft.rfft2(phases[..., phase], s=shape)
        correlation = np.fft.irfft2(np.sum(spectrum * target.conj(), axis=0), s=shape)
        sums[:-1, phase] = correlation[:SIDE_PX, :SIDE_PX].ravel()
    sums[-1] = phases.sum(axis=(0, 1, 2))
    return sums


def _products(
    padded: Float[np.ndarray, "3 v u"], down: int, *, right: int
) -> Float[np.ndarray, "_ _"]:
    """Return each pixel times the pixel at the given offset, summed over the channels."""
    height, width = padded.shape[1:]
    here = padded[:, : height - down, max(-right, 0) : width - max(right, 0)]
    there = padded[:, down:, max(right, 0) : width - max(-right, 0)]
    return np.einsum("cyx,cyx->yx", here, there)


def _rectangle_sums(
    field: Float[np.ndarray, "v u"], sides: tuple[int, ...]
) -> Float[np.ndarray, "_ _"]:
    """Return the sum over the rectangle of these sides at every position where it fits."""
    vertical, horizontal = (
        _covers(length, side) for length, side in zip(field.shape, sides, strict=True)
    )
    return vertical @ field @ horizontal.T


def _covers(length: int, side: int) -> Float[np.ndarray, "_ _"]:
    """Return a matrix that is 1 where the span [row, row + side) contains the column."""
    past_start = np.arange(length) - np.arange(length - side + 1)[:, None]
    return ((past_start >= 0) & (past_start < side)).astype(np.float64)


def _padded(lr: UInt8[np.ndarray, "h w 3"]) -> Float[np.ndarray, "3 v u"]:
    """Return an LR image in 0..1, padded by reflection so that every pixel has a full window."""
    half = SIDE_PX // 2
    border = ((0, 0), (half, half), (half, half))
    return np.pad(np.moveaxis(lr, 2, 0) / 255.0, border, mode="reflect")


def _phases(hr: Float[np.ndarray, "sh sw 3"], scale: int) -> Float[np.ndarray, "3 h w phases"]:
    """Return the HR pixels of each LR pixel, in reading order of the output phases."""
    height, width = hr.shape[0] // scale, hr.shape[1] // scale
    blocks = hr.reshape(height, scale, width, scale, 3).transpose(4, 0, 2, 1, 3)
    return blocks.reshape(3, height, width, scale * scale)
