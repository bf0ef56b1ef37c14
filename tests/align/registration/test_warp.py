import numpy as np
import pytest

from d2csr.align.registration.photometric import ColorTransfer, fit_color_transfer
from d2csr.align.registration.transform import Mapping, covered_region
from d2csr.align.registration.warp import warp
from d2csr.core.geometry import Region, Size


def waves(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """An image known at every place: smooth enough for any kernel."""
    red = 0.5 + 0.3 * np.sin(x / 3.1) * np.cos(y / 4.3)
    green = 0.5 + 0.3 * np.cos(x / 5.7 + y / 3.7)
    return np.stack([red, green, 1 - red], axis=-1)


def sampled(width: int, height: int, top: int = 255) -> np.ndarray:
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    return np.rint(waves(x, y) * top).astype(np.uint8 if top == 255 else np.uint16)


def zoomed(matrix: np.ndarray, tele: Size) -> Mapping:
    return Mapping(2, Size(100, 80), tele, matrix)


TURNED = np.array([[0.97, 0.02, 8.3], [-0.03, 0.98, 9.6], [1e-5, -2e-5, 1.0]])


@pytest.mark.parametrize("top", [255, 65535])
def test_images_are_interpolated_where_the_mapping_points(top):
    mapping = zoomed(TURNED, Size(220, 180))
    region = Region(10, 12, 150, 120)
    ours = warp(sampled(220, 180, top), mapping, region=region, transfer=None)
    positions = mapping.on_grid(np.arange(10.0, 160), np.arange(12.0, 132))
    true = waves(positions[..., 0], positions[..., 1]) * 255
    assert np.abs(ours - true).max() < 2.0
    assert np.sqrt(np.mean((ours - true) ** 2)) < 0.6


def test_strips_join_without_a_seam(monkeypatch):
    mapping = zoomed(TURNED, Size(220, 180))
    region = Region(10, 12, 150, 120)
    whole = warp(sampled(220, 180), mapping, region=region, transfer=None)
    monkeypatch.setattr("d2csr.align.registration.warp.STRIP_ROWS", 17)
    strips = warp(sampled(220, 180), mapping, region=region, transfer=None)
    assert np.abs(whole.astype(int) - strips).max() <= 1


def test_more_tele_pixels_than_the_grid_holds_do_not_alias():
    """Stripes of 2.5 tele pixels fall on a grid of 1.6 of them: above Nyquist, so gray."""
    x = np.tile(np.arange(400), (300, 1))
    stripes = np.repeat((127.5 + 100 * np.sin(2 * np.pi * x / 2.5))[..., None], 3, -1)
    mapping = zoomed(np.diag([1.6, 1.6, 1.0]), Size(400, 300))
    ours = warp(
        np.rint(stripes).astype(np.uint8), mapping, region=Region(20, 20, 160, 120), transfer=None
    )
    assert ours.astype(float).std() < 10  # 71 without the filter


def test_covered_region_lies_on_the_tele_frame():
    mapping = zoomed(TURNED, Size(150, 110))
    region = covered_region(mapping, margin_px=5.0)
    wide = region.times(2)
    corners = np.array(
        [[x, y] for x in (wide.left, wide.right - 1) for y in (wide.top, wide.bottom - 1)], float
    )
    positions = mapping(corners)
    assert (positions > 4).all()
    assert (positions < np.array([150, 110]) - 5).all()
    assert region.width * region.height > 0.85 * 140 * 100 / 4


def test_color_transfer_recovers_gain_curve_and_vignetting(rng):
    region = Region(0, 0, 900, 600)
    x, y = np.linspace(0, 899, 90), np.linspace(0, 599, 60)
    tele = rng.uniform(0.05, 0.9, (60, 90, 3)).astype(np.float32)
    true = ColorTransfer(region, np.array([[0.01, 0.8, 0.1, 0.02, -0.01, -0.05, 0, -0.04]] * 3))
    wide = true.apply(tele, x, y=y)
    wide[::9, ::7] = rng.uniform(0, 1, 3)  # outliers
    found = fit_color_transfer(tele, wide, x=x, y=y, region=region)
    apart = found.apply(tele, x, y=y) - true.apply(tele, x, y=y)
    assert np.abs(apart).max() < 0.01
