"""Goldens of the five protocols: scikit-image, the authors' values, and loops."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from d2csr.core.errors import UsageError
from d2csr.metrics.protocols import PROTOCOLS, score, smallest_side_px
from tests.oracles import metrics as oracle

SSIM_OF_SCIKIT = {
    "gaussian_weights": True,
    "sigma": 1.5,
    "use_sample_covariance": False,
    "data_range": 255,
}


def images(seed: int, *, height: int = 40, width: int = 47) -> tuple[np.ndarray, np.ndarray]:
    """A smooth HR and an SR with errors, both 8 bit."""
    generator = np.random.default_rng(seed)
    waves = np.cumsum(generator.normal(size=(height, width, 3)), axis=1) * 12 + 128
    hr = np.clip(waves, 0, 255)
    sr = np.clip(hr + generator.normal(scale=9, size=hr.shape), 0, 255)
    return sr.round().astype(np.uint8), hr.round().astype(np.uint8)


def cut(image: np.ndarray, px: int) -> np.ndarray:
    return image[px : image.shape[0] - px, px : image.shape[1] - px]


def luma(image: np.ndarray) -> np.ndarray:
    return image @ np.array([65.481, 128.553, 24.966]) / 255 + 16


@pytest.mark.parametrize("scale", [2, 3, 4, 8])
def test_y_equals_scikit_image_on_luma(scale):
    sr, hr = images(scale)
    one, other = (cut(luma(image), scale) for image in (hr, sr))
    figures = score(sr, hr, protocol="y", scale=scale)
    psnr = peak_signal_noise_ratio(one, other, data_range=255)
    assert figures.psnr_db == pytest.approx(psnr, abs=1e-6)
    ssim = structural_similarity(one, other, **SSIM_OF_SCIKIT)
    assert figures.ssim == pytest.approx(ssim, abs=1e-6)


def test_y_has_the_black_of_bt601_at_16():
    """By SSIM of flat images, which depends on their means alone."""
    sr, hr = (np.full((20, 20, 3), level, np.uint8) for level in (0, 40))
    one, other, constant = 16, 16 + 40 * 219 / 255, (0.01 * 255) ** 2
    expected = (2 * one * other + constant) / (one**2 + other**2 + constant)
    assert score(sr, hr, protocol="y", scale=2).ssim == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(("protocol", "cut_px"), [("rgb", 3), ("rgb-full", 0)])
def test_rgb_equals_scikit_image_on_the_channels(protocol, cut_px):
    sr, hr = images(1)
    one, other = (cut(image, cut_px) for image in (hr, sr))
    figures = score(sr, hr, protocol=protocol, scale=3)
    psnr = peak_signal_noise_ratio(one, other, data_range=255)
    assert figures.psnr_db == pytest.approx(psnr, abs=1e-6)
    ssim = structural_similarity(one, other, channel_axis=2, **SSIM_OF_SCIKIT)
    assert figures.ssim == pytest.approx(ssim, abs=1e-6)


@pytest.mark.parametrize("scale", [2, 3, 4, 8])
def test_official_equals_the_authors_code(data_folder, scale):
    values = json.loads((data_folder / "official" / f"values_x{scale}.json").read_text())
    with np.load(data_folder / "official" / f"io_x{scale}.npz") as arrays:
        predictions, hr_bgr = arrays["noisy_predictions_bgr"][:, 0], arrays["hr_bgr"][0]
    hr = np.rint(hr_bgr[::-1].transpose(1, 2, 0) * 255).astype(np.uint8)
    for prediction, expected in zip(
        predictions, values["metrics_of_noisy_predictions_first_image"], strict=True
    ):
        sr = prediction[::-1].transpose(1, 2, 0)
        figures = score(sr, hr, protocol="official", scale=scale)
        assert figures.psnr_db == pytest.approx(expected["psnr"], abs=1e-3)
        assert figures.ssim == pytest.approx(expected["ssim"], abs=1e-5)


def test_official_clips_for_the_psnr_but_not_for_the_ssim():
    sr8, hr = images(2, height=24, width=26)
    sr = (sr8 / 255.0 - 0.5) * 1.6 + 0.5
    shares = (25.064 / 256, 129.057 / 256, 65.738 / 256)
    reference = oracle.weighted_sum(hr / 255, shares)
    figures = score(sr, hr, protocol="official", scale=2)
    clipped = oracle.weighted_sum(sr.clip(0, 1), shares)
    psnr = oracle.psnr_cut(clipped, reference, cut_px=2, peak=1)
    assert figures.psnr_db == pytest.approx(psnr, abs=1e-9)
    ssim = oracle.ssim_zero_padded(oracle.weighted_sum(sr, shares), reference, peak=1)
    assert figures.ssim == pytest.approx(ssim, abs=1e-9)


def test_cdc_is_what_the_loops_say_of_unclipped_images():
    sr8, hr = images(3, height=24, width=26)
    sr = (sr8 / 255.0 - 0.5) * 1.6 + 0.5
    shares = (65.738 / 256, 129.057 / 256, 25.064 / 256)
    figures = score(sr, hr, protocol="cdc", scale=3)
    one, other = (oracle.weighted_sum(image, shares) for image in (sr, hr / 255))
    psnr = oracle.psnr_cut(one, other, cut_px=3, peak=1)
    assert figures.psnr_db == pytest.approx(psnr, abs=1e-9)
    channels = [oracle.ssim_zero_padded(sr[..., c], hr[..., c] / 255.0, peak=1) for c in range(3)]
    assert figures.ssim == pytest.approx(sum(channels) / 3, abs=1e-9)


@pytest.mark.parametrize("protocol", ["y", "rgb", "rgb-full"])
def test_floats_are_clipped_and_rounded_first_by_the_rules_of_the_protocol(protocol):
    sr, hr = images(4)
    nudged = sr / 255.0 + np.random.default_rng(0).uniform(-0.49, 0.49, sr.shape) / 255
    nudged = np.where(sr == 255, 1.3, np.where(sr == 0, -0.2, nudged))
    rounded = score(nudged, hr, protocol=protocol, scale=2)
    assert rounded == score(sr, hr, protocol=protocol, scale=2)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_identical_images_are_infinitely_good(protocol):
    _, hr = images(5)
    figures = score(hr, hr, protocol=protocol, scale=2)
    assert figures.psnr_db == math.inf
    assert figures.ssim == pytest.approx(1, abs=1e-12)


@given(
    protocol=st.sampled_from(sorted(PROTOCOLS)),
    scale=st.sampled_from([2, 3, 4, 8]),
    seed=st.integers(0, 1000),
    more_px=st.integers(0, 9),
)
def test_a_image_of_the_smallest_size_has_figures(protocol, scale, seed, more_px):
    side = smallest_side_px(scale) + more_px
    sr, hr = images(seed, height=side, width=side)
    figures = score(sr, hr, protocol=protocol, scale=scale)
    assert 5 < figures.psnr_db < 60
    assert -1 <= figures.ssim <= 1


@given(protocol=st.sampled_from(sorted(PROTOCOLS)), seed=st.integers(0, 1000))
def test_scores_do_not_change_when_both_images_are_turned(protocol, seed):
    sr, hr = images(seed)
    turned = score(np.rot90(sr), np.rot90(hr), protocol=protocol, scale=2)
    assert turned == pytest.approx(score(sr, hr, protocol=protocol, scale=2), rel=1e-12)


def test_the_error_for_an_unknown_protocol_lists_those_that_exist():
    sr, hr = images(6)
    with pytest.raises(UsageError, match=r"ycbcr.*y, rgb, official, cdc, rgb-full"):
        score(sr, hr, protocol="ycbcr", scale=2)


def test_sizes_that_differ_are_refused():
    sr, hr = images(7)
    with pytest.raises((ValueError, TypeError)):  # TypeError: here shapes are checked before
        score(sr[1:], hr, protocol="y", scale=2)


def test_a_image_without_a_window_is_refused():
    sr, hr = images(8)
    with pytest.raises(ValueError, match="window"):
        score(sr[:14], hr[:14], protocol="y", scale=2)
