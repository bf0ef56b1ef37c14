"""The uncertainty map: the expected absolute error of each SR pixel, in gray levels (0 to 255).

Local structure of SR and the spread of the predictions are averaged over blocks of scale x scale SR
pixels, so they lie on the LR grid, and combined over windows of at most 15 blocks. The error model
turns them into expected errors, which are interpolated to the SR grid. The map appears while the
strips of an image arrive, with 9 LR rows of halo: 7 of the windows, one of the gradient, and one of
the interpolation.
"""

from collections.abc import Iterator
from typing import final

import numpy as np
from jaxtyping import Float32

from d2csr.core.bundle import Bundle
from d2csr.core.error_model import ErrorModel, Features, find_error_model
from d2csr.core.errors import UsageError
from d2csr.engine.tail import EngineOutput, StripOutput

_CHUNK_ROWS = 64  # LR rows computed together, so that their features stay in the cache
_LUMA = (0.299, 0.587, 0.114)  # Rec. ITU-R BT.601-7
_GRAY_LEVELS = np.float32(255)
_MIDDLE = np.float32(128)  # subtracted from luma, so that its squares keep their digits
_LEAST = np.float32(0.05)  # gray levels, added before the logarithm
_LEAST_VARIANCE = np.float32(0.09)  # of 0.3 gray levels, about that of rounding to 8 bit
WINDOW_RADIUS_PX = 7  # of the widest window, on the LR grid
_MAPS = 4  # gradient, disagreement, luma, and luma squared

Map = Float32[np.ndarray, "sh sw"]
Plane = Float32[np.ndarray, "h w"]
_Maps = Float32[np.ndarray, "m h w"]


