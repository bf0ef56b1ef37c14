"""Row bands: a picture cut so that the graphs behind the trunk run on little memory, exactly."""

from typing import NamedTuple

# Of SR: the convergence network's features then stay in the processor's cache (DESIGN: 1.3-1.4x).
_BAND_SR_ROWS = 64


class Band(NamedTuple):
    """LR rows to write, `first` to `last`, and LR rows to read for them, `top` to `bottom`.

    Both ends are exclusive at the lower side. At the picture's own frame nothing is read beyond, so
    that the graphs' padding happens where the whole picture's does.
    """

    first: int
    last: int
    top: int
    bottom: int


def plan_bands(height: int, *, band_rows: int, halo_rows: int) -> list[Band]:
    """Return bands that cover a picture, from top to bottom.

    Args:
        height: LR rows of the picture.
        band_rows: LR rows of a band; the last one may be lower.
        halo_rows: LR rows that a band's SR depends on beyond it.
    """
    firsts = range(0, height, band_rows)
    lasts = [min(first + band_rows, height) for first in firsts]
    return [
        Band(first, last, max(first - halo_rows, 0), min(last + halo_rows, height))
        for first, last in zip(firsts, lasts, strict=True)
    ]


def default_band_rows(scale: int) -> int:
    """Return the LR rows of a band where nothing else is asked for."""
    return _BAND_SR_ROWS // scale
