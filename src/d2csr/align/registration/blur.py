"""Directional blur of the wide image relative to the downsampled tele image.

The cross spectrum divided by the power spectrum of the tele image is the transfer function between
the two; noise of the wide image averages out of it. It is fitted by a Gaussian of any orientation:
camera shake blurs a photograph in one direction. Strong motion blur isn't Gaussian; it removes all
detail in one direction, which the power spectra show.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, UInt8

SIDE_PX = 32
FREQUENCY_BAND = (0.06, 0.30)  # cycles per pixel: above lighting, below most aliasing
DETAIL_BAND = (0.10, 0.30)
DIRECTIONS = 8
MIN_UNMASKED = 0.9  # share of a patch


class Blur(NamedTuple):
    """Standard deviations of the relative blur in wide pixels, in its least and most direction."""

    minor: float
    major: float


def directional_blur(
    wide: Float32[np.ndarray, "h w"],
    reduced: Float32[np.ndarray, "h w"],
    *,
    sigma: float,
    mask: UInt8[np.ndarray, "h w"],
) -> Blur | None:
    """Return the blur from the tele image to the wide one; None if too little can be compared.

    A negative value means that the tele image is the more blurred one.

    Args:
        wide: gray.
        reduced: the blurred tele image on the same grid.
        sigma: standard deviation of the blur already applied to `reduced`, in wide pixels.
        mask: patches where it is mostly 0 aren't compared.
    """
    spectra = _spectra(wide, reduced, mask=mask)
    if spectra is None:
        return None
    cross, power, _ = spectra
    x, y = _frequencies()
    radius = np.hypot(x, y)
    used = (radius > FREQUENCY_BAND[0]) & (radius < FREQUENCY_BAND[1]) & (power > 0)
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
    wide: Float32[np.ndarray, "h w"],
    reduced: Float32[np.ndarray, "h w"],
    *,
    mask: UInt8[np.ndarray, "h w"],
) -> float | None:
    """Return the ratio of the tele image's power to the wide one's, minimum over directions.

    None if too little can be compared, outside places where the mask is 0.
    """
    spectra = _spectra(wide, reduced, mask=mask)
    if spectra is None:
        return None
    _, power, wide_power = spectra
    x, y = _frequencies()
    radius, angle = np.hypot(x, y), np.arctan2(y, x)
    shares = []
    for direction in np.arange(DIRECTIONS) * np.pi / DIRECTIONS:
        distance = np.abs((angle - direction + np.pi / 2) % np.pi - np.pi / 2)
        used = (
            (radius > DETAIL_BAND[0]) & (radius < DETAIL_BAND[1]) & (distance < np.pi / DIRECTIONS)
        )
        shares.append(power[used].sum() / max(float(wide_power[used].sum()), 1e-12))
    return float(min(shares))


class _Spectra(NamedTuple):
    cross: np.ndarray
    reduced: np.ndarray
    wide: np.ndarray


def _spectra(wide: np.ndarray, reduced: np.ndarray, *, mask: np.ndarray) -> _Spectra | None:
    """Return cross and power spectra, summed over half-overlapping windowed patches, if any."""
    window = np.hanning(SIDE_PX + 2)[1:-1]
    window = np.outer(window, window)
    cross, tele_power, wide_power = np.zeros((3, SIDE_PX, SIDE_PX // 2 + 1))
    count = 0
    for top in range(0, wide.shape[0] - SIDE_PX + 1, SIDE_PX // 2):
        for left in range(0, wide.shape[1] - SIDE_PX + 1, SIDE_PX // 2):
            part = np.s_[top : top + SIDE_PX, left : left + SIDE_PX]
            if (mask[part] > 0).mean() < MIN_UNMASKED:
                continue
            count += 1
            a, b = (
                np.fft.rfft2((image[part] - image[part].mean()) * window)
                for image in (wide, reduced)
            )
            cross += (a * b.conj()).real
            tele_power += np.abs(b) ** 2
            wide_power += np.abs(a) ** 2
    return _Spectra(cross, tele_power, wide_power) if count else None


def _frequencies() -> tuple[np.ndarray, np.ndarray]:
    """Return the horizontal and vertical frequencies of a spectrum, in cycles per pixel."""
    x, y = np.meshgrid(np.fft.rfftfreq(SIDE_PX), np.fft.fftfreq(SIDE_PX))
    return x, y
