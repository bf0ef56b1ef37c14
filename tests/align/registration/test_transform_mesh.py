import numpy as np
import pytest

from d2csr.align.registration.transform import Mesh, basis, roughness, weights
from d2csr.core.geometry import Region

REGION = Region(10, 20, 300, 200)


def loop_spline(t: float, points: np.ndarray) -> float:
    """Cox and de Boor's recursion on uniform knots."""

    def b(i: int, k: int) -> float:
        if k == 0:
            return 1.0 if i <= t < i + 1 else 0.0
        return (t - i) / k * b(i, k - 1) + (i + k + 1 - t) / k * b(i + 1, k - 1)

    return sum(value * b(i - 3, 3) for i, value in enumerate(points))


def test_weights_are_the_cubic_b_spline(rng):
    points = rng.normal(size=7)
    for place in rng.uniform(10, 309, 20):
        ours = (weights(np.array([place]), 10, length=300, cells=4) @ points)[0]
        assert ours == pytest.approx(loop_spline((place - 10) / 300 * 4, points), abs=1e-12)


def test_grid_and_points_agree(rng):
    mesh = Mesh(REGION, rng.normal(size=(5, 6, 2)))
    x, y = rng.uniform(10, 310, 8), rng.uniform(20, 220, 5)
    grid = np.stack(np.meshgrid(x, y), -1)
    np.testing.assert_allclose(mesh.on_grid(x, y), mesh.at(grid), atol=1e-12)
    flat = basis(grid.reshape(-1, 2), REGION, cells=mesh.cells) @ mesh.values.reshape(-1, 2)
    np.testing.assert_allclose(flat, mesh.at(grid).reshape(-1, 2), atol=1e-12)


def test_quadratic_control_points_are_smooth():
    row, column = np.mgrid[:5, :6]
    values = (row**2 - 3 * column + row * column + column**2).ravel().astype(float)
    assert values @ roughness((2, 3)) @ values == pytest.approx(0, abs=1e-9)


def test_values_are_constant_outside_the_region():
    mesh = Mesh(REGION, np.arange(32.0).reshape(4, 4, 2))
    inside, outside = mesh.at(np.array([[310.0, 220.0], [900.0, 900.0]]))
    np.testing.assert_allclose(inside, outside)
