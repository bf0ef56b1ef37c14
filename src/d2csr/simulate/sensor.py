"""The sensor: exposure behind a color filter array, shot noise, read noise, and the ADC."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

from d2csr.simulate.camera_config import SensorConfig
from d2csr.simulate.rendering import Shot, render_tiles
from d2csr.simulate.scene import Scene

RGGB = ((0, 1), (1, 2))  # channel at row and column, both modulo 2
_BLACK_LEVEL = 1 / 32  # of the ADC's range; below it there is room for noise
_STRIP_ROWS = 256  # read at once


@dataclass(frozen=True)
class Exposure:
    """The exposure of one photograph.

    Attributes:
        iso: sensitivity.
        stops: exposure relative to the one at which white just saturates.
        frames: exposures averaged.
    """

    iso: float
    stops: float
    frames: int = 1


def expose(scene: Scene, shot: Shot, *, exposure: Exposure) -> Float32[np.ndarray, "h w c"]:
    """Return the noise-free light at each pixel, of its filter's color or of all three.

    The sensor saturates at 1; values above it are not yet clipped.
    """
    size = shot.view.size
    channels = 3 if shot.sensor.cfa == "none" else 1
    light = np.empty((size.height, size.width, channels), np.float32)
    for tile, rgb in render_tiles(scene, shot):
        top, left = tile.rows.start, tile.columns.start
        light[tile.rows, tile.columns] = (
            rgb if channels == 3 else _apply_cfa(rgb, top=top, left=left)
        )
    light *= np.float32(2.0**exposure.stops)
    return light


def read_sensor(
    raw: Float32[np.ndarray, "h w c"],
    sensor: SensorConfig,
    *,
    exposure: Exposure,
    rng: np.random.Generator,
) -> None:
    """Turn light into raw values, in place, with 1 for white in every color.

    Less sensitive colors are amplified, with their noise, as white balance does; they saturate
    above 1.
    """
    for top in range(0, len(raw), _STRIP_ROWS):
        strip = raw[top : top + _STRIP_ROWS]
        weights = _sensitivity(sensor, top=top, shape=strip.shape)
        strip[...] = _digitize(strip * weights, sensor, exposure=exposure, rng=rng) / weights


def _digitize(
    share: np.ndarray, sensor: SensorConfig, *, exposure: Exposure, rng: np.random.Generator
) -> np.ndarray:
    """Return light, in shares of saturation, after photon noise, read noise and the ADC."""
    full_e = sensor.full_well_e * sensor.base_iso / exposure.iso
    frames = exposure.frames
    electrons = rng.poisson(share * full_e * frames) / frames
    electrons += rng.normal(0, sensor.read_noise_e / frames**0.5, share.shape)
    highest = 2**sensor.adc_bits - 1
    black = round(highest * _BLACK_LEVEL)
    values = np.rint(electrons / full_e * (highest - black) + black)
    return (np.clip(values, 0, highest) - black) / (highest - black)


def _sensitivity(sensor: SensorConfig, *, top: int, shape: tuple[int, ...]) -> np.ndarray:
    """Return the sensitivity of each pixel in a strip of rows that begins at `top`."""
    if sensor.cfa == "none":
        return np.asarray(sensor.sensitivity)
    rgb = np.broadcast_to(np.asarray(sensor.sensitivity), (*shape[:2], 3))
    return _apply_cfa(rgb, top=top, left=0)


def _apply_cfa(rgb: np.ndarray, *, top: int, left: int) -> np.ndarray:
    """Return (h, w, 1): each pixel's value in its filter's color, the first at (`top`, `left`)."""
    result = np.empty((*rgb.shape[:2], 1), rgb.dtype)
    for row in (0, 1):
        for column in (0, 1):
            channel = RGGB[(row + top) % 2][(column + left) % 2]
            result[row::2, column::2, 0] = rgb[row::2, column::2, channel]
    return result
