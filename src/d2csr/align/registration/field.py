"""Dense displacement field over a region of the wide frame, without folds.

The field holds a displacement for each pixel of the wide frame. It is bounded so that neighboring
pixels keep their order: the determinant of the Jacobian of x + d(x) is at least `MIN_JACOBIAN`.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, Float32, Float64

from d2csr.core.geometry import Region

MIN_JACOBIAN = 0.3
MAX_CONTRACTION = 0.6  # per pixel, of a component along its own axis
MAX_SLOPE = 0.35  # of any component along any axis: the determinant is at least 1 - 2 * 0.35
CHANGED_PX = 1e-4

Displacements = Float32[np.ndarray, "h w 2"]


@dataclass(frozen=True)
class DisplacementField:
    """Displacements (x, y) of the pixels of a region, constant outside it.

    Attributes:
        region: of the wide frame.
        values: displacements in wide pixels, one for each pixel of the region.
    """

    region: Region
    values: Displacements

    def at(self, points: Float64[np.ndarray, "*n 2"]) -> Float64[np.ndarray, "*n 2"]:
        """Return the displacements at positions of the wide frame, interpolated linearly."""
        flat = points.reshape(-1, 2)
        columns, across = _cells(flat[:, 0], self.region.left, length=self.region.width)
        rows, down = _cells(flat[:, 1], self.region.top, length=self.region.height)
        across, down = across[:, None], down[:, None]
        upper, lower = (
            self.values[each, columns] * (1 - across) + self.values[each, columns + 1] * across
            for each in (rows, rows + 1)
        )
        return (upper * (1 - down) + lower * down).reshape(points.shape)

    def on_grid(
        self, x: Float64[np.ndarray, " w"], y: Float64[np.ndarray, " h"]
    ) -> Float64[np.ndarray, "h w 2"]:
        """Return the displacements on the grid of wide columns x and rows y."""
        columns, across = _cells(x, self.region.left, length=self.region.width)
        rows, down = _cells(y, self.region.top, length=self.region.height)
        across, down = across[None, :, None], down[:, None, None]
        lines = self.values[rows] * (1 - down) + self.values[rows + 1] * down
        return lines[:, columns] * (1 - across) + lines[:, columns + 1] * across

    @property
    def largest_px(self) -> float:
        """Return the largest displacement, in wide pixels."""
        return float(np.hypot(*np.moveaxis(self.values, -1, 0)).max())


def _cells(
    positions: Float64[np.ndarray, " n"], start: int, *, length: int
) -> tuple[np.ndarray, Float64[np.ndarray, " n"]]:
    """Return the pixel before each position, and the share of the way to the next one."""
    inside = np.clip(positions - start, 0.0, length - 1.0)
    first = np.minimum(inside.astype(np.int64), length - 2)
    return first, inside - first


def jacobian_determinant(values: Displacements) -> Float32[np.ndarray, "h w"]:
    """Return the determinant of the Jacobian of x + d(x): 1 without displacement, < 0 in folds.

    The smallest of the one-sided differences towards the four neighbors is returned.
    """
    result = np.full(values.shape[:2], np.inf, np.float32)
    padded = np.pad(values, ((1, 1), (1, 1), (0, 0)), mode="edge")
    middle = padded[1:-1, 1:-1]
    x_slopes = padded[1:-1, 2:] - middle, middle - padded[1:-1, :-2]
    y_slopes = padded[2:, 1:-1] - middle, middle - padded[:-2, 1:-1]
    for x_slope in x_slopes:
        for y_slope in y_slopes:
            stretch = (1 + x_slope[..., 0]) * (1 + y_slope[..., 1])
            np.minimum(result, stretch - x_slope[..., 1] * y_slope[..., 0], out=result)
    return result


def unfold(values: Displacements, trusted: Bool[np.ndarray, "h w"]) -> Displacements:
    """Return the displacements without folds, changed only near folds.

    Parallax of two lenses is along one axis of most photographs, so first each component is limited
    along its own axis. Where that isn't enough, all slopes are limited.

    Args:
        values: displacements.
        trusted: pixels that keep their displacements, if the pixels between them can be moved.
    """
    across = _limit_contraction(values[..., 0], trusted)
    down = _limit_contraction(values[..., 1].T, trusted.T).T
    values = np.stack([across, down], axis=-1)
    folded = jacobian_determinant(values) < MIN_JACOBIAN
    if not folded.any():
        return values
    limited = np.stack([_limit_slopes(values[..., axis]) for axis in (0, 1)], axis=-1)
    changed = (np.abs(limited - values) > CHANGED_PX).any(axis=-1) | folded
    _, labels = cv2.connectedComponents(changed.astype(np.uint8))
    is_used = np.isin(labels, np.unique(labels[folded]))
    return np.where(is_used[..., None], limited, values)


def _limit_contraction(
    values: Float32[np.ndarray, "h w"], trusted: Bool[np.ndarray, "h w"]
) -> Float32[np.ndarray, "h w"]:
    """Return values that fall by at most `MAX_CONTRACTION` from one column to the next.

    With a ramp added they must not fall at all. The mean of the running maximum from the left and
    the running minimum from the right is such a function; it is clipped to those of trusted pixels.
    """
    ramp = (MAX_CONTRACTION * np.arange(values.shape[1])).astype(np.float32)
    raised = values + ramp
    infinity = np.float32(np.inf)
    upper, upper_trusted = (
        np.maximum.accumulate(each, axis=1)
        for each in (raised, np.where(trusted, raised, -infinity))
    )
    lower, lower_trusted = (
        np.minimum.accumulate(each[:, ::-1], axis=1)[:, ::-1]
        for each in (raised, np.where(trusted, raised, infinity))
    )
    bounds = np.minimum(upper_trusted, lower_trusted), np.maximum(upper_trusted, lower_trusted)
    return np.clip((upper + lower) / 2, *bounds) - ramp


def _limit_slopes(values: Float32[np.ndarray, "h w"]) -> Float32[np.ndarray, "h w"]:
    """Return values that change by at most `MAX_SLOPE` from a pixel to its four neighbors.

    They are the mean of the largest such function below the values and the smallest above them.
    """
    below, above = values, -values
    for _ in range(2):
        below, above = _cone_below(below).T, _cone_below(above).T
    return (below - above) / 2


def _cone_below(values: Float32[np.ndarray, "h w"]) -> Float32[np.ndarray, "h w"]:
    """Return the largest function below the values with limited slopes along the columns."""
    ramp = (MAX_SLOPE * np.arange(values.shape[1])).astype(np.float32)
    rising = np.minimum.accumulate(values - ramp, axis=1) + ramp
    falling = np.minimum.accumulate((values + ramp)[:, ::-1], axis=1)[:, ::-1] - ramp
    return np.minimum(rising, falling)
