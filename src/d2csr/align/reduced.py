"""The tele photograph as the wide one would show it: blurred to its resolution, on its grid."""

import cv2
import numpy as np
from jaxtyping import Float32, UInt8, UInt16

from d2csr.align.mapping import Mapping, registered_of_wide
from d2csr.align.region import Region

# Green weighs as much as the eye and the mosaic give it; rounding to 8 bit is avoided.
GRAY_WEIGHTS = (0.25, 0.60, 0.15)
BAND_ROWS = 512
# Share of a wide pixel that its own square blurs, as the standard deviation of a Gaussian.
PIXEL_SIGMA = 0.29
FIRST_SIGMA = 0.50  # of a wide pixel: what real zoom pairs come to, before it is estimated

NO_SECOND_MAP = np.empty(0)  # OpenCV's stub knows no maps of pairs

Pixels = UInt8[np.ndarray, "h w 3"] | UInt16[np.ndarray, "h w 3"]


def gray01(pixels: Pixels) -> Float32[np.ndarray, "h w"]:
    """Return a weighted mean of the channels, 0..1."""
    weights = np.asarray(GRAY_WEIGHTS, np.float32) / np.iinfo(pixels.dtype).max
    result = np.empty(pixels.shape[:2], np.float32)
    for start in range(0, len(pixels), BAND_ROWS):
        rows = slice(start, start + BAND_ROWS)
        np.dot(pixels[rows].astype(np.float32), weights, out=result[rows])
    return result


def blurred(image: Float32[np.ndarray, "h w"], sigma_px: float) -> Float32[np.ndarray, "h w"]:
    """Return a picture blurred by a Gaussian; below 0.1 px nothing is done."""
    if sigma_px < 0.1:
        return image
    side = 2 * int(np.ceil(4 * sigma_px)) + 1
    return cv2.GaussianBlur(image, (side, side), sigma_px, borderType=cv2.BORDER_REFLECT_101)


def reduced(
    blurred_tele: Float32[np.ndarray, "th tw"], mapping: Mapping, *, region: Region
) -> Float32[np.ndarray, "h w"]:
    """Return a blurred tele picture on a region of the wide grid; its nearest edge beyond it."""
    x = registered_of_wide(np.arange(region.left, region.right, dtype=np.float64), mapping.scale)
    result = np.empty((region.height, region.width), np.float32)
    for start in range(0, region.height, BAND_ROWS):
        stop = min(start + BAND_ROWS, region.height)
        rows = np.arange(region.top + start, region.top + stop, dtype=np.float64)
        places = mapping.on_grid(x, registered_of_wide(rows, mapping.scale)).astype(np.float32)
        result[start:stop] = cv2.remap(
            blurred_tele, places, NO_SECOND_MAP, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
        )
    return result
