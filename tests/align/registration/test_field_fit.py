"""Field fitted to patches whose displacements are known."""

import numpy as np
import pytest

from d2csr.align.registration.field_fit import FIRST_PX, STEP_PX, WINDOW_PX, fit_field
from d2csr.align.registration.lucas_kanade import PatchDisplacements

HEIGHT, WIDTH = 120, 160
SIGMA_PX = 0.1


def patches(truth, rng, *, sigma_px: float = SIGMA_PX) -> PatchDisplacements:
    """Return patches on all nodes, displaced by `truth(x, y)` and noise."""
    columns, rows = (
        FIRST_PX + STEP_PX * np.arange((side - WINDOW_PX - 2) // STEP_PX + 1)
        for side in (WIDTH, HEIGHT)
    )
    positions = np.stack(np.meshgrid(columns, rows), -1).reshape(-1, 2)
    count = len(positions)
    displacements = truth(*positions.T) + rng.normal(0, sigma_px, (count, 2))
    information = np.tile(np.eye(2) / sigma_px**2, (count, 1, 1))
    return PatchDisplacements(
        positions, displacements, information, np.full(count, 0.9), np.full(count, 0.1)
    )


def slanted(x, y) -> np.ndarray:
    return np.stack([0.5 + 0.008 * x - 0.004 * y, 0.006 * y], -1)


def start(values) -> np.ndarray:
    return np.broadcast_to(np.asarray(values, np.float32), (HEIGHT, WIDTH, 2)).copy()


GRID = np.stack(np.meshgrid(np.arange(WIDTH), np.arange(HEIGHT)), -1).astype(float)
INNER = np.s_[16:-16, 16:-16]


def test_slanted_surface_is_found_far_below_the_noise_of_a_patch(rng):
    fitted = fit_field(patches(slanted, rng), start((1.0, 0.3)))
    error = np.hypot(*np.moveaxis(fitted.values - slanted(*np.moveaxis(GRID, -1, 0)), -1, 0))
    assert np.median(error[INNER]) < 0.3 * SIGMA_PX
    assert np.percentile(error[INNER], 95) < 0.7 * SIGMA_PX


def test_stated_deviation_is_that_of_the_error(rng):
    initial = slanted(*np.moveaxis(GRID, -1, 0)).astype(np.float32)
    stated = []
    for sigma_px in (SIGMA_PX, 3 * SIGMA_PX):
        fitted = fit_field(patches(slanted, rng, sigma_px=sigma_px), initial)
        stated.append(float(fitted.deviation_px[INNER].mean()))
        error = float(np.sqrt(((fitted.values - initial)[INNER] ** 2).mean()))
        assert 0.15 * stated[-1] < error < 1.5 * stated[-1]
    assert stated[1] == pytest.approx(3 * stated[0], rel=0.2)


def test_edge_of_depth_stays_sharp_and_is_noticed(rng):
    """Left 0, right 1.5 px; the start is blurred over 20 px, as that of optical flow may be."""

    def truth(x, y):
        return np.stack([np.where(x > 80, 1.5, 0.0), 0 * y], -1)

    blurred = np.clip((GRID[..., 0] - 70) / 20, 0, 1) * 1.5
    initial = np.stack([blurred, 0 * blurred], -1).astype(np.float32)
    values = initial
    for _ in range(3):
        fitted = fit_field(patches(truth, rng), values)
        values = fitted.values
    error = np.abs(values[..., 0] - truth(*np.moveaxis(GRID, -1, 0))[..., 0])
    far = np.abs(GRID[..., 0] - 80) > 10
    assert np.percentile(error[far], 95) < SIGMA_PX
    support = fitted.support[INNER].mean(0)
    edge = 80 - 16
    assert support[edge - 2 : edge + 2].max() < 0.8 * support[:30].mean()


def test_an_edge_of_texture_leaves_the_direction_along_it_uncertain(rng):
    found = patches(slanted, rng)
    found.information[:, 1, 1] = 1e-3
    fitted = fit_field(found, start((1.0, 0.3)))
    assert fitted.deviation_px[INNER].min() > 0.3


def test_without_patches_the_present_field_stays(rng):
    found = patches(slanted, rng)
    here = found.select(found.positions[:, 0] < 20)
    fitted = fit_field(here, start((3.0, -2.0)))
    assert fitted.values[60, 150] == pytest.approx([3.0, -2.0], abs=0.01)
    assert fitted.deviation_px[60, 150] > 0.9
