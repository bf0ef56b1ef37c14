"""Displacements of patches between two images of one grid, with what each knows about them.

Lucas and Kanade (1981) with a gain and an offset of each patch's own. The gradient is taken from
the image that was reduced from a finer one: its noise is low, and independent of the other's, so
that repeated measuring has no bias at zero. Patches keep the full 2x2 matrix of what they know: an
edge tells of the displacement across it, and nothing along it.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, Float32, Float64

BAND_PATCHES = 24  # rows of patches at once: memory stays bounded on any photograph


@dataclass(frozen=True)
class Displacements:
    """Measured patches; all lengths in pixels of the common grid.

    Attributes:
        places: middles (x, y).
        moves: d, where fixed(x) looks like moving(x + d).
        information: inverse covariance of each move, from the patch's texture and its residual.
        similarity: share of the fixed patch's variance that the moving one explains, at most 1.
        contrast: standard deviation of the fixed patch, 0..1.
    """

    places: Float64[np.ndarray, "n 2"]
    moves: Float64[np.ndarray, "n 2"]
    information: Float64[np.ndarray, "n 2 2"]
    similarity: Float64[np.ndarray, " n"]
    contrast: Float64[np.ndarray, " n"]

    def __len__(self) -> int:
        """Return how many patches there are."""
        return len(self.places)

    def only(self, chosen: Bool[np.ndarray, " n"]) -> "Displacements":
        """Return the chosen patches."""
        return Displacements(*(values[chosen] for values in vars(self).values()))

    @property
    def deviation_px(self) -> Float64[np.ndarray, " n"]:
        """Return the standard deviation of each move in its worst direction."""
        least = np.linalg.eigvalsh(self.information)[:, 0]
        return 1 / np.sqrt(np.maximum(least, 1e-12))


def measure_displacements(
    fixed: Float32[np.ndarray, "h w"],
    moving: Float32[np.ndarray, "h w"],
    *,
    window_px: int,
    step_px: int,
) -> Displacements:
    """Return the displacement of every patch that has texture.

    Args:
        fixed: the image that stays.
        moving: the other one, on the same grid, less than about 1.5 px away.
        window_px: side of a patch.
        step_px: from patch to patch.
    """
    parts = [
        _measured(fixed[rows], moving[rows], window_px=window_px, step_px=step_px, top=rows.start)
        for rows in _bands(fixed.shape[0], window_px, step_px=step_px)
    ]
    if not parts:
        raise ValueError(f"an image of {fixed.shape} holds no patch of {window_px} px")
    return Displacements(
        *(
            np.concatenate(values)
            for values in zip(*(vars(part).values() for part in parts), strict=True)
        )
    )


def _bands(height: int, window_px: int, *, step_px: int) -> Iterator[slice]:
    """Yield rows that hold whole patches, one pixel more at either end for gradients."""
    patches = (height - window_px - 2) // step_px + 1
    for first in range(0, patches, BAND_PATCHES):
        count = min(BAND_PATCHES, patches - first)
        start = first * step_px
        yield slice(start, start + (count - 1) * step_px + window_px + 2)


def _measured(
    fixed: np.ndarray, moving: np.ndarray, *, window_px: int, step_px: int, top: int
) -> Displacements:
    x_slope = (moving[1:-1, 2:] - moving[1:-1, :-2]) / 2
    y_slope = (moving[2:, 1:-1] - moving[:-2, 1:-1]) / 2
    middle = float(fixed.mean())  # sums of squares about 0 would lose digits
    terms = (x_slope, y_slope, moving[1:-1, 1:-1] - middle, fixed[1:-1, 1:-1] - middle)
    sums = _Sums(window_px, step_px, shape=x_slope.shape)
    means = np.stack([sums.mean(term) for term in terms], axis=-1)
    square = np.empty((*means.shape, 4))
    for i in range(4):
        for j in range(i, 4):
            product = sums.mean(terms[i] * terms[j]) - means[..., i] * means[..., j]
            square[..., i, j] = square[..., j, i] = product
    place_x = sums.starts(1) + (window_px - 1) / 2 + 1
    place_y = sums.starts(0) + (window_px - 1) / 2 + 1 + top
    places = np.stack(np.meshgrid(place_x, place_y), axis=-1)
    return _solved(places.reshape(-1, 2), square.reshape(-1, 4, 4), count=window_px**2)


class _Sums:
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


def _solved(places: np.ndarray, covariance: np.ndarray, *, count: int) -> Displacements:
    """Return the moves that explain the fixed patch best, gain and offset left free."""
    variance = covariance[:, 3, 3]
    known = covariance[:, :3, :3]
    size = np.trace(known, axis1=1, axis2=2)
    good = (variance > 1e-8) & (size > 1e-8)
    places, covariance, variance, size = places[good], covariance[good], variance[good], size[good]
    normal = covariance[:, :3, :3] + (1e-6 * size)[:, None, None] * np.eye(3)
    right = covariance[:, :3, 3]
    solution = np.linalg.solve(normal, right[..., None])[..., 0]
    unexplained = np.maximum(variance - (solution * right).sum(1), 1e-10)
    gain = np.where(np.abs(solution[:, 2]) < 0.05, 0.05, solution[:, 2])
    schur = (
        normal[:, :2, :2] - normal[:, :2, 2:] * normal[:, 2:, :2] / normal[:, 2:, 2:]
    )  # what is left of the texture when the gain is free
    information = schur * (gain**2 / unexplained * count)[:, None, None]
    return Displacements(
        places,
        solution[:, :2] / gain[:, None],
        information,
        np.where(solution[:, 2] > 0, 1 - unexplained / variance, 0.0),
        np.sqrt(variance),
    )
