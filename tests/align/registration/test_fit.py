import numpy as np
import pytest

from d2csr.align.registration.fit import Matches, fit_mapping, residuals
from d2csr.align.registration.transform import Mapping, jacobian, project
from d2csr.core.geometry import BrownDistortion, Region, Size

WIDE, TELE = Size(300, 200), Size(800, 540)
TRUE = Mapping(
    3,
    WIDE,
    TELE,
    np.array([[1.01, 0.004, -60.0], [-0.003, 1.008, -35.0], [4e-6, -3e-6, 1.0]]),
    BrownDistortion(k1=-0.04),
    BrownDistortion(k1=0.006),
)
REGION = Region(80, 60, 720, 480)


def grid(columns: int = 24, rows: int = 16) -> np.ndarray:
    x = np.linspace(REGION.left, REGION.right - 1, columns)
    y = np.linspace(REGION.top, REGION.bottom - 1, rows)
    return np.stack(np.meshgrid(x, y), -1).reshape(-1, 2)


def matches_with(rng: np.random.Generator, noise_px: float) -> Matches:
    positions = grid()
    tele = TRUE(positions) + rng.normal(0, noise_px, positions.shape)
    return Matches(
        positions, tele, np.tile(np.eye(2) / max(noise_px, 0.01) ** 2, (len(positions), 1, 1))
    )


def start() -> Mapping:
    rough = TRUE.matrix + np.array([[3e-3, 0, 2.0], [0, -2e-3, -3.0], [0, 0, 0]])
    return Mapping(3, WIDE, TELE, rough)


def error_px(mapping: Mapping) -> float:
    return float(np.sqrt(np.mean(np.sum((mapping(grid(9, 7)) - TRUE(grid(9, 7))) ** 2, -1))))


def test_matrix_and_lenses_are_found(rng):
    found = fit_mapping(
        start(), matches_with(rng, 0.2), region=REGION, cells=[], lens_prior=start()
    )
    assert error_px(found) < 0.06


def test_outliers_have_no_influence(rng):
    matches = matches_with(rng, 0.1)
    matches.tele[::4] += [3.0, -2.0]  # every fourth is nearer
    found = fit_mapping(start(), matches, region=REGION, cells=[], lens_prior=start())
    assert error_px(found) < 0.06


def test_no_mesh_is_fitted_to_noise(rng):
    cells = [(1, 1), (2, 3), (3, 4)]
    found = fit_mapping(
        start(), matches_with(rng, 0.3), region=REGION, cells=cells, lens_prior=start()
    )
    assert found.mesh is None


def test_mesh_is_fitted_to_a_smooth_warp(rng):
    matches = matches_with(rng, 0.1)
    bend = 0.8 * np.sin(matches.registered[:, 0] / 150)
    matches.tele[:, 1] += bend
    found = fit_mapping(
        start(), matches, region=REGION, cells=[(1, 1), (2, 2), (2, 3), (3, 4)], lens_prior=start()
    )
    assert found.mesh is not None
    assert np.sqrt(np.mean(residuals(found, matches) ** 2)) < 0.13


def test_edges_give_information_across_them_only(rng):
    positions = grid()
    angle = rng.uniform(0, np.pi, len(positions))
    across = np.stack([np.cos(angle), np.sin(angle)], -1)
    along = np.stack([-np.sin(angle), np.cos(angle)], -1)
    tele = TRUE(positions) + along * rng.normal(0, 3.0, (len(positions), 1))
    information = np.einsum("na,nb->nab", across, across) * 100 + 1e-3 * np.eye(2)
    found = fit_mapping(
        start(), Matches(positions, tele, information), region=REGION, cells=[], lens_prior=start()
    )
    assert error_px(found) < 0.1


def test_jacobian_is_the_difference_quotient():
    point, step = np.array([200.0, 150.0]), 1e-4
    columns = [
        (project(TRUE.matrix, point + step * axis) - project(TRUE.matrix, point - step * axis))
        / (2 * step)
        for axis in np.eye(2)
    ]
    np.testing.assert_allclose(jacobian(TRUE.matrix, point), np.stack(columns, -1), atol=1e-7)


def test_grid_evaluation_equals_points(rng):
    x, y = rng.uniform(80, 700, 7), rng.uniform(60, 500, 5)
    np.testing.assert_allclose(TRUE.on_grid(x, y), TRUE(np.stack(np.meshgrid(x, y), -1)), atol=1e-9)


def test_ratio_follows_from_the_matrix():
    assert TRUE.ratio == pytest.approx(3 * 1.009, abs=0.02)
