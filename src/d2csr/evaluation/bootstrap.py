"""Means over images with bootstrap intervals, and paired differences between systems."""

import math
from collections.abc import Sequence
from itertools import combinations

import numpy as np
from jaxtyping import Float

from d2csr.core.results import (
    BrightnessShift,
    ImageScore,
    MeanScore,
    PairedResult,
    ScoreInterval,
    SystemResult,
)
from d2csr.evaluation.systems import System

RESAMPLES = 10_000
SEED = 0


def interval95(values: Float[np.ndarray, " n"]) -> tuple[float, float]:
    """Return the 95% bootstrap interval of the mean: percentiles over `RESAMPLES` resamples.

    The seed is fixed, so the same values always give the same interval. Each end is the mean of one
    resample, never interpolated between two, so that infinite values don't spread to finite ends.
    If the mean of any resample is undefined (inf - inf), both ends are nan.
    """
    generator = np.random.default_rng(SEED)
    resamples = generator.integers(len(values), size=(RESAMPLES, len(values)))
    with np.errstate(invalid="ignore"):  # inf - inf is nan, which is handled below
        means = np.sort(values[resamples].mean(axis=1))
    if np.isnan(means[-1]):
        return math.nan, math.nan
    low, high = math.floor(0.025 * (RESAMPLES - 1)), math.ceil(0.975 * (RESAMPLES - 1))
    return float(means[low]), float(means[high])


def paired_differences(
    first: Float[np.ndarray, " n"], second: Float[np.ndarray, " n"]
) -> Float[np.ndarray, " n"]:
    """Return `first - second` per image; 0 where both are infinite, as both are perfect there."""
    with np.errstate(invalid="ignore"):
        return np.where(first == second, 0.0, first - second)


def mean(values: Float[np.ndarray, " n"]) -> float:
    """Return the mean; nan if the values contain opposite infinities."""
    with np.errstate(invalid="ignore"):
        return float(values.mean())


def summarize_system(system: System, protocol: str, *, images: list[ImageScore]) -> SystemResult:
    """Return a system's means over the images under one protocol, with their intervals."""
    facts = {"weights_sha256": system.weights_sha256, "fitted_on": system.fitted_on}
    return summarize_images(system.name, protocol, images=images).model_copy(update=facts)


def summarize_images(model: str, protocol: str, *, images: list[ImageScore]) -> SystemResult:
    """Return the means over the images under one protocol, with their intervals."""
    psnr_db = np.array([image.psnr_db for image in images])
    ssim = np.array([image.ssim for image in images])
    registered_db = [
        image.psnr_registered_db for image in images if image.psnr_registered_db is not None
    ]
    return SystemResult(
        model=model,
        protocol=protocol,
        images=images,
        mean=MeanScore(psnr_db=mean(psnr_db), ssim=mean(ssim)),
        interval95=ScoreInterval(psnr_db=interval95(psnr_db), ssim=interval95(ssim)),
        mean_psnr_registered_db=mean(np.array(registered_db)) if registered_db else None,
        brightness_shift=mean_brightness_shift(images),
    )


def mean_brightness_shift(images: Sequence[ImageScore]) -> BrightnessShift | None:
    """Return the means over the images that are large enough; None if none is."""
    shifts = [each.brightness_shift for each in images if each.brightness_shift is not None]
    if not shifts:
        return None
    p50, p95 = np.mean([(each.p50, each.p95) for each in shifts], axis=0)
    return BrightnessShift(p50=float(p50), p95=float(p95))


def compare_systems(rows: Sequence[SystemResult]) -> list[PairedResult]:
    """Return the differences of all pairs of systems under one protocol, earlier minus later."""
    pairs = [pair for pair in combinations(rows, 2) if pair[0].protocol == pair[1].protocol]
    return [_difference(first, second) for first, second in pairs]


def _difference(first: SystemResult, second: SystemResult) -> PairedResult:
    """Return the mean PSNR difference of two systems on the same images."""
    one, other = (np.array([image.psnr_db for image in row.images]) for row in (first, second))
    differences = paired_differences(one, other)
    return PairedResult(
        a=first.model,
        b=second.model,
        protocol=first.protocol,
        diff_psnr_db=mean(differences),
        interval95=interval95(differences),
    )
