"""Resizing that matches MATLAB's `imresize`: bicubic with antialiasing, Lanczos to enlarge."""

import math
from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from typing import Any, NamedTuple, final

import numpy as np
from jaxtyping import Float, Float32, Int, UInt8

from d2csr.core.geometry import Size

_ROUNDED_ABOVE = 1 / 8  # factors above it are rounded to 8 bit between the passes
_CHUNK_VALUES = 1 << 23  # of rows that are yielded together: 32 MiB
# Levels added to 8-bit images in `ResizedImage`, so that halves are rounded up. More than the error
# of float32 (3e-5), less than the distance of other values to a half: 1.2e-4 at x8, 1e-3 at x4.
_TIE_LEVELS = np.float32(2**-14)
_BLOCK_ROWS = 64  # of a `ResizedImage` that are computed together
Rows = Float32[np.ndarray, "rows w c"]
Doubles = np.ndarray[Any, np.dtype[np.float64]]
Floats = np.ndarray[Any, np.dtype[np.floating[Any]]]


def resize_bicubic(
    image: UInt8[np.ndarray, "h w 3"], *, scale: Fraction | int | float | tuple[int, int]
) -> UInt8[np.ndarray, "sh sw 3"]:
    """Return an image resized with the cubic kernel (a = -0.5), which widens when downsampling.

    Args:
        image: 8-bit image.
        scale: factor for both sides, which are rounded up; or the result's (rows, columns).

    Source: MATLAB's imresize: mirrored edges, normalized weights, rows first. No pixel differs from
    Set5's published LR images: those of x2, x3 and x4 were rounded to 8 bit between the passes,
    those of x8 were not, hence `_ROUNDED_ABOVE`.
    """
    sides = image.shape[:2]
    target = scale if isinstance(scale, tuple) else tuple(math.ceil(side * scale) for side in sides)
    factors = tuple(
        target[axis] / sides[axis] if isinstance(scale, tuple) else float(scale) for axis in (0, 1)
    )
    rows = _weighted_axis(image, 0, taps=cubic_weights(sides[0], target[0], factor=factors[0]))
    between = _round(rows) if min(factors) > _ROUNDED_ABOVE else rows
    columns = cubic_weights(sides[1], target[1], factor=factors[1])
    return _round(_weighted_axis(between, 1, taps=columns))


def enlarge_bicubic(rgb8: UInt8[np.ndarray, "h w 3"], scale: int) -> UInt8[np.ndarray, "sh sw 3"]:
    """Return an image enlarged `scale` times: the baseline that every score is compared with."""
    return resize_bicubic(rgb8, scale=Fraction(scale))


def enlarge_lanczos(rgb8: UInt8[np.ndarray, "h w 3"], scale: int) -> UInt8[np.ndarray, "sh sw 3"]:
    """Return an image enlarged `scale` times with the Lanczos kernel of 3 lobes per side.

    Source: MATLAB's imresize with "lanczos3", rounded as in `resize_bicubic`. libvips enlarges with
    its bicubic kernel, whichever kernel it is given.
    """
    rows, columns = (
        _kernel_weights(side, side * scale, factor=float(scale), kernel=LANCZOS3)
        for side in rgb8.shape[:2]
    )
    between = _round(_weighted_axis(rgb8, 0, taps=rows))
    return _round(_weighted_axis(between, 1, taps=columns))


