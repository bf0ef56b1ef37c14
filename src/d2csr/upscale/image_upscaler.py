"""The upscaler of one image: the rows of every file that is made from it, strip by strip."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, final

import numpy as np
from jaxtyping import Float32, Shaped

from d2csr import __version__
from d2csr.core.geometry import TURNS, Size, dihedral_transform
from d2csr.engine.engine import Engine
from d2csr.engine.flat_regions import FlatRegionBlend
from d2csr.engine.tail import EngineOutput, StripOutput, disagreement
from d2csr.engine.uncertainty import UncertaintyStream, require_error_model
from d2csr.images.colors import heatmap
from d2csr.images.exif import with_software
from d2csr.images.formats import PixelFormat, format_from_suffix, format_limitations
from d2csr.images.metadata import NO_METADATA, ImageMetadata
from d2csr.images.pixels import StoredPixels, to_engine_rgb, to_file_rows
from d2csr.images.reader import DecodedImage
from d2csr.images.resize import ResizedImage, resample_rows
from d2csr.images.strength import MODEL_STRENGTH, StrengthBlend
from d2csr.images.writer import ImageWriter
from d2csr.upscale.comparison import Comparison, ComparisonImage, ComparisonPage
from d2csr.upscale.jobs import Job
from d2csr.upscale.legend import Legend
from d2csr.upscale.options import OutputOptions

# Values shown in yellow, as `OutputOptions` states; fixed, so that maps of images are comparable.
_MAX_DISAGREEMENT = 4.0  # gray levels
_MAX_WEIGHT_SHARES = 2.0  # 1 is an equal share
_HEATMAP = PixelFormat()  # 8-bit RGB
_COMPARISON_QUALITY = {"jpeg": 95, "avif": 95}  # of the formats that are lossy by default
_STRIP_ROWS = 128  # of a self-ensemble

StoredRows = np.ndarray[Any, np.dtype[Any]]  # (rows, width, channels) as a file stores them
Rgb01 = Float32[np.ndarray, "h w 3"]
SrRows = Float32[np.ndarray, "rows sw 3"]


def self_ensemble(
    engine: Engine, lr01: Float32[np.ndarray, "h w 3"], *, on_warning: Callable[[str], object]
) -> Float32[np.ndarray, "sh sw 3"]:
    """Return the mean of SR over the image's eight flips and rotations.

    Nothing is clipped or rounded before the mean. The sum of the whole image is in memory, 12 bytes
    per SR pixel, because the strips of different rotations cross each other.

    Args:
        engine: the model.
        lr01: an RGB image, range 0 to 1.
        on_warning: called with each warning of the engine.
    """
    scale = engine.bundle.card.scale
    height, width, _ = lr01.shape
    total = np.zeros((scale * height, scale * width, 3), np.float32)
    for turn in range(TURNS):
        view = dihedral_transform(total, turn)  # writing to the view adds to the rotated pixels
        turned = np.ascontiguousarray(dihedral_transform(lr01, turn))
        for first, part in engine.iter_strips(turned, on_warning=on_warning):
            view[first : first + part.sr.shape[0]] += part.sr
    total /= np.float32(TURNS)
    return total


def cut_into_strips(sr01: Float32[np.ndarray, "sh sw 3"]) -> Iterator[StripOutput]:
    """Yield the strips of an image without predictions, so that later steps take little memory."""
    for first in range(0, len(sr01), _STRIP_ROWS):
        rows = sr01[first : first + _STRIP_ROWS]
        no_leaf = np.empty((0, *rows.shape), np.float32)
        yield StripOutput(first, EngineOutput(rows, no_leaf, no_leaf[..., 0]))


@final
@dataclass(frozen=True)
class Output:
    """One file that is made from an image.

    Attributes:
        path: the file.
        image: the image whose pixel format and metadata the file gets; None for a map of numbers,
            which is 8-bit RGB without metadata.
        rows: returns the file's rows for a strip of the engine's output; None for files that are
            computed without the engine.
        software: what made the file, noted in its metadata; None adds no note.
        quality: of lossy compression; None is the format's default.
        legend: drawn below a map of numbers; None for other files.
        comparison: that the file shows; None for other files.
    """

    path: Path
    image: DecodedImage | None
    rows: Callable[[StripOutput], StoredRows] | None = None
    software: str | None = None
    quality: int | None = None
    legend: Legend | None = None
    comparison: Comparison | None = None

    def open(self, size: Size) -> ImageWriter | ComparisonImage | ComparisonPage:
        """Return a writer for the file, for an image of this size."""
        if self.comparison is not None:
            return self.comparison.open()
        if self.legend is not None:
            metadata = ImageMetadata(texts=(("Description", self.legend.note),))
            own = self.legend.size
            return ImageWriter(self.path, size=own, pixel_format=_HEATMAP, metadata=metadata)
        if self.image is None:
            return ImageWriter(self.path, size=size, pixel_format=_HEATMAP, metadata=NO_METADATA)
        metadata = self.image.metadata
        if self.software is not None:
            metadata = replace(metadata, exif=with_software(metadata.exif, self.software))
        return ImageWriter(
            self.path,
            size=size,
            pixel_format=self.image.pixel_format,
            metadata=metadata,
            scale=size.width / self.image.size.width,
            quality=self.quality,
        )


@final
@dataclass(frozen=True)
class ImageUpscaler:
    """One image, the engine, and the files to make.

    Attributes:
        job: the image's file and its SR file.
        engine: the model.
        options: which files are made, and in which size.
        image: the decoded image.
        collected: warnings so far, in order.
    """

    job: Job
    engine: Engine
    options: OutputOptions
    image: DecodedImage
    collected: list[str] = field(default_factory=list)

    @property
    def lr_size(self) -> Size:
        """Return the size of the image."""
        return Size(self.image.pixels.shape[1], self.image.pixels.shape[0])

    @property
    def out_size(self) -> Size:
        """Return the size of the results."""
        return self.options.size.of(self.lr_size, scale=self.scale)

    @property
    def scale(self) -> int:
        """Return the scale of the model."""
        return self.engine.bundle.card.scale

    @property
    def warnings(self) -> tuple[str, ...]:
        """Return the warnings on the image and its results, without repetitions."""
        return tuple(dict.fromkeys((*self.image.warnings, *self.collected)))

    def check_writable(self) -> None:
        """Add a warning for everything that the SR file's format can't store.

        Raises:
            ImageError: the result is too large for the format.
        """
        pixel_format = self.image.pixel_format
        self.collected.extend(format_limitations(pixel_format, self.job.target, size=self.out_size))

    @cached_property
    def outputs(self) -> tuple[Output, ...]:
        """Return the files that are made, SR first."""
        job, options, image = self.job, self.options, self.image
        quality = self._quality
        outputs = [Output(job.target, image, self._sr_rows, self._software, quality)]
        if options.bicubic:
            outputs.append(Output(job.bicubic(), image, quality=quality))
        if (compared := self._comparison) is not None:
            outputs.append(Output(compared.path, image, comparison=compared))
        leaves = range(self.engine.bundle.card.config.leaves)
        if options.predictions:
            outputs += [
                Output(job.prediction(leaf), image, self._prediction_rows(leaf), quality=quality)
                for leaf in leaves
            ]
        if options.weight_maps:
            outputs += [
                Output(job.weight_map(leaf), None, _weight_rows(leaf, len(leaves)))
                for leaf in leaves
            ]
        if options.uncertainty:
            outputs.append(self._uncertainty_output())
        if options.disagreement:
            outputs.append(Output(job.disagreement(), None, _disagreement_rows))
        return tuple(outputs)

    def iter_rows(self) -> Iterator[tuple[Path, StoredRows]]:
        """Yield rows for every file, each file's from top to bottom."""
        target, native = self.job.target, self.lr_size.times(self.scale)
        if self.options.bicubic:
            for first, rows in with_positions(self._bicubic.iter_rows01(0, self.out_size.height)):
                yield self.job.bicubic(), self._to_file(rows, first=first)
        if self.out_size != native:
            for first, rows in self._resized_sr():
                yield target, rows
                yield from self._compare(rows, first=first)
            return
        for strip in self._iter_strips(self._lr01):
            for output in self.outputs:
                if output.rows is not None:
                    rows = output.rows(strip)
                    yield output.path, rows
                    if output.path == target:
                        yield from self._compare(rows, first=strip.first_row)

    def _compare(self, sr: StoredRows, *, first: int) -> Iterator[tuple[Path, StoredRows]]:
        """Yield the rows of the comparison, if there is one, for rows of the SR file."""
        if self._comparison is None:
            return
        position = first
        for bicubic in self._bicubic.iter_rows01(first, first + len(sr)):
            left = self._to_file(bicubic, first=position)
            right = sr[position - first : position - first + len(left)]
            yield self._comparison.path, self._comparison.side_by_side(left, right)
            position += len(left)

    @cached_property
    def _comparison(self) -> Comparison | None:
        """Return the comparison of the bicubic enlargement with SR, if it is asked for."""
        options, image = self.options, self.image
        if options.compare is None:
            return None
        name = self.engine.bundle.card.name
        if options.strength != MODEL_STRENGTH:
            name += f" {options.strength:g}"
        return Comparison(
            self.job.comparison(options.compare),
            self.out_size,
            image.pixel_format,
            labels=("bicubic", name),
            icc=image.metadata.icc,
            quality=self._quality or _COMPARISON_QUALITY.get(format_from_suffix(self.job.target)),
        )

    def _iter_strips(self, lr01: Rgb01) -> Iterator[StripOutput]:
        """Yield the engine's output with flat regions blended."""
        blend = FlatRegionBlend(lr01, scale=self.scale).blend
        warn = self.collected.append
        if self.options.self_ensemble:
            sr = self_ensemble(self.engine, lr01, on_warning=warn)
            strips: Iterable[StripOutput] = cut_into_strips(sr)
        else:
            strips = self.engine.iter_strips(lr01, on_warning=warn)
        for first, output in strips:
            yield StripOutput(first, output._replace(sr=blend(output.sr, first_row=first)))

    def _uncertainty_output(self) -> Output:
        """Return the uncertainty map, whose rows lag behind the strips and end with the legend."""
        model = require_error_model(self.engine.bundle)
        stream = UncertaintyStream(model, self._lr01, scale=self.scale)
        legend = Legend(self.out_size)

        def rows(strip: StripOutput) -> StoredRows:
            parts = [legend.color(levels) for levels in stream.add(strip)]
            if strip.first_row + len(strip.output.sr) == self.out_size.height:
                parts.append(legend.rows())
            return np.concatenate([np.empty((0, legend.size.width, 3), np.uint8), *parts])

        return Output(self.job.uncertainty(), None, rows, legend=legend)

    def _sr_rows(self, strip: StripOutput) -> StoredRows:
        return self._sr_to_file(strip.output.sr, first=strip.first_row)

    def _sr_to_file(self, sr01: SrRows, *, first: int) -> StoredRows:
        """Return rows of SR as the file stores them, blended with the bicubic enlargement."""
        return self._to_file(self._strength.blend(sr01, first_row=first), first=first)

    def _prediction_rows(self, leaf: int) -> Callable[[StripOutput], StoredRows]:
        return lambda strip: self._to_file(strip.output.predictions[leaf], first=strip.first_row)

    def _resized_sr(self) -> Iterator[tuple[int, StoredRows]]:
        """Yield SR rows of a size that isn't the model's own, each block with its first row."""
        sr = (strip.output.sr for strip in self._iter_strips(self._lr01))
        native = self.lr_size.times(self.scale)
        for first, rows in with_positions(resample_rows(sr, size=native, target=self.out_size)):
            yield first, self._sr_to_file(rows, first=first)

    def _to_file(self, rows: SrRows, *, first: int) -> StoredRows:
        alpha = None if self._alpha is None else self._alpha[first : first + len(rows)]
        return to_file_rows(rows, stored=self._stored, alpha=alpha)

    @cached_property
    def _strength(self) -> StrengthBlend:
        return StrengthBlend(self._bicubic, strength=self.options.strength)

    @cached_property
    def _bicubic(self) -> ResizedImage:
        """Return the bicubic enlargement; without alpha, 8 bit is that of the evaluation."""
        image, size = self.image, self.lr_size
        if image.alpha is None and image.pixels.dtype == np.uint8:
            rgb8 = np.broadcast_to(image.pixels, (size.height, size.width, 3))
            return ResizedImage(rgb8, target=self.out_size)
        return ResizedImage(self._lr01, target=self.out_size)

    @property
    def _quality(self) -> int | None:
        """Return the quality of lossy files: that of the options, or of an input of the format."""
        if self.options.quality is not None:
            return self.options.quality
        is_same = format_from_suffix(self.job.target) == self.image.content
        return self.image.quality if is_same else None

    @property
    def _software(self) -> str | None:
        """Return the note on what made SR; None where the model alone did."""
        if self.options.strength == MODEL_STRENGTH:
            return None
        name = self.engine.bundle.card.name
        return f"d2csr {__version__}: {name}, strength {self.options.strength:g}"

    @cached_property
    def _lr01(self) -> Rgb01:
        return to_engine_rgb(self.image.pixels, self.image.alpha)

    @cached_property
    def _stored(self) -> StoredPixels:
        return StoredPixels.of(self.image.pixels)

    @cached_property
    def _alpha(self) -> Shaped[np.ndarray, "oh ow"] | None:
        """Return alpha upscaled by the model like a gray image; None without alpha."""
        alpha, stored = self.image.alpha, self._stored
        if alpha is None:
            return None
        if alpha.min() == stored.white:
            return np.full(self.out_size[::-1], stored.white, alpha.dtype)
        strips = self._iter_strips(to_engine_rgb(alpha[..., None], None))
        sr = (strip.output.sr for strip in strips)
        native = self.lr_size.times(self.scale)
        resized = resample_rows(sr, size=native, target=self.out_size)
        return np.concatenate([stored.quantize(rows.mean(axis=2)) for rows in resized])


def with_positions(blocks: Iterable[SrRows]) -> Iterator[tuple[int, SrRows]]:
    """Yield blocks of rows, each with the row at which it begins."""
    first = 0
    for rows in blocks:
        yield first, rows
        first += len(rows)


def _weight_rows(leaf: int, leaves: int) -> Callable[[StripOutput], StoredRows]:
    top = _MAX_WEIGHT_SHARES / leaves
    return lambda strip: heatmap(strip.output.weights[leaf], top=top)


def _disagreement_rows(strip: StripOutput) -> StoredRows:
    return heatmap(disagreement(strip.output), top=_MAX_DISAGREEMENT)
