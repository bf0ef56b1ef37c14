"""The enlargement of one image: what is made of it, row by row, for each of its files.

Pixels between file and engine: depth, gray, and colour under alpha.

Geometric self-ensemble: the mean of what a model says of an image's eight flips and turns.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, final

import numpy as np
from jaxtyping import Float32, Shaped

from d2csr.core.geometry import TURNS, Size, dihedral_transform
from d2csr.engine.engine import Engine
from d2csr.engine.flat_regions import FlatRegionBlend
from d2csr.engine.tail import StripOutput, disagreement
from d2csr.images.reader import DecodedImage
from d2csr.images.resize import resize_bicubic
from d2csr.upscale.heatmap import heatmap
from d2csr.upscale.options import Job, OutputOptions, resample_rows
from d2csr.upscale.transparency import fill_transparent

Stored = np.ndarray[Any, np.dtype[Any]]  # uint8 or uint16, as the file has it
Rgb01 = Float32[np.ndarray, "h w 3"]


@dataclass(frozen=True)
class StoredPixels:
    """What a file's pixels are.

    Attributes:
        dtype: uint8 or uint16.
        strips: of colour: 1 or 3.
        colourless: no pixel has a colour, though there may be three strips; nor will any of SR.
    """

    dtype: np.dtype[Any]
    strips: int
    colourless: bool

    @property
    def top(self) -> int:
        """Return the value of white."""
        return int(np.iinfo(self.dtype).max)

    def stored(self, values01: Float32[np.ndarray, "*shape"]) -> Shaped[np.ndarray, "*shape"]:
        """Return the nearest values that a file can hold."""
        scaled: np.ndarray[Any, np.dtype[Any]] = np.rint(values01 * np.float32(self.top))
        return scaled.clip(0, self.top).astype(self.dtype)


def kind_of(pixels: Shaped[np.ndarray, "h w c"]) -> StoredPixels:
    """Return the kind of an image's pixels, alpha aside."""
    strips = pixels.shape[2]
    colourless = all(
        np.array_equal(pixels[..., 0], pixels[..., strip]) for strip in range(1, strips)
    )
    return StoredPixels(pixels.dtype, strips, colourless)


def to_engine_rgb(
    pixels: Shaped[np.ndarray, "h w c"], alpha: Shaped[np.ndarray, "h w"] | None
) -> Rgb01:
    """Return colour as the engine takes it, filled in where alpha hides it; gray is repeated."""
    top = np.float32(np.iinfo(pixels.dtype).max)
    colour = np.broadcast_to(pixels, (*pixels.shape[:2], 3)).astype(np.float32)
    colour /= top
    if alpha is None:
        return colour
    return fill_transparent(colour, alpha.astype(np.float32) / top)


def gray_to_engine_rgb(gray: Shaped[np.ndarray, "h w"]) -> Rgb01:
    """Return one strip as the engine takes it."""
    values = gray.astype(np.float32) / np.float32(np.iinfo(gray.dtype).max)
    return np.repeat(values[..., None], 3, axis=2)


def to_file_rows(
    sr01: Float32[np.ndarray, "rows sw 3"],
    *,
    kind: StoredPixels,
    alpha: Shaped[np.ndarray, "rows sw"] | None,
) -> Shaped[np.ndarray, "rows sw c"]:
    """Return rows of SR as they are stored, alpha behind the colour.

    Args:
        sr01: colour.
        kind: of the image's pixels.
        alpha: of these rows, as stored.
    """
    if kind.colourless:
        sr01 = sr01.mean(axis=2, keepdims=True, dtype=np.float32)
    rows = kind.stored(sr01)
    if kind.colourless and kind.strips > 1:
        rows = np.repeat(rows, kind.strips, axis=2)
    return rows if alpha is None else np.concatenate([rows, alpha[..., None]], axis=2)


def self_ensemble(
    engine: Engine, lr01: Float32[np.ndarray, "h w 3"], *, warned: Callable[[str], object]
) -> Float32[np.ndarray, "sh sw 3"]:
    """Return the mean of eight SR images, each turned back; nothing is clipped or rounded before.

    The image is kept whole, 12 bytes an SR pixel, because turned strips cross each other; each
    turn's own strips are added as they come, so that one sum is all there is. `warned` is told what
    the engine warns of.
    """
    scale = engine.bundle.card.scale
    height, width, _ = lr01.shape
    total = np.zeros((scale * height, scale * width, 3), np.float32)
    for turn in range(TURNS):
        seen = dihedral_transform(
            total, turn
        )  # a view: the turn's rows top to bottom, wherever they lie
        for first, part in engine.iter_strips(
            np.ascontiguousarray(dihedral_transform(lr01, turn)), on_warning=warned
        ):
            seen[first : first + part.sr.shape[0]] += part.sr
    total /= np.float32(TURNS)
    return total


# Shown as yellow, as `OutputOptions` says: fixed, so that maps of different images compare.
_DISAGREEMENT_TOP = 4.0  # grey levels
_WEIGHT_TOP = 2.0  # equal shares

StoredRows = np.ndarray[Any, np.dtype[Any]]  # (rows, w, c), as files hold them
SrRows = Float32[np.ndarray, "rows sw 3"]


