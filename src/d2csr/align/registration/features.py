"""Rough registration: SIFT features, RANSAC, and the central area that both photographs show."""

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float32, Float64

from d2csr.align.registration.lens import IDENTITY, Lens
from d2csr.align.registration.transform import Mapping, project
from d2csr.core.errors import PairRejectedError
from d2csr.core.geometry import Size

FEATURES = 3000
LIMIT_PX = 1_500_000  # of an image that features are sought in
RATIO_TEST = 0.8  # Lowe, IJCV 60 (2004), section 7.1
RANSAC_PX = 2.5
LEAST_MATCHES = 14
LEAST_SHARE = 0.12  # of the matches that agree with the matrix


@dataclass(frozen=True)
class CoarseRegistration:
    """A first matrix and how well founded it is.

    Attributes:
        matrix: from the registered grid to the tele photograph.
        matches: features that agree with it.
        share: of all matched features.
    """

    matrix: Float64[np.ndarray, "3 3"]
    matches: int
    share: float


def register_coarse(
    wide: Float32[np.ndarray, "h w"],
    tele: Float32[np.ndarray, "th tw"],
    *,
    scale: int,
    ratio: float | None = None,
    lenses: tuple[Lens, Lens] = (IDENTITY, IDENTITY),
) -> CoarseRegistration:
    """Return the matrix that brings most SIFT features together.

    The middle of the wide frame is searched first, then all of it.

    Args:
        wide: gray, 0..1.
        tele: gray, 0..1.
        scale: of the registered grid.
        ratio: of the focal lengths, where EXIF tells it.
        lenses: of the wide and the tele photograph, undone first.

    Raises:
        PairRejectedError: too few features agree.
    """
    expected = ratio or float(scale)
    shrink = expected * max(1.0, np.sqrt(tele.size / expected**2 / LIMIT_PX))
    small_tele, tele_factor = _shrunk(tele, shrink)
    tele_features = _features(small_tele, tele_factor)
    worst: PairRejectedError | None = None
    for share in _searched(wide, tele, expected=expected):
        part, corner = _centre(wide, share)
        factor = max(shrink / expected, np.sqrt(part.size / (4 * LIMIT_PX)))
        small_wide, wide_factor = _shrunk(part, factor)
        places, descriptors = _features(small_wide, wide_factor)
        try:
            return _matched(
                (places + corner, descriptors), tele_features, wide_size=Size(*wide.shape[::-1]),
                tele_size=Size(*tele.shape[::-1]), scale=scale, lenses=lenses,
                tolerance_px=RANSAC_PX * shrink,
            )  # fmt: skip
        except PairRejectedError as rejection:
            worst = rejection
    raise worst or PairRejectedError(
        "features", "the photographs are too small to find features in"
    )


def _searched(wide: np.ndarray, tele: np.ndarray, *, expected: float) -> list[float]:
    """Return the shares of the wide frame to search: twice the tele field, then everything."""
    field = max(t / expected / w for t, w in zip(tele.shape, wide.shape, strict=True))
    return [2 * field, 1.0] if 2 * field < 0.9 else [1.0]


def _centre(image: np.ndarray, share: float) -> tuple[np.ndarray, Float64[np.ndarray, "2"]]:
    height, width = (max(1, round(side * share)) for side in image.shape)
    top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
    return image[top : top + height, left : left + width], np.array([left, top], np.float64)


def _shrunk(image: np.ndarray, factor: float) -> tuple[np.ndarray, Float64[np.ndarray, "2"]]:
    """Return a reduced image, and the true factors of its columns and rows."""
    if factor <= 1.01:
        return image, np.ones(2)
    height, width = (max(8, round(side / factor)) for side in image.shape)
    small = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    return small, np.array([image.shape[1] / width, image.shape[0] / height])


