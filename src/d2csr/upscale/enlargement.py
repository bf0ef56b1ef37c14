"""The enlargement of one picture: what is made of it, row by row, for each of its files."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, final

import numpy as np
from jaxtyping import Float32

from d2csr.core.grid import Size
from d2csr.engine.disagreement import disagreement
from d2csr.engine.engine import BandOutput, Engine
from d2csr.engine.flat import ColourGuard
from d2csr.images.picture import Picture
from d2csr.images.resize import resize_bicubic
from d2csr.upscale.ensemble import self_ensemble
from d2csr.upscale.heatmap import heatmap
from d2csr.upscale.pixels import PixelKind, Rgb01, engine_colour, engine_gray, file_rows, kind_of
from d2csr.upscale.size import resampled
from d2csr.upscale.wanted import Job, Wanted

# Shown as yellow, as `Wanted` says: fixed, so that maps of different pictures compare.
_DISAGREEMENT_TOP = 4.0  # grey levels
_WEIGHT_TOP = 2.0  # equal shares

StoredRows = np.ndarray[Any, np.dtype[Any]]  # (rows, w, c), as files hold them
SrRows = Float32[np.ndarray, "rows sw 3"]


class Piece(NamedTuple):
    """Rows for one of a picture's files."""

    file: Path
    rows: StoredRows


@final
@dataclass(frozen=True)
class Enlargement:
    """One picture, the engine, and what is wanted.

    Attributes:
        job: where it comes from and goes to.
        engine: the model.
        wanted: what is made.
        picture: its pixels, and what else its file holds.
        warned: sentences on what a file can't carry and how it was computed, as they came up.
    """

    job: Job
    engine: Engine
    wanted: Wanted
    picture: Picture
    warned: list[str] = field(default_factory=list)

    @property
    def lr_size(self) -> Size:
        """Return the size of the picture."""
        return Size(self.picture.pixels.shape[1], self.picture.pixels.shape[0])

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

    def pieces(self) -> Iterator[Piece]:
        """Yield the rows of every file, each file's from top to bottom."""
        alpha = self._out_alpha()
        lr01 = engine_colour(self.picture.pixels, self.picture.alpha)
        if self.wanted.bicubic:
            yield from self._bicubic(lr01, alpha=alpha)
        beside: list[Piece] = []
        for piece in self._stored(
            self.job.target, self._sr(lr01, beside=beside, alpha=alpha), alpha=alpha
        ):
            yield piece
            yield from beside
            beside.clear()

    def _bicubic(self, lr01: Rgb01, *, alpha: StoredRows | None) -> Iterator[Piece]:
        """Yield the bicubic enlargement; of 8-bit RGB the field's own, rounded as that is."""
        file, size, pixels = self.job.bicubic(), self.out_size, self.picture.pixels
        if alpha is None and pixels.dtype == np.uint8 and pixels.shape[2] == 3:
            yield Piece(file, resize_bicubic(pixels, scale=(size.height, size.width)))
            return
        enlarged = resampled([lr01], size=self.lr_size, wanted=size)
        yield from self._stored(file, enlarged, alpha=alpha)

    def _sr(
        self, lr01: Rgb01, *, beside: list[Piece] | None, alpha: StoredRows | None
    ) -> Iterator[SrRows]:
        """Yield SR rows of the wanted size; pieces of the files beside SR are added to a list."""

        def bands() -> Iterator[SrRows]:
            for band in self.engine.bands(lr01, warned=self.warned.append):
                if beside is not None:
                    beside.extend(self._beside(band, alpha=alpha))
                yield guard.guarded(band.output.sr, first_row=band.first_row)

        guard = ColourGuard(lr01, scale=self._scale)
        rows = (
            [
                guard.guarded(
                    self_ensemble(self.engine, lr01, warned=self.warned.append), first_row=0
                )
            ]
            if self.wanted.self_ensemble
            else bands()
        )
        return resampled(rows, size=self.lr_size.times(self._scale), wanted=self.out_size)

    def _beside(self, band: BandOutput, *, alpha: StoredRows | None) -> Iterator[Piece]:
        """Yield the predictions, their weights and their disagreement as far as wanted."""
        job, wanted, (first, output) = self.job, self.wanted, band
        last, leaves = first + len(output.sr), len(output.weights)
        for leaf in range(leaves):
            if wanted.predictions:
                under = None if alpha is None else alpha[first:last]
                rows = file_rows(output.predictions[leaf], kind=self._kind, alpha=under)
                yield Piece(job.prediction(leaf), rows)
            if wanted.weight_maps:
                rows = heatmap(output.weights[leaf], top=_WEIGHT_TOP / leaves)
                yield Piece(job.weight_map(leaf), rows)
        if wanted.disagreement:
            rows = heatmap(disagreement(output), top=_DISAGREEMENT_TOP)
            yield Piece(job.disagreement(), rows)

    def _out_alpha(self) -> StoredRows | None:
        """Return alpha enlarged like a gray picture, whole; None where there is none."""
        if self.picture.alpha is None:
            return None
        if self.picture.alpha.min() == self._kind.top:
            return np.full(self.out_size[::-1], self._kind.top, self.picture.alpha.dtype)
        sr = self._sr(engine_gray(self.picture.alpha), beside=None, alpha=None)
        return np.concatenate([self._kind.stored(rows.mean(axis=2)) for rows in sr])

    def _stored(
        self, file: Path, sr: Iterable[SrRows], *, alpha: StoredRows | None
    ) -> Iterator[Piece]:
        first = 0
        for rows in sr:
            last = first + len(rows)
            under = None if alpha is None else alpha[first:last]
            yield Piece(file, file_rows(rows, kind=self._kind, alpha=under))
            first = last

    @cached_property
    def _kind(self) -> PixelKind:
        return kind_of(self.picture.pixels)

    @property
    def _scale(self) -> int:
        return self.engine.bundle.card.scale
