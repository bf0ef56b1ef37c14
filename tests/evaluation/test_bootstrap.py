"""Bootstrap intervals: coverage, repeatability and infinite values."""

import math

import numpy as np
import pytest

from d2csr.evaluation.bootstrap import interval95, mean, paired_differences


def test_the_interval_covers_the_true_mean_in_about_95_percent_of_cases():
    generator = np.random.default_rng(0)
    hits = 0
    for _ in range(200):
        low, high = interval95(generator.normal(30, 2, size=40))
        hits += low <= 30 <= high
    assert 180 <= hits <= 198


def test_the_interval_is_that_of_a_plain_loop():
    values = np.array([28.3, 29.8, 26.1, 30.2, 24.2])
    resamples = np.random.default_rng(0).integers(5, size=(10_000, 5))
    means = sorted(sum(float(values[i]) for i in row) / 5 for row in resamples)
    assert interval95(values) == pytest.approx((means[249], means[9750]))


def test_the_interval_is_repeatable():
    values = np.random.default_rng(1).normal(size=7)
    assert interval95(values) == interval95(values)


def test_the_interval_of_one_image_is_that_image():
    assert interval95(np.array([31.5])) == (31.5, 31.5)


def test_the_interval_reaches_infinity_if_an_image_is_perfect():
    low, high = interval95(np.array([30.0, 31.0, math.inf]))
    assert high == math.inf
    assert low <= 31


def test_two_perfect_images_do_not_differ():
    first, second = np.array([math.inf, 30.0]), np.array([math.inf, 29.0])
    assert paired_differences(first, second).tolist() == [0.0, 1.0]


def test_opposite_infinities_have_no_mean():
    differences = paired_differences(np.array([math.inf, 30.0]), np.array([30.0, math.inf]))
    assert differences.tolist() == [math.inf, -math.inf]
    assert math.isnan(mean(differences))
    assert all(math.isnan(end) for end in interval95(differences))
