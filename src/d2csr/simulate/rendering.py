"""Rendering: the light that reaches each pixel of a view through the lens, tile by tile.

A tile is sampled finely enough to hold all detail of the scene. Every sample position comes from
one continuous mapping (view -> plane -> texture), so geometry is exact. Lens and pixel are applied
as modulation transfer functions (MTFs), and one sample per pixel is kept.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache

import cv2
import numpy as np
from jaxtyping import Float, Float32, Float64

from d2csr.simulate.camera_config import SensorConfig
from d2csr.simulate.geometry import View
from d2csr.simulate.scene import Plane, Scene, sample_plane

Frequencies = Float64[np.ndarray, "*grid"]


@dataclass(frozen=True)
class Lens:
    """The lens with the settings of one photograph.

    Attributes:
        focal_mm: focal length.
        f_number: focal length divided by the diameter of the aperture.
        psf_sigma_um: standard deviation of the Gaussian PSF of aberrations in the centre.
        corner_psf_sigma_um: what the corner adds to it; variances add.
        defocus_um: distance of the sensor from the image plane of the backdrop.
        vignetting_stops: light lost in the corner.
        wavelengths_nm: of red, green and blue.
        corner_px: distance of the corner from the centre, in pixels of the photograph.
    """

    focal_mm: float
    f_number: float
    psf_sigma_um: float
    corner_psf_sigma_um: float
    defocus_um: float
    vignetting_stops: float
    wavelengths_nm: tuple[float, float, float]
    corner_px: float

    def variance_um2(self, radius_px: Float[np.ndarray, "*grid"]) -> Float64[np.ndarray, "*grid"]:
        """Return the variance of the aberrations' PSF at distances from the centre."""
        share = np.asarray(radius_px, np.float64) / self.corner_px
        return self.psf_sigma_um**2 + (self.corner_psf_sigma_um * share) ** 2

    def relative_illumination(
        self, radius_px: Float[np.ndarray, "*grid"]
    ) -> Float64[np.ndarray, "*grid"]:
        """Return the illumination at distances from the centre, relative to the centre."""
        share = np.asarray(radius_px, np.float64) / self.corner_px
        return 2.0 ** (-self.vignetting_stops * share**2)

    def circle_of_confusion_um(self, distance_m: float, *, focus_m: float) -> float:
        """Return the diameter of the circle of confusion, by the thin lens equation."""
        focal = self.focal_mm * 1e3
        image, focused = (focal * z / (z - focal) for z in (distance_m * 1e6, focus_m * 1e6))
        return abs(focused + self.defocus_um - image) * (focal / self.f_number) / image


def diffraction_mtf(
    frequency_um: Frequencies, *, wavelength_nm: float, f_number: float
) -> Frequencies:
    """Return the MTF of a perfect lens with a round aperture, 1 at 0 cycles/um.

    Source: Goodman, Introduction to Fourier Optics, 3rd ed., eq. 6-31.
    """
    share = np.minimum(frequency_um * wavelength_nm * 1e-3 * f_number, 1.0)
    return 2 / np.pi * (np.arccos(share) - share * np.sqrt(1 - share * share))


def defocus_mtf(frequency_um: Frequencies, *, diameter_um: float) -> Frequencies:
    """Return the MTF of defocus, whose PSF is a uniform disc.

    2 J1(x) / x, integrated over chords of the disc by Gauss-Chebyshev quadrature of the second
    kind, whose 64 nodes are exact to 1e-12 up to x = 60; the MTF of a pixel is 0 beyond.
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


def pixel_mtf(
    x_um: Float64[np.ndarray, "#h #w"],
    y_um: Float64[np.ndarray, "#h #w"],
    *,
    pixel_pitch_um: float,
    olpf_um: float,
) -> Frequencies:
    """Return the MTF of a square pixel behind a four-spot optical low-pass filter."""
    box = np.sinc(x_um * pixel_pitch_um) * np.sinc(y_um * pixel_pitch_um)
    return box * np.cos(np.pi * x_um * olpf_um) * np.cos(np.pi * y_um * olpf_um)


_TILE_SCENE_PX = 512  # side of a tile
_HALO_PX = 16  # the rings of an Airy pattern farther out hold 1% of its light


@dataclass(frozen=True)
class Shot:
    """The view, lens and sensor of one photograph.

    Attributes:
        view: the pixel grid to render.
        lens: the lens.
        sensor: the sensor, whose pixels integrate the light.
        pitch_um: spacing of the grid on the sensor; it differs from the pixels' pitch if an image
            is rendered on another grid than its sensor's.
        scene_px: pixels of the scene's texture per position of the grid.
    """

    view: View
    lens: Lens
    sensor: SensorConfig
    pitch_um: float
    scene_px: float

    @cached_property
    def samples(self) -> int:
        """Return the samples per position, along each axis, that hold the scene's detail."""
        return max(2, int(np.ceil(1.25 * self.scene_px)))

    @cached_property
    def tile_px(self) -> int:
        """Return the side of a tile."""
        side = max(16, int(_TILE_SCENE_PX / max(self.scene_px, 1.0)))
        return min(side, max(self.view.size))

    def halo_px(self, circle_um: float) -> int:
        """Return the radius of the whole PSF: diffraction, aberrations and defocus."""
        widest = float(self.lens.variance_um2(np.array([self.lens.corner_px]))[0]) ** 0.5
        return _HALO_PX + int(np.ceil((5 * widest + circle_um / 2) / self.pitch_um))


