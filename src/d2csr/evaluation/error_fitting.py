"""Fitting of the error model of a bundle: from pairs to the regression and its calibration.

The regression minimizes the gamma deviance with a logarithmic link: the error of a pixel scatters
in proportion to its expectation. Fisher scoring of it has constant weights, so each step is one
ridge regression on the same matrix (McCullagh and Nelder, Generalized Linear Models, 1989, 8.3).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float32

from d2csr.core.bundle import Bundle, ErrorModelFacts
from d2csr.core.console import track
from d2csr.core.error_model import FEATURES, ErrorModel, standardize, terms
from d2csr.core.errors import D2csrError, DataError
from d2csr.core.manifest import Manifest
from d2csr.data.pairs import load_pair
from d2csr.data.sources import open_pairs
from d2csr.data.validation import check_pairs
from d2csr.engine.engine import Engine, open_engine
from d2csr.engine.flat_regions import FlatRegionBlend
from d2csr.engine.tail import StripOutput, disagreement, require_predictions
from d2csr.engine.uncertainty import BlockMaps, block_means, enlarge_linear
from d2csr.metrics import sparsification
from d2csr.metrics.protocols import LUMA, round_to_8_bit, to_channels
from d2csr.metrics.sparsification import gradient_magnitude, rank_correlation

LEAST_IMAGES = 4
LEAST_LR_PX = 16
_WINDOW_PX = 400  # of each LR image, the central part at most: large photos count no more
_POSITIONS = 4000  # drawn from each image
_RIDGE = 1e-3  # of the mean square of a standardized feature
_STEPS = 50
_TOLERANCE = 1e-7
_FOLDS = 5
_BINS = 24  # of the calibration, equal in weight; the last is cut in four
_EXTRAPOLATION = 8.0  # the calibration is proportional this far beyond its first and last bin

Levels = Float[np.ndarray, " n"]
Knots = Float[np.ndarray, " k"]


class ImageSample(NamedTuple):
    """What is known about one image.

    Attributes:
        features: on the LR grid.
        error: mean absolute error of each block of scale x scale SR pixels, in gray levels.
        predictors: means over 6x6 blocks of the predictors `disagreement` and `gradient`.
        blocks: mean absolute error of the 6x6 blocks.
        scale: SR pixels per LR pixel.
    """

    features: Float32[np.ndarray, "f h w"]
    error: Float32[np.ndarray, "h w"]
    predictors: dict[str, Levels]
    blocks: Levels
    scale: int


class Observations(NamedTuple):
    """Positions drawn from images: features, errors, and their weights, which sum to 1."""

    features: Float32[np.ndarray, "f n"]
    error: Levels
    weight: Levels


@dataclass(frozen=True)
class FittedModel:
    """An error model with the facts for the card."""

    model: ErrorModel
    facts: ErrorModelFacts


def open_sets(
    paths: Sequence[Path], *, scale: int, splits: Sequence[str], allow_outside: bool = False
) -> list[Manifest]:
    """Return the sets of pairs at some paths.

    Args:
        paths: manifests, or folders of pairs.
        scale: of the model.
        splits: the splits to take; none takes all pairs.
        allow_outside: allow manifests whose pairs lie outside their folder.

    Raises:
        D2csrError: pairs are missing, unreadable, too small or too few; all errors are listed.
    """
    errors: list[D2csrError] = []
    sets: list[Manifest] = []
    for path in paths:
        try:
            sets.append(_open_splits(path, scale=scale, splits=splits, allow_outside=allow_outside))
        except D2csrError as error:
            errors.append(error)
    for pairs in sets:
        errors += check_pairs(pairs, patch_px=None)
        errors += [
            DataError(pair.lr, "is only {}x{} px".format(*pair.lr_size), f"Give {LEAST_LR_PX} px.")
            for pair in pairs
            if 0 < min(pair.lr_size) < LEAST_LR_PX  # 0: unreadable, which check_pairs has reported
        ]
    count = sum(len(pairs) for pairs in sets)
    if not errors and count < LEAST_IMAGES:
        remedy = f"Give at least {LEAST_IMAGES} pairs, better 20 or more of different scenes."
        errors.append(DataError(paths[0], f"{count} pairs are too few to fit on", remedy))
    if len(errors) == 1:
        raise errors[0]
    if errors:
        lines = "\n  ".join([f"{len(errors)} errors, nothing was fitted", *map(str, errors)])
        raise DataError(paths[0], lines.removesuffix("."), "Fix them and run it again.")
    return sets


def _open_splits(path: Path, *, scale: int, splits: Sequence[str], allow_outside: bool) -> Manifest:
    parts = [
        open_pairs(path, scale=scale, split=split, allow_outside=allow_outside)
        for split in (dict.fromkeys(splits) or [None])
    ]
    return replace(parts[0], pairs=tuple(pair for part in parts for pair in part.pairs))


def fit_bundle(bundle: Bundle, sets: Sequence[Manifest], *, data: str) -> FittedModel:
    """Return the error model of a bundle, fitted on sets of pairs that count the same.

    Its rank correlations are measured on sets left out in turn, or, of a single set, on fifths of
    its images.

    Args:
        bundle: the model.
        sets: pairs of its scale that it wasn't trained on.
        data: the pairs in words, for the card.

    Raises:
        D2csrError: a pair can't be read, or the model can't upscale it, or makes one prediction.
    """
    require_predictions(bundle)
    count = sum(len(pairs) for pairs in sets)
    engine = open_engine(bundle)
    samples = [list(_iter_samples(engine, pairs)) for pairs in sets]
    left_out = "sets" if len(sets) > 1 else "images"
    spearman = cross_validate(samples if len(sets) > 1 else _folds(samples[0]))
    facts = ErrorModelFacts(data=data, images=count, left_out=left_out, spearman=spearman)
    return FittedModel(fit_error_model(samples), facts)


def _iter_samples(engine: Engine, pairs: Manifest) -> Iterator[ImageSample]:
    for pair in track(pairs, description="fitting", total=len(pairs)):
        lr, hr = load_pair(pair, scale=pairs.scale)
        yield sample_image(engine, lr, hr=hr)


def sample_image(
    engine: Engine, lr: np.ndarray, *, hr: np.ndarray, window_px: int = _WINDOW_PX
) -> ImageSample:
    """Return features and errors of the central window of a pair, one LR pixel from its border."""
    scale = engine.bundle.card.scale
    lr01 = lr.astype(np.float32) / np.float32(255)
    output = engine.run(lr01)
    sr = FlatRegionBlend(lr01, scale=scale).blend(output.sr, first_row=0)
    maps = BlockMaps(lr01, scale=scale)
    maps.add(StripOutput(0, output._replace(sr=sr)))
    inside = tuple(_central(side, window_px) for side in lr.shape[:2])
    inside_sr = tuple(slice(scale * each.start, scale * each.stop) for each in inside)
    levels = round_to_8_bit(sr).astype(np.float32)
    error = np.abs(levels - hr).mean(axis=2)[inside_sr]
    luma = to_channels(levels.astype(np.float64), LUMA, offset=0.0)[0]
    predictors = {"disagreement": disagreement(output), "gradient": gradient_magnitude(luma)}
    return ImageSample(
        features=maps.features(0, lr.shape[0])[:, *inside],
        error=block_means(error, scale),
        predictors={
            name: sparsification.block_means(values.astype(np.float64)[inside_sr])
            for name, values in predictors.items()
        },
        blocks=sparsification.block_means(error.astype(np.float64)),
        scale=scale,
    )


def _central(side_px: int, window_px: int) -> slice:
    """Return the central part of a side without its first and last pixel."""
    length = min(window_px, side_px - 2)
    first = (side_px - length) // 2
    return slice(first, first + length)


def _folds(images: list[ImageSample]) -> list[list[ImageSample]]:
    count = min(_FOLDS, len(images))
    return [images[fold::count] for fold in range(count)]


def cross_validate(parts: Sequence[Sequence[ImageSample]]) -> dict[str, float]:
    """Return the mean rank correlation of each predictor with the error of 6x6 blocks.

    Each part is predicted by a model fitted on the others; the mean is over all images.
    """
    ranks: dict[str, list[float]] = {"uncertainty": [], "disagreement": [], "gradient": []}
    for left_out in range(len(parts)):
        model = fit_error_model([part for index, part in enumerate(parts) if index != left_out])
        for image in parts[left_out]:
            expected = expected_blocks(model, image)
            for name, values in {"uncertainty": expected, **image.predictors}.items():
                ranks[name].append(rank_correlation(values, image.blocks))
    return {name: round(float(np.nanmean(values)), 4) for name, values in ranks.items()}


def expected_blocks(model: ErrorModel, image: ImageSample) -> Levels:
    """Return the expected error of the 6x6 blocks of an image."""
    padded = np.pad(model.predict(image.features), 1, mode="edge")
    return sparsification.block_means(enlarge_linear(padded, image.scale).astype(np.float64))


def fit_error_model(sets: Sequence[Sequence[ImageSample]]) -> ErrorModel:
    """Return the error model of several sets of images; the same samples give the same model."""
    features, error, weight = _draw(sets)
    mean = features.astype(np.float64) @ weight
    variance = (features - mean[:, None]) ** 2 @ weight
    deviation = np.where(variance > 1e-12, np.sqrt(variance), 1.0)
    standard = standardize(features.copy(), mean=mean, deviation=deviation).astype(np.float64)
    table = terms(standard)
    coefficients = gamma_regression(table, error, weight=weight)
    knots, levels = calibrate(np.exp(coefficients @ table), error, weight=weight)
    return ErrorModel(
        features=FEATURES,
        mean=_rounded(mean),
        deviation=_rounded(deviation),
        coefficients=_rounded(coefficients),
        knots=_rounded(knots),
        levels=_rounded(levels),
    )


def _rounded(values: Levels) -> tuple[float, ...]:
    return tuple(float(f"{value:.7g}") for value in values)


def _draw(sets: Sequence[Sequence[ImageSample]]) -> Observations:
    """Return positions of all images; sets weigh the same, and so do the images of each set."""
    generator = np.random.default_rng(0)
    drawn: list[Observations] = []
    for images in sets:
        for image in images:
            count = image.error.size
            chosen = generator.choice(count, size=min(count, _POSITIONS), replace=False)
            weight = np.full(len(chosen), 1 / (len(sets) * len(images) * len(chosen)))
            features = image.features.reshape(len(FEATURES), -1)[:, chosen]
            error = image.error.ravel()[chosen].astype(np.float64)
            drawn.append(Observations(features, error, weight))
    return Observations(
        np.concatenate([each.features for each in drawn], axis=1),
        np.concatenate([each.error for each in drawn]),
        np.concatenate([each.weight for each in drawn]),
    )


def gamma_regression(
    table: Float[np.ndarray, "t n"], error: Levels, *, weight: Levels
) -> Float[np.ndarray, " t"]:
    """Return the coefficients for which exp(coefficients @ table) is the expected error.

    Args:
        table: terms of each observation; the first is 1 and isn't penalized.
        error: at least 0.
        weight: of each observation; they sum to 1.
    """
    weighted = table * weight
    penalty = np.full(len(table), _RIDGE)
    penalty[0] = 0
    matrix = weighted @ table.T + np.diag(penalty)
    coefficients = np.zeros(len(table))
    coefficients[0] = np.log(max(float(error @ weight), 1e-3))
    for step in range(_STEPS):
        logarithm = np.clip(coefficients @ table, -7, 7)  # 0.001 to 1100 gray levels
        residual = error * np.exp(-logarithm) - 1
        if step < 5:  # far from the solution, single outliers would throw it off
            residual = np.minimum(residual, 4)
        updated = np.linalg.solve(matrix, weighted @ (logarithm + residual))
        change = float(np.abs(updated - coefficients).max())
        coefficients = updated
        if step >= 5 and change < _TOLERANCE:
            break
    return coefficients


def calibrate(expected: Levels, error: Levels, *, weight: Levels) -> tuple[Knots, Knots]:
    """Return knots of expected errors and the mean error observed at each, which never falls.

    Means over bins of equal weight, made monotonic by pooling adjacent violators. Beyond the first
    and the last bin, the error is proportional.
    """
    order = np.argsort(expected, kind="stable")
    share = np.cumsum(weight[order])
    edges = np.append(np.arange(1, _BINS), _BINS - np.array([0.75, 0.5, 0.25])) / _BINS
    bins = np.split(order, np.searchsorted(share, edges))
    bins = [each for each in bins if len(each)]
    total = np.array([weight[each].sum() for each in bins])
    knots = np.array([weight[each] @ expected[each] for each in bins]) / total
    means = np.array([weight[each] @ error[each] for each in bins]) / total
    levels = isotonic(means, weight=total)
    distinct = np.append(True, np.diff(knots) > 1e-6)
    knots, levels = knots[distinct], levels[distinct]
    ends = ((1 / _EXTRAPOLATION, 0), (_EXTRAPOLATION, -1))
    (low, low_level), (high, high_level) = (
        (factor * knots[at], factor * levels[at]) for factor, at in ends
    )
    return np.array([low, *knots, high]), np.array([low_level, *levels, high_level])


def isotonic(values: Levels, *, weight: Levels) -> Levels:
    """Return the nearest values that never fall, by weighted least squares (pooling violators)."""
    pools: list[tuple[float, float, int]] = []  # mean, weight, number of values
    for value, each in zip(values, weight, strict=True):
        mean, total, count = float(value), float(each), 1
        while pools and pools[-1][0] > mean:
            before, weight_before, count_before = pools.pop()
            mean = (before * weight_before + mean * total) / (weight_before + total)
            total, count = weight_before + total, count_before + count
        pools.append((mean, total, count))
    return np.repeat([pool[0] for pool in pools], [pool[2] for pool in pools])
