"""Calibration: how well the disagreement of the predictions ranks the true error.

It is compared with a trivial predictor, the gradient magnitude of SR. Both predictors, and the
squared error over R, G and B, are averaged over 6x6 blocks; `scale` px are cut from each side.
"""

from typing import Literal, NamedTuple, get_args

import numpy as np
from jaxtyping import Float, UInt8

from d2csr.core.results import CalibrationResult, PredictorScore, SparsificationCurve
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

Predictor = Literal["disagreement", "gradient"]
Order = Literal["disagreement", "gradient", "error"]
PREDICTORS: tuple[Predictor, ...] = get_args(Predictor)
ORDERS: tuple[Order, ...] = get_args(Order)


class ImageCalibration(NamedTuple):
    """Scores of both predictors on one image, and the curves of these and of the ideal order."""

    scores: list[PredictorScore]
    curves: dict[Order, Float[np.ndarray, " 20"]]


def calibrate(
    upscaled: Upscaled, hr: UInt8[np.ndarray, "h w 3"], *, name: str, border_px: int
) -> ImageCalibration:
    """Return the scores and curves of disagreement and gradient magnitude on one image.

    Raises:
        ValueError: the system makes only one prediction, or no block fits inside the border.
    """
    if upscaled.disagreement is None:
        raise ValueError("one prediction has no disagreement")
    sr = round_to_8_bit(upscaled.sr).astype(np.float64)
    inside = np.s_[border_px : sr.shape[0] - border_px, border_px : sr.shape[1] - border_px]
    error = block_means(np.mean(np.square(sr - hr), axis=2)[inside])
    predictors: dict[Order, Float[np.ndarray, " n"]] = {
        "disagreement": block_means(upscaled.disagreement.astype(np.float64)[inside]),
        "gradient": block_means(gradient_magnitude(to_channels(sr, LUMA, offset=0.0)[0])[inside]),
        "error": error,
    }
    curves: dict[Order, Float[np.ndarray, " 20"]] = {
        order: sparsification(error, values) for order, values in predictors.items()
    }
    scores = [
        PredictorScore(
            name=name,
            predictor=predictor,
            spearman=rank_correlation(predictors[predictor], error),
            ause=ause(curves[predictor], curves["error"]),
        )
        for predictor in PREDICTORS
    ]
    return ImageCalibration(scores, curves)


def summarize(
    model: str, images: list[ImageCalibration], *, weights_sha256: str | None
) -> CalibrationResult:
    """Return the scores of all images of a model with their means."""
    scores = [score for image in images for score in image.scores]
    return CalibrationResult(
        model=model,
        block_px=BLOCK_PX,
        images=scores,
        mean=[_mean(predictor, scores) for predictor in PREDICTORS],
        curves=[_mean_curve(order, images) for order in ORDERS],
        weights_sha256=weights_sha256,
    )


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