@final
class BlockMaps:
    """Means over the blocks of one image, which arrives strip by strip; 16 bytes per LR pixel."""

    def __init__(self, lr01: Float32[np.ndarray, "h w 3"], *, scale: int) -> None:
        """Hold the LR image, range 0 to 1; no strip has arrived yet."""
        self._lr, self._scale = _luma(lr01), scale
        self._maps = np.empty((_MAPS, *self._lr.shape), np.float32)
        self._rows = 0  # LR rows that have arrived
        self._pending = np.empty((0, scale * lr01.shape[1]), np.float32)  # luma without gradient
        self._context = 0  # rows of it that lie above the next row without a gradient

    @property
    def height(self) -> int:
        """Return the number of LR rows of the image."""
        return self._lr.shape[0]

    @property
    def complete_rows(self) -> int:
        """Return the number of LR rows, from the top, whose features can be computed."""
        is_last = self._rows == self.height
        return self.height if is_last else max(0, self._rows - 1 - WINDOW_RADIUS_PX)

    def add(self, strip: StripOutput) -> None:
        """Add the next strip; its SR is that of the file, with flat regions blended."""
        output, scale = strip.output, self._scale
        luma = _luma(output.sr)
        rows = slice(self._rows, self._rows + luma.shape[0] // scale)
        self._maps[1, rows] = block_means(_luma_deviation(output.predictions), scale)
        self._maps[2, rows] = block_means(luma, scale)
        self._maps[3, rows] = block_means(luma * luma, scale)
        self._rows = rows.stop
        self._add_gradient(luma)

    def _add_gradient(self, luma: Plane) -> None:
        """Add the gradient of all LR rows below which another row has arrived."""
        scale = self._scale
        pending = np.concatenate([self._pending, luma])
        first = self._rows - (len(pending) - self._context) // scale
        last = self._rows if self._rows == self.height else self._rows - 1
        if last > first:
            gradient = _gradient_magnitude(pending)
            inside = slice(self._context, self._context + scale * (last - first))
            self._maps[0, first:last] = block_means(gradient[inside], scale)
            pending = pending[max(0, inside.stop - 1) :]
            self._context = 1
        self._pending = pending

    def features(self, first: int, last: int) -> Features:
        """Return the features of the LR rows from `first` to before `last`, which are complete."""
        radius = WINDOW_RADIUS_PX
        rows = np.arange(first - radius, last + radius).clip(0, self.height - 1)
        around = [(0, 0), (0, 0), (radius, radius)]
        change = np.abs(self._maps[2, rows] - self._lr[rows])
        maps = np.concatenate([self._maps[:, rows], change[None]])
        return np.stack(list(_iter_features(np.pad(maps, around, mode="edge"))))


def _iter_features(maps: _Maps) -> Iterator[Plane]:
    """Yield the features in the order of `FEATURES`, of block means with a halo of the radius."""
    inside = np.s_[..., WINDOW_RADIUS_PX:-WINDOW_RADIUS_PX, WINDOW_RADIUS_PX:-WINDOW_RADIUS_PX]
    means_3 = _tap_means(maps, taps=3, step=1)  # without 1 of 7 halo rows
    means_9 = _tap_means(means_3, taps=3, step=3)[..., 3:-3, 3:-3]
    means_15 = _tap_means(means_3[:2], taps=5, step=3)
    means_3 = means_3[..., 6:-6, 6:-6]
    yield np.log(maps[inside][0] + _LEAST)
    yield np.log(means_3[0] + _LEAST)
    yield np.log(means_15[0] + _LEAST)
    yield np.log(maps[inside][1] + _LEAST)
    yield np.log(means_15[1] + _LEAST)
    for means in (means_3, means_9):
        variance = np.maximum(means[3] - means[2] * means[2], 0)
        yield np.log(variance + _LEAST_VARIANCE) / np.float32(2)
    yield np.log(means_9[4] + _LEAST)
    yield means_3[2] / _MIDDLE


def _tap_means(maps: _Maps, *, taps: int, step: int) -> Float32[np.ndarray, "m oh ow"]:
    """Return means over taps x taps values that are `step` apart, where all of them exist.

    Means over 3 neighbors, then over 5 of these 3 apart, are means over 15 neighbors, in 6 sums
    instead of 14. The order of the sums is fixed, so strips don't change the result.
    """
    for axis in (1, 2):
        along = maps.swapaxes(0, axis)
        length = len(along) - (taps - 1) * step
        total = along[:length] + along[step : step + length]
        for first in range(2 * step, taps * step, step):
            total += along[first : first + length]
        total *= np.float32(1 / taps)
        maps = total.swapaxes(0, axis)
    return maps


def block_means(values: Float32[np.ndarray, "sh sw"], scale: int) -> Float32[np.ndarray, "h w"]:
    """Return the means over blocks of scale x scale values."""
    rows = sum(values[phase::scale] for phase in range(1, scale)) + values[::scale]
    total = sum(rows[:, phase::scale] for phase in range(1, scale)) + rows[:, ::scale]
    return total * np.float32(1 / scale**2)


def _luma(rgb01: Float32[np.ndarray, "h w 3"]) -> Plane:
    """Return luma of RGB in 0..1, clipped to it, in gray levels from the middle."""
    clipped = rgb01.clip(0, 1)
    red, green, blue = (clipped[..., channel] * np.float32(_LUMA[channel]) for channel in range(3))
    return (red + green + blue) * _GRAY_LEVELS - _MIDDLE


def _luma_deviation(predictions: Float32[np.ndarray, "p h w 3"]) -> Plane:
    """Return the standard deviation of the predictions' luma, in gray levels."""
    planes = [
        sum(each[..., channel] * np.float32(_LUMA[channel]) for channel in range(3))
        for each in predictions
    ]
    mean = sum(planes) * np.float32(1 / len(planes))
    variance = sum((plane - mean) ** 2 for plane in planes)
    return np.sqrt(variance * np.float32(1 / len(planes))) * _GRAY_LEVELS


def _gradient_magnitude(luma: Plane) -> Plane:
    """Return the magnitude of the gradient by central differences, one-sided at the edges."""
    square = np.zeros_like(luma)
    for axis in (0, 1):
        along = luma.swapaxes(0, axis)
        part = square.swapaxes(0, axis)
        if len(along) > 1:
            part[1:-1] += ((along[2:] - along[:-2]) * np.float32(0.5)) ** 2
            part[0] += (along[1] - along[0]) ** 2
            part[-1] += (along[-1] - along[-2]) ** 2
    return np.sqrt(square)


def require_error_model(bundle: Bundle) -> ErrorModel:
    """Return the error model of a bundle.

    Raises:
        UsageError: it has none; the remedy is the command that fits one.
        BundleError: its file is damaged.
    """
    model = find_error_model(bundle)
    if model is None:
        name = bundle.card.name
        problem = f"{name} has no calibration to predict its error from"
        remedy = f"Add one with `d2csr calibrate -n {name} --data PAIRS -o FOLDER`, "
        remedy += "or use --disagreement, which needs none."
        raise UsageError("--uncertainty", problem, remedy)
    return model


@final
class UncertaintyStream:
    """The uncertainty map of one image, row by row."""

    def __init__(
        self, model: ErrorModel, lr01: Float32[np.ndarray, "h w 3"], *, scale: int
    ) -> None:
        """Hold the error model and the LR image, range 0 to 1."""
        self._model, self._scale = model, scale
        self._maps = BlockMaps(lr01, scale=scale)
        self._yielded = 0  # LR rows

    def add(self, strip: StripOutput) -> Iterator[Map]:
        """Add the next strip and yield the rows of the map that are complete with it.

        Args:
            strip: the engine's output, SR with its flat regions blended.
        """
        self._maps.add(strip)
        complete, height = self._maps.complete_rows, self._maps.height
        last = complete if complete == height else complete - 1  # a row more to interpolate
        while self._yielded < last:
            stop = min(last, self._yielded + _CHUNK_ROWS)
            yield self._rows(self._yielded, stop)
            self._yielded = stop

    def _rows(self, first: int, last: int) -> Map:
        """Return the SR rows of the map over some LR rows."""
        top, bottom = max(first - 1, 0), min(last + 1, self._maps.height)
        levels = self._model.predict(self._maps.features(top, bottom))
        missing = (1 - (first - top), 1 - (bottom - last))  # at the edges of the image
        padded = np.pad(levels, [missing, (1, 1)], mode="edge")
        return enlarge_linear(padded, self._scale)


def uncertainty_map(
    model: ErrorModel, lr01: Float32[np.ndarray, "h w 3"], *, output: EngineOutput, scale: int
) -> Map:
    """Return the uncertainty map of an image.

    Args:
        model: of the bundle that made the output.
        lr01: the LR image, range 0 to 1.
        output: of the engine, SR with its flat regions blended.
        scale: SR pixels per LR pixel.
    """
    stream = UncertaintyStream(model, lr01, scale=scale)
    return np.concatenate(list(stream.add(StripOutput(0, output))))


def enlarge_linear(padded: Float32[np.ndarray, "rows w"], scale: int) -> Map:
    """Return values enlarged by linear interpolation, without the margin of one value around them.

    An LR pixel's center is the center of its block of SR pixels.
    """
    for axis in (0, 1):
        along = padded.swapaxes(0, axis)
        before, here, after = along[:-2], along[1:-1], along[2:]
        wide = np.empty((scale * len(here), along.shape[1]), np.float32)
        for phase in range(scale):
            offset = (phase + 0.5) / scale - 0.5
            other = before if offset < 0 else after
            wide[phase::scale] = here + np.float32(abs(offset)) * (other - here)
        padded = wide.swapaxes(0, axis)
    return padded