def resample_rows(strips: Iterable[Rows], *, size: Size, target: Size) -> Iterator[Rows]:
    """Yield the rows of a resized image while the rows of the image arrive, top to bottom.

    Bicubic with antialiasing, as MATLAB's imresize, in floating point; only the rows under one
    kernel are in memory. The result doesn't depend on where strips end. sRGB values are resized
    without linearizing them: benchmarks/outscale.py compares both.

    Args:
        strips: the rows of an image of `size`, in order.
        size: size of the image.
        target: size of the resized image.
    """
    if size == target:
        yield from strips
        return
    columns = _nonzero_taps(size.width, target.width)
    positions, weights = _nonzero_taps(size.height, target.height)
    complete_at = np.maximum.accumulate(positions.max(axis=1)) + 1  # rows that must have arrived
    needed_from = np.minimum.accumulate(positions.min(axis=1)[::-1])[::-1]
    first, done, buffer = 0, 0, np.empty((0, target.width, 0), np.float32)
    for strip in strips:
        narrow = _weighted_sum(strip, 1, positions=columns[0], weights=columns[1])
        buffer = np.concatenate([buffer, narrow]) if buffer.size else narrow
        ready = int(np.searchsorted(complete_at, first + len(buffer), side="right"))
        chunk_rows = max(1, _CHUNK_VALUES // (target.width * strip.shape[2]))
        for start in range(done, ready, chunk_rows):
            part = slice(start, min(start + chunk_rows, ready))
            yield _weighted_sum(buffer, 0, positions=positions[part] - first, weights=weights[part])
        done = max(done, ready)
        if done < target.height and (excess := int(needed_from[done]) - first) > 0:
            buffer, first = buffer[excess:], first + excess


@final
class ResizedImage:
    """An image resized by `resize_bicubic`, before its last rounding; any rows when needed.

    Of an 8-bit image, rounding gives exactly the levels of `enlarge_bicubic` for scales 2, 3, 4 and
    8; in other sizes, values within 2e-4 levels of a half may go to the other side. Rows don't
    depend on which others are computed with them.

    Attributes:
        size: its size.
    """

    def __init__(
        self, image: UInt8[np.ndarray, "h w 3"] | Float32[np.ndarray, "h w 3"], *, target: Size
    ) -> None:
        """Hold an image, 8 bit or range 0 to 1, and the kernel's weights for another size."""
        height, width = image.shape[:2]
        self.size, self._image = target, image
        self._positions, self._weights = _nonzero_taps(height, target.height)
        self._columns = _nonzero_taps(width, target.width)
        factor = min(target.height / height, target.width / width)
        self._has_rounding = image.dtype == np.uint8 and factor > _ROUNDED_ABOVE

    def rows01(self, first: int, last: int) -> Rows:
        """Return the rows from `first` to before `last`, range 0 to 1, not clipped."""
        positions = self._positions[first:last]
        top = positions.min()
        source = self._image[top : positions.max() + 1].astype(np.float32)
        weights = self._weights[first:last]
        rows = _weighted_sum(source, 0, positions=positions - top, weights=weights)
        if self._has_rounding:
            rows = _round(rows).astype(np.float32)
        rows = _weighted_sum(rows, 1, positions=self._columns[0], weights=self._columns[1])
        if self._image.dtype == np.uint8:
            rows = (rows + _TIE_LEVELS) / np.float32(255)
        return rows

    def iter_rows01(self, first: int, last: int) -> Iterator[Rows]:
        """Yield the rows from `first` to before `last` in blocks, which take little memory."""
        for start in range(first, last, _BLOCK_ROWS):
            yield self.rows01(start, min(start + _BLOCK_ROWS, last))


def _nonzero_taps(
    length: int, out_length: int
) -> tuple[Int[np.ndarray, "out taps"], Float[np.ndarray, "out taps"]]:
    """Return the positions and weights of all taps that are nonzero for some output row."""
    positions, weights = cubic_weights(length, out_length, factor=out_length / length)
    used = weights.any(axis=0)
    return positions[:, used], weights[:, used].astype(np.float32)


def _weighted_sum(
    image: Rows,
    axis: int,
    *,
    positions: Int[np.ndarray, "out taps"],
    weights: Float[np.ndarray, "out taps"],
) -> Float32[np.ndarray, "out_rows out_w c"]:
    """Return weighted sums over rows (axis 0) or columns (axis 1)."""
    shape = (image.shape[0], len(positions), image.shape[2])
    total = np.zeros(shape if axis else (len(positions), *image.shape[1:]), np.float32)
    for tap in range(positions.shape[1]):
        part = np.take(image, positions[:, tap], axis=axis)
        part *= np.expand_dims(weights[:, tap], (0, 2) if axis else (1, 2))
        total += part
    return total


def cubic(distance: Float[np.ndarray, "*n"]) -> Float[np.ndarray, "*n"]:
    """Return the cubic convolution kernel (a = -0.5) at these distances; zero from distance 2 on.

    Source: Keys, IEEE ASSP 29 (1981), equation 15.
    """
    x = np.abs(distance)
    near = 1.5 * x**3 - 2.5 * x**2 + 1.0
    far = -0.5 * x**3 + 2.5 * x**2 - 4.0 * x + 2.0
    return np.where(x <= 1.0, near, np.where(x < 2.0, far, 0.0))


def lanczos3(distance: Float[np.ndarray, "*n"]) -> Float[np.ndarray, "*n"]:
    """Return the Lanczos kernel, sinc(x) sinc(x / 3), at these distances; zero from 3 on."""
    return np.where(np.abs(distance) < 3.0, np.sinc(distance) * np.sinc(distance / 3.0), 0.0)


class Kernel(NamedTuple):
    """A kernel, and the distance from which on it is zero."""

    function: Callable[[Floats], Floats]
    radius: float


CUBIC, LANCZOS3 = Kernel(cubic, 2.0), Kernel(lanczos3, 3.0)


def cubic_weights(
    length: int, out_length: int, *, factor: float
) -> tuple[Int[np.ndarray, "out taps"], Float[np.ndarray, "out taps"]]:
    """Return the indices of the input samples of each output sample, and their weights.

    Args:
        length: input samples.
        out_length: output samples.
        factor: output samples per input sample; below 1 the kernel widens by its inverse.
    """
    return _kernel_weights(length, out_length, factor=factor, kernel=CUBIC)


def _kernel_weights(
    length: int, out_length: int, *, factor: float, kernel: Kernel
) -> tuple[Int[np.ndarray, "out taps"], Float[np.ndarray, "out taps"]]:
    """Return the same for any kernel."""
    stretch = min(factor, 1.0)
    width = 2.0 * kernel.radius / stretch
    centre = (np.arange(out_length) + 0.5) / factor - 0.5
    first = np.floor(centre - width / 2.0).astype(np.int64)
    indices = first[:, None] + np.arange(math.ceil(width) + 2)
    weights = kernel.function((centre[:, None] - indices) * stretch)
    return _mirror(indices, length), weights / weights.sum(axis=1, keepdims=True)


def _mirror(indices: Int[np.ndarray, "out taps"], length: int) -> Int[np.ndarray, "out taps"]:
    """Return indices reflected into 0..length-1, edges repeated: ..., 1, 0, 0, 1, ..."""
    folded = indices % (2 * length)
    return np.minimum(folded, 2 * length - 1 - folded)


def _weighted_axis(
    image: UInt8[np.ndarray, "h w 3"] | Float[np.ndarray, "h w 3"],
    axis: int,
    *,
    taps: tuple[Int[np.ndarray, "out taps"], Float[np.ndarray, "out taps"]],
) -> Float[np.ndarray, "oh ow 3"]:
    indices, weights = taps
    total: Doubles = np.zeros(1)
    for tap in np.flatnonzero(weights.any(axis=0)):
        rows = np.take(image, indices[:, tap], axis=axis)
        total = total + rows * np.expand_dims(weights[:, tap], (1, 2) if axis == 0 else (0, 2))
    return total


def _round(image: Float[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "h w 3"]:
    """Return the nearest 8-bit values; halves are rounded away from zero, as in MATLAB."""
    return np.clip(np.floor(image + 0.5), 0, 255).astype(np.uint8)
