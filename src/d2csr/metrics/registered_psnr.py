"""PSNR after the best global shift, gain and offset, which doesn't depend on the registration.

PSNR against a slightly misregistered HR rewards blur. This metric is reported beside a protocol's
PSNR: SR is shifted by one (dx, dy) within 2 px, each of R, G, B gets the gain and offset of least
squares, 8 px are cut from each side, and PSNR is measured on the protocol's channels.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import NamedTuple

import numpy as np
from jaxtyping import Complex, Float, UInt8

from d2csr.metrics.protocols import PROTOCOLS, Image, mse_to_psnr, round_to_8_bit, to_channels

LIMIT_PX = 2.0
STEP_PX = 0.05
CUT_PX = 8
SMALLEST_SIDE_PX = 2 * CUT_PX + 11
# The 81 shifts of one axis.
SHIFTS_PX = np.round(np.arange(-40, 41) * STEP_PX, 2)
# Mean squared error, peak 1, of identical images after Fourier transforms (180 dB).
NOISE_FLOOR = 1e-18
# Above the summed square about the mean, peak 1, of a flat channel after transforms, and below
# that of a single pixel that is one level off, 1.5e-5.
FLAT_POWER = 1e-9


class Shift(NamedTuple):
    """A shift of SR, to the right and down."""

    dx_px: float
    dy_px: float


@dataclass(frozen=True)
class Registered:
    """SR shifted onto HR and fitted to its levels, both in 0..1 and cut.

    Attributes:
        sr: the fitted SR, unclipped.
        hr: HR, cut alike.
        shift: the shift of SR.
    """

    sr: Float[np.ndarray, "h w 3"]
    hr: Float[np.ndarray, "h w 3"]
    shift: Shift


def psnr_registered_db(sr: Image, hr: UInt8[np.ndarray, "h w 3"], *, protocol: str) -> float:
    """Return the protocol's PSNR in dB after the best shift, gain and offset.

    Args:
        sr: RGB in 0..255, or float in 0..1; clipped and rounded to 8 bit first, always.
        hr: the HR image, RGB, of the same size.
        protocol: its channels are measured; its border and rounding don't apply.

    Raises:
        ValueError: the sizes differ, or a side is under `SMALLEST_SIDE_PX`.
    """
    return registered_psnr_db(register(sr, hr), protocol=protocol)


def registered_psnr_db(registered: Registered, *, protocol: str) -> float:
    """Return the PSNR in dB of a registered SR on a protocol's channels; inf from 180 dB."""
    color = PROTOCOLS[protocol].psnr_color
    difference = to_channels(registered.sr - registered.hr, color, offset=0.0)
    error = float(np.mean(np.square(difference)))
    return mse_to_psnr(error if error > NOISE_FLOOR else 0.0, peak=1.0)


def register(sr: Image, hr: UInt8[np.ndarray, "h w 3"]) -> Registered:
    """Return SR after the one of 81x81 shifts with the least squared error over R, G and B.

    The correlation with HR is computed for all shifts at once, without the energy of the shifted
    SR inside the cut, which hardly changes with the shift. From its maximum, the exact error is
    followed downhill.

    Raises:
        ValueError: the sizes differ, or a side is under `SMALLEST_SIDE_PX`.
    """
    if sr.shape != hr.shape or min(hr.shape[:2]) < SMALLEST_SIDE_PX:
        raise ValueError(f"SR {sr.shape}, HR {hr.shape}: need one size from {SMALLEST_SIDE_PX} px")
    moving, fixed = (
        np.ascontiguousarray(np.moveaxis(round_to_8_bit(image) / 255.0, 2, 0)) for image in (sr, hr)
    )
    spectrum, under = np.fft.rfft2(moving), _inside(fixed)

    @cache  # neighbors of one row have the vertical half of the transform in common
    def shift_down(dy_px: float) -> Complex[np.ndarray, "3 h k"]:
        return _shift_down(spectrum, dy_px)

    def shift_to(row: int, column: int) -> Float[np.ndarray, "3 h w"]:
        shift = _shift_at(row, column)
        if shift == (0, 0):  # exactly the image, without the rounding of the transform
            return _inside(moving)
        return _inside(_shift_right(shift_down(shift.dy_px), shift.dx_px, width=moving.shape[2]))

    def error_at(row: int, column: int) -> float:
        return _squared_error(shift_to(row, column), under)

    best = _descend(error_at, start=_find_best_correlation(spectrum, fixed))
    fitted = _fit_levels(shift_to(*best), under)
    return Registered(np.moveaxis(fitted, 0, 2), np.moveaxis(under, 0, 2), _shift_at(*best))


def _shift_at(row: int, column: int) -> Shift:
    """Return the shift of one point of the grid."""
    return Shift(dx_px=float(SHIFTS_PX[column]), dy_px=float(SHIFTS_PX[row]))


def _shift_down(
    spectrum: Complex[np.ndarray, "3 h k"], dy_px: float
) -> Complex[np.ndarray, "3 h k"]:
    """Return the spectra of the rows of an image shifted down."""
    phases = _phases(np.fft.fftfreq(spectrum.shape[1]), [dy_px])[0]
    return np.fft.ifft(spectrum * phases[:, None], axis=1)


