"""Every shipped model: flat images stay flat, and gray images gray.

The numbers of each model are in docs/evaluation.md.
"""

from pathlib import Path

import numpy as np
import pytest

from d2csr.engine.model import Model, load, shipped_names
from d2csr.images.reader import read_rgb8

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "city100_nikon_001_lr3.png"
COLORS = [
    *((level, level, level) for level in range(0, 256, 51)),
    *((255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (0, 255, 255), (255, 0, 255)),
    *((200, 30, 90), (30, 144, 255), (224, 172, 105), (34, 60, 20)),
]
BAND_PX = 12
FLAT_LEVELS = 1


@pytest.fixture(scope="module", params=shipped_names())
def model(request: pytest.FixtureRequest) -> Model:
    """Return a shipped model, ready to run."""
    return load(request.param)


def test_flat_images_stay_flat(model: Model):
    off = {}
    for color in COLORS:
        sr = model.upscale(np.full((8, 8, 3), color, np.uint8)).astype(int)
        off[color] = np.abs(sr - color).max()
    assert {color: levels for color, levels in off.items() if levels > FLAT_LEVELS} == {}


def test_every_gray_level_is_flat_inside_a_band_of_it(model: Model):
    bands = np.repeat(np.arange(256, dtype=np.uint8), BAND_PX)
    sr = model.upscale(np.broadcast_to(bands[:, None], (16, 256 * BAND_PX, 3)).copy())
    levels = sr.reshape(16 * model.scale, 256, BAND_PX, model.scale, 3).astype(int)
    inside = levels[:, :, 4 : BAND_PX - 4]  # flat for four pixels around
    off = np.abs(inside - np.arange(256)[:, None, None, None]).max(axis=(0, 2, 3, 4))
    assert np.flatnonzero(off > FLAT_LEVELS).tolist() == []


def test_gray_images_stay_gray(model: Model):
    luma = np.rint(read_rgb8(EXAMPLE) @ np.array([0.299, 0.587, 0.114])).astype(np.uint8)
    sr = model.upscale(np.repeat(luma[-150:, -250:, None], 3, axis=2)).astype(int)
    assert np.ptp(sr) > 100  # no flat part
    assert np.ptp(sr, axis=2).max() == 0
