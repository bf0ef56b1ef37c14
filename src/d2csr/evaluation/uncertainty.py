"""Calibration: how well a model predicts its error, by rank and in gray levels.

The uncertainty and the disagreement of the predictions are compared with a trivial predictor, the
gradient magnitude of SR. All of them, and the squared and absolute errors over R, G and B, are
averaged over 6x6 blocks; `scale` px are cut from each side.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple, get_args

import numpy as np
from jaxtyping import Float, UInt8

from d2csr.core.results import (
    CalibrationResult,
    PredictorScore,
    ReliabilityBin,
    SparsificationCurve,
)
from d2csr.evaluation.systems import Upscaled
from d2csr.metrics.protocols import LUMA, round_to_8_bit, to_channels
from d2csr.metrics.sparsification import (
    BLOCK_PX,
    REMOVED,
    ause,
    block_means,
    gradient_magnitude,
    rank_correlation,
    sparsification,
)

Predictor = Literal["uncertainty", "disagreement", "gradient"]
Order = Literal["uncertainty", "disagreement", "gradient", "error"]
PREDICTORS: tuple[Predictor, ...] = get_args(Predictor)
ORDERS: tuple[Order, ...] = get_args(Order)
BINS = 10

Levels = Float[np.ndarray, " n"]


class Reliability(NamedTuple):
    """Expected and true absolute error of blocks, in gray levels."""

    expected: Levels
    observed: Levels


class ImageCalibration(NamedTuple):
    """Calibration on one image.

    Attributes:
        scores: of each predictor that the system has.
        curves: of these predictors and of the ideal order.
        reliability: of the uncertainty; None without an error model.
    """

    scores: list[PredictorScore]
    curves: dict[Order, Float[np.ndarray, " 20"]]
    reliability: Reliability | None = None


def calibrate(
    upscaled: Upscaled, hr: UInt8[np.ndarray, "h w 3"], *, name: str, border_px: int
) -> ImageCalibration:
    """Return the scores and curves of the predictors on one image.

    Raises:
        ValueError: the system doesn't predict its error, or no block fits inside the border.
    """
    if upscaled.disagreement is None and upscaled.uncertainty is None:
        raise ValueError("one prediction has no disagreement, and there is no error model")
    sr = round_to_8_bit(upscaled.sr).astype(np.float64)
    inside = np.s_[border_px : sr.shape[0] - border_px, border_px : sr.shape[1] - border_px]
    squared = block_means(np.mean(np.square(sr - hr), axis=2)[inside])
    predictors: dict[Predictor, Levels] = {
        predictor: block_means(values.astype(np.float64)[inside])
        for predictor, values in _predictor_maps(upscaled, sr)
    }
    curves: dict[Order, Float[np.ndarray, " 20"]] = {
        order: sparsification(squared, values) for order, values in predictors.items()
    }
    curves["error"] = sparsification(squared, squared)
    scores = [
        PredictorScore(
            name=name,
            predictor=predictor,
            spearman=rank_correlation(values, squared),
            ause=ause(curves[predictor], curves["error"]),
        )
        for predictor, values in predictors.items()
    ]
    if (expected := predictors.get("uncertainty")) is None:
        return ImageCalibration(scores, curves)
    observed = block_means(np.mean(np.abs(sr - hr), axis=2)[inside])
    return ImageCalibration(scores, curves, Reliability(expected, observed))


def _predictor_maps(
    upscaled: Upscaled, sr: Float[np.ndarray, "h w 3"]
) -> Iterator[tuple[Predictor, Float[np.ndarray, "h w"]]]:
    """Yield the map of each predictor that the system has, in the order of `PREDICTORS`."""
    if upscaled.uncertainty is not None:
        yield "uncertainty", upscaled.uncertainty
    if upscaled.disagreement is not None:
        yield "disagreement", upscaled.disagreement
    yield "gradient", gradient_magnitude(to_channels(sr, LUMA, offset=0.0)[0])


def summarize(
    model: str, images: list[ImageCalibration], *, weights_sha256: str | None
) -> CalibrationResult:
    """Return the scores of all images of a model with their means."""
    scores = [score for image in images for score in image.scores]
    used = {score.predictor for score in scores}
    reliabilities = [image.reliability for image in images if image.reliability is not None]
    return CalibrationResult(
        model=model,
        block_px=BLOCK_PX,
        images=scores,
        mean=[_mean(predictor, scores) for predictor in PREDICTORS if predictor in used],
        curves=[_mean_curve(order, images) for order in ORDERS if order in images[0].curves],
        reliability=reliability_table(reliabilities) if reliabilities else [],
        weights_sha256=weights_sha256,
    )


def reliability_table(images: Sequence[Reliability]) -> list[ReliabilityBin]:
    """Return expected and observed error of ten equal parts of all blocks, by expected error."""
    expected = np.concatenate([image.expected for image in images])
    observed = np.concatenate([image.observed for image in images])
    order = np.argsort(expected, kind="stable")
    return [
        _reliability_bin(expected[part], observed[part])
        for part in np.array_split(order, min(BINS, len(order)))
    ]


def _reliability_bin(expected: Levels, observed: Levels) -> ReliabilityBin:
    means = float(expected.mean()), float(observed.mean())
    ratio = means[0] / means[1] if means[1] > 0 else math.nan
    return ReliabilityBin(expected=means[0], observed=means[1], ratio=ratio, blocks=len(expected))


def _mean(predictor: Predictor, scores: list[PredictorScore]) -> PredictorScore:
    """Return the mean scores of one predictor over the images."""
    scores = [score for score in scores if score.predictor == predictor]
    return PredictorScore(
        name="mean",
        predictor=predictor,
        spearman=float(np.mean([score.spearman for score in scores])),
        ause=float(np.mean([score.ause for score in scores])),
    )


def _mean_curve(order: Order, images: list[ImageCalibration]) -> SparsificationCurve:
    """Return the mean curve of one order in which blocks are removed."""
    curve = np.mean([image.curves[order] for image in images], axis=0)
    return SparsificationCurve(order=order, removed=REMOVED.tolist(), rmse=curve.tolist())
