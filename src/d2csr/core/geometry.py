"""Geometry of images: sizes, regions, the eight flips and rotations, and lens distortion."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64


class Size(NamedTuple):
    """The extent of an image, in pixels."""

    width: int
    height: int

    def __str__(self) -> str:
        """Return `WIDTHxHEIGHT`, as people write it."""
        return f"{self.width}x{self.height}"

    def times(self, scale: int) -> "Size":
        """Return the size of the image enlarged `scale` times."""
        return Size(self.width * scale, self.height * scale)


UNKNOWN_SIZE = Size(0, 0)


def excess_px(used: Size, whole: Size) -> tuple[int, int]:
    """Return the number of columns and rows of `whole` outside `used`; negative if too few."""
    return whole.width - used.width, whole.height - used.height


TURNS = 8


def dihedral_transform(image: np.ndarray, turn: int) -> np.ndarray:
    """Return a view of an image (h, w, ...) under one of its 8 flips and turns; 0 changes nothing.

    Args:
        image: rows, columns, and any further axes, which stay.
        turn: bit 0 mirrors columns, bit 1 mirrors rows, bit 2 then swaps rows and columns.
    """
    if turn & 1:
        image = image[:, ::-1]
    if turn & 2:
        image = image[::-1]
    return image.swapaxes(0, 1) if turn & 4 else image


@dataclass(frozen=True)
class Region:
    """Columns left..left + width - 1 and rows top..top + height - 1 of an image."""

    left: int
    top: int
    width: int
    height: int

    @property
    def right(self) -> int:
        """Return the first column behind the region."""
        return self.left + self.width

    @property
    def bottom(self) -> int:
        """Return the first row below the region."""
        return self.top + self.height

    @property
    def slices(self) -> tuple[slice, slice]:
        """Return rows and columns to index an image by."""
        return slice(self.top, self.bottom), slice(self.left, self.right)

    def shrunk(self, pixels_x: int, pixels_y: int) -> "Region":
        """Return the region less these pixels on each of its sides."""
        width, height = self.width - 2 * pixels_x, self.height - 2 * pixels_y
        return Region(self.left + pixels_x, self.top + pixels_y, max(width, 0), max(height, 0))

    def times(self, scale: int) -> "Region":
        """Return the same region on a grid `scale` times finer."""
        return Region(*(scale * side for side in (self.left, self.top, self.width, self.height)))


Points = Float64[np.ndarray, "*grid 2"]
_UNDISTORT_RADIUS = 3.0  # in corner radii; farther out, strong distortion folds over


@dataclass(frozen=True)
class BrownDistortion:
    """Lens distortion by Brown's model on positions relative to the centre, in corner radii.

    Attributes:
        k1: radial displacement at the corner, as a share of its radius; below 0 barrel.
        k2: the same, growing with the fourth power of the radius.
        k3: the same, growing with the sixth power.
        p1: tangential displacement (decentring), likewise as a share; Brown's first.
        p2: Brown's second.

    Source: Brown, Photogrammetric Engineering 32 (1966); OpenCV's order of coefficients.
    """

    k1: float = 0.0
    k2: float = 0.0
    k3: float = 0.0
    p1: float = 0.0
    p2: float = 0.0

    @property
    def is_identity(self) -> bool:
        """Return whether nothing is distorted."""
        return self == NO_DISTORTION

    def distort(self, points: Points) -> Points:
        """Return the distorted positions of ideal points, both in corner radii."""
        x, y = points[..., 0], points[..., 1]
        square = x * x + y * y
        radial = square * (self.k1 + square * (self.k2 + square * self.k3))
        return np.stack(
            [
                x + x * radial + 2 * self.p1 * x * y + self.p2 * (square + 2 * x * x),
                y + y * radial + self.p1 * (square + 2 * y * y) + 2 * self.p2 * x * y,
            ],
            axis=-1,
        )

    def undistort(self, points: Points, *, tolerance: float = 1e-12) -> Points:
        """Return the ideal points of distorted positions, both in corner radii."""
        ideal = points
        for _ in range(100):
            residual = points - self.distort(ideal)
            ideal = np.clip(ideal + residual, -_UNDISTORT_RADIUS, _UNDISTORT_RADIUS)
            if np.abs(residual).max(initial=0.0) < tolerance:
                break
        return ideal


NO_DISTORTION = BrownDistortion()