@dataclass(frozen=True)
class Tile:
    """A rectangle of the grid that is rendered at once."""

    rows: slice
    columns: slice

    def radius_px(self, view: View) -> Float64[np.ndarray, "h w"]:
        """Return the distance of each position from the view's centre."""
        x, y = view.centre
        rows, columns = (np.arange(part.start, part.stop) for part in (self.rows, self.columns))
        return np.hypot(rows[:, None] - y, columns - x)


def render_tiles(scene: Scene, shot: Shot) -> Iterator[tuple[Tile, Float32[np.ndarray, "h w 3"]]]:
    """Yield each tile and its linear RGB; white is 1 where there is no vignetting."""
    size, side = shot.view.size, shot.tile_px
    for top in range(0, size.height, side):
        for left in range(0, size.width, side):
            rows = slice(top, min(top + side, size.height))
            columns = slice(left, min(left + side, size.width))
            tile = Tile(rows, columns)
            yield tile, _render_tile(scene, shot, tile=tile)


def _render_tile(scene: Scene, shot: Shot, *, tile: Tile) -> Float32[np.ndarray, "h w 3"]:
    """Return the light of a tile; nearer planes are blurred with their edges, then composited."""
    radius = tile.radius_px(shot.view)
    light = np.zeros((*radius.shape, 3), np.float32)
    for plane in scene.planes:
        layer = _render_plane(plane, shot, tile=tile, focus_m=scene.distance_m)
        if layer is not None:
            behind = light * (1 - layer[..., 3:]) if layer.shape[2] == 4 else 0
            light = layer[..., :3] + behind
    return (light * shot.lens.relative_illumination(radius)[..., None]).astype(np.float32)


def _render_plane(
    plane: Plane, shot: Shot, *, tile: Tile, focus_m: float
) -> Float32[np.ndarray, "h w c"] | None:
    """Return a plane's light (and alpha) at the tile's positions; None if it isn't visible there.

    The variance of the aberrations' PSF grows across the tile. Between its extremes the result is
    linear in the variance up to a second-order term, so the results of two filters are blended.
    """
    circle_um = round(shot.lens.circle_of_confusion_um(plane.distance_m, focus_m=focus_m), 6)
    halo, per = shot.halo_px(circle_um), shot.samples
    side = cv2.getOptimalDFTSize((shot.tile_px + 2 * halo) * per)
    x, y = (
        part.start - halo + np.arange(side) / per for part in (tile.columns, tile.rows)
    )  # padded to an optimal size, so the halo is larger on the far sides
    samples = sample_plane(plane, shot.view, x=x, y=y)
    if samples is None:
        return None
    variance = shot.lens.variance_um2(tile.radius_px(shot.view))
    least, most = float(variance.min()), float(variance.max())
    mix = ((variance - least) / max(most - least, 1e-12)).astype(np.float32)
    ends = [_aberration_mtf(shot, side, variance_um2=each) for each in (least, most)]
    inner = tuple(slice(halo * per, (halo + length) * per, per) for length in variance.shape)
    result = np.empty((*variance.shape, samples.shape[2]), np.float32)
    for channel in range(samples.shape[2]):
        color = channel if channel < 3 else 1  # alpha is blurred as green light is
        mtf = _mtf(shot, side, color=color, circle_um=circle_um)
        spectrum = np.fft.rfft2(samples[..., channel]) * mtf
        near, far = (np.fft.irfft2(spectrum * end, s=(side, side))[inner] for end in ends)
        result[..., channel] = near + mix * (far - near)
    return np.maximum(result, 0)


def _frequencies(
    shot: Shot, side: int
) -> tuple[Float64[np.ndarray, "1 m"], Float64[np.ndarray, "n 1"]]:
    """Return the frequencies along x and y, in cycles/um, of a spectrum of `side` samples."""
    step = shot.pitch_um / shot.samples
    return np.fft.rfftfreq(side, step)[None], np.fft.fftfreq(side, step)[:, None]


def _aberration_mtf(shot: Shot, side: int, *, variance_um2: float) -> Float32[np.ndarray, "n m"]:
    x, y = _frequencies(shot, side)
    return np.exp(-2 * np.pi**2 * variance_um2 * (x * x + y * y)).astype(np.float32)


@lru_cache(maxsize=12)
def _mtf(shot: Shot, side: int, *, color: int, circle_um: float) -> Float32[np.ndarray, "n m"]:
    """Return the MTF of diffraction, defocus and pixel at the frequencies of a tile's spectrum."""
    x, y = _frequencies(shot, side)
    radius = np.hypot(x, y)
    table = np.linspace(0, float(radius.max()), 8192)
    lens = diffraction_mtf(
        table, wavelength_nm=shot.lens.wavelengths_nm[color], f_number=shot.lens.f_number
    ) * defocus_mtf(table, diameter_um=circle_um)
    sensor = shot.sensor
    pixel = pixel_mtf(x, y, pixel_pitch_um=sensor.pixel_pitch_um, olpf_um=sensor.olpf_um[0])
    return (np.interp(radius, table, lens) * pixel).astype(np.float32)
