"""Sizes of results: the model's own, or any other, resampled from it row by row."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32, Int

from d2csr.core.errors import UsageError
from d2csr.core.grid import Size
from d2csr.images.resize import cubic_taps

Rows = Float32[np.ndarray, "rows w c"]
_REMEDY = "Give a number above 0."
_VALUES_AT_ONCE = 1 << 23  # of rows that go out together: 32 MiB


@dataclass(frozen=True)
class OutputSize:
    """What size the results shall have; nothing given: the model's.

    Attributes:
        outscale: Enlarge by this factor instead of the model's: 1.5, or 0.75.
        width: Make the results so many pixels wide; the height follows unless it is given too.
        height: Make the results so many pixels high; the width follows unless it is given too.
    """

    outscale: float | None = None
    width: int | None = None
    height: int | None = None

    def __post_init__(self) -> None:
        """Refuse what no picture can be.

        Raises:
            UsageError: a factor beside a side, or a number that isn't above 0.
        """
        if self.outscale is not None and (self.width or self.height):
            remedy = "Give --outscale alone, or --width and --height."
            raise UsageError("--outscale", "contradicts --width or --height", remedy=remedy)
        for name in ("outscale", "width", "height"):
            value = getattr(self, name)
            if value is not None and not 0 < value < float("inf"):
                raise UsageError(f"--{name}", f"can't be {value}", remedy=_REMEDY)

    def of(self, lr: Size, *, scale: int) -> Size:
        """Return the size a picture's result gets; sides are rounded, none vanishes.

        Args:
            lr: size of the picture.
            scale: what the model enlarges by.
        """
        factor = scale if self.outscale is None else self.outscale
        if self.width and self.height:
            return Size(self.width, self.height)
        if self.width:
            factor = self.width / lr.width
        elif self.height:
            factor = self.height / lr.height
        width, height = (max(1, round(factor * side)) for side in lr)
        return Size(self.width or width, self.height or height)


MODELS_OWN = OutputSize()


def resampled(bands: Iterable[Rows], *, size: Size, wanted: Size) -> Iterator[Rows]:
    """Yield the rows of a resampled picture while those of the picture come in, top to bottom.

    Bicubic as MATLAB's imresize with its antialiasing, in floats throughout; only the rows under
    one kernel are kept. What it yields doesn't depend on where the bands end. Values are resampled
    as they are, with sRGB's curve on them: benchmarks/outscale.py.

    Args:
        bands: rows of a picture of the given size.
        size: of the picture that comes in.
        wanted: of the picture that goes out.
    """
    if size == wanted:
        yield from bands
        return
    columns = _taps(size.width, wanted.width)
    places, weights = _taps(size.height, wanted.height)
    complete_at = np.maximum.accumulate(places.max(axis=1)) + 1  # rows that must have come
    needed_from = np.minimum.accumulate(places.min(axis=1)[::-1])[::-1]
    first, done, kept = 0, 0, np.empty((0, wanted.width, 0), np.float32)
    for band in bands:
        narrow = _weighted(band, 1, places=columns[0], weights=columns[1])
        kept = np.concatenate([kept, narrow]) if kept.size else narrow
        ready = int(np.searchsorted(complete_at, first + len(kept), side="right"))
        at_once = max(1, _VALUES_AT_ONCE // (wanted.width * band.shape[2]))
        for start in range(done, ready, at_once):
            part = slice(start, min(start + at_once, ready))
            yield _weighted(kept, 0, places=places[part] - first, weights=weights[part])
        done = max(done, ready)
        if done < wanted.height and (surplus := int(needed_from[done]) - first) > 0:
            kept, first = kept[surplus:], first + surplus


def _taps(
    length: int, out_length: int
) -> tuple[Int[np.ndarray, "out taps"], Float[np.ndarray, "out taps"]]:
    """Return places and weights, without taps that weigh nothing anywhere."""
    places, weights = cubic_taps(length, out_length, factor=out_length / length)
    used = weights.any(axis=0)
    return places[:, used], weights[:, used].astype(np.float32)


def _weighted(
    image: Rows,
    axis: int,
    *,
    places: Int[np.ndarray, "out taps"],
    weights: Float[np.ndarray, "out taps"],
) -> Float32[np.ndarray, "out_rows out_w c"]:
    """Return weighted sums of rows (axis 0) or columns (axis 1)."""
    shape = (image.shape[0], len(places), image.shape[2])
    total = np.zeros(shape if axis else (len(places), *image.shape[1:]), np.float32)
    for tap in range(places.shape[1]):
        part = np.take(image, places[:, tap], axis=axis)
        part *= np.expand_dims(weights[:, tap], (0, 2) if axis else (1, 2))
        total += part
    return total
