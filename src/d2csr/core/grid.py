"""Integer geometry: how LR and HR sizes fit, and the eight flips and turns."""

from typing import NamedTuple

import numpy as np


class Size(NamedTuple):
    """The extent of a picture, in pixels."""

    width: int
    height: int

    def __str__(self) -> str:
        """Return `WIDTHxHEIGHT`, as people write it."""
        return f"{self.width}x{self.height}"

    def times(self, scale: int) -> "Size":
        """Return the size of the picture enlarged `scale` times."""
        return Size(self.width * scale, self.height * scale)


UNKNOWN_SIZE = Size(0, 0)


def surplus_px(used: Size, whole: Size) -> tuple[int, int]:
    """Return how many columns and rows of `whole` lie outside `used`; below 0: too few."""
    return whole.width - used.width, whole.height - used.height


TURNS = 8


def turned(image: np.ndarray, turn: int) -> np.ndarray:
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
