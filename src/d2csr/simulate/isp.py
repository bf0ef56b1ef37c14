"""Development: colours filled in, white balance, tone, sharpening, and what JPEG leaves of it.

Tone: sRGB's curve both ways, and contrast on top of it.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float32, UInt8

from d2csr.images.pixels import linear_to_srgb, to_uint8
from d2csr.simulate.camera_config import DevelopmentPart


def with_contrast(
    srgb01: Float32[np.ndarray, "*grid"], slope: float
) -> Float32[np.ndarray, "*grid"]:
    """Return the values on an S whose middle has this slope; black, middle and white stay."""
    return srgb01 + np.float32(2 * (slope - 1)) * srgb01 * (1 - srgb01) * (2 * srgb01 - 1)


ROWS = 256  # developed at a time
Kernel = tuple[tuple[float | int, ...], ...]

_ALONG_ROW = ((-1, 2, 2, 2, -1),)  # green, and half of how red or blue bends; times 4
_BEND = ((-1, 0, 2, 0, -1),)
_SLOPE = ((-1, 0, 1),)
_BETWEEN = ((1, 2, 1), (2, 4, 2), (1, 2, 1))  # every second row and column, linearly; times 4


@dataclass(frozen=True)
class IspSettings:
    """How one photograph was developed: the camera's settings, and its own colour gains."""

    settings: DevelopmentPart
    gains: tuple[float, float, float] = (1.0, 1.0, 1.0)


def develop(raw: Float32[np.ndarray, "h w c"], way: IspSettings) -> UInt8[np.ndarray, "h w 3"]:
    """Return the image of what a sensor measured, of one channel of a mosaic or three."""
    height, width = raw.shape[:2]
    image = np.empty((height, width, 3), np.uint8)
    halo = 8 + int(np.ceil(4 * way.settings.sharpening_radius_px))
    halo += halo % 2
    for top in range(0, height, ROWS):
        above, below = min(halo, top), min(halo, max(height - top - ROWS, 0))
        band = raw[top - above : min(top + ROWS, height) + below]
        done = _developed(band, way)
        image[top : top + ROWS] = done[above : len(done) - below]
    return image


def _developed(raw: np.ndarray, way: IspSettings) -> UInt8[np.ndarray, "h w 3"]:
    rgb = raw if raw.shape[2] == 3 else demosaic(raw[..., 0])
    settings = way.settings
    toned = linear_to_srgb(rgb * np.asarray(way.gains, np.float32))
    toned = with_contrast(toned, settings.contrast)
    soft = cv2.GaussianBlur(toned, (0, 0), settings.sharpening_radius_px)
    return to_uint8(toned + np.float32(settings.sharpening[0]) * (toned - soft))


def demosaic(mosaic: Float32[np.ndarray, "h w"]) -> Float32[np.ndarray, "h w 3"]:
    """Return the colours of an RGGB mosaic.

    Green along the direction that changes less (Hamilton, Adams: US 5,629,734), then red and blue
    by their differences from it, linear in between.
    """
    green = mosaic.copy()
    directed = _directed_green(mosaic)
    rgb = np.empty((*mosaic.shape, 3), np.float32)
    sites = {0: (0, 0), 2: (1, 1)}
    for row, column in sites.values():
        green[row::2, column::2] = directed[row::2, column::2]
    for channel, (row, column) in sites.items():
        difference = np.zeros_like(mosaic)
        difference[row::2, column::2] = (mosaic - green)[row::2, column::2]
        rgb[..., channel] = green + _filtered(difference, _BETWEEN) / 4
    rgb[..., 1] = green
    return _without_false_colour(rgb)


def _directed_green(mosaic: Float32[np.ndarray, "h w"]) -> Float32[np.ndarray, "h w"]:
    """Return green as red and blue sites have it from their rows and columns, by steadiness."""
    estimates, changes = [], []
    for turn in (lambda kernel: kernel, lambda kernel: tuple(zip(*kernel, strict=True))):
        estimates.append(_filtered(mosaic, turn(_ALONG_ROW)) / 4)
        slope, bend = (np.abs(_filtered(mosaic, turn(each))) for each in (_SLOPE, _BEND))
        changes.append(np.square(slope + bend) + np.float32(1e-8))
    (along_row, along_column), (of_row, of_column) = estimates, changes
    return (along_row * of_column + along_column * of_row) / (of_row + of_column)


def _without_false_colour(rgb: Float32[np.ndarray, "h w 3"]) -> Float32[np.ndarray, "h w 3"]:
    """Return the image with medians of its colour differences, twice (Freeman, US 4,724,395).

    Detail finer than the mosaic's red and blue comes out as coloured fringes; they are narrow, and
    the brightness, which is green's, stays. Without it pairs teach a network to blur.
    """
    green = rgb[..., 1]
    for channel in (0, 2):
        difference = rgb[..., channel] - green
        for _ in range(2):
            difference = cv2.medianBlur(difference, 5)
        rgb[..., channel] = green + difference
    return rgb


def _filtered(mosaic: np.ndarray, kernel: Kernel) -> np.ndarray:
    weights = np.asarray(kernel, np.float32)
    return cv2.filter2D(mosaic, -1, weights, borderType=cv2.BORDER_REFLECT_101)


def jpeg_bytes(rgb8: UInt8[np.ndarray, "h w 3"], settings: DevelopmentPart) -> bytes:
    """Return an image as a JPEG file's bytes."""
    sampling = {
        "444": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
        "420": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420,
    }[settings.jpeg_chroma]
    options = [cv2.IMWRITE_JPEG_QUALITY, settings.jpeg_quality]
    options += [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, sampling]
    return cv2.imencode(".jpg", rgb8[..., ::-1], options)[1].tobytes()


def through_jpeg(
    rgb8: UInt8[np.ndarray, "h w 3"], settings: DevelopmentPart
) -> UInt8[np.ndarray, "h w 3"]:
    """Return what a JPEG file keeps of an image; all of it where the quality is 0."""
    if not settings.jpeg_quality:
        return rgb8
    coded = np.frombuffer(jpeg_bytes(rgb8, settings), np.uint8)
    decoded = cv2.imdecode(coded, cv2.IMREAD_COLOR)
    if decoded is None:
        raise RuntimeError("OpenCV can't read the JPEG file that it has written")
    return np.ascontiguousarray(decoded[..., ::-1])
