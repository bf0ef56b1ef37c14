"""Coarse registration: a homography from SIFT features by RANSAC, central area first."""

from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Float32, Float64

from d2csr.align.registration.transform import Mapping, project, registered_of_wide
from d2csr.core.errors import PairRejectedError

MAX_FEATURES = 3000
MAX_IMAGE_PX = 1_500_000  # larger images are downsampled before features are detected
RATIO_TEST = 0.8  # Lowe, IJCV 60 (2004), section 7.1
RANSAC_PX = 2.5
MIN_INLIERS = 14
MIN_INLIER_SHARE = 0.12  # of all matches


@dataclass(frozen=True)
class CoarseRegistration:
    """Homography of the coarse registration and the support for it.

    Attributes:
        mapping: from the registered grid to the tele photograph, without a mesh.
        inliers: number of matched features that agree with it.
    """

    mapping: Mapping
    inliers: int


class _Features(NamedTuple):
    positions: Float64[np.ndarray, "n 2"]
    descriptors: Float32[np.ndarray, "n 128"]


def register_coarse(
    wide: Float32[np.ndarray, "h w"],
    tele: Float32[np.ndarray, "th tw"],
    *,
    initial: Mapping,
    focal_ratio: float | None = None,
) -> CoarseRegistration:
    """Return the homography with the most SIFT inliers.

    The centre of the wide frame is searched first, then all of it.

    Args:
        wide: gray, 0..1.
        tele: gray, 0..1.
        initial: gives scale, sizes and lenses; its matrix is ignored.
        focal_ratio: ratio of the focal lengths, if known from EXIF.

    Raises:
        PairRejectedError: too few features agree.
    """
    ratio = focal_ratio or float(initial.scale)
    shrink = ratio * max(1.0, np.sqrt(tele.size / ratio**2 / MAX_IMAGE_PX))
    tele_features = _detect_features(*_downsample(tele, shrink))
    rejection = PairRejectedError("features", "the photographs are too small to detect features in")
    for share in _search_shares(wide, tele, ratio=ratio):
        center, corner = _crop_center(wide, share)
        factor = max(shrink / ratio, np.sqrt(center.size / (4 * MAX_IMAGE_PX)))
        found = _detect_features(*_downsample(center, factor))
        wide_features = _Features(found.positions + corner, found.descriptors)
        tolerance_px = RANSAC_PX * shrink
        try:
            return _fit_homography(
                wide_features, tele_features, initial=initial, tolerance_px=tolerance_px
            )
        except PairRejectedError as error:
            rejection = error
    raise rejection


def _search_shares(wide: np.ndarray, tele: np.ndarray, *, ratio: float) -> list[float]:
    """Return the shares of the wide frame to search: twice the tele field of view, then all."""
    field = max(t / ratio / w for t, w in zip(tele.shape, wide.shape, strict=True))
    return [2 * field, 1.0] if 2 * field < 0.9 else [1.0]


def _crop_center(image: np.ndarray, share: float) -> tuple[np.ndarray, Float64[np.ndarray, "2"]]:
    """Return the centre of an image and the position of its first pixel."""
    height, width = (max(1, round(side * share)) for side in image.shape)
    top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
    return image[top : top + height, left : left + width], np.array([left, top], np.float64)


def _downsample(image: np.ndarray, factor: float) -> tuple[np.ndarray, Float64[np.ndarray, "2"]]:
    """Return a downsampled image and the exact factors of its columns and rows."""
    if factor <= 1.01:
        return image, np.ones(2)
    height, width = (max(8, round(side / factor)) for side in image.shape)
    small = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    return small, np.array([image.shape[1] / width, image.shape[0] / height])


