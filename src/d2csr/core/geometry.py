"""Integer geometry: how LR and HR sizes fit, and the eight flips and turns.

Rectangles of whole pixels on a grid.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np


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
    """Return how many columns and rows of `whole` lie outside `used`; below 0: too few."""
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
