"""The one interpolation: the source tele image warped onto the wide grid times the scale.

The tele photograph as the wide one would show it: blurred to its resolution, on its grid.
"""

import cv2
import numpy as np
from jaxtyping import Float32, Float64, UInt8, UInt16

from d2csr.align.registration.photometric import ColorTransfer
from d2csr.align.registration.transform import Mapping, registered_of_wide
from d2csr.core.geometry import Region

# Green weighs as much as the eye and the mosaic give it; rounding to 8 bit is avoided.
GRAY_WEIGHTS = (0.25, 0.60, 0.15)
REDUCED_STRIP_ROWS = 512
# Share of a wide pixel that its own square blurs, as the standard deviation of a Gaussian.
PIXEL_SIGMA = 0.29
FIRST_SIGMA = 0.50  # of a wide pixel: what real zoom pairs come to, before it is estimated

NO_SECOND_MAP = np.empty(0)  # OpenCV's stub knows no maps of pairs

RgbPixels = UInt8[np.ndarray, "h w 3"] | UInt16[np.ndarray, "h w 3"]


def gray01(pixels: RgbPixels) -> Float32[np.ndarray, "h w"]:
    """Return a weighted mean of the channels, 0..1."""
    weights = np.asarray(GRAY_WEIGHTS, np.float32) / np.iinfo(pixels.dtype).max
    result = np.empty(pixels.shape[:2], np.float32)
    for start in range(0, len(pixels), REDUCED_STRIP_ROWS):
        rows = slice(start, start + REDUCED_STRIP_ROWS)
        np.dot(pixels[rows].astype(np.float32), weights, out=result[rows])
    return result


def blurred(image: Float32[np.ndarray, "h w"], sigma_px: float) -> Float32[np.ndarray, "h w"]:
    """Return an image blurred by a Gaussian; below 0.1 px nothing is done."""
    if sigma_px < 0.1:
        return image
    side = 2 * int(np.ceil(4 * sigma_px)) + 1
    return cv2.GaussianBlur(image, (side, side), sigma_px, borderType=cv2.BORDER_REFLECT_101)


def downsample_to_wide(
    blurred_tele: Float32[np.ndarray, "th tw"], mapping: Mapping, *, region: Region
) -> Float32[np.ndarray, "h w"]:
    """Return a blurred tele image on a region of the wide grid; its nearest edge beyond it."""
    x = registered_of_wide(np.arange(region.left, region.right, dtype=np.float64), mapping.scale)
    result = np.empty((region.height, region.width), np.float32)
    for start in range(0, region.height, REDUCED_STRIP_ROWS):
        stop = min(start + REDUCED_STRIP_ROWS, region.height)
        rows = np.arange(region.top + start, region.top + stop, dtype=np.float64)
        places = mapping.on_grid(x, registered_of_wide(rows, mapping.scale)).astype(np.float32)
        result[start:stop] = cv2.remap(
            blurred_tele, places, NO_SECOND_MAP, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
        )
    return result


STRIP_ROWS = 256
TAPS_PX = 5  # tele pixels beyond a position that Lanczos' kernel of order 4 draws on
# Above this many tele pixels to a registered one, what the finer grid can't hold is filtered out.
ANTIALIAS_ABOVE = 1.01
LANCZOS_LOBES = 3

Pixels = UInt8[np.ndarray, "th tw 3"] | UInt16[np.ndarray, "th tw 3"]


def warp(
    tele: Pixels, mapping: Mapping, *, region: Region, tone: ColorTransfer | None
) -> UInt8[np.ndarray, "h w 3"]:
    """Return a region of the registered grid, interpolated from the tele image in strips.

    Lanczos' kernel of order 4 on values as stored, positions to 1/32 of a tele pixel (0.009 px
    RMS). Where the tele image has more pixels than the grid, they are low-passed first.

    Args:
        tele: source image.
        mapping: from the registered grid.
        region: of the registered grid.
        tone: the wide image's look; None keeps the tele image's own.
    """
    x = np.arange(region.left, region.right, dtype=np.float64)
    result = np.empty((region.height, region.width, 3), np.uint8)
    kernel = _low_pass(mapping.tele_px_per_px)
    for start in range(0, region.height, STRIP_ROWS):
        stop = min(start + STRIP_ROWS, region.height)
        y = np.arange(region.top + start, region.top + stop, dtype=np.float64)
        values = _interpolated(tele, mapping.on_grid(x, y), kernel=kernel)
        if tone is not None:
            values = tone.applied(values, x, y=y)
        result[start:stop] = np.rint(np.clip(values, 0, 1) * 255)
    return result


def _interpolated(
    tele: Pixels, places: Float64[np.ndarray, "h w 2"], *, kernel: Float64[np.ndarray, " taps"]
) -> Float32[np.ndarray, "h w 3"]:
    """Return values 0..1 at positions of the tele image, of which only what is near is read."""
    margin = TAPS_PX + len(kernel) // 2
    low = np.maximum(np.floor(places.min((0, 1))).astype(int) - margin, 0)
    high = np.ceil(places.max((0, 1))).astype(int) + margin + 1
    near = tele[low[1] : high[1], low[0] : high[0]].astype(np.float32)
    near /= np.iinfo(tele.dtype).max
    if len(kernel) > 1:
        near = cv2.sepFilter2D(near, -1, kernel, kernel, borderType=cv2.BORDER_REFLECT_101)
    return cv2.remap(
        near,
        (places - low).astype(np.float32),
        NO_SECOND_MAP,
        cv2.INTER_LANCZOS4,
        borderMode=cv2.BORDER_REFLECT_101,
    )


def _low_pass(tele_px_per_px: float) -> Float64[np.ndarray, " taps"]:
    """Return Lanczos' kernel widened to the coarser grid's Nyquist; one tap where none is due."""
    if tele_px_per_px < ANTIALIAS_ABOVE:
        return np.ones(1)
    reach = int(np.ceil(LANCZOS_LOBES * tele_px_per_px))
    distance = np.arange(-reach, reach + 1) / tele_px_per_px
    taps = np.sinc(distance) * np.sinc(distance / LANCZOS_LOBES)
    taps[np.abs(distance) >= LANCZOS_LOBES] = 0
    return taps / taps.sum()
