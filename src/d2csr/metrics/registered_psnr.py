"""PSNR after the best global shift, gain and offset: what is left when registration is forgiven.

PSNR against a slightly misregistered HR rewards blur. This figure stands beside a protocol's,
labelled apart: SR is shifted by one (dx, dy) within 2 px, then each of R, G, B gets the gain and
the offset of least squares, 8 px are cut from each side, and the protocol's PSNR is taken.
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
# The 81 shifts of one axis; products keep 0 and 0.05 exact to the last digit that is printed.
SHIFTS_PX = np.round(np.arange(-40, 41) * STEP_PX, 2)
# Mean squared error, peak 1, that Fourier transforms leave of identical images (180 dB).
NOISE_FLOOR = 1e-18
# Summed square about the mean, peak 1, that transforms leave of a flat channel, and more: a
# single pixel that is one level off has 1.5e-5.
FLAT_POWER = 1e-9


class Shift(NamedTuple):
    """How far SR was moved: to the right, and down."""

    dx_px: float
    dy_px: float


@dataclass(frozen=True)
class Registered:
    """SR moved onto HR and fitted to its levels, both in 0..1 and cut.

    Attributes:
        sr: the fitted SR, unclipped.
        hr: the HR under it.
        shift: how far SR was moved.
    """

    sr: Float[np.ndarray, "h w 3"]
    hr: Float[np.ndarray, "h w 3"]
    shift: Shift


def psnr_registered_db(sr: Image, hr: UInt8[np.ndarray, "h w 3"], *, protocol: str) -> float:
    """Return the protocol's PSNR in dB after the best shift, gain and offset.

    Args:
        sr: RGB in 0..255, or float in 0..1; clipped and rounded to 8 bit first, always.
        hr: the HR image, RGB, of the same size.
        protocol: the colour that is compared; its own border and rounding don't apply.

    Raises:
        ValueError: the sizes differ, or a side is under `SMALLEST_SIDE_PX`.
    """
    return registered_psnr_db(register(sr, hr), protocol=protocol)


def registered_psnr_db(registered: Registered, *, protocol: str) -> float:
    """Return the PSNR in dB of a registered SR in a protocol's colour; inf below 1e-18."""
    colour = PROTOCOLS[protocol].psnr_colour
    difference = to_channels(registered.sr - registered.hr, colour, offset=0.0)
    error = float(np.mean(np.square(difference)))
    return mse_to_psnr(error if error > NOISE_FLOOR else 0.0, peak=1.0)


def register(sr: Image, hr: UInt8[np.ndarray, "h w 3"]) -> Registered:
    """Return SR after the shift, of all 81x81, with the least squared error over R, G and B.

    The correlation with HR is computed for every shift at once; the energy of the shifted SR
    inside the cut changes so little with the shift that it is left out there, and the best
    shift is then climbed to with the exact error.

    Raises:
        ValueError: the sizes differ, or a side is under `SMALLEST_SIDE_PX`.
    """
    if sr.shape != hr.shape or min(hr.shape[:2]) < SMALLEST_SIDE_PX:
        raise ValueError(f"SR {sr.shape}, HR {hr.shape}: need one size from {SMALLEST_SIDE_PX} px")
    moving, fixed = (
        np.ascontiguousarray(np.moveaxis(round_to_8_bit(image) / 255.0, 2, 0)) for image in (sr, hr)
    )
    spectrum, under = np.fft.rfft2(moving), _inside(fixed)

    @cache  # neighbours of one row share the vertical half of the transform
    def moved_down(dy_px: float) -> Complex[np.ndarray, "3 h k"]:
        return _moved_down(spectrum, dy_px)

    def moved_to(row: int, column: int) -> Float[np.ndarray, "3 h w"]:
        shift = _shift_at(row, column)
        if shift == (0, 0):  # the image as it is, without the transform's rounding
            return _inside(moving)
        return _inside(_moved_right(moved_down(shift.dy_px), shift.dx_px, width=moving.shape[2]))

    def error_at(row: int, column: int) -> float:
        return _squared_error(moved_to(row, column), under)

    best = _climb(error_at, start=_best_correlation(spectrum, fixed))
    fitted = _fitted(moved_to(*best), under)
    return Registered(np.moveaxis(fitted, 0, 2), np.moveaxis(under, 0, 2), _shift_at(*best))


