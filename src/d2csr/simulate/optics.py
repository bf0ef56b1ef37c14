"""The lens and the pixel as filters: how much of each spatial frequency they let through."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float64

Frequencies = Float64[np.ndarray, "*grid"]


@dataclass(frozen=True)
class Lens:
    """A lens as it stood for one photograph.

    Attributes:
        focal_mm: focal length.
        f_number: focal length by diameter.
        blur_um: standard deviation of the aberration in the centre.
        corner_blur_um: of what adds to it in the corner.
        defocus_um: distance of the sensor from the image of what is focused on.
        vignetting_stops: light lost in the corner.
        wavelengths_nm: of the three colours.
        corner_px: distance of the corner from the centre, pixels of the photograph.
    """

    focal_mm: float
    f_number: float
    blur_um: float
    corner_blur_um: float
    defocus_um: float
    vignetting_stops: float
    wavelengths_nm: tuple[float, float, float]
    corner_px: float

    def variance_um2(self, radius_px: Float[np.ndarray, "*grid"]) -> Float64[np.ndarray, "*grid"]:
        """Return the variance of the aberration at distances from the centre."""
        share = np.asarray(radius_px, np.float64) / self.corner_px
        return self.blur_um**2 + (self.corner_blur_um * share) ** 2

    def light(self, radius_px: Float[np.ndarray, "*grid"]) -> Float64[np.ndarray, "*grid"]:
        """Return the share of light that reaches distances from the centre."""
        share = np.asarray(radius_px, np.float64) / self.corner_px
        return 2.0 ** (-self.vignetting_stops * share**2)

    def confusion_um(self, distance_m: float, *, focus_m: float) -> float:
        """Return the diameter of the disc that a point becomes, by the thin lens equation."""
        focal = self.focal_mm * 1e3
        image, focused = (focal * z / (z - focal) for z in (distance_m * 1e6, focus_m * 1e6))
        return abs(focused + self.defocus_um - image) * (focal / self.f_number) / image


def diffraction(frequency_um: Frequencies, *, wavelength_nm: float, f_number: float) -> Frequencies:
    """Return the transfer of a perfect lens with a round aperture, 1 at 0 cycles/um.

    Source: Goodman, Introduction to Fourier Optics, 3rd ed., eq. 6-31.
    """
    share = np.minimum(frequency_um * wavelength_nm * 1e-3 * f_number, 1.0)
    return 2 / np.pi * (np.arccos(share) - share * np.sqrt(1 - share * share))


def disc(frequency_um: Frequencies, *, diameter_um: float) -> Frequencies:
    """Return the transfer of a uniform disc, the blur of rays out of focus.

    2 J1(x) / x, summed over chords of the disc by Gauss-Chebyshev (second kind), whose 64 nodes
    are exact to 1e-12 up to x = 60; the pixel lets nothing through beyond.
    """
    angles = np.pi * np.arange(1, 33) / 65
    weights = 4 / 65 * np.sin(angles) ** 2
    phase = np.pi * np.minimum(frequency_um * diameter_um, 60 / np.pi)
    return sum(
        (
            weight * np.cos(phase * np.cos(angle))
            for weight, angle in zip(weights, angles, strict=True)
        ),
        start=np.zeros_like(phase),
    )


def pixel(
    x_um: Float64[np.ndarray, "#h #w"],
    y_um: Float64[np.ndarray, "#h #w"],
    *,
    pixel_um: float,
    olpf_um: float,
) -> Frequencies:
    """Return the transfer of a square pixel behind a four-spot low-pass filter."""
    box = np.sinc(x_um * pixel_um) * np.sinc(y_um * pixel_um)
    return box * np.cos(np.pi * x_um * olpf_um) * np.cos(np.pi * y_um * olpf_um)