def _features(
    image: np.ndarray, factor: Float64[np.ndarray, "2"]
) -> tuple[Float64[np.ndarray, "n 2"], np.ndarray]:
    """Return places, in pixels before shrinking, and descriptors (RootSIFT)."""
    low, high = np.percentile(image, (0.5, 99.5))
    stretched = np.clip((image - low) / max(high - low, 0.02), 0, 1) * 255
    finder = cv2.SIFT.create(nfeatures=FEATURES, contrastThreshold=0.02)
    found, descriptors = finder.detectAndCompute(stretched.astype(np.uint8), None)
    if descriptors is None:
        return np.zeros((0, 2)), np.zeros((0, 128), np.float32)
    places = np.array([point.pt for point in found], np.float64)
    root = np.sqrt(descriptors / (descriptors.sum(1, keepdims=True) + 1e-7))
    return (places + 0.5) * factor - 0.5, root.astype(np.float32)


def _matched(  # noqa: PLR0913 - both frames, both sizes
    wide: tuple[np.ndarray, np.ndarray],
    tele: tuple[np.ndarray, np.ndarray],
    *,
    wide_size: Size,
    tele_size: Size,
    scale: int,
    lenses: tuple[Lens, Lens],
    tolerance_px: float,
) -> CoarseRegistration:
    pairs = _likely(wide[1], tele[1])
    if len(pairs) < LEAST_MATCHES:
        problem = f"only {len(pairs)} features look alike; {LEAST_MATCHES} are needed"
        raise PairRejectedError("features", problem)
    registered = (wide[0][pairs[:, 0]] + 0.5) * scale - 0.5
    unbent = Mapping(scale, wide_size, tele_size, np.eye(3), *lenses)
    start = unbent.ideal_wide(registered)
    goal = unbent.ideal_tele(tele[0][pairs[:, 1]])
    cv2.setRNGSeed(0)
    matrix, agrees = cv2.findHomography(
        start, goal, cv2.USAC_MAGSAC, tolerance_px, maxIters=5000, confidence=0.9999
    )
    matches = 0 if matrix is None else int(agrees.sum())
    share = matches / len(pairs)
    if matches < LEAST_MATCHES or share < LEAST_SHARE:
        problem = f"{matches} of {len(pairs)} features agree on one position"
        raise PairRejectedError(
            "features", f"{problem}; {LEAST_MATCHES} and {LEAST_SHARE:.0%} are needed"
        )
    matrix = np.asarray(matrix, np.float64) / matrix[2, 2]
    _refuse_implausible(matrix, wide_size.times(scale), tele=tele_size)
    return CoarseRegistration(matrix, matches, share)


def _likely(wide: np.ndarray, tele: np.ndarray) -> np.ndarray:
    """Return index pairs of features alike, each the other's best by a clear margin."""
    if len(wide) < 2 or len(tele) < 2:
        return np.zeros((0, 2), np.int64)
    matcher = cv2.BFMatcher(cv2.NORM_L2)
    there = {
        best.queryIdx: best.trainIdx
        for best, second in matcher.knnMatch(tele, wide, k=2)
        if best.distance < RATIO_TEST * second.distance
    }
    back = {match.queryIdx: match.trainIdx for match in matcher.match(wide, tele)}
    pairs = [(of_wide, of_tele) for of_tele, of_wide in there.items() if back[of_wide] == of_tele]
    return np.array(pairs, np.int64).reshape(-1, 2)


def _refuse_implausible(matrix: np.ndarray, registered: Size, *, tele: Size) -> None:
    """Refuse matrices that no zoom makes: mirrored, folded, or stretched one way."""
    corners = np.array([[0, 0], [1, 0], [1, 1], [0, 1]]) * (np.array(tele) - 1.0)
    quad = project(np.linalg.inv(matrix), corners)
    sides = np.linalg.norm(np.roll(quad, -1, 0) - quad, axis=1) / np.linalg.norm(
        np.roll(corners, -1, 0) - corners, axis=1
    )
    x, y = np.roll(quad, -1, 0) - quad, np.roll(quad, -2, 0) - np.roll(quad, -1, 0)
    turns = x[:, 0] * y[:, 1] - x[:, 1] * y[:, 0]
    if (turns <= 0).any() or sides.max() > 1.5 * sides.min():
        raise PairRejectedError("geometry", "the features agree on a mirrored or folded image")
    middle = quad.mean(0)
    if (middle < 0).any() or (middle > np.array(registered)).any():
        raise PairRejectedError("geometry", "the tele image lies outside the wide one")