def _shift_right(
    rows: Complex[np.ndarray, "3 h k"], dx_px: float, *, width: int
) -> Float[np.ndarray, "3 h w"]:
    """Return the image with these spectra of rows, shifted to the right."""
    return np.fft.irfft(rows * _phases(np.fft.rfftfreq(width), [dx_px])[0], n=width, axis=2)


def _phases(
    frequencies: Float[np.ndarray, " k"], shifts_px: Float[np.ndarray, " n"] | list[float]
) -> Complex[np.ndarray, "n k"]:
    """Return the factor of each frequency (cycles per px) for each shift.

    The Nyquist frequency has no counterpart of opposite sign, so its factor is the cosine alone,
    which keeps the shifted image real.
    """
    angle = 2 * np.pi * np.outer(shifts_px, frequencies)
    return np.where(np.abs(frequencies) == 0.5, np.cos(angle), np.exp(-1j * angle))


def _inside(image: Float[np.ndarray, "3 h w"]) -> Float[np.ndarray, "3 _ _"]:
    """Return the image without the cut."""
    return image[:, CUT_PX:-CUT_PX, CUT_PX:-CUT_PX]


def _fit_levels(
    moved: Float[np.ndarray, "3 h w"], fixed: Float[np.ndarray, "3 h w"]
) -> Float[np.ndarray, "3 h w"]:
    """Return each channel of `moved` with the gain and offset of least squares to `fixed`."""
    mean_moved = moved.mean(axis=(1, 2), keepdims=True)
    mean_fixed = fixed.mean(axis=(1, 2), keepdims=True)
    centred = moved - mean_moved
    power = np.sum(centred * centred, axis=(1, 2), keepdims=True)
    shared = np.sum(centred * fixed, axis=(1, 2), keepdims=True)
    gain = np.divide(
        shared, power, out=np.zeros_like(power), where=power > FLAT_POWER
    )  # flat: offset only
    return gain * centred + mean_fixed


def _squared_error(moved: Float[np.ndarray, "3 h w"], fixed: Float[np.ndarray, "3 h w"]) -> float:
    """Return the squared error after `_fit_levels`, from sums alone."""
    count = fixed[0].size
    sum_moved, sum_fixed = moved.sum(axis=(1, 2)), fixed.sum(axis=(1, 2))
    power_moved = np.einsum("chw,chw->c", moved, moved) - sum_moved * sum_moved / count
    power_fixed = np.einsum("chw,chw->c", fixed, fixed) - sum_fixed * sum_fixed / count
    shared = np.einsum("chw,chw->c", moved, fixed) - sum_moved * sum_fixed / count
    explained = np.divide(
        shared * shared, power_moved, out=np.zeros_like(shared), where=power_moved > FLAT_POWER
    )
    return float(np.sum(power_fixed - explained))


def _find_best_correlation(
    spectrum: Complex[np.ndarray, "3 h k"], fixed: Float[np.ndarray, "3 h w"]
) -> tuple[int, int]:
    """Return row and column, in `SHIFTS_PX`, of the shift with the largest correlation with HR.

    The sum of shifted SR times HR inside the cut is a trigonometric polynomial of the shift:
    two matrix products compute it for all shifts.
    """
    height, width = fixed.shape[1:]
    centred = np.zeros_like(fixed)
    inside = _inside(fixed)
    _inside(centred)[...] = inside - inside.mean(axis=(1, 2), keepdims=True)
    down = _phases(np.fft.fftfreq(height), SHIFTS_PX)
    # rfft2 returns one of each pair of opposite columns: all but the two unpaired count twice.
    twice = np.full(width // 2 + 1, 2.0)
    twice[0] = 1
    if width % 2 == 0:
        twice[-1] = 1
    right = _phases(np.fft.rfftfreq(width), SHIFTS_PX) * twice
    explained = np.zeros((len(SHIFTS_PX), len(SHIFTS_PX)))
    for channel, target in zip(spectrum, np.fft.rfft2(centred), strict=True):
        correlation = (down @ (channel * target.conj()) @ right.T).real
        power = np.sum(np.abs(channel) ** 2 * twice) - np.abs(channel[0, 0]) ** 2
        if power > FLAT_POWER:
            explained += np.square(np.maximum(correlation, 0)) / power
    row, column = np.unravel_index(int(np.argmax(explained)), explained.shape)
    return int(row), int(column)


def _descend(error_at: Callable[[int, int], float], *, start: tuple[int, int]) -> tuple[int, int]:
    """Return the first grid point downhill from `start` with no better neighbor of eight."""
    errors: dict[tuple[int, int], float] = {}
    best = start
    while True:
        around = [
            (best[0] + down, best[1] + right)
            for down, right in product((0, -1, 1), repeat=2)
            if 0 <= best[0] + down < len(SHIFTS_PX) and 0 <= best[1] + right < len(SHIFTS_PX)
        ]
        for point in around:
            if point not in errors:
                errors[point] = error_at(*point)
        nearest = min(around, key=lambda point: errors[point])
        if nearest == best:
            return best
        best = nearest
