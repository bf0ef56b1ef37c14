"""Flat regions keep the color of LR, and textured regions are the network's."""

import numpy as np
import pytest

from d2csr.core.bundle import read_bundle
from d2csr.core.errors import ModelNameError
from d2csr.engine.flat_regions import FlatRegionBlend
from d2csr.engine.model import find_bundle, load
from d2csr.images.reader import read_rgb8
from d2csr.images.writer import write_rgb8
from d2csr.upscale.run import upscale_files

NOISE01 = np.random.default_rng(0).random((20, 30, 3), dtype=np.float32)


def test_a_flat_image_is_its_own_color_whatever_the_network_says():
    lr01 = np.full((6, 7, 3), 0.2, np.float32)
    blended = FlatRegionBlend(lr01, scale=3).blend(np.zeros((18, 21, 3), np.float32), first_row=0)
    assert (blended == np.float32(0.2)).all()


def test_texture_is_the_networks():
    sr01 = np.random.default_rng(1).random((40, 60, 3), dtype=np.float32)
    assert FlatRegionBlend(NOISE01, scale=2).blend(sr01, first_row=0) is sr01


def test_a_flat_half_is_flat_from_four_pixels_on_and_goes_over_evenly():
    lr01 = NOISE01.copy()
    lr01[:, :15] = 0.5
    off = np.full((40, 60, 3), 0.6, np.float32)
    row = FlatRegionBlend(lr01, scale=2).blend(off, first_row=0)[20, :, 0]
    assert (row[:22] == np.float32(0.5)).all()
    assert (row[34:] == np.float32(0.6)).all()
    assert (np.diff(row) >= 0).all()
    assert np.diff(row).max() < 0.021  # a fifth of what the network is off


@pytest.mark.parametrize(("levels", "weight"), [(0, 0), (1, 0.5), (2, 1), (3, 1)])
def test_the_weight_of_the_network_grows_up_to_two_levels(levels: int, weight: float):
    rows, columns = np.indices((12, 12))
    lr01 = np.float32(100 + levels * ((rows + columns) % 2))[..., None].repeat(3, 2) / np.float32(
        255
    )
    lr01[..., 2] = 0  # so that it isn't gray
    sr01 = np.ones((12, 12, 3), np.float32)
    blended = FlatRegionBlend(lr01, scale=1).blend(sr01, first_row=0)
    assert np.abs(blended - (lr01 + weight * (1 - lr01))).max() < 1e-6


@pytest.mark.parametrize("strip_rows", range(1, 41))
def test_strips_are_rows_of_the_whole(strip_rows: int):
    """The weight of a row depends on LR beyond its strip, above and below."""
    lr01 = NOISE01.copy()
    lr01[3:9] = 1.0
    lr01[13:18] = 0.25
    sr01 = np.random.default_rng(1).random((60, 90, 3), dtype=np.float32)
    flat_regions = FlatRegionBlend(lr01, scale=3)
    whole = flat_regions.blend(sr01, first_row=0)
    for first in range(0, 60, strip_rows):
        rows = slice(first, first + strip_rows)
        assert np.array_equal(flat_regions.blend(sr01[rows], first_row=first), whole[rows])


@pytest.mark.parametrize("name", ["city100-nikon-x3", "city100-iphone-x2"])
@pytest.mark.parametrize("level", [(255, 255, 255), (0, 0, 0), (128, 128, 128), (200, 30, 90)])
def test_shipped_models_keep_flat_colors(name: str, level, tmp_path):
    """Left alone, they are off by up to 11 levels in black and 6 in white."""
    try:
        bundle = read_bundle(find_bundle(name))
    except ModelNameError:
        pytest.skip(f"{name} does not ship with this copy")
    assert (load(name).upscale(np.full((12, 13, 3), level, np.uint8)) == level).all()
    write_rgb8(tmp_path / "flat.png", np.full((12, 13, 3), level, np.uint8))
    upscale_files([tmp_path / "flat.png"], tmp_path / "out", model=bundle)
    assert (read_rgb8(tmp_path / "out" / "flat.png") == level).all()
