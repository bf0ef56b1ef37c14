"""Calibration: whether the predictions disagree where SR is wrong, beside the trivial guess.

Both guesses, disagreement and gradient magnitude of SR, are means over 6x6 blocks; so is the
squared error over R, G and B. `scale` px are cut from each side.
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
    """One image's figures for both guesses, and its curves for these and the best order."""

    scores: list[PredictorScore]
    curves: dict[Order, Float[np.ndarray, " 20"]]


def calibrate(
    enlarged: Upscaled, hr: UInt8[np.ndarray, "h w 3"], *, name: str, border_px: int
) -> ImageCalibration:
    """Return how well disagreement, and gradient magnitude, order the blocks of one image.

    Raises:
        ValueError: the system makes one prediction only, or no block fits inside the border.
    """
    if enlarged.disagreement is None:
        raise ValueError("one prediction can't disagree")
    sr = round_to_8_bit(enlarged.sr).astype(np.float64)
    inside = np.s_[border_px : sr.shape[0] - border_px, border_px : sr.shape[1] - border_px]
    error = block_means(np.mean(np.square(sr - hr), axis=2)[inside])
    guesses: dict[Order, Float[np.ndarray, " n"]] = {
        "disagreement": block_means(enlarged.disagreement.astype(np.float64)[inside]),
        "gradient": block_means(gradient_magnitude(to_channels(sr, LUMA, offset=0.0)[0])[inside]),
        "error": error,
    }
    curves: dict[Order, Float[np.ndarray, " 20"]] = {
        order: sparsification(error, guess) for order, guess in guesses.items()
    }
    scores = [
        PredictorScore(
            name=name,
            predictor=predictor,
            spearman=rank_correlation(guesses[predictor], error),
            ause=ause(curves[predictor], curves["error"]),
        )
        for predictor in PREDICTORS
    ]
    return ImageCalibration(scores, curves)


def summarize(
    model: str, calibrated: list[ImageCalibration], *, weights_sha256: str | None
) -> CalibrationResult:
    """Return the images' figures with their means."""
    images = [score for image in calibrated for score in image.scores]
    return CalibrationResult(
        model=model,
        block_px=BLOCK_PX,
        images=images,
        mean=[_mean(predictor, images) for predictor in PREDICTORS],
        curves=[_mean_curve(order, calibrated) for order in ORDERS],
        weights_sha256=weights_sha256,
    )


def _mean(predictor: Predictor, images: list[PredictorScore]) -> PredictorScore:
    """Return the mean figures of one guess."""
    scores = [score for score in images if score.predictor == predictor]
    return PredictorScore(
        name="mean",
        predictor=predictor,
        spearman=float(np.mean([score.spearman for score in scores])),
        ause=float(np.mean([score.ause for score in scores])),
    )


def _mean_curve(order: Order, calibrated: list[ImageCalibration]) -> SparsificationCurve:
    """Return the mean curve of one order of removal."""
    curve = np.mean([image.curves[order] for image in calibrated], axis=0)
    return SparsificationCurve(order=order, removed=REMOVED.tolist(), rmse=curve.tolist())
