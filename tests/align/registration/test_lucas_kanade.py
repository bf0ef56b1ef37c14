import cv2
import numpy as np
import pytest

from d2csr.align.registration.lucas_kanade import measure_displacements


def texture(rng: np.random.Generator, side: int = 160) -> np.ndarray:
    return cv2.GaussianBlur(rng.normal(size=(side, side)), (0, 0), 1.6) * 0.3 + 0.5


def shifted(image: np.ndarray, dx: float, dy: float) -> np.ndarray:
    """Return image(x + d), exactly, by the Fourier shift theorem."""
    fy, fx = np.fft.fftfreq(image.shape[0])[:, None], np.fft.fftfreq(image.shape[1])
    turn = np.exp(2j * np.pi * (fx * dx + fy * dy))
    return np.fft.ifft2(np.fft.fft2(image) * turn).real


@pytest.mark.parametrize(("dx", "dy"), [(0.05, -0.02), (0.0, 0.1), (-0.12, 0.08)])
def test_small_shifts_are_measured(rng, dx, dy):
    moving = texture(rng)
    fixed = shifted(moving, dx, dy)
    found = measure_displacements(
        fixed.astype(np.float32), moving.astype(np.float32), window_px=24, step_px=12
    ).displacements
    assert np.median(found[:, 0]) == pytest.approx(dx, abs=0.012)
    assert np.median(found[:, 1]) == pytest.approx(dy, abs=0.012)


def test_gain_and_offset_cause_no_displacement(rng):
    moving = texture(rng)
    found = measure_displacements(
        (0.6 * moving + 0.2).astype(np.float32), moving.astype(np.float32), window_px=20, step_px=20
    )
    assert np.abs(found.displacements).max() < 1e-4
    assert found.similarity.min() > 0.999


def test_edge_gives_no_information_along_it():
    x = np.arange(80.0)
    edge = np.tile(1 / (1 + np.exp(-(x - 40) / 2)), (80, 1)) + np.random.default_rng(0).normal(
        0, 0.002, (80, 80)
    )
    found = measure_displacements(
        edge.astype(np.float32), edge.astype(np.float32), window_px=40, step_px=20
    )
    information = found.information[len(found) // 2]
    assert information[0, 0] > 20 * information[1, 1]


def test_information_matches_the_scatter(rng):
    moving = texture(rng, 400)
    fixed = moving + rng.normal(0, 0.02, moving.shape)
    found = measure_displacements(
        fixed.astype(np.float32), moving.astype(np.float32), window_px=20, step_px=20
    )
    square = np.einsum("na,nab,nb->n", found.displacements, found.information, found.displacements)
    assert np.median(square) == pytest.approx(1.39, rel=0.25)  # chi-square, two degrees


def test_flat_image_has_no_patches():
    flat = np.full((60, 60), 0.5, np.float32)
    assert len(measure_displacements(flat, flat, window_px=20, step_px=10)) == 0


def test_strips_join_without_a_seam(rng, monkeypatch):
    moving = texture(rng).astype(np.float32)
    fixed = shifted(moving, 0.1, 0.05).astype(np.float32)
    whole = measure_displacements(fixed, moving, window_px=16, step_px=8)
    monkeypatch.setattr("d2csr.align.registration.lucas_kanade.STRIP_PATCHES", 3)
    parts = measure_displacements(fixed, moving, window_px=16, step_px=8)
    np.testing.assert_array_equal(whole.positions, parts.positions)
    np.testing.assert_allclose(whole.displacements, parts.displacements, atol=1e-4)
