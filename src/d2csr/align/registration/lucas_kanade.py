"""Displacements of patches between two images on one grid, with their information matrices.

Method of Lucas and Kanade (1981), with a gain and an offset for each patch. The gradient is taken
from the image that was downsampled from a finer one: its noise is low and independent of the other
image's, so that iterated measurement has no bias towards zero. Each patch has the full 2x2
information matrix: an edge determines the displacement across it, and not along it.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, Float32, Float64

STRIP_PATCHES = 24  # rows of patches measured at once, which bounds the memory


@dataclass(frozen=True)
class PatchDisplacements:
    """Measured displacements of patches, in pixels of the common grid.

    Attributes:
        positions: centres (x, y).
        displacements: d such that fixed(x) corresponds to moving(x + d).
        information: inverse covariance of each displacement, from texture and residual.
        similarity: share of the fixed patch's variance explained by the moving one, at most 1.
        contrast: standard deviation of the fixed patch, 0..1.
    """

    positions: Float64[np.ndarray, "n 2"]
    displacements: Float64[np.ndarray, "n 2"]
    information: Float64[np.ndarray, "n 2 2"]
    similarity: Float64[np.ndarray, " n"]
    contrast: Float64[np.ndarray, " n"]

    def __len__(self) -> int:
        """Return the number of patches."""
        return len(self.positions)

    def select(self, chosen: Bool[np.ndarray, " n"]) -> "PatchDisplacements":
        """Return the patches that a mask selects."""
        return PatchDisplacements(*(values[chosen] for values in vars(self).values()))

    @property
    def deviation_px(self) -> Float64[np.ndarray, " n"]:
        """Return the standard deviation of each displacement in its least certain direction."""
        least = np.linalg.eigvalsh(self.information)[:, 0]
        return 1 / np.sqrt(np.maximum(least, 1e-12))


def measure_displacements(
    fixed: Float32[np.ndarray, "h w"],
    moving: Float32[np.ndarray, "h w"],
    *,
    window_px: int,
    step_px: int,
) -> PatchDisplacements:
    """Return the displacement of every patch that has texture.

    Args:
        fixed: gray, 0..1.
        moving: gray on the same grid, displaced by less than about 1.5 px.
        window_px: side of a patch.
        step_px: distance between the centres of neighboring patches.

    Raises:
        ValueError: the images are smaller than a patch.
    """
    parts = [
        _measure_strip(
            fixed[rows], moving[rows], window_px=window_px, step_px=step_px, top=rows.start
        )
        for rows in _strips(fixed.shape[0], window_px, step_px=step_px)
    ]
    if not parts:
        raise ValueError(f"an image of {fixed.shape} holds no patch of {window_px} px")
    return PatchDisplacements(
        *(
            np.concatenate(values)
            for values in zip(*(vars(part).values() for part in parts), strict=True)
        )
    )


def _strips(height: int, window_px: int, *, step_px: int) -> Iterator[slice]:
    """Yield slices of rows that hold whole patches, plus one row at either end for gradients."""
    patches = (height - window_px - 2) // step_px + 1
    for first in range(0, patches, STRIP_PATCHES):
        count = min(STRIP_PATCHES, patches - first)
        start = first * step_px
        yield slice(start, start + (count - 1) * step_px + window_px + 2)


def _measure_strip(
    fixed: np.ndarray, moving: np.ndarray, *, window_px: int, step_px: int, top: int
) -> PatchDisplacements:
    x_slope = (moving[1:-1, 2:] - moving[1:-1, :-2]) / 2
    y_slope = (moving[2:, 1:-1] - moving[:-2, 1:-1]) / 2
    middle = float(fixed.mean())  # sums of squares about 0 would lose digits
    terms = (x_slope, y_slope, moving[1:-1, 1:-1] - middle, fixed[1:-1, 1:-1] - middle)
    windows = _WindowMeans(window_px, step_px, shape=x_slope.shape)
    means = np.stack([windows.mean(term) for term in terms], axis=-1)
    square = np.empty((*means.shape, 4))
    for i in range(4):
        for j in range(i, 4):
            product = windows.mean(terms[i] * terms[j]) - means[..., i] * means[..., j]
            square[..., i, j] = square[..., j, i] = product
    center_x = windows.starts(1) + (window_px - 1) / 2 + 1
    center_y = windows.starts(0) + (window_px - 1) / 2 + 1 + top
    positions = np.stack(np.meshgrid(center_x, center_y), axis=-1)
    return _solve(positions.reshape(-1, 2), square.reshape(-1, 4, 4), count=window_px**2)


class _WindowMeans:
    """Means over the windows of one grid of patches."""

    def __init__(self, window_px: int, step_px: int, *, shape: tuple[int, ...]) -> None:
        self._window, self._step, self._shape = window_px, step_px, shape

    def starts(self, axis: int) -> np.ndarray:
        return np.arange(0, self._shape[axis] - self._window + 1, self._step)

    def mean(self, values: np.ndarray) -> np.ndarray:
        side = self._window
        sums = cv2.integral(values, sdepth=cv2.CV_64F)
        box = sums[side:, side:] - sums[:-side, side:] - sums[side:, :-side] + sums[:-side, :-side]
        return box[:: self._step, :: self._step] / side**2


def _solve(positions: np.ndarray, covariance: np.ndarray, *, count: int) -> PatchDisplacements:
    """Return the displacements of least squares, with gain and offset as free parameters."""
    variance = covariance[:, 3, 3]
    known = covariance[:, :3, :3]
    size = np.trace(known, axis1=1, axis2=2)
    good = (variance > 1e-8) & (size > 1e-8)
    positions, covariance, variance, size = (
        positions[good],
        covariance[good],
        variance[good],
        size[good],
    )
    normal = covariance[:, :3, :3] + (1e-6 * size)[:, None, None] * np.eye(3)
    right = covariance[:, :3, 3]
    solution = np.linalg.solve(normal, right[..., None])[..., 0]
    unexplained = np.maximum(variance - (solution * right).sum(1), 1e-10)
    gain = np.where(np.abs(solution[:, 2]) < 0.05, 0.05, solution[:, 2])
    schur = (
        normal[:, :2, :2] - normal[:, :2, 2:] * normal[:, 2:, :2] / normal[:, 2:, 2:]
    )  # Schur complement: the information left when the gain is free
    information = schur * (gain**2 / unexplained * count)[:, None, None]
    return PatchDisplacements(
        positions,
        solution[:, :2] / gain[:, None],
        information,
        np.where(solution[:, 2] > 0, 1 - unexplained / variance, 0.0),
        np.sqrt(variance),
    )
