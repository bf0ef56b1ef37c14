"""Registration: known shifts, gains and offsets come back, and the whole grid has no better."""

import math

import numpy as np
import pytest

from d2csr.metrics import registered_psnr
from d2csr.metrics.protocols import score
from d2csr.metrics.registered_psnr import psnr_registered_db, register
from tests.oracles import metrics as oracle


def scene(seed: int, *, height: int = 60, width: int = 71) -> np.ndarray:
    """A blurred random image, 8 bit, that joins at its edges as a Fourier shift assumes."""
    generator = np.random.default_rng(seed)
    spectrum = np.fft.fft2(generator.normal(size=(3, height, width)))
    radius = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width))
    smooth = np.fft.ifft2(spectrum * np.exp(-((radius / 0.12) ** 2))).real
    levels = 128 + 40 * smooth / smooth.std()
    return np.clip(np.moveaxis(levels, 0, 2), 0, 255).round().astype(np.uint8)


def shift_image(image: np.ndarray, dx_px: float, dy_px: float) -> np.ndarray:
    """Shift an image in the two steps that the registration takes."""
    down = registered_psnr._shift_down(np.fft.rfft2(image), dy_px)
    return registered_psnr._shift_right(down, dx_px, width=image.shape[2])


def moved(image: np.ndarray, dx_px: float, dy_px: float) -> np.ndarray:
    channels = np.moveaxis(image / 255.0, 2, 0)
    return np.moveaxis(shift_image(channels, dx_px, dy_px), 0, 2)


@pytest.mark.parametrize(
    ("dx_px", "dy_px"), [(0.0, 0.0), (0.35, -0.8), (-1.95, 0.05), (2.0, -2.0), (-0.5, 1.25)]
)
def test_a_known_shift_is_found_to_the_step(dx_px, dy_px):
    hr = scene(0)
    found = register(moved(hr, dx_px, dy_px), hr).shift
    assert found == pytest.approx((-dx_px, -dy_px), abs=1e-12)


def test_shift_gain_and_offset_are_forgiven():
    hr = scene(1)
    sr = moved(hr, 0.6, -0.4) * np.array([0.9, 0.8, 0.85]) + np.array([0.02, 0.05, 0.0])
    assert score(sr, hr, protocol="y", scale=3).psnr_db < 27
    assert psnr_registered_db(sr, hr, protocol="y") > 50


def test_blur_is_not_forgiven():
    hr = scene(2)
    blurred = (hr / 255.0 + np.roll(hr / 255.0, 4, axis=1)) / 2
    assert psnr_registered_db(blurred, hr, protocol="y") < 40


def test_identical_images_are_infinitely_good():
    hr = scene(3)
    assert psnr_registered_db(hr, hr, protocol="rgb") == math.inf


def test_a_flat_image_gets_the_mean_as_its_offset():
    hr = scene(4)
    found = register(np.full_like(hr, 9), hr)
    spread = found.hr - found.hr.mean(axis=(0, 1))
    assert np.allclose(found.hr - found.sr, spread)


@pytest.mark.parametrize("seed", range(3))
def test_no_shift_of_the_whole_grid_is_better(seed):
    """Noise and another scene mixed in put the best shift where nobody placed it."""
    height, width = (44, 37) if seed % 2 else (39, 52)
    hr = scene(10 + seed, height=height, width=width)
    other = scene(20 + seed, height=height, width=width) / 255.0
    sr = 0.7 * moved(hr, 0.33, -0.71) + 0.3 * other
    sr8 = registered_psnr.round_to_8_bit(sr)
    channels, fixed = np.moveaxis(sr8 / 255.0, 2, 0), np.moveaxis(hr / 255.0, 2, 0)
    spectrum = np.fft.fft2(channels)
    fy, fx = np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)
    best = math.inf
    target = fixed[:, 8:-8, 8:-8].reshape(3, -1)
    for dy in np.arange(-40, 41) * 0.05:
        for dx in np.arange(-40, 41) * 0.05:
            ramp = np.exp(-2j * np.pi * (fy * dy + fx * dx))
            candidate = np.fft.ifft2(spectrum * ramp).real[:, 8:-8, 8:-8].reshape(3, -1)
            centred = candidate - candidate.mean(axis=1, keepdims=True)
            gain = (centred * target).sum(axis=1) / (centred * centred).sum(axis=1)
            rest = target - target.mean(axis=1, keepdims=True) - gain[:, None] * centred
            error = float(np.sum(rest * rest))
            best = min(best, error)
    found = register(sr8, hr)
    assert float(np.sum((found.sr - found.hr) ** 2)) <= best * (1 + 1e-9)


@pytest.mark.parametrize("length", [9, 10])
def test_a_shift_is_the_sum_of_the_fourier_terms(length):
    row = np.random.default_rng(5).random(length)
    one_row = np.broadcast_to(row, (3, 8, length))
    expected = oracle.shift_row(row.tolist(), 0.35)
    assert np.allclose(shift_image(one_row, 0.35, 0.0)[0, 0], expected)
    turned = shift_image(one_row.transpose(0, 2, 1), 0.0, 0.35)
    assert np.allclose(turned[0, :, 0], expected)


def test_an_image_too_small_for_the_cut_is_refused():
    hr = scene(6)[:20]
    with pytest.raises(ValueError, match="27 px"):
        register(hr, hr)
