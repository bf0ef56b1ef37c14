"""The one interpolation: the source tele picture warped onto the wide grid times the scale."""

import cv2
import numpy as np
from jaxtyping import Float32, Float64, UInt8, UInt16

from d2csr.align.mapping import Mapping
from d2csr.align.reduced import NO_SECOND_MAP
from d2csr.align.region import Region
from d2csr.align.tone import Tone

BAND_ROWS = 256
TAPS_PX = 5  # tele pixels beyond a position that Lanczos' kernel of order 4 draws on
# Above this many tele pixels to a registered one, what the finer grid can't hold is filtered out.
ANTIALIAS_ABOVE = 1.01
LANCZOS_LOBES = 3

Pixels = UInt8[np.ndarray, "th tw 3"] | UInt16[np.ndarray, "th tw 3"]


def warped(
    tele: Pixels, mapping: Mapping, *, region: Region, tone: Tone | None
) -> UInt8[np.ndarray, "h w 3"]:
    """Return a region of the registered grid, interpolated from the tele picture in strips.

    Lanczos' kernel of order 4 on values as stored, positions to 1/32 of a tele pixel (0.009 px
    RMS). Where the tele picture has more pixels than the grid, they are low-passed first.

    Args:
        tele: source picture.
        mapping: from the registered grid.
        region: of the registered grid.
        tone: the wide picture's look; None keeps the tele picture's own.
    """
    x = np.arange(region.left, region.right, dtype=np.float64)
    result = np.empty((region.height, region.width, 3), np.uint8)
    kernel = _low_pass(mapping.tele_px_per_px)
    for start in range(0, region.height, BAND_ROWS):
        stop = min(start + BAND_ROWS, region.height)
        y = np.arange(region.top + start, region.top + stop, dtype=np.float64)
        values = _interpolated(tele, mapping.on_grid(x, y), kernel=kernel)
        if tone is not None:
            values = tone.applied(values, x, y=y)
        result[start:stop] = np.rint(np.clip(values, 0, 1) * 255)
    return result


def _interpolated(
    tele: Pixels, places: Float64[np.ndarray, "h w 2"], *, kernel: Float64[np.ndarray, " taps"]
) -> Float32[np.ndarray, "h w 3"]:
    """Return values 0..1 at positions of the tele picture, of which only what is near is read."""
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
