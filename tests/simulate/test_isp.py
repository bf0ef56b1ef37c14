"""The ISP: demosaicing, tone curves, sharpening, strips of rows, JPEG."""

import cv2
import numpy as np
import pytest

from d2csr.images.pixels import linear_to_srgb
from d2csr.simulate.camera_config import IspConfig
from d2csr.simulate.isp import (
    IspSettings,
    apply_contrast,
    compress_jpeg,
    demosaic,
    develop,
    encode_jpeg,
)

PLAIN = IspConfig(sharpening=0.0, jpeg_quality=0)


def mosaic_of(rgb):
    raw = rgb[..., 1].copy()
    raw[::2, ::2] = rgb[::2, ::2, 0]
    raw[1::2, 1::2] = rgb[1::2, 1::2, 2]
    return raw


def test_a_slope_of_light_survives_mosaic_and_demosaic():
    """What is linear in place, each color by itself, is interpolated exactly."""
    y, x = np.mgrid[:40, :50].astype(np.float32)
    rgb = np.stack([0.2 + 0.004 * x, 0.3 + 0.003 * y, 0.5 - 0.002 * (x + y)], axis=-1)
    found = demosaic(mosaic_of(rgb))
    assert np.abs(found - rgb)[4:-4, 4:-4].max() < 1e-5


def test_measured_colors_stay_and_gray_detail_comes_back():
    rng = np.random.default_rng(0)
    coarse = rng.random((20, 20)).astype(np.float32)
    gray = cv2.resize(coarse, (80, 80), interpolation=cv2.INTER_CUBIC)
    found = demosaic(mosaic_of(np.repeat(gray[..., None], 3, axis=-1)))
    inner = found[6:-6, 6:-6] - gray[6:-6, 6:-6, None]
    assert np.sqrt((inner**2).mean()) < 0.02
    assert np.array_equal(found[1::2, ::2, 1], gray[1::2, ::2])


def test_contrast_turns_about_black_middle_and_white():
    ends = np.array([0, 0.5, 1], np.float32)
    assert apply_contrast(ends, 1.4) == pytest.approx(ends)
    step = np.array([0.499, 0.501], np.float32)
    assert np.diff(apply_contrast(step, 1.4)) / np.diff(step) == pytest.approx(1.4, rel=1e-3)


def test_strips_of_rows_leave_no_seam(monkeypatch):
    raw = np.random.default_rng(1).random((90, 40, 1)).astype(np.float32)
    settings = IspSettings(IspConfig(sharpening=1.0))
    whole = develop(raw, settings)
    monkeypatch.setattr("d2csr.simulate.isp._STRIP_ROWS", 32)
    assert np.array_equal(develop(raw, settings), whole)


def test_white_balance_gains_move_red_and_blue_alone():
    raw = np.full((20, 20, 1), 0.25, np.float32)
    red, green, blue = develop(raw, IspSettings(PLAIN, (1.1, 1.0, 0.9)))[10, 10]
    assert red > green > blue
    assert green == round(255 * float(linear_to_srgb(np.float32([0.25]))[0]))


def test_noise_reduction_smooths_noise_and_leaves_edges():
    rng = np.random.default_rng(3)
    raw = np.where(np.arange(60)[:, None, None] < 30, 0.1, 0.6) + rng.normal(0, 0.01, (60, 50, 3))
    plain, smooth = (
        develop(
            raw.astype(np.float32),
            IspSettings(PLAIN.model_copy(update={"noise_reduction": levels})),
        )
        for levels in ((0.0, 0.0), (12.0, 12.0))
    )
    flat = np.s_[5:20, 5:-5]
    assert smooth[flat].std() < 0.5 * plain[flat].std()
    steps = [each[35:].mean() - each[:25].mean() for each in (plain, smooth)]
    assert steps[1] == pytest.approx(steps[0], abs=1)
    assert np.abs(smooth[31].mean() - smooth[35].mean()) < 2  # the edge is as steep as before


def test_jpeg_keeps_less_at_a_lower_quality_and_all_at_none():
    noise = np.random.default_rng(2).integers(0, 256, (64, 64, 3), np.uint8)
    good, poor = (
        compress_jpeg(noise, IspConfig(jpeg_quality=quality)).astype(int) for quality in (95, 30)
    )
    assert np.abs(good - noise).mean() < np.abs(poor - noise).mean()
    assert compress_jpeg(noise, PLAIN) is noise
    fine, coarse = (len(encode_jpeg(noise, IspConfig(jpeg_subsampling=c))) for c in ("444", "420"))
    assert coarse < fine
