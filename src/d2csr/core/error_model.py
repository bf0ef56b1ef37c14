"""The error model: from local features of an image to the expected absolute error of its SR.

A regression of second degree with a logarithmic link, followed by a piecewise linear calibration;
written as JSON into a bundle. `docs/method.md` has the equations.
"""

import shutil
from dataclasses import asdict, dataclass, replace
from itertools import combinations_with_replacement
from pathlib import Path

import numpy as np
from jaxtyping import Float, Float32
from pydantic import TypeAdapter

from d2csr.core.bundle import Bundle, ErrorModelFacts, read_bundle
from d2csr.core.bundle_readme import check_bundle_folder, write_card_and_readme
from d2csr.core.errors import BundleError
from d2csr.core.files import atomic_folder, sha256_file, write_atomically
from d2csr.core.typed_reader import read_json

FORMAT_VERSION = 1
ERROR_MODEL_NAME = "uncertainty.json"  # in the folder of a bundle
_REMEDY = "Fit it again with `d2csr calibrate`."
_DEVIATIONS = 3.0  # standardized features are clipped: nothing is extrapolated

# Quantities on the LR grid, all but luma as logarithms; `engine.uncertainty` computes them.
FEATURES = (
    "gradient",
    "gradient_3",
    "gradient_15",
    "disagreement",
    "disagreement_15",
    "contrast_3",
    "contrast_9",
    "change_9",
    "luma_3",
)
# Products in the regression. Those of luma with the others fit the scenes they are fitted on
# better, and others worse: docs/log.md, 2026-11-28.
_LUMA = len(FEATURES) - 1
PRODUCTS = (*combinations_with_replacement(range(_LUMA), 2), (_LUMA, _LUMA))

Features = Float32[np.ndarray, "f *grid"]


@dataclass(frozen=True)
class ErrorModel:
    """The numbers of a fitted error model.

    Attributes:
        features: names of the features, in order.
        mean: of each feature over the pairs that it was fitted on.
        deviation: standard deviation of each.
        coefficients: of 1, of each feature, and of each of `PRODUCTS`, as in `terms`.
        knots: expected errors of the regression, increasing.
        levels: the calibrated error at each knot, in gray levels (0 to 255).
        format_version: version of the file.
    """

    features: tuple[str, ...]
    mean: tuple[float, ...]
    deviation: tuple[float, ...]
    coefficients: tuple[float, ...]
    knots: tuple[float, ...]
    levels: tuple[float, ...]
    format_version: int = FORMAT_VERSION

    def predict(self, features: Features) -> Float32[np.ndarray, "*grid"]:
        """Return the expected absolute error of each position, in gray levels (0 to 255)."""
        raw = np.exp(self._logarithm(features))
        return np.interp(raw, self.knots, self.levels).astype(np.float32)

    def _logarithm(self, features: Features) -> Float32[np.ndarray, "*grid"]:
        """Return the logarithm of the regression's error."""
        standard = standardize(
            features, mean=np.array(self.mean), deviation=np.array(self.deviation)
        )
        constant, *rest = (np.float32(each) for each in self.coefficients)
        total = np.full(features.shape[1:], constant, np.float32)
        slopes = [np.full_like(total, slope) for slope in rest[: len(standard)]]
        for (first, second), factor in zip(PRODUCTS, rest[len(standard) :], strict=True):
            slopes[first] += factor * standard[second]
        for values, slope in zip(standard, slopes, strict=True):
            total += values * slope
        return total


def standardize(
    features: Features, *, mean: Float[np.ndarray, " f"], deviation: Float[np.ndarray, " f"]
) -> Features:
    """Return features with mean 0 and deviation 1, clipped to three deviations."""
    shape = (-1, *[1] * (features.ndim - 1))
    offset, factor = mean.astype(np.float32), (1 / deviation).astype(np.float32)
    standard = (features - offset.reshape(shape)) * factor.reshape(shape)
    return np.clip(standard, -_DEVIATIONS, _DEVIATIONS, out=standard)


def terms(standard: Float[np.ndarray, "f n"]) -> Float[np.ndarray, "t n"]:
    """Return the terms of the regression: 1, each feature, and the products of two."""
    products = [standard[first] * standard[second] for first, second in PRODUCTS]
    return np.stack([np.ones_like(standard[0]), *standard, *products])


def write_error_model(model: ErrorModel, path: Path) -> None:
    """Write an error model as JSON, atomically."""
    write_atomically(path, TypeAdapter(ErrorModel).dump_json(model, indent=1) + b"\n")


def read_error_model(path: Path) -> ErrorModel:
    """Return the error model in a file.

    Raises:
        BundleError: the file can't be read, is damaged, or was made for other features.
    """
    model = read_json(path, ErrorModel, error_type=BundleError, remedy=_REMEDY)
    if problem := _contradiction(model):
        raise BundleError(path, problem, remedy=_REMEDY)
    return model


def _contradiction(model: ErrorModel) -> str:
    """Return the contradiction in the numbers of a model, in words; empty if there is none."""
    if model.format_version != FORMAT_VERSION or model.features != FEATURES:
        known = f"this release has version {FORMAT_VERSION} and {', '.join(FEATURES)}"
        made_for = f"version {model.format_version} and {', '.join(model.features)}"
        return f"is of {made_for}; {known}"
    count = len(FEATURES)
    values = asdict(model)
    lengths = {"mean": count, "deviation": count, "coefficients": 1 + count + len(PRODUCTS)}
    for name, length in lengths.items():
        if len(values[name]) != length:
            return f"has {len(values[name])} numbers in {name}, not {length}"
    numbers = [number for name in (*lengths, "knots", "levels") for number in values[name]]
    if not np.isfinite(numbers).all() or min(model.deviation) <= 0:
        return "has numbers that are infinite, or a deviation that isn't above 0"
    if len(model.knots) != len(model.levels) or len(model.knots) < 2:
        return f"has {len(model.knots)} knots and {len(model.levels)} levels"
    if (np.diff(model.knots) <= 0).any() or (np.diff(model.levels) < 0).any():
        return "has knots or levels that don't increase"
    return ""


def find_error_model(bundle: Bundle) -> ErrorModel | None:
    """Return the error model of a bundle; None if it has none.

    Raises:
        BundleError: its file is damaged.
    """
    if ERROR_MODEL_NAME not in bundle.card.files:
        return None
    return read_error_model(bundle.folder / ERROR_MODEL_NAME)


def write_calibrated_bundle(
    bundle: Bundle, folder: Path, *, model: ErrorModel, facts: ErrorModelFacts
) -> Bundle:
    """Write a bundle with an error model, and return it; weights and graphs are copied.

    Args:
        bundle: to copy; an error model that it has is replaced.
        folder: of the new bundle; it may be that of the old one, which is replaced at the end.
        model: the error model.
        facts: for the card.

    Raises:
        BundleError: the folder holds something that isn't a bundle; it is as it was.
        UsageError: the folder can't be written.
    """
    check_bundle_folder(folder)
    with atomic_folder(folder) as temporary:
        for name in bundle.card.files:
            shutil.copyfile(bundle.folder / name, temporary / name)
        path = temporary / ERROR_MODEL_NAME
        write_error_model(model, path)
        files = {**bundle.card.files, ERROR_MODEL_NAME: sha256_file(path)}
        write_card_and_readme(temporary, replace(bundle.card, files=files, uncertainty=facts))
    return read_bundle(folder)
