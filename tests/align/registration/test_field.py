"""Dense field: interpolation, composition with the mapping, and absence of folds."""

import numpy as np
import pytest

from d2csr.align.registration.field import (
    MIN_JACOBIAN,
    DisplacementField,
    jacobian_determinant,
    unfold,
)
from d2csr.align.registration.transform import Mapping
from d2csr.core.geometry import BrownDistortion, Region, Size

REGION = Region(3, 5, 40, 30)
NOWHERE = np.zeros((30, 40), bool)


def step(jump_px: float) -> np.ndarray:
    """Return a field whose right half is displaced to the left."""
    values = np.zeros((30, 40, 2), np.float32)
    values[:, 20:, 0] = -jump_px
    return values


def test_field_is_interpolated_between_pixels_and_constant_outside(rng):
    values = rng.normal(size=(30, 40, 2)).astype(np.float32)
    field = DisplacementField(REGION, values)
    middle = field.at(np.array([[3 + 7.25, 5 + 4.5]]))
    upper = 0.75 * values[4, 7] + 0.25 * values[4, 8]
    lower = 0.75 * values[5, 7] + 0.25 * values[5, 8]
    assert middle[0] == pytest.approx((upper + lower) / 2, abs=1e-6)
    assert field.at(np.array([[-9.0, 99.0]]))[0] == pytest.approx(values[-1, 0])
    x, y = np.array([2.0, 8.3, 50.0]), np.array([5.0, 20.7])
    points = np.stack(np.meshgrid(x, y), -1)
    assert field.on_grid(x, y) == pytest.approx(field.at(points), abs=1e-6)


def test_mapping_with_a_field_is_the_mapping_of_displaced_positions(rng):
    """Position X of the registered grid lies at (X + 0.5) / 2 - 0.5 on the wide frame."""
    matrix = np.array([[1.02, 0.01, -20.0], [-0.01, 0.98, -30.0], [1e-5, 0, 1]])
    lens = BrownDistortion(k1=-0.05)
    plain = Mapping(2, Size(60, 50), Size(70, 60), matrix, wide_lens=lens)
    shift = np.full((30, 40, 2), (0.7, -0.4), np.float32)
    dense = Mapping(
        2,
        Size(60, 50),
        Size(70, 60),
        matrix,
        wide_lens=lens,
        field=DisplacementField(REGION, shift),
    )
    x, y = rng.uniform(10, 80, 5), rng.uniform(12, 60, 4)
    points = np.stack(np.meshgrid(x, y), -1)
    assert dense(points) == pytest.approx(plain(points + np.array([1.4, -0.8])), abs=1e-5)
    assert dense.on_grid(x, y) == pytest.approx(dense(points), abs=1e-9)


def test_determinant_is_that_of_the_four_differences_in_loops(rng):
    values = rng.normal(0, 0.3, (6, 7, 2)).astype(np.float32)
    found = jacobian_determinant(values)
    for row in range(1, 5):
        for column in range(1, 6):
            smallest = np.inf
            for x_step in (1, -1):
                for y_step in (1, -1):
                    x = (values[row, column + x_step] - values[row, column]) * x_step
                    y = (values[row + y_step, column] - values[row, column]) * y_step
                    smallest = min(smallest, (1 + x[0]) * (1 + y[1]) - x[1] * y[0])
            assert found[row, column] == pytest.approx(smallest, abs=1e-5)


@pytest.mark.parametrize("size_px", [0.5, 3.0, 20.0])
def test_no_field_is_left_with_folds(rng, size_px):
    values = np.repeat(np.repeat(rng.normal(0, size_px, (6, 8, 2)), 5, 0), 5, 1).astype(np.float32)
    assert jacobian_determinant(values).min() < MIN_JACOBIAN
    for trusted in (NOWHERE, rng.uniform(size=NOWHERE.shape) < 0.5, ~NOWHERE):
        unfolded = unfold(values, trusted)
        assert jacobian_determinant(unfolded).min() > MIN_JACOBIAN - 1e-3
        assert np.isfinite(unfolded).all()


def test_smooth_field_is_left_as_it_is():
    y, x = np.mgrid[:30, :40].astype(np.float32)
    values = np.stack([0.1 * x - 0.05 * y, 2 * np.sin(y / 10)], -1)
    assert unfold(values, NOWHERE) == pytest.approx(values, abs=1e-5)


def test_trusted_pixels_beside_a_fold_keep_their_displacements():
    """Six pixels of depth are hidden at the step; the ramp fits between the trusted pixels."""
    values = step(6.0)
    trusted = np.ones((30, 40), bool)
    trusted[:, 14:26] = False
    unfolded = unfold(values, trusted)
    assert unfolded[trusted] == pytest.approx(values[trusted], abs=1e-5)
    assert jacobian_determinant(unfolded).min() > MIN_JACOBIAN - 1e-3
