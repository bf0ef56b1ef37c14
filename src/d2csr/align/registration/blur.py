"""Relative blur by direction: how the wide image passes what the reduced tele image holds.

The cross spectrum of the two over the tele image's own is the transfer from one to the other; the
wide image's noise averages out of it. Fitted as a Gaussian of any orientation: a shaken tele
photograph is less sharp, a shaken wide one more blurred, in one direction. Smeared over
many pixels it is no Gaussian any more: of some direction it holds nothing, which its power tells.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float32

SIDE_PX = 32
BAND = (0.06, 0.30)  # cycles per pixel: above lighting, below most aliasing
DETAIL_BAND = (0.10, 0.30)
DIRECTIONS = 8


class Blur(NamedTuple):
    """Standard deviations of the relative blur in wide pixels, sharpest and softest direction."""

    minor: float
    major: float


def directional_blur(
    wide: Float32[np.ndarray, "h w"], reduced: Float32[np.ndarray, "h w"], *, sigma: float
) -> Blur | None:
    """Return the blur by which the tele image becomes the wide one; None on too small images.

    Args:
        wide: gray.
        reduced: the tele image on the same grid, already blurred.
        sigma: by how much, wide pixels.
    """
    if min(wide.shape) < SIDE_PX:
        return None
    cross, power, _ = _spectra(wide, reduced)
    x, y = _frequencies()
    radius = np.hypot(x, y)
    used = (radius > BAND[0]) & (radius < BAND[1]) & (power > 0)
    transfer = np.clip(cross[used] / power[used], 0.02, 50)
    terms = np.stack([x**2, x * y, y**2, np.full_like(x, -1 / (2 * np.pi**2))], -1)[used]
    weight = np.sqrt(power[used] * radius[used])[:, None]
    solution = np.linalg.lstsq(
        terms * weight, np.log(transfer) / (-2 * np.pi**2) * weight[:, 0], rcond=None
    )[0]
    a, b, c = solution[:3]
    minor, major = np.linalg.eigvalsh(np.array([[a, b / 2], [b / 2, c]])) + sigma**2
    return Blur(*(float(np.sign(v) * np.sqrt(abs(v))) for v in (minor, major)))


def min_detail_ratio(
    wide: Float32[np.ndarray, "h w"], reduced: Float32[np.ndarray, "h w"]
) -> float | None:
    """Return the reduced tele image's power over the wide one's, in the direction of the least.

    None on too small images.
    """
    if min(wide.shape) < SIDE_PX:
        return None
    _, power, of_wide = _spectra(wide, reduced)
    x, y = _frequencies()
    radius, angle = np.hypot(x, y), np.arctan2(y, x)
    shares = []
    for direction in np.arange(DIRECTIONS) * np.pi / DIRECTIONS:
        apart = np.abs((angle - direction + np.pi / 2) % np.pi - np.pi / 2)
        used = (radius > DETAIL_BAND[0]) & (radius < DETAIL_BAND[1]) & (apart < np.pi / DIRECTIONS)
        shares.append(power[used].sum() / max(float(of_wide[used].sum()), 1e-12))
    return float(min(shares))


class _Spectra(NamedTuple):
    cross: np.ndarray
    reduced: np.ndarray
    wide: np.ndarray


def _spectra(wide: np.ndarray, reduced: np.ndarray) -> _Spectra:
    """Return cross and own spectra, summed over half-overlapping windowed patches."""
    window = np.hanning(SIDE_PX + 2)[1:-1]
    window = np.outer(window, window)
    cross, of_reduced, of_wide = np.zeros((3, SIDE_PX, SIDE_PX // 2 + 1))
    for top in range(0, wide.shape[0] - SIDE_PX + 1, SIDE_PX // 2):
        for left in range(0, wide.shape[1] - SIDE_PX + 1, SIDE_PX // 2):
            part = np.s_[top : top + SIDE_PX, left : left + SIDE_PX]
            a, b = (
                np.fft.rfft2((image[part] - image[part].mean()) * window)
                for image in (wide, reduced)
            )
            cross += (a * b.conj()).real
            of_reduced += np.abs(b) ** 2
            of_wide += np.abs(a) ** 2
    return _Spectra(cross, of_reduced, of_wide)


def _frequencies() -> tuple[np.ndarray, np.ndarray]:
    """Return the cycles per pixel of a spectrum's places, across and down."""
    x, y = np.meshgrid(np.fft.rfftfreq(SIDE_PX), np.fft.fftfreq(SIDE_PX))
    return x, y
