"""The error model: its formula in loops, and its file."""

import json
import math
from dataclasses import replace
from itertools import combinations_with_replacement

import numpy as np
import pytest

from d2csr.core.error_model import (
    FEATURES,
    ErrorModel,
    read_error_model,
    write_error_model,
)
from d2csr.core.errors import BundleError
from tests.error_models import random_error_model


def by_loops(model: ErrorModel, features: np.ndarray) -> float:
    """The expected error of one position: every term of the sum written out."""
    standard = [
        max(-3.0, min(3.0, (value - mean) / deviation))
        for value, mean, deviation in zip(features, model.mean, model.deviation, strict=True)
    ]
    last = len(standard) - 1  # luma, whose only product is its square
    pairs = [*combinations_with_replacement(range(last), 2), (last, last)]
    terms = [1.0, *standard, *(standard[one] * standard[other] for one, other in pairs)]
    raw = math.exp(sum(c * term for c, term in zip(model.coefficients, terms, strict=True)))
    for left, right in zip(range(len(model.knots)), range(1, len(model.knots)), strict=False):
        if model.knots[left] <= raw <= model.knots[right]:
            share = (raw - model.knots[left]) / (model.knots[right] - model.knots[left])
            return model.levels[left] + share * (model.levels[right] - model.levels[left])
    return model.levels[0 if raw < model.knots[0] else -1]


def test_prediction_is_the_regression_and_its_calibration_in_loops():
    model = random_error_model()
    features = np.random.default_rng(1).normal(4.2, 1.5, (len(FEATURES), 4, 5)).astype(np.float32)
    expected = model.predict(features)
    wanted = [by_loops(model, each) for each in features.reshape(len(FEATURES), -1).T]
    assert np.allclose(expected.ravel(), wanted, rtol=1e-4)
    assert len({round(value, 3) for value in wanted}) > 15


def test_what_is_written_is_read_back(tmp_path):
    write_error_model(random_error_model(), tmp_path / "m.json")
    assert read_error_model(tmp_path / "m.json") == random_error_model()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"knots": [1.0, 1.0, 2.0]}, "don't increase"),
        ({"levels": [3.0, 1.0, 2.0]}, "don't increase"),
        ({"knots": [1.0, 2.0]}, "2 knots and 3 levels"),
        ({"mean": [0.0]}, "1 numbers in mean, not 9"),
        ({"deviation": [0.0] * 9}, "deviation that isn't above 0"),
        ({"features": ["gradient"]}, "this release has version 1 and gradient, gradient_3"),
        ({"format_version": 2}, "is of version 2"),
        ({"coefficients": "many"}, "doesn't follow the schema: coefficients"),
    ],
)
def test_a_file_that_contradicts_itself_is_refused(tmp_path, changes, message):
    path = tmp_path / "m.json"
    write_error_model(random_error_model(), path)
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    with pytest.raises(BundleError, match=message) as caught:
        read_error_model(path)
    assert "d2csr calibrate" in str(caught.value)


def test_numbers_that_are_not_finite_are_refused(tmp_path):
    path = tmp_path / "m.json"
    write_error_model(replace(random_error_model(), levels=(1.0, 2.0, 3.0)), path)
    path.write_text(path.read_text().replace("3.0", "1e999"))
    with pytest.raises(BundleError, match=r"infinite|finite"):
        read_error_model(path)


def test_a_missing_file_is_an_error(tmp_path):
    with pytest.raises(BundleError, match="can't be read"):
        read_error_model(tmp_path / "m.json")
