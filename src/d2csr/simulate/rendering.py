"""Light on the sensor: the scene through the lens, at each pixel of a view, tile by tile.

A tile of the sensor is sampled finely enough to hold all the scene's detail; every position comes
from one continuous mapping (view -> plane -> texture), so what is seen where is exact. Lens and
pixel are applied as transfer functions, and one sample a pixel is kept.

The lens and the pixel as filters: how much of each spatial frequency they let through.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache

import cv2
import numpy as np
from jaxtyping import Float, Float32, Float64

from d2csr.simulate.camera_config import SensorPart
from d2csr.simulate.geometry import View
from d2csr.simulate.scene import Plane, Scene, sample_plane

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

    def relative_illumination(
        self, radius_px: Float[np.ndarray, "*grid"]
    ) -> Float64[np.ndarray, "*grid"]:
        """Return the share of light that reaches distances from the centre."""
        share = np.asarray(radius_px, np.float64) / self.corner_px
        return 2.0 ** (-self.vignetting_stops * share**2)

    def confusion_um(self, distance_m: float, *, focus_m: float) -> float:
        """Return the diameter of the disc that a point becomes, by the thin lens equation."""
        focal = self.focal_mm * 1e3
        image, focused = (focal * z / (z - focal) for z in (distance_m * 1e6, focus_m * 1e6))
        return abs(focused + self.defocus_um - image) * (focal / self.f_number) / image


def diffraction_mtf(
    frequency_um: Frequencies, *, wavelength_nm: float, f_number: float
) -> Frequencies:
    """Return the transfer of a perfect lens with a round aperture, 1 at 0 cycles/um.

    Source: Goodman, Introduction to Fourier Optics, 3rd ed., eq. 6-31.
    """
    share = np.minimum(frequency_um * wavelength_nm * 1e-3 * f_number, 1.0)
    return 2 / np.pi * (np.arccos(share) - share * np.sqrt(1 - share * share))


def defocus_mtf(frequency_um: Frequencies, *, diameter_um: float) -> Frequencies:
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


def pixel_mtf(
    x_um: Float64[np.ndarray, "#h #w"],
    y_um: Float64[np.ndarray, "#h #w"],
    *,
    pixel_um: float,
    olpf_um: float,
) -> Frequencies:
    """Return the transfer of a square pixel behind a four-spot low-pass filter."""
    box = np.sinc(x_um * pixel_um) * np.sinc(y_um * pixel_um)
    return box * np.cos(np.pi * x_um * olpf_um) * np.cos(np.pi * y_um * olpf_um)


SCENE_PX = 512  # of a tile's side
HALO_PX = 16  # the rings of an Airy pattern beyond hold 1% of its light


@dataclass(frozen=True)
class Shot:
    """One photograph before it is developed: where from, through what, onto which grid.

    Attributes:
        view: the pixel grid.
        lens: the lens.
        sensor: its pixels.
        pitch_um: distance of the grid's positions on the sensor; differs from the pixel's own
            width where an image is wanted on another grid than its sensor's.
        scene_px: pixels of the scene's texture to a position of the grid.
    """

    view: View
    lens: Lens
    sensor: SensorPart
    pitch_um: float
    scene_px: float

    @cached_property
    def samples(self) -> int:
        """Return the samples to a position, each way, that hold the scene's detail."""
        return max(2, int(np.ceil(1.25 * self.scene_px)))

    @cached_property
    def tile_px(self) -> int:
        """Return the side of a tile."""
        side = max(16, int(SCENE_PX / max(self.scene_px, 1.0)))
        return min(side, max(self.view.size))

    def halo_px(self, confusion_um: float) -> int:
        """Return how far the blur of a disc reaches, aberration and diffraction with it."""
        widest = float(self.lens.variance_um2(np.array([self.lens.corner_px]))[0]) ** 0.5
        return HALO_PX + int(np.ceil((5 * widest + confusion_um / 2) / self.pitch_um))


@dataclass(frozen=True)
class Tile:
    """A part of the grid."""

    rows: slice
    columns: slice

    def radius_px(self, view: View) -> Float64[np.ndarray, "h w"]:
        """Return the distance of each position from the view's centre."""
        x, y = view.centre
        rows, columns = (np.arange(part.start, part.stop) for part in (self.rows, self.columns))
        return np.hypot(rows[:, None] - y, columns - x)


