"""The results file: scores of systems on pairs, with all that is needed to repeat them.

JSON has no infinity. A PSNR is infinite where two images agree exactly; it is written as null,
and null is read back as infinity. A difference, or a rank correlation, without a value (one of
two PSNRs infinite; a constant map) is null as well, and read back as nan.
"""

import math
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError

from d2csr.core.errors import DataError
from d2csr.core.files import write_atomically

VERSION = 1


def _infinite_where_null(value: object) -> object:
    return math.inf if value is None else value


def _nan_where_null(value: object) -> object:
    return math.nan if value is None else value


Decibels = Annotated[float, BeforeValidator(_infinite_where_null)]
Number = Annotated[float, BeforeValidator(_nan_where_null)]


class _Schema(BaseModel):
    """What every part of the file shares: unchangeable, unknown keys ignored, no NaN in JSON."""

    model_config = ConfigDict(frozen=True, extra="ignore", ser_json_inf_nan="null")


class ImageScore(_Schema):
    """One image's figures."""

    name: str
    psnr_db: Decibels
    ssim: float
    psnr_registered_db: Decibels


class MeanScore(_Schema):
    """Means over the images."""

    psnr_db: Decibels
    ssim: float


class ScoreInterval(_Schema):
    """95% bootstrap intervals of the means, lower and upper end."""

    psnr_db: tuple[Decibels, Decibels]
    ssim: tuple[float, float]


class SystemResult(_Schema):
    """One system under one protocol.

    Attributes:
        model: as it was asked for: a name, or a folder.
        protocol: a name of `d2csr.metrics.protocols.PROTOCOLS`.
        images: the images, in the order of the pairs.
        mean: over the images.
        interval95: of the means; with a single image, both ends are its figure.
        mean_psnr_registered_db: PSNR after the best shift, gain and offset; not comparable
            with `psnr_db`.
        weights_sha256: hash of the model's weights; null for what has none.
        fitted_on: the pairs that the linear filter was fitted on.
    """

    model: str
    protocol: str
    images: list[ImageScore]
    mean: MeanScore
    interval95: ScoreInterval
    mean_psnr_registered_db: Decibels
    weights_sha256: str | None = None
    fitted_on: str | None = None


class PairedResult(_Schema):
    """How much better `a` is than `b` on the same images, in dB, with its 95% interval."""

    a: str
    b: str
    protocol: str
    diff_psnr_db: Number
    interval95: tuple[Number, Number]


class PredictorScore(_Schema):
    """How well one map foretells the error of one image, or, as a mean, of all."""

    name: str
    predictor: Literal["disagreement", "gradient"]
    spearman: Number
    ause: float


class SparsificationCurve(_Schema):
    """Root mean squared error left, in grey levels, after removing shares of the blocks."""

    order: Literal["disagreement", "gradient", "error"]
    removed: list[float]
    rmse: list[float]


class CalibrationResult(_Schema):
    """Disagreement of one model's predictions against its true error.

    Attributes:
        model: as in `SystemResult`.
        block_px: side of the blocks that are compared.
        images: one entry an image and predictor.
        mean: one entry a predictor, called `mean`.
        curves: means over the images.
        weights_sha256: hash of the model's weights.
    """

    model: str
    block_px: int
    images: list[PredictorScore]
    mean: list[PredictorScore]
    curves: list[SparsificationCurve]
    weights_sha256: str | None = None


class Results(_Schema):
    """Everything one call of `evaluate` measured.

    Attributes:
        format_version: of this schema.
        version: of d2csr.
        command: the command line, quoted for a shell.
        data: where the pairs were.
        split: the split that was taken; null for all.
        scale: SR pixels per LR pixel.
        protocols: the protocols used, each in a line.
        registration: what `psnr_registered_db` does.
        results: one entry a system and protocol.
        paired: one entry a pair of systems and protocol.
        calibration: one entry a model, where asked for.
    """

    format_version: Literal[1] = VERSION
    version: str
    command: str
    data: str
    split: str | None
    scale: int
    protocols: dict[str, str]
    registration: str
    results: list[SystemResult]
    paired: list[PairedResult]
    calibration: list[CalibrationResult] = []


def write_results(results: Results, path: Path) -> None:
    """Write a results file as JSON, atomically."""
    write_atomically(path, (results.model_dump_json(indent=1) + "\n").encode())


def read_results(path: Path) -> Results:
    """Return what a results file holds.

    Raises:
        DataError: it can't be read, or doesn't follow this schema and version.
    """
    remedy = "Give a file that `d2csr evaluate --json` wrote."
    try:
        return Results.model_validate_json(path.read_bytes())
    except OSError as error:
        raise DataError(path, f"can't be read: {error.strerror}", remedy=remedy) from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise DataError(
            path, f"is no results file: {place} {first['msg']}", remedy=remedy
        ) from error
