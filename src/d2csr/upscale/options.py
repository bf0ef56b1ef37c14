"""What to write for each image, and what to call it.

Sizes of results: the model's own, or any other, resampled from it row by row.

What a call computes with, and how much memory it may take.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Float32, Int

from d2csr.core.bundle import Bundle
from d2csr.core.errors import UsageError
from d2csr.core.geometry import Size
from d2csr.engine.backends.base import PrecisionChoice
from d2csr.engine.engine import Engine, open_engine
from d2csr.images.formats import DEFAULT_LIMIT_MP, FORMATS, WRITABLE_FORMATS
from d2csr.images.resize import cubic_weights

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
        """Refuse what no image can be.

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
        """Return the size an image's result gets; sides are rounded, none vanishes.

        Args:
            lr: size of the image.
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


NATIVE_SIZE = OutputSize()


def resample_rows(strips: Iterable[Rows], *, size: Size, wanted: Size) -> Iterator[Rows]:
    """Yield the rows of a resampled image while those of the image come in, top to bottom.

    Bicubic as MATLAB's imresize with its antialiasing, in floats throughout; only the rows under
    one kernel are kept. What it yields doesn't depend on where the strips end. Values are resampled
    as they are, with sRGB's curve on them: benchmarks/outscale.py.

    Args:
        strips: rows of an image of the given size.
        size: of the image that comes in.
        wanted: of the image that goes out.
    """
    if size == wanted:
        yield from strips
        return
    columns = _taps(size.width, wanted.width)
    places, weights = _taps(size.height, wanted.height)
    complete_at = np.maximum.accumulate(places.max(axis=1)) + 1  # rows that must have come
    needed_from = np.minimum.accumulate(places.min(axis=1)[::-1])[::-1]
    first, done, kept = 0, 0, np.empty((0, wanted.width, 0), np.float32)
    for strip in strips:
        narrow = _weighted(strip, 1, places=columns[0], weights=columns[1])
        kept = np.concatenate([kept, narrow]) if kept.size else narrow
        ready = int(np.searchsorted(complete_at, first + len(kept), side="right"))
        at_once = max(1, _VALUES_AT_ONCE // (wanted.width * strip.shape[2]))
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
    places, weights = cubic_weights(length, out_length, factor=out_length / length)
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


Extension = Literal["png", "jpg", "webp", "tif", "avif", "same"]
WRITABLE = tuple(suffix for name in WRITABLE_FORMATS for suffix in FORMATS[name])


@dataclass(frozen=True)
class OutputOptions:
    """Files wanted for each image.

    Attributes:
        suffix: Added to every name, before its ending.
        ext: Format of the images: png, jpg, webp, tif, avif, or that of each input (same).
        predictions: Write each prediction too.
        weight_maps: Write each prediction's weight too: dark violet none, teal an equal share,
            yellow twice that or more.
        disagreement: Write how far the predictions are apart too: dark violet 0, yellow 4 grey
            levels or more.
        bicubic: Write the bicubic enlargement too, to compare with.
        self_ensemble: Average what the model says of the image's eight flips and turns.
        size: Of SR and of the bicubic enlargement.
    """

    suffix: str = ""
    ext: Extension = "png"
    predictions: bool = False
    weight_maps: bool = False
    disagreement: bool = False
    bicubic: bool = False
    self_ensemble: bool = False
    size: OutputSize = NATIVE_SIZE

    def __post_init__(self) -> None:
        """Refuse maps that SR would not be made from.

        Raises:
            UsageError: the predictions are asked for, but SR is made from more than them.
        """
        if self.needs_predictions and (self.self_ensemble or self.size != NATIVE_SIZE):
            problem = "are of one run, at the model's own size"
            remedy = "Leave -x, --outscale, --width and --height out."
            raise UsageError("predictions, weight maps and disagreement", problem, remedy=remedy)

    @property
    def needs_predictions(self) -> bool:
        """Return whether the fused image alone won't do."""
        return self.predictions or self.weight_maps or self.disagreement

    def settings(self) -> dict[str, Any]:
        """Return all that decides what the files hold; their names are told by themselves."""
        values = asdict(self)
        return {name: values[name] for name in values if name not in {"suffix", "ext"}}


