"""Rank correlation against scipy, sparsification against its definition."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import rankdata, spearmanr

from d2csr.metrics.sparsification import (
    ause,
    average_ranks,
    block_means,
    gradient_magnitude,
    rank_correlation,
    sparsification,
)


@given(st.lists(st.integers(0, 6), min_size=1, max_size=30))
def test_ranks_are_scipys(values):
    array = np.array(values, dtype=np.float64)
    assert average_ranks(array).tolist() == rankdata(array).tolist()


@given(st.integers(0, 500))
def test_rank_correlation_is_scipys_ties_included(seed):
    generator = np.random.default_rng(seed)
    first = generator.integers(0, 9, 40).astype(np.float64)
    second = first + generator.normal(size=40) * 4
    assert rank_correlation(first, second) == pytest.approx(spearmanr(first, second)[0])


def test_two_values_have_a_rank_correlation():
    assert rank_correlation(np.array([3.0, 8.0]), np.array([0.5, 0.1])) == pytest.approx(-1)


def test_rank_correlation_with_a_constant_has_no_value():
    assert math.isnan(rank_correlation(np.ones(5), np.arange(5.0)))


def test_block_means_leave_what_is_no_whole_block():
    field = np.arange(7 * 8, dtype=np.float64).reshape(7, 8)
    expected = [field[:3, :3].mean(), field[:3, 3:6].mean()]
    expected += [field[3:6, :3].mean(), field[3:6, 3:6].mean()]
    assert block_means(field, side_px=3).tolist() == expected


def test_a_map_without_a_block_is_refused():
    with pytest.raises(ValueError, match="6 px"):
        block_means(np.ones((5, 30)))


def test_sparsification_removes_the_largest_expected_error_first():
    error = np.array([4.0, 1.0, 9.0, 16.0] * 5)
    guess = -np.arange(20.0)  # in the order they stand
    curve = sparsification(error, guess)
    expected = [math.sqrt(error[removed:].mean()) for removed in range(20)]
    assert curve == pytest.approx(expected)


def test_a_share_that_is_no_whole_number_of_blocks_is_rounded_down():
    error = np.arange(30.0)
    curve = sparsification(error, error)
    expected = [math.sqrt(error[: 30 - removed * 30 // 20].mean()) for removed in range(20)]
    assert curve == pytest.approx(expected)


def test_the_area_is_that_of_the_trapezoids_between_the_curves():
    best = np.linspace(4, 1, 20)
    curve = best + np.array([0.0, 1.0, 3.0] + [2.0] * 17)
    trapezoids = (0 + 1) / 2 + (1 + 3) / 2 + (3 + 2) / 2 + 16 * 2
    assert ause(curve, best) == pytest.approx(trapezoids * 0.05 / 4)


def test_the_true_error_orders_best_and_its_area_is_zero():
    generator = np.random.default_rng(0)
    error = generator.random(300)
    best = sparsification(error, error)
    assert ause(best, best) == 0
    noisy = sparsification(error, error + generator.normal(size=300) * 0.2)
    random = sparsification(error, generator.random(300))
    assert 0 < ause(noisy, best) < ause(random, best)


def test_without_error_there_is_nothing_to_order():
    curve = sparsification(np.zeros(30), np.arange(30.0))
    assert ause(curve, curve) == 0


def test_gradient_of_a_ramp_is_its_slope():
    ramp = 3.0 * np.arange(6)[:, None] + 4.0 * np.arange(7)
    assert np.allclose(gradient_magnitude(ramp), 5)
