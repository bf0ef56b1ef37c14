"""Noise: mean and variance against those of photons, read noise and the ADC."""

import numpy as np
import pytest

from d2csr.simulate.camera_config import SensorConfig
from d2csr.simulate.sensor import Exposure, read_sensor

SHAPE = (300, 300, 1)


def read(share, sensor, iso=100.0):
    light = np.full(SHAPE, share, np.float32)
    read_sensor(light, sensor, exposure=Exposure(iso, 0.0), rng=np.random.default_rng(0))
    return light[..., 0].astype(np.float64)


@pytest.mark.parametrize(("share", "iso"), [(0.5, 100.0), (0.5, 400.0), (0.02, 1600.0)])
def test_mean_and_variance_are_those_of_counted_electrons(share, iso):
    sensor = SensorConfig(cfa="rggb", full_well_e=20000.0, read_noise_e=5.0)
    full = 20000.0 * 100 / iso
    measured = read(share, sensor, iso)
    sites = {(0, 0): 0.55, (0, 1): 1.0, (1, 1): 0.7}
    for (row, column), sensitivity in sites.items():
        pixels = measured[row::2, column::2]
        electrons = share * sensitivity * full
        variance = (electrons + 25 + (full / 2**14) ** 2 / 12) / (full * sensitivity) ** 2
        assert pixels.mean() == pytest.approx(share, abs=5 * np.sqrt(variance / pixels.size))
        assert pixels.var() == pytest.approx(variance, rel=0.04)


def test_white_saturates_and_black_keeps_its_noise():
    sensor = SensorConfig(cfa="rggb", read_noise_e=4.0, full_well_e=10000.0)
    assert read(1.5, sensor)[::2, 1::2].max() == pytest.approx(1.0)
    black = read(0.0, sensor)[::2, 1::2]
    assert black.mean() == pytest.approx(0, abs=2e-5)
    assert black.std() == pytest.approx(4 / 10000, rel=0.05)


def test_averaged_frames_divide_the_variance():
    sensor = SensorConfig(cfa="rggb", full_well_e=1000.0, read_noise_e=20.0)
    one, four = (np.full(SHAPE, 0.5, np.float32) for _ in range(2))
    for light, frames in ((one, 1), (four, 4)):
        exposure = Exposure(100.0, 0.0, frames)
        read_sensor(light, sensor, exposure=exposure, rng=np.random.default_rng(0))
    assert one[::2, 1::2].var() / four[::2, 1::2].var() == pytest.approx(4, rel=0.06)


def test_few_bits_leave_few_levels():
    levels = np.unique(read(0.5, SensorConfig(cfa="rggb", adc_bits=8, full_well_e=1e6))[::2, 1::2])
    assert len(levels) < 8
    assert np.diff(levels) == pytest.approx(1 / (255 - 8), rel=1e-4)


def test_three_colors_a_pixel_without_a_mosaic():
    light = np.full((50, 50, 3), 0.5, np.float32)
    sensor = SensorConfig(cfa="none")
    read_sensor(light, sensor, exposure=Exposure(100.0, 0.0), rng=np.random.default_rng(0))
    red, green, blue = light.std(axis=(0, 1))
    assert red > blue > green