DEFAULT_OUTPUT = OutputOptions()


@dataclass(frozen=True)
class Job:
    """One image to enlarge.

    Attributes:
        source: the file to read.
        target: the SR file to write.
    """

    source: Path
    target: Path

    def bicubic(self) -> Path:
        """Return where the bicubic enlargement goes."""
        return self._beside("bicubic", self.target.suffix)

    def prediction(self, leaf: int) -> Path:
        """Return where a prediction goes; people count from 1."""
        return self._beside(f"prediction_{leaf + 1}", self.target.suffix)

    def weight_map(self, leaf: int) -> Path:
        """Return where a prediction's weights go."""
        return self._beside(f"weight_{leaf + 1}", ".png")

    def disagreement(self) -> Path:
        """Return where the disagreement of the predictions goes."""
        return self._beside("disagreement", ".png")

    def is_map(self, file: Path) -> bool:
        """Return whether one of the image's files shows numbers, not the image."""
        return file == self.disagreement() or file.name.startswith(f"{self.target.stem}_weight_")

    def files(self, wanted: OutputOptions, leaves: int) -> Iterator[Path]:
        """Yield every file that will be written for this image."""
        yield self.target
        if wanted.bicubic:
            yield self.bicubic()
        if wanted.predictions:
            yield from map(self.prediction, range(leaves))
        if wanted.weight_maps:
            yield from map(self.weight_map, range(leaves))
        if wanted.disagreement:
            yield self.disagreement()

    def _beside(self, what: str, ending: str) -> Path:
        return self.target.with_name(f"{self.target.stem}_{what}{ending}")


_UNITS = {"": 1, "K": 1000, "M": 1000**2, "G": 1000**3, "T": 1000**4}
_UNITS |= {f"{prefix}I": 1024**power for power, prefix in enumerate("KMGT", start=1)}
_WRITING_BYTES = 64 << 20  # of the memory allowed: rows that wait for the encoder, and its own
_NUMBER = re.compile(r"([0-9]+(?:\.[0-9]+)?) *([KMGT]?I?)B?")


@dataclass(frozen=True)
class ComputeOptions:
    """What to compute with.

    Attributes:
        backend: a name of the backend table, or `auto`.
        device: `auto`, `cpu`, `gpu`, or a GPU's index.
        precision: `auto`, or one that the backend has.
        memory: bytes that the process may hold; None: what it holds, and a share of what is free.
        limit_mp: the largest image taken, in millions of pixels.
    """

    backend: str = "auto"
    device: str = "auto"
    precision: PrecisionChoice = "auto"
    memory: int | None = None
    limit_mp: float = DEFAULT_LIMIT_MP

    def open(self, bundle: Bundle) -> Engine:
        """Return an engine for a model.

        Raises:
            UsageError: no such backend, device or precision here.
            BundleError: a graph can't be read.
        """
        return open_engine(
            bundle,
            backend=self.backend,
            device=self.device,
            precision=self.precision,
            memory=None if self.memory is None else self.memory - _WRITING_BYTES,
        )


DEFAULT_COMPUTE = ComputeOptions()


def parse_bytes(text: str) -> int:
    """Return how many bytes `4GiB`, `500MB` or `1048576` are.

    Raises:
        UsageError: it is none of these, or none at all.
    """
    match = _NUMBER.fullmatch(text.strip().upper())
    unit = _UNITS.get(match[2]) if match else None
    count = int(float(match[1]) * unit) if match and unit else 0
    if count < 1:
        remedy = "Write it as 4GiB, 500MB, or a number of bytes."
        raise UsageError("--memory", f"{text!r} is no amount of memory", remedy=remedy)
    return count