def shift_image(image: Float[np.ndarray, "3 h w"], shift: Shift) -> Float[np.ndarray, "3 h w"]:
    """Return an image moved by a fraction of a pixel (Fourier, so what leaves comes in again)."""
    down = _moved_down(np.fft.rfft2(image), shift.dy_px)
    return _moved_right(down, shift.dx_px, width=image.shape[2])


def _shift_at(row: int, column: int) -> Shift:
    """Return the shift of one point of the grid."""
    return Shift(dx_px=float(SHIFTS_PX[column]), dy_px=float(SHIFTS_PX[row]))


def _moved_down(
    spectrum: Complex[np.ndarray, "3 h k"], dy_px: float
) -> Complex[np.ndarray, "3 h k"]:
    """Return the spectra of the rows of the image that was moved down."""
    phases = _phases(np.fft.fftfreq(spectrum.shape[1]), [dy_px])[0]
    return np.fft.ifft(spectrum * phases[:, None], axis=1)


def _moved_right(
    rows: Complex[np.ndarray, "3 h k"], dx_px: float, *, width: int
) -> Float[np.ndarray, "3 h w"]:
    """Return the image of the spectra of its rows, moved to the right."""
    return np.fft.irfft(rows * _phases(np.fft.rfftfreq(width), [dx_px])[0], n=width, axis=2)


def _phases(
    frequencies: Float[np.ndarray, " k"], shifts_px: Float[np.ndarray, " n"] | list[float]
) -> Complex[np.ndarray, "n k"]:
    """Return the factor of each frequency (cycles per px) for each shift.

    The Nyquist frequency has no partner of opposite sign, so it takes the cosine alone: the
    shifted image stays real and favours no direction.
    """
    angle = 2 * np.pi * np.outer(shifts_px, frequencies)
    return np.where(np.abs(frequencies) == 0.5, np.cos(angle), np.exp(-1j * angle))


def _inside(image: Float[np.ndarray, "3 h w"]) -> Float[np.ndarray, "3 _ _"]:
    """Return the image without the cut."""
    return image[:, CUT_PX:-CUT_PX, CUT_PX:-CUT_PX]


def _fitted(
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
    """Return the squared error that `_fitted` leaves, from sums alone."""
    count = fixed[0].size
    sum_moved, sum_fixed = moved.sum(axis=(1, 2)), fixed.sum(axis=(1, 2))
    power_moved = np.einsum("chw,chw->c", moved, moved) - sum_moved * sum_moved / count
    power_fixed = np.einsum("chw,chw->c", fixed, fixed) - sum_fixed * sum_fixed / count
    shared = np.einsum("chw,chw->c", moved, fixed) - sum_moved * sum_fixed / count
    explained = np.divide(
        shared * shared, power_moved, out=np.zeros_like(shared), where=power_moved > FLAT_POWER
    )
    return float(np.sum(power_fixed - explained))


def _best_correlation(
    spectrum: Complex[np.ndarray, "3 h k"], fixed: Float[np.ndarray, "3 h w"]
) -> tuple[int, int]:
    """Return row and column, in `SHIFTS_PX`, of the shift that explains most of HR inside the cut.

    The sum of shifted SR times HR inside the cut is a trigonometric polynomial of the shift:
    two matrix products give it for all shifts.
    """
    height, width = fixed.shape[1:]
    centred = np.zeros_like(fixed)
    inside = _inside(fixed)
    _inside(centred)[...] = inside - inside.mean(axis=(1, 2), keepdims=True)
    down = _phases(np.fft.fftfreq(height), SHIFTS_PX)
    # rfft2 keeps one of each pair of opposite columns, so all but the two unpaired count twice.
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


def _climb(error_at: Callable[[int, int], float], *, start: tuple[int, int]) -> tuple[int, int]:
    """Return the grid point none of whose eight neighbours has a smaller error, from `start` on."""
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
