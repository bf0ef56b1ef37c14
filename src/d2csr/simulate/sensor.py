"""The sensor: light counted in electrons behind colour filters, read with noise, digitised."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

from d2csr.simulate.camera_config import SensorPart
from d2csr.simulate.rendering import Shot, render_tiles
from d2csr.simulate.scene import Scene

RGGB = ((0, 1), (1, 2))  # channel at row and column, both modulo 2
BLACK_SHARE = 1 / 32  # of the converter's range lies below black, so that noise is not cut there
ROWS = 256  # read at a time


@dataclass(frozen=True)
class Exposure:
    """How one photograph was exposed.

    Attributes:
        iso: sensitivity.
        stops: exposure about the one that makes white just saturate.
        frames: exposures averaged.
    """

    iso: float
    stops: float
    frames: int = 1


def expose(scene: Scene, shot: Shot, *, exposure: Exposure) -> Float32[np.ndarray, "h w c"]:
    """Return the light at each pixel, free of noise: of its colour, or of all three.

    White saturates at 1; where the exposure gives more, it is more.
    """
    size = shot.view.size
    channels = 3 if shot.sensor.mosaic == "none" else 1
    light = np.empty((size.height, size.width, channels), np.float32)
    for tile, rgb in render_tiles(scene, shot):
        top, left = tile.rows.start, tile.columns.start
        light[tile.rows, tile.columns] = rgb if channels == 3 else _mosaic(rgb, top=top, left=left)
    light *= np.float32(2.0**exposure.stops)
    return light


def read_out(
    light: Float32[np.ndarray, "h w c"],
    sensor: SensorPart,
    *,
    exposure: Exposure,
    rng: np.random.Generator,
) -> None:
    """Turn light into what the sensor says of it, in place: 1 is white in every colour.

    The weak colours are amplified to that, as white balance does, and their noise with them. They
    saturate above 1.
    """
    for top in range(0, len(light), ROWS):
        part = light[top : top + ROWS]
        weights = _sensitivity(sensor, top=top, shape=part.shape)
        part[...] = _counted(part * weights, sensor, exposure=exposure, rng=rng) / weights


def _counted(
    share: np.ndarray, sensor: SensorPart, *, exposure: Exposure, rng: np.random.Generator
) -> np.ndarray:
    """Return shares of saturation as counted, read and digitised."""
    full_e = sensor.full_well_e * sensor.base_iso / exposure.iso
    frames = exposure.frames
    electrons = rng.poisson(share * full_e * frames) / frames
    electrons += rng.normal(0, sensor.read_noise_e / frames**0.5, share.shape)
    highest = 2**sensor.bits - 1
    black = round(highest * BLACK_SHARE)
    numbers = np.rint(electrons / full_e * (highest - black) + black)
    return (np.clip(numbers, 0, highest) - black) / (highest - black)


def _sensitivity(sensor: SensorPart, *, top: int, shape: tuple[int, ...]) -> np.ndarray:
    """Return the sensitivity of each pixel of rows that begin at `top`."""
    if sensor.mosaic == "none":
        return np.asarray(sensor.sensitivity)
    plain = np.broadcast_to(np.asarray(sensor.sensitivity), (*shape[:2], 3))
    return _mosaic(plain, top=top, left=0)


def _mosaic(rgb: np.ndarray, *, top: int, left: int) -> np.ndarray:
    """Return (h, w, 1): of each pixel the colour of its filter, the first at (`top`, `left`)."""
    result = np.empty((*rgb.shape[:2], 1), rgb.dtype)
    for row in (0, 1):
        for column in (0, 1):
            channel = RGGB[(row + top) % 2][(column + left) % 2]
            result[row::2, column::2, 0] = rgb[row::2, column::2, channel]
    return result