def _detect_features(image: np.ndarray, factor: Float64[np.ndarray, "2"]) -> _Features:
    """Return RootSIFT features, with positions in pixels of the image before downsampling."""
    low, high = np.percentile(image, (0.5, 99.5))
    stretched = np.clip((image - low) / max(high - low, 0.02), 0, 1) * 255
    sift = cv2.SIFT.create(nfeatures=MAX_FEATURES, contrastThreshold=0.02)
    keypoints, descriptors = sift.detectAndCompute(stretched.astype(np.uint8), None)
    if descriptors is None:
        return _Features(np.zeros((0, 2)), np.zeros((0, 128), np.float32))
    positions = np.array([point.pt for point in keypoints], np.float64)
    root = np.sqrt(descriptors / (descriptors.sum(1, keepdims=True) + 1e-7))
    return _Features((positions + 0.5) * factor - 0.5, root.astype(np.float32))


def _fit_homography(
    wide: _Features, tele: _Features, *, initial: Mapping, tolerance_px: float
) -> CoarseRegistration:
    """Return the homography between matched features, by MAGSAC.

    Raises:
        PairRejectedError: too few inliers, or a homography that no zoom lens produces.
    """
    matches = _match_features(wide.descriptors, tele.descriptors)
    if len(matches) < MIN_INLIERS:
        problem = f"only {len(matches)} features match; {MIN_INLIERS} are needed"
        raise PairRejectedError("features", problem)
    source = initial.ideal_wide(registered_of_wide(wide.positions[matches[:, 0]], initial.scale))
    target = initial.ideal_tele(tele.positions[matches[:, 1]])
    cv2.setRNGSeed(0)
    matrix, inlier_mask = cv2.findHomography(
        source, target, cv2.USAC_MAGSAC, tolerance_px, maxIters=5000, confidence=0.9999
    )
    inliers = 0 if matrix is None else int(inlier_mask.sum())
    if inliers < max(MIN_INLIERS, MIN_INLIER_SHARE * len(matches)):
        problem = f"{inliers} of {len(matches)} matched features agree on one geometry"
        raise PairRejectedError(
            "features", f"{problem}; {MIN_INLIERS} and {MIN_INLIER_SHARE:.0%} are needed"
        )
    mapping = initial.with_matrix(np.asarray(matrix, np.float64), None)
    _check_plausible(mapping)
    return CoarseRegistration(mapping, inliers)


def _match_features(wide: np.ndarray, tele: np.ndarray) -> np.ndarray:
    """Return index pairs (wide, tele) of mutual best matches that pass Lowe's ratio test."""
    if len(wide) < 2 or len(tele) < 2:
        return np.zeros((0, 2), np.int64)
    matcher = cv2.BFMatcher(cv2.NORM_L2)
    forward = {
        best.queryIdx: best.trainIdx
        for best, second in matcher.knnMatch(tele, wide, k=2)
        if best.distance < RATIO_TEST * second.distance
    }
    backward = {match.queryIdx: match.trainIdx for match in matcher.match(wide, tele)}
    pairs = [
        (wide_index, tele_index)
        for tele_index, wide_index in forward.items()
        if backward[wide_index] == tele_index
    ]
    return np.array(pairs, np.int64).reshape(-1, 2)


def _check_plausible(mapping: Mapping) -> None:
    """Check that a homography isn't mirrored, folded, or stretched along one axis.

    Raises:
        PairRejectedError: it is, or the centre of the tele frame is outside the wide frame.
    """
    corners = np.array([[0, 0], [1, 0], [1, 1], [0, 1]]) * (np.array(mapping.tele) - 1.0)
    quad = project(np.linalg.inv(mapping.matrix), corners)
    edges, next_edges = np.roll(quad, -1, 0) - quad, np.roll(quad, -2, 0) - np.roll(quad, -1, 0)
    sides = np.linalg.norm(edges, axis=1) / np.linalg.norm(
        np.roll(corners, -1, 0) - corners, axis=1
    )
    turns = edges[:, 0] * next_edges[:, 1] - edges[:, 1] * next_edges[:, 0]
    if (turns <= 0).any() or sides.max() > 1.5 * sides.min():
        raise PairRejectedError("geometry", "the features agree on a mirrored or folded image")
    middle = quad.mean(0)
    if (middle < 0).any() or (middle > np.array(mapping.wide.times(mapping.scale))).any():
        raise PairRejectedError("geometry", "the tele image is outside the wide one")
