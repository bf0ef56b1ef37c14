"""Trust per place: the confidence map of a dense registration, and the mask for training from it.

Each criterion is a value divided by its limit. Confidence is 1 where all of them are 0, and at
least 0.5 where none of them exceeds its limit; there a pixel is trusted. The limits were chosen on
simulated pairs of two lenses (docs/log.md).
"""

import cv2
import numpy as np
from jaxtyping import Bool, Float32

from d2csr.align.registration.dense import DenseRegistration
from d2csr.align.registration.field import Displacements
from d2csr.align.registration.transform import Mapping, registered_of_wide
from d2csr.align.registration.warp import TAPS_PX, gaussian_blur
from d2csr.core.geometry import Region

MIN_CONFIDENCE = 0.5
MAX_DEVIATION_PX = 0.10  # standard deviation of a displacement, in wide pixels
MAX_DISAGREEMENT_PX = 1.0  # between the flows forward and backward
MAX_OUTLIERS = 0.75  # share of the information around a place that contradicts its displacement
MAX_SLOPE = 0.12  # of the field, per pixel: edges of depth are steeper
EDGE_PX = 6  # distance from such an edge within which patches see both sides
MAX_DISSIMILARITY = 0.1  # share of the texture that the other image doesn't explain
MAX_DIFFERENCE = 0.10  # of full range, over a few pixels
MAX_UNFOLDED_PX = 0.05  # change of a displacement when folds are removed
SOFTENING_PX = 1.0  # without it, aliasing lowers the similarity
WINDOW_PX = 17
TEXTURED = 0.02  # contrast, 0..1, of places with texture
SMALLEST_PX = 64  # area of the smallest trusted place

Gray = Float32[np.ndarray, "h w"]


def build_confidence(dense: DenseRegistration, images: tuple[Gray, Gray]) -> Gray:
    """Return the confidence of each pixel, 0..1; at least `MIN_CONFIDENCE` where it is trusted.

    Args:
        dense: registration of the region.
        images: wide image of the region, and tele image on the same grid under the dense field,
            with the brightness of the wide one.
    """
    fixed, moving = images
    soft = gaussian_blur(fixed, SOFTENING_PX), gaussian_blur(moving, SOFTENING_PX)
    difference = np.abs(cv2.GaussianBlur(fixed - moving, (0, 0), 2.0))
    worst = np.maximum.reduce(
        [
            dense.deviation_px / MAX_DEVIATION_PX,
            dense.flows.disagreement_px / MAX_DISAGREEMENT_PX,
            (1 - dense.support) / MAX_OUTLIERS,
            (1 - _correlation(*soft)) * has_texture(soft[0]) / MAX_DISSIMILARITY,
            _steepness(dense.field.values) / MAX_SLOPE,
            difference / MAX_DIFFERENCE,
        ]
    )
    return np.clip(1 - (1 - MIN_CONFIDENCE) * worst, 0, 1).astype(np.float32)


def trusted_pixels(confidence: Gray) -> Bool[np.ndarray, "h w"]:
    """Return the pixels with enough confidence, without specks."""
    trusted = (confidence >= MIN_CONFIDENCE).astype(np.uint8)
    _, labels, areas, _ = cv2.connectedComponentsWithStats(trusted, connectivity=4)
    large = np.flatnonzero(areas[:, cv2.CC_STAT_AREA] >= SMALLEST_PX)
    return (trusted > 0) & np.isin(labels, large)


def is_unchanged(before: Displacements, after: Displacements) -> Bool[np.ndarray, "h w"]:
    """Return whether displacements stayed the same when folds were removed."""
    return np.hypot(*np.moveaxis(after - before, -1, 0)) <= MAX_UNFOLDED_PX


def is_inside_tele(mapping: Mapping, region: Region) -> Bool[np.ndarray, "h w"]:
    """Return whether the tele frame has each pixel of a region, with the taps around it."""
    x, y = (
        registered_of_wide(np.arange(start, stop, dtype=np.float64), mapping.scale)
        for start, stop in ((region.left, region.right), (region.top, region.bottom))
    )
    positions = mapping.on_grid(x, y)
    last = np.array(mapping.tele, np.float64) - 1 - TAPS_PX
    return np.all((positions >= TAPS_PX) & (positions <= last), axis=-1)


def has_texture(image: Gray) -> Bool[np.ndarray, "h w"]:
    """Return whether there is texture around each pixel."""
    return _moments(image, image) > TEXTURED**2


def _moments(a: Gray, b: Gray) -> Gray:
    """Return the covariance of two images in a window around each pixel."""
    side = (WINDOW_PX, WINDOW_PX)
    mean = float(a.mean()), float(b.mean())  # sums of squares about 0 would lose digits
    a, b = a - mean[0], b - mean[1]
    return cv2.blur(a * b, side) - cv2.blur(a, side) * cv2.blur(b, side)


def _correlation(fixed: Gray, moving: Gray) -> Gray:
    """Return the share of the texture of the wide image that the tele image explains, 0..1."""
    both = np.maximum(_moments(fixed, moving), 0)
    powers = np.maximum(_moments(fixed, fixed) * _moments(moving, moving), 1e-14)
    return np.minimum(both * both / powers, 1)


def _steepness(values: Displacements) -> Gray:
    """Return the largest slope of the field within `EDGE_PX` of each pixel."""
    smooth = cv2.GaussianBlur(values, (0, 0), 2.0)
    down, across = np.gradient(smooth, axis=(0, 1))
    slope = np.sqrt((down**2 + across**2).sum(-1)).astype(np.float32)
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * EDGE_PX + 1, 2 * EDGE_PX + 1))
    return cv2.dilate(slope, disc)
