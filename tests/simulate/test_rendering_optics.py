"""Lens and pixel against closed forms, alone and in a rendered image."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import special

from d2csr.core.geometry import Size
from d2csr.images.pixels import linear_to_srgb
from d2csr.simulate.camera_config import SensorConfig
from d2csr.simulate.geometry import View
from d2csr.simulate.rendering import (
    Lens,
    Shot,
    defocus_mtf,
    diffraction_mtf,
    pixel_mtf,
    render_tiles,
)
from d2csr.simulate.scene import build_flat_scene

PERFECT = Lens(50.0, 8.0, 0.0, 0.0, 0.0, 0.0, (550.0, 550.0, 550.0), 100.0)
FOCAL_PX = 5000.0


def test_disc_is_the_bessel_function():
    x = np.linspace(0.01, 20, 500)
    assert defocus_mtf(x / np.pi, diameter_um=1.0) == pytest.approx(2 * special.j1(x) / x, abs=1e-9)


def test_diffraction_is_the_overlap_of_two_apertures():
    """The transfer is the area that two discs share, moved apart, by the area of one."""
    side = np.linspace(-1, 1, 2001)
    inside = np.hypot(side[:, None], side) <= 1
    moved = np.hypot(side[:, None], side - 0.8) <= 1  # 0.4 of the diameter
    found = diffraction_mtf(np.array([0.4 / (0.55 * 8)]), wavelength_nm=550.0, f_number=8.0)
    assert found[0] == pytest.approx((inside & moved).sum() / inside.sum(), abs=2e-3)
    assert diffraction_mtf(np.array([1.0]), wavelength_nm=550.0, f_number=8.0)[0] == 0


def test_confusion_follows_the_thin_lens():
    lens = replace(PERFECT, f_number=2.0)
    image, focused = 1 / (1 / 50 - 1 / 2000), 1 / (1 / 50 - 1 / 3000)
    expected = 25.0 * abs(image - focused) / image * 1e3
    assert lens.circle_of_confusion_um(2.0, focus_m=3.0) == pytest.approx(expected, rel=1e-9)
    assert replace(lens, defocus_um=10.0).circle_of_confusion_um(3.0, focus_m=3.0) == pytest.approx(
        10 * 25 / focused, rel=1e-6
    )


def wave_contrast(shot, cycles_per_px):
    """Return the contrast, of its original, that a rendered wave has."""
    size = Size(160, 96)
    x = (np.arange(size.width * 4) - size.width * 2 + 0.5) / 2
    wave = 0.5 + 0.4 * np.cos(2 * np.pi * cycles_per_px * x)
    texture = np.rint(255 * linear_to_srgb(wave.astype(np.float32))).astype(np.uint8)
    photo = np.repeat(np.repeat(texture[None, :, None], 4 * size.height, 0), 3, axis=2)
    scene = build_flat_scene(photo, distance_m=5.0, pixel_rad=0.5 / FOCAL_PX)
    seen = np.concatenate([rgb for _, rgb in render_tiles(scene, shot)])[40, :, 1]
    phase = 2 * np.pi * cycles_per_px * np.arange(len(seen))
    waves = np.stack([np.cos(phase), np.sin(phase), np.ones_like(phase)], axis=-1)
    cosine, sine, _ = np.linalg.lstsq(waves, seen, rcond=None)[0]
    return np.hypot(cosine, sine) / 0.4


MOSAIC = SensorConfig(pixel_pitch_um=4.0, cfa="rggb", olpf_um=(0, 0))
SHOT = Shot(View(Size(160, 96), FOCAL_PX, 93.0), PERFECT, MOSAIC, 4.0, 2.0)


@pytest.mark.parametrize("cycles", [0.1, 0.25, 0.4])
def test_a_rendered_wave_has_the_contrast_of_diffraction_and_pixel(cycles):
    expected = diffraction_mtf(np.array([cycles / 4]), wavelength_nm=550.0, f_number=8.0)[0]
    expected *= np.sinc(cycles)
    assert wave_contrast(SHOT, cycles) == pytest.approx(expected, abs=0.015)


def test_a_rendered_wave_has_the_contrast_of_aberration_and_filter():
    lens = replace(PERFECT, psf_sigma_um=2.0, f_number=2.0)
    shot = replace(SHOT, lens=lens, sensor=SensorConfig(pixel_pitch_um=4.0, olpf_um=(3.0, 3.0)))
    at = 0.2 / 4
    expected = np.exp(-2 * np.pi**2 * 2.0**2 * at**2) * np.sinc(0.2) * np.cos(np.pi * at * 3)
    expected *= diffraction_mtf(np.array([at]), wavelength_nm=550.0, f_number=2.0)[0]
    assert wave_contrast(shot, 0.2) == pytest.approx(expected, abs=0.01)


def test_the_mtf_of_a_square_pixel_is_zero_at_its_own_frequency():
    none = np.zeros((1, 1))
    assert pixel_mtf(np.array([[0.25]]), none, pixel_pitch_um=4.0, olpf_um=0.0)[
        0, 0
    ] == pytest.approx(0, abs=1e-9)


def test_corners_are_darker_and_softer_by_what_is_stated():
    lens = replace(PERFECT, corner_psf_sigma_um=3.0, psf_sigma_um=1.0, vignetting_stops=1.0)
    assert lens.relative_illumination(np.array([0.0, 50.0, 100.0])) == pytest.approx(
        [1, 2**-0.25, 0.5]
    )
    assert lens.variance_um2(np.array([0.0, 100.0])) == pytest.approx([1, 10])