def render_tiles(scene: Scene, shot: Shot) -> Iterator[tuple[Tile, Float32[np.ndarray, "h w 3"]]]:
    """Yield every tile and its linear RGB; white is 1 where the lens loses nothing."""
    size, side = shot.view.size, shot.tile_px
    for top in range(0, size.height, side):
        for left in range(0, size.width, side):
            rows = slice(top, min(top + side, size.height))
            columns = slice(left, min(left + side, size.width))
            tile = Tile(rows, columns)
            yield tile, _light(scene, shot, tile=tile)


def _light(scene: Scene, shot: Shot, *, tile: Tile) -> Float32[np.ndarray, "h w 3"]:
    """Return a tile: nearer planes, blurred with their edges, laid over farther ones."""
    radius = tile.radius_px(shot.view)
    light = np.zeros((*radius.shape, 3), np.float32)
    for plane in scene.planes:
        seen = _blurred(plane, shot, tile=tile, focus_m=scene.distance_m)
        if seen is not None:
            light = seen[..., :3] + (light * (1 - seen[..., 3:]) if seen.shape[2] == 4 else 0)
    return (light * shot.lens.relative_illumination(radius)[..., None]).astype(np.float32)


def _blurred(
    plane: Plane, shot: Shot, *, tile: Tile, focus_m: float
) -> Float32[np.ndarray, "h w c"] | None:
    """Return a plane's light (and cover) at the tile's positions; None where it is not there.

    The aberration grows across the tile. Between its least and its greatest variance the result
    is linear in the variance but for a second-order term, so two filters are mixed.
    """
    confusion_um = round(shot.lens.confusion_um(plane.distance_m, focus_m=focus_m), 6)
    halo, per = shot.halo_px(confusion_um), shot.samples
    side = cv2.getOptimalDFTSize((shot.tile_px + 2 * halo) * per)
    x, y = (
        part.start - halo + np.arange(side) / per for part in (tile.columns, tile.rows)
    )  # to the optimal size: more than the halo on the far sides
    samples = sample_plane(plane, shot.view, x=x, y=y)
    if samples is None:
        return None
    variance = shot.lens.variance_um2(tile.radius_px(shot.view))
    least, most = float(variance.min()), float(variance.max())
    mix = ((variance - least) / max(most - least, 1e-12)).astype(np.float32)
    ends = [_aberration(shot, side, variance_um2=each) for each in (least, most)]
    keep = tuple(slice(halo * per, (halo + length) * per, per) for length in variance.shape)
    result = np.empty((*variance.shape, samples.shape[2]), np.float32)
    for band in range(samples.shape[2]):
        colour = band if band < 3 else 1  # the cover is seen as green light would show it
        transfer = _transfer(shot, side, colour=colour, confusion_um=confusion_um)
        spectrum = np.fft.rfft2(samples[..., band]) * transfer
        near, far = (np.fft.irfft2(spectrum * end, s=(side, side))[keep] for end in ends)
        result[..., band] = near + mix * (far - near)
    return np.maximum(result, 0)


def _frequencies(
    shot: Shot, side: int
) -> tuple[Float64[np.ndarray, "1 m"], Float64[np.ndarray, "n 1"]]:
    """Return the cycles/um, along x and y, of a spectrum of `side` samples."""
    step = shot.pitch_um / shot.samples
    return np.fft.rfftfreq(side, step)[None], np.fft.fftfreq(side, step)[:, None]


def _aberration(shot: Shot, side: int, *, variance_um2: float) -> Float32[np.ndarray, "n m"]:
    x, y = _frequencies(shot, side)
    return np.exp(-2 * np.pi**2 * variance_um2 * (x * x + y * y)).astype(np.float32)


@lru_cache(maxsize=12)
def _transfer(
    shot: Shot, side: int, *, colour: int, confusion_um: float
) -> Float32[np.ndarray, "n m"]:
    """Return diffraction, defocus and pixel of a colour on the grid of a tile's spectrum."""
    x, y = _frequencies(shot, side)
    radius = np.hypot(x, y)
    table = np.linspace(0, float(radius.max()), 8192)
    lens = diffraction_mtf(
        table, wavelength_nm=shot.lens.wavelengths_nm[colour], f_number=shot.lens.f_number
    ) * defocus_mtf(table, diameter_um=confusion_um)
    sensor = shot.sensor
    square = pixel_mtf(x, y, pixel_um=sensor.pixel_um, olpf_um=sensor.olpf_um[0])
    return (np.interp(radius, table, lens) * square).astype(np.float32)
