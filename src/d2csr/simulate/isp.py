"""The image signal processor: demosaicing, white balance, tone curve, sharpening, JPEG."""

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float32, UInt8

from d2csr.images.pixels import linear_to_srgb, to_uint8
from d2csr.simulate.camera_config import IspConfig


def apply_contrast(
    srgb01: Float32[np.ndarray, "*grid"], slope: float
) -> Float32[np.ndarray, "*grid"]:
    """Return values on an S-curve with this slope in the middle; black, middle and white stay."""
    return srgb01 + np.float32(2 * (slope - 1)) * srgb01 * (1 - srgb01) * (2 * srgb01 - 1)


_STRIP_ROWS = 256  # processed at once
_NOISE_REDUCTION_RADIUS_PX = 3
Kernel = tuple[tuple[float | int, ...], ...]

_GREEN_ALONG_ROW = ((-1, 2, 2, 2, -1),)  # with the curvature of red or blue; times 4
_CURVATURE = ((-1, 0, 2, 0, -1),)
_SLOPE = ((-1, 0, 1),)
_BILINEAR = ((1, 2, 1), (2, 4, 2), (1, 2, 1))  # of every second row and column; times 4


@dataclass(frozen=True)
class IspSettings:
    """The processing of one photograph: the camera's settings, and the sampled gains of R, G, B."""

    config: IspConfig
    gains: tuple[float, float, float] = (1.0, 1.0, 1.0)


def develop(raw: Float32[np.ndarray, "h w c"], isp: IspSettings) -> UInt8[np.ndarray, "h w 3"]:
    """Return the image made from raw values with one channel (a mosaic) or three."""
    height, width = raw.shape[:2]
    image = np.empty((height, width, 3), np.uint8)
    halo = 8 + _NOISE_REDUCTION_RADIUS_PX + int(np.ceil(4 * isp.config.sharpening_radius_px[0]))
    halo += halo % 2
    for top in range(0, height, _STRIP_ROWS):
        above, below = min(halo, top), min(halo, max(height - top - _STRIP_ROWS, 0))
        strip = raw[top - above : min(top + _STRIP_ROWS, height) + below]
        developed = _develop_strip(strip, isp)
        image[top : top + _STRIP_ROWS] = developed[above : len(developed) - below]
    return image


def _develop_strip(raw: np.ndarray, isp: IspSettings) -> UInt8[np.ndarray, "h w 3"]:
    rgb = raw if raw.shape[2] == 3 else demosaic(raw[..., 0])
    srgb01 = linear_to_srgb(rgb * np.asarray(isp.gains, np.float32))
    srgb01 = apply_contrast(srgb01, isp.config.contrast)
    levels = isp.config.noise_reduction[0]
    if levels:
        size, spread_px = 2 * _NOISE_REDUCTION_RADIUS_PX + 1, _NOISE_REDUCTION_RADIUS_PX / 1.5
        srgb01 = cv2.bilateralFilter(srgb01, size, levels / 255, spread_px)
    amount, radius_px = isp.config.sharpening[0], isp.config.sharpening_radius_px[0]
    return to_uint8(sharpen(srgb01, amount=amount, radius_px=radius_px))


def sharpen(
    srgb01: Float32[np.ndarray, "h w 3"], *, amount: float, radius_px: float
) -> Float32[np.ndarray, "h w 3"]:
    """Return the image with an unsharp mask added, not clipped."""
    blurred = cv2.GaussianBlur(srgb01, (0, 0), radius_px)
    return srgb01 + np.float32(amount) * (srgb01 - blurred)


def demosaic(mosaic: Float32[np.ndarray, "h w"]) -> Float32[np.ndarray, "h w 3"]:
    """Return the RGB image of an RGGB mosaic.

    Green is interpolated along the direction that changes less (Hamilton, Adams: US 5,629,734), red
    and blue by bilinear interpolation of their differences from green.
    """
    green = mosaic.copy()
    interpolated = _interpolate_green(mosaic)
    rgb = np.empty((*mosaic.shape, 3), np.float32)
    sites = {0: (0, 0), 2: (1, 1)}
    for row, column in sites.values():
        green[row::2, column::2] = interpolated[row::2, column::2]
    for channel, (row, column) in sites.items():
        difference = np.zeros_like(mosaic)
        difference[row::2, column::2] = (mosaic - green)[row::2, column::2]
        rgb[..., channel] = green + _convolve(difference, _BILINEAR) / 4
    rgb[..., 1] = green
    return _suppress_false_color(rgb)


def _interpolate_green(mosaic: Float32[np.ndarray, "h w"]) -> Float32[np.ndarray, "h w"]:
    """Return green interpolated along rows and columns, weighted by the smoothness of each."""
    estimates, changes = [], []
    for turn in (lambda kernel: kernel, lambda kernel: tuple(zip(*kernel, strict=True))):
        estimates.append(_convolve(mosaic, turn(_GREEN_ALONG_ROW)) / 4)
        slope, curvature = (np.abs(_convolve(mosaic, turn(each))) for each in (_SLOPE, _CURVATURE))
        changes.append(np.square(slope + curvature) + np.float32(1e-8))
    (along_row, along_column), (of_row, of_column) = estimates, changes
    return (along_row * of_column + along_column * of_row) / (of_row + of_column)


def _suppress_false_color(rgb: Float32[np.ndarray, "h w 3"]) -> Float32[np.ndarray, "h w 3"]:
    """Return the image with its color differences median-filtered twice (Freeman, US 4,724,395).

    Detail finer than the red and blue pixels becomes narrow color fringes. The median removes them
    and leaves the brightness, which is green's. Without it, pairs would teach a network to blur.
    """
    green = rgb[..., 1]
    for channel in (0, 2):
        difference = rgb[..., channel] - green
        for _ in range(2):
            difference = cv2.medianBlur(difference, 5)
        rgb[..., channel] = green + difference
    return rgb


def _convolve(mosaic: np.ndarray, kernel: Kernel) -> np.ndarray:
    weights = np.asarray(kernel, np.float32)
    return cv2.filter2D(mosaic, -1, weights, borderType=cv2.BORDER_REFLECT_101)


def encode_jpeg(rgb8: UInt8[np.ndarray, "h w 3"], config: IspConfig) -> bytes:
    """Return an image as the contents of a JPEG file."""
    sampling = {
        "444": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
        "420": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420,
    }[config.jpeg_subsampling]
    options = [cv2.IMWRITE_JPEG_QUALITY, config.jpeg_quality[0]]
    options += [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, sampling]
    return cv2.imencode(".jpg", rgb8[..., ::-1], options)[1].tobytes()


def compress_jpeg(
    rgb8: UInt8[np.ndarray, "h w 3"], config: IspConfig
) -> UInt8[np.ndarray, "h w 3"]:
    """Return an image after JPEG compression; unchanged if the quality is 0."""
    if not config.jpeg_quality[0]:
        return rgb8
    contents = np.frombuffer(encode_jpeg(rgb8, config), np.uint8)
    decoded = cv2.imdecode(contents, cv2.IMREAD_COLOR)
    if decoded is None:
        raise RuntimeError("OpenCV can't decode the JPEG file that it has encoded")
    return np.ascontiguousarray(decoded[..., ::-1])
