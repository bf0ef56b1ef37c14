"""The results file of `evaluate`: scores of systems on pairs, with everything to repeat them.

JSON has no infinity. The PSNR of two equal images is infinite; it is written as null, and null is
read back as infinity. A difference or rank correlation without a value (one of the two PSNRs is
infinite; a map is constant) is also written as null, and read back as nan. PSNR after registration
that wasn't measured has no key, and is None.
"""

import math
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from d2csr.core.errors import DataError
from d2csr.core.files import write_atomically
from d2csr.core.typed_reader import LIST_VALUES, read_json

VERSION = 1


def _infinite_where_null(value: object, info: Any) -> object:  # beartype can't check its protocol
    return math.inf if value is None and info.mode == "json" else value


def _nan_where_null(value: object) -> object:
    return math.nan if value is None else value


Decibels = Annotated[float, BeforeValidator(_infinite_where_null)]
OptionalDecibels = Annotated[
    float | None,
    BeforeValidator(_infinite_where_null),
    Field(default=None, exclude_if=lambda value: value is None),
]
Number = Annotated[float, BeforeValidator(_nan_where_null)]


class _Schema(BaseModel):
    """Common settings of all parts: immutable, unknown keys ignored, nan and infinity as null."""

    model_config = ConfigDict(frozen=True, extra="ignore", ser_json_inf_nan="null")


class BrightnessShift(_Schema):
    """Shift of the local brightness from the bicubic enlargement, in sRGB levels (0 to 255).

    Attributes:
        p50: median over the blocks of an image.
        p95: 95th percentile.
    """

    p50: float
    p95: float


class ImageScore(_Schema):
    """Scores of one image.

    Attributes:
        name: of the pair.
        psnr_db: in dB, by the protocol.
        ssim: by the protocol.
        psnr_registered_db: PSNR after the best shift, gain and offset; None if not measured.
        brightness_shift: the same under all protocols; null for images smaller than a block, and in
            files of the first release.
    """

    name: str
    psnr_db: Decibels
    ssim: float
    psnr_registered_db: OptionalDecibels = None
    brightness_shift: BrightnessShift | None = None


class MeanScore(_Schema):
    """The means over the images."""

    psnr_db: Decibels
    ssim: float


class ScoreInterval(_Schema):
    """The 95% bootstrap intervals of the means: lower and upper end."""

    psnr_db: tuple[Decibels, Decibels]
    ssim: tuple[float, float]


class SystemResult(_Schema):
    """Scores of one system under one protocol.

    Attributes:
        model: name or folder, as the user gave it.
        protocol: a name in `d2csr.metrics.protocols.PROTOCOLS`.
        images: scores of the images, in the order of the pairs.
        mean: means over the images.
        interval95: intervals of the means; for a single image, both ends are its score.
        mean_psnr_registered_db: PSNR after the best shift, gain and offset; not comparable
            with `psnr_db`; None if not measured.
        brightness_shift: means over the images; null if no image has one.
        weights_sha256: hash of the model's weights; null for a system without weights.
        fitted_on: the pairs that the linear filter was fitted on.
    """

    model: str
    protocol: str
    images: list[ImageScore]
    mean: MeanScore
    interval95: ScoreInterval
    mean_psnr_registered_db: OptionalDecibels = None
    brightness_shift: BrightnessShift | None = None
    weights_sha256: str | None = None
    fitted_on: str | None = None


class PairedResult(_Schema):
    """Mean PSNR of `a` minus that of `b` on the same images, in dB, with its 95% interval."""

    a: str
    b: str
    protocol: str
    diff_psnr_db: Number
    interval95: tuple[Number, Number]


class PredictorScore(_Schema):
    """How well one predictor ranks the error of one image, or, as a mean, of all images."""

    name: str
    predictor: Literal["disagreement", "gradient", "uncertainty"]
    spearman: Number
    ause: float


class SparsificationCurve(_Schema):
    """RMSE of the remaining blocks, in gray levels, after a share of the blocks is removed."""

    order: Literal["disagreement", "gradient", "uncertainty", "error"]
    removed: list[float]
    rmse: list[float]


class ReliabilityBin(_Schema):
    """One tenth of the blocks of all images, in the order of their expected error.

    Attributes:
        expected: mean of the expected absolute errors, in gray levels.
        observed: mean of the true absolute errors.
        ratio: expected / observed; null where nothing was observed.
        blocks: number of blocks.
    """

    expected: float
    observed: float
    ratio: Number
    blocks: int


class CalibrationResult(_Schema):
    """Predictors of one model's error compared with its true error.

    Attributes:
        model: as in `SystemResult`.
        block_px: side of the blocks that are compared.
        images: one entry per image and predictor.
        mean: one entry per predictor, named `mean`.
        curves: means over the images.
        reliability: tenths of the blocks, lowest expected error first; empty for a model that
            doesn't predict its error, and in files of earlier releases.
        weights_sha256: hash of the model's weights.
    """

    model: str
    block_px: int
    images: list[PredictorScore]
    mean: list[PredictorScore]
    curves: list[SparsificationCurve]
    reliability: list[ReliabilityBin] = []
    weights_sha256: str | None = None


class Results(_Schema):
    """All results of one evaluation.

    Attributes:
        format_version: version of this schema.
        version: version of d2csr.
        command: the command line, quoted for a shell.
        data: path of the pairs.
        split: the split that was scored; null for all pairs.
        scale: SR pixels per LR pixel.
        protocols: the protocols used, each with a one-line description.
        registration: definition of `psnr_registered_db`; null if it wasn't measured.
        results: one entry per system and protocol.
        paired: one entry per pair of systems and protocol.
        calibration: one entry per model, if it was requested.
    """

    format_version: Literal[1] = VERSION
    version: str
    command: str
    data: str
    split: str | None
    scale: int
    protocols: dict[str, str]
    registration: str | None
    results: list[SystemResult]
    paired: list[PairedResult]
    calibration: list[CalibrationResult] = []


def write_results(results: Results, path: Path) -> None:
    """Write a results file as JSON, atomically."""
    write_atomically(path, (results.model_dump_json(indent=1) + "\n").encode())


def read_results(path: Path) -> Results:
    """Return the results in a file.

    Raises:
        DataError: the file can't be read, or doesn't follow this schema and version.
    """
    remedy = "Give a file that `d2csr evaluate --json` wrote."
    return read_json(path, Results, error_type=DataError, remedy=remedy, max_values=LIST_VALUES)
