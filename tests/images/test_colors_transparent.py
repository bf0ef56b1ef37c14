"""Colors filled in under alpha: what is seen stays, what is hidden has no say, no fringes."""

import numpy as np
import pytest

from d2csr.core.bundle import read_bundle
from d2csr.core.errors import ModelNameError
from d2csr.core.geometry import Size
from d2csr.engine.model import find_bundle
from d2csr.images.colors import fill_transparent
from d2csr.images.formats import PixelFormat
from d2csr.images.reader import DecodedImage, read_image
from d2csr.images.writer import ImageWriter
from d2csr.upscale.run import upscale_files

RANDOM = np.random.default_rng(0)
COLORS = RANDOM.random((13, 18, 3), dtype=np.float32)


def test_what_is_seen_stays():
    alpha = np.zeros((13, 18), np.float32)
    alpha[3:9, 4:11] = 1.0
    alpha[9:11, 4:11] = 0.5  # a pane of glass has a color of its own
    kept = fill_transparent(COLORS, alpha)[alpha > 0]
    assert np.abs(kept - COLORS[alpha > 0]).max() < 1e-6


def test_what_is_hidden_has_no_say():
    alpha = (RANDOM.random((13, 18)) > 0.7).astype(np.float32)
    other = np.where(alpha[..., None] > 0, COLORS, 1 - COLORS)
    assert np.array_equal(fill_transparent(COLORS, alpha), fill_transparent(other, alpha))


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (2, 7), (16, 31)])
def test_one_color_fills_everything(shape):
    colors = np.zeros((*shape, 3), np.float32)
    colors[0, 0] = (0.2, 0.5, 0.9)
    alpha = np.zeros(shape, np.float32)
    alpha[0, 0] = 1.0
    assert np.abs(fill_transparent(colors, alpha) - colors[0, 0]).max() < 1e-6


@pytest.mark.parametrize("color", [(255, 0, 0), (230, 200, 50)])
def test_a_cut_out_of_one_color_has_no_fringes(color, tmp_path):
    """Divided out of enlarged color times alpha, the edge is off by up to 55 levels."""
    try:
        bundle = read_bundle(find_bundle("city100-iphone-x2"))
    except ModelNameError:
        pytest.skip("city100-iphone-x2 does not ship with this copy")
    rows, columns = np.mgrid[:40, :50]
    alpha = np.clip(12.5 - np.hypot(rows - 20, columns - 24), 0, 1)[..., None]
    pixels = np.where(alpha > 0, np.array(color), 0)
    stored = np.concatenate([pixels, np.rint(alpha * 255)], axis=2).astype(np.uint8)
    with ImageWriter(
        tmp_path / "in.png", size=Size(50, 40), pixel_format=PixelFormat(3, has_alpha=True)
    ) as writer:
        writer.write(stored)
    upscale_files([tmp_path / "in.png"], tmp_path / "out", model=bundle)
    sr: DecodedImage = read_image(tmp_path / "out" / "in.png")
    assert sr.alpha is not None
    assert np.abs(sr.pixels.astype(int) - color).max() == 0
    assert set(np.unique(sr.alpha[[0, -1]])) == {0}
    assert (sr.alpha[30:50, 40:56] == 255).all()
    assert ((sr.alpha > 20) & (sr.alpha < 235)).any()  # still soft
