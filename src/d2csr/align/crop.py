"""The part of the wide frame that the tele frame covers, in whole wide pixels."""

import numpy as np
from jaxtyping import Float64

from d2csr.align.mapping import Mapping, registered_of_wide
from d2csr.align.region import Region

STEP_PX = 4  # of the wide frame: places at which cover is tested


def covered_region(mapping: Mapping, *, margin_px: float) -> Region:
    """Return the largest centred-as-can-be rectangle of the wide frame that lies on the tele one.

    Args:
        mapping: from the registered grid.
        margin_px: tele pixels that must lie beyond every edge, for the interpolation's taps.
    """
    x = _axis(mapping.wide.width)
    y = _axis(mapping.wide.height)
    places = mapping.on_grid(
        registered_of_wide(x, mapping.scale), registered_of_wide(y, mapping.scale)
    )
    last = np.array(mapping.tele, np.float64) - 1 - margin_px
    inside = np.all((places >= margin_px) & (places <= last), axis=-1)
    top, bottom, left, right = _largest_rectangle(inside)
    if bottom <= top or right <= left:
        return Region(0, 0, 0, 0)
    columns, rows = x[left:right], y[top:bottom]
    first_x, first_y = int(np.ceil(columns[0])), int(np.ceil(rows[0]))
    return Region(first_x, first_y, int(columns[-1]) - first_x + 1, int(rows[-1]) - first_y + 1)


def _axis(length: int) -> Float64[np.ndarray, " n"]:
    """Return places from the first pixel to the last, about `STEP_PX` apart."""
    steps = max(2, -(-(length - 1) // STEP_PX) + 1)
    return np.unique(np.round(np.linspace(0, length - 1, steps)))


def _largest_rectangle(inside: np.ndarray) -> tuple[int, int, int, int]:
    """Return top, bottom, left, right of the largest all-true rectangle: histogram method."""
    heights = np.zeros(inside.shape[1], np.int64)
    best, result = 0, (0, 0, 0, 0)
    for row, line in enumerate(inside):
        heights = np.where(line, heights + 1, 0)
        stack: list[tuple[int, int]] = []  # where a height began, and the height
        for column, height in enumerate([*heights.tolist(), 0]):
            start = column
            while stack and stack[-1][1] >= height:
                start, tall = stack.pop()
                if (area := (column - start) * tall) > best:
                    best, result = area, (row - tall + 1, row + 1, start, column)
            stack.append((start, height))
    return result