class RowBlock(NamedTuple):
    """Rows for one of an image's files."""

    file: Path
    rows: StoredRows


@final
@dataclass(frozen=True)
class ImageUpscaler:
    """One image, the engine, and what is wanted.

    Attributes:
        job: where it comes from and goes to.
        engine: the model.
        wanted: what is made.
        image: its pixels, and what else its file holds.
        warned: sentences on what a file can't carry and how it was computed, as they came up.
    """

    job: Job
    engine: Engine
    wanted: OutputOptions
    image: DecodedImage
    warned: list[str] = field(default_factory=list)

    @property
    def lr_size(self) -> Size:
        """Return the size of the image."""
        return Size(self.image.pixels.shape[1], self.image.pixels.shape[0])

    @property
    def out_size(self) -> Size:
        """Return the size of what is written."""
        return self.wanted.size.of(self.lr_size, scale=self._scale)

    @property
    def warnings(self) -> tuple[str, ...]:
        """Return what the user should know of the result, once all is computed."""
        return tuple(dict.fromkeys(self.warned))

    def files(self) -> list[Path]:
        """Return the files that are made, SR first."""
        return list(self.job.files(self.wanted, self.engine.bundle.card.config.leaves))

    def pieces(self) -> Iterator[RowBlock]:
        """Yield the rows of every file, each file's from top to bottom."""
        alpha = self._out_alpha()
        lr01 = to_engine_rgb(self.image.pixels, self.image.alpha)
        if self.wanted.bicubic:
            yield from self._bicubic(lr01, alpha=alpha)
        beside: list[RowBlock] = []
        for piece in self._stored(
            self.job.target, self._sr(lr01, beside=beside, alpha=alpha), alpha=alpha
        ):
            yield piece
            yield from beside
            beside.clear()

    def _bicubic(self, lr01: Rgb01, *, alpha: StoredRows | None) -> Iterator[RowBlock]:
        """Yield the bicubic enlargement; of 8-bit RGB the field's own, rounded as that is."""
        file, size, pixels = self.job.bicubic(), self.out_size, self.image.pixels
        if alpha is None and pixels.dtype == np.uint8 and pixels.shape[2] == 3:
            yield RowBlock(file, resize_bicubic(pixels, scale=(size.height, size.width)))
            return
        enlarged = resample_rows([lr01], size=self.lr_size, wanted=size)
        yield from self._stored(file, enlarged, alpha=alpha)

    def _sr(
        self, lr01: Rgb01, *, beside: list[RowBlock] | None, alpha: StoredRows | None
    ) -> Iterator[SrRows]:
        """Yield SR rows of the wanted size; pieces of the files beside SR are added to a list."""

        def strips() -> Iterator[SrRows]:
            for strip in self.engine.iter_strips(lr01, on_warning=self.warned.append):
                if beside is not None:
                    beside.extend(self._beside(strip, alpha=alpha))
                yield guard.blend(strip.output.sr, first_row=strip.first_row)

        guard = FlatRegionBlend(lr01, scale=self._scale)
        rows = (
            [guard.blend(self_ensemble(self.engine, lr01, warned=self.warned.append), first_row=0)]
            if self.wanted.self_ensemble
            else strips()
        )
        return resample_rows(rows, size=self.lr_size.times(self._scale), wanted=self.out_size)

    def _beside(self, strip: StripOutput, *, alpha: StoredRows | None) -> Iterator[RowBlock]:
        """Yield the predictions, their weights and their disagreement as far as wanted."""
        job, wanted, (first, output) = self.job, self.wanted, strip
        last, leaves = first + len(output.sr), len(output.weights)
        for leaf in range(leaves):
            if wanted.predictions:
                under = None if alpha is None else alpha[first:last]
                rows = to_file_rows(output.predictions[leaf], kind=self._kind, alpha=under)
                yield RowBlock(job.prediction(leaf), rows)
            if wanted.weight_maps:
                rows = heatmap(output.weights[leaf], top=_WEIGHT_TOP / leaves)
                yield RowBlock(job.weight_map(leaf), rows)
        if wanted.disagreement:
            rows = heatmap(disagreement(output), top=_DISAGREEMENT_TOP)
            yield RowBlock(job.disagreement(), rows)

    def _out_alpha(self) -> StoredRows | None:
        """Return alpha enlarged like a gray image, whole; None where there is none."""
        if self.image.alpha is None:
            return None
        if self.image.alpha.min() == self._kind.top:
            return np.full(self.out_size[::-1], self._kind.top, self.image.alpha.dtype)
        sr = self._sr(gray_to_engine_rgb(self.image.alpha), beside=None, alpha=None)
        return np.concatenate([self._kind.stored(rows.mean(axis=2)) for rows in sr])

    def _stored(
        self, file: Path, sr: Iterable[SrRows], *, alpha: StoredRows | None
    ) -> Iterator[RowBlock]:
        first = 0
        for rows in sr:
            last = first + len(rows)
            under = None if alpha is None else alpha[first:last]
            yield RowBlock(file, to_file_rows(rows, kind=self._kind, alpha=under))
            first = last

    @cached_property
    def _kind(self) -> StoredPixels:
        return kind_of(self.image.pixels)

    @property
    def _scale(self) -> int:
        return self.engine.bundle.card.scale
