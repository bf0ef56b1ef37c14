"""Resampling of the tele image: to the registered grid for HR, to the wide grid for estimation.

HR is interpolated once, from the source pixels. For estimation the tele image is blurred to the
resolution of the wide one and sampled on its grid.
"""

import cv2
import numpy as np
from jaxtyping import Float32, Float64, UInt8, UInt16

from d2csr.align.registration.photometric import ColorTransfer
from d2csr.align.registration.transform import Mapping, registered_of_wide
from d2csr.core.geometry import Region

# About the luma weights, with more of the green that a Bayer mosaic samples most densely.
GRAY_WEIGHTS = (0.25, 0.60, 0.15)
GRAY_STRIP_ROWS = 512
INITIAL_SIGMA = 0.50  # wide pixels; typical of real zoom pairs, used until it is estimated

NO_SECOND_MAP = np.empty(0)  # OpenCV's type stub has no overload for maps of pairs

RgbPixels = UInt8[np.ndarray, "h w 3"] | UInt16[np.ndarray, "h w 3"]


def to_gray01(pixels: RgbPixels) -> Float32[np.ndarray, "h w"]:
    """Return the weighted mean of the channels, 0..1."""
    weights = np.asarray(GRAY_WEIGHTS, np.float32) / np.iinfo(pixels.dtype).max
    result = np.empty(pixels.shape[:2], np.float32)
    for start in range(0, len(pixels), GRAY_STRIP_ROWS):
        rows = slice(start, start + GRAY_STRIP_ROWS)
        np.dot(pixels[rows].astype(np.float32), weights, out=result[rows])
    return result


def gaussian_blur(image: Float32[np.ndarray, "h w"], sigma_px: float) -> Float32[np.ndarray, "h w"]:
    """Return an image blurred by a Gaussian; the image itself for less than 0.1 px."""
    if sigma_px < 0.1:
        return image
    side = 2 * int(np.ceil(4 * sigma_px)) + 1
    return cv2.GaussianBlur(image, (side, side), sigma_px, borderType=cv2.BORDER_REFLECT_101)


def downsample_to_wide(
    blurred_tele: Float32[np.ndarray, "th tw"], mapping: Mapping, *, region: Region
) -> Float32[np.ndarray, "h w"]:
    """Return a blurred tele image on a region of the wide grid, edge pixels repeated outside."""
    x = registered_of_wide(np.arange(region.left, region.right, dtype=np.float64), mapping.scale)
    result = np.empty((region.height, region.width), np.float32)
    for start in range(0, region.height, GRAY_STRIP_ROWS):
        stop = min(start + GRAY_STRIP_ROWS, region.height)
        rows = np.arange(region.top + start, region.top + stop, dtype=np.float64)
        positions = mapping.on_grid(x, registered_of_wide(rows, mapping.scale)).astype(np.float32)
        result[start:stop] = cv2.remap(
            blurred_tele, positions, NO_SECOND_MAP, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
        )
    return result


STRIP_ROWS = 256
TAPS_PX = 5  # tele pixels around a position that the Lanczos kernel of order 4 needs
# With more tele pixels than this to a registered one, a low-pass filter prevents aliasing.
ANTIALIAS_ABOVE = 1.01
LANCZOS_LOBES = 3

Pixels = UInt8[np.ndarray, "th tw 3"] | UInt16[np.ndarray, "th tw 3"]


def warp(
    tele: Pixels, mapping: Mapping, *, region: Region, transfer: ColorTransfer | None
) -> UInt8[np.ndarray, "h w 3"]:
    """Return a region of the registered grid, interpolated from the tele image strip by strip.

    Uses the Lanczos kernel of order 4 on stored values, with positions rounded to 1/32 of a tele
    pixel (0.009 px RMS). A tele image with more pixels than the grid is low-pass filtered first.

    Args:
        tele: source image.
        mapping: from the registered grid to the tele image.
        region: part of the registered grid.
        transfer: color transfer to the wide image; None keeps the colors of the tele image.
    """
    x = np.arange(region.left, region.right, dtype=np.float64)
    result = np.empty((region.height, region.width, 3), np.uint8)
    kernel = _low_pass_kernel(mapping.tele_px_per_px)
    for start in range(0, region.height, STRIP_ROWS):
        stop = min(start + STRIP_ROWS, region.height)
        y = np.arange(region.top + start, region.top + stop, dtype=np.float64)
        values = _interpolate(tele, mapping.on_grid(x, y), kernel=kernel)
        if transfer is not None:
            values = transfer.apply(values, x, y=y)
        result[start:stop] = np.rint(np.clip(values, 0, 1) * 255)
    return result


def _interpolate(
    tele: Pixels, positions: Float64[np.ndarray, "h w 2"], *, kernel: Float64[np.ndarray, " taps"]
) -> Float32[np.ndarray, "h w 3"]:
    """Return interpolated values 0..1 at positions of the tele image."""
    positions = np.clip(positions, 0, np.array(tele.shape[1::-1]) - 1.0)  # a field leads outside
    margin = TAPS_PX + len(kernel) // 2
    low = np.maximum(np.floor(positions.min((0, 1))).astype(int) - margin, 0)
    high = np.ceil(positions.max((0, 1))).astype(int) + margin + 1
    near = tele[low[1] : high[1], low[0] : high[0]].astype(np.float32)
    near /= np.iinfo(tele.dtype).max
    if len(kernel) > 1:
        near = cv2.sepFilter2D(near, -1, kernel, kernel, borderType=cv2.BORDER_REFLECT_101)
    return cv2.remap(
        near,
        (positions - low).astype(np.float32),
        NO_SECOND_MAP,
        cv2.INTER_LANCZOS4,
        borderMode=cv2.BORDER_REFLECT_101,
    )


def _low_pass_kernel(tele_px_per_px: float) -> Float64[np.ndarray, " taps"]:
    """Return a Lanczos kernel with cutoff at the Nyquist frequency of the coarser grid."""
    if tele_px_per_px < ANTIALIAS_ABOVE:
        return np.ones(1)
    radius = int(np.ceil(LANCZOS_LOBES * tele_px_per_px))
    distance = np.arange(-radius, radius + 1) / tele_px_per_px
    taps = np.sinc(distance) * np.sinc(distance / LANCZOS_LOBES)
    taps[np.abs(distance) >= LANCZOS_LOBES] = 0
    return taps / taps.sum()
