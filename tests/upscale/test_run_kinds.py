"""Gray, 16 bit and alpha: what a file has, its result has, without fringes."""

import numpy as np
import pytest
import pyvips

from d2csr.core.bundle import Bundle
from d2csr.engine.model import load
from d2csr.images.reader import read_image
from d2csr.upscale.options import DEFAULT_OUTPUT, BatchOptions, OutputOptions, OutputSize
from d2csr.upscale.run import upscale_files

RANDOM = np.random.default_rng(0)
RGB8 = RANDOM.integers(0, 256, (8, 11, 3), dtype=np.uint8)


@pytest.fixture
def enlarged(bundle: Bundle, tmp_path):
    """Return a function: pixels -> the image made of a PNG file of them."""

    def run(pixels: np.ndarray, *, kind: str, options: OutputOptions = DEFAULT_OUTPUT):
        image = pyvips.Image.new_from_array(pixels).copy(interpretation=kind)
        image.write_to_file(str(tmp_path / "in.png"))
        out = tmp_path / "out.png"
        summary = upscale_files(
            [tmp_path / "in.png"],
            out,
            model=bundle,
            options=options,
            batch=BatchOptions(overwrite=True),
        )
        assert summary.exit_code == 0, summary.errors
        return read_image(out)

    return run


def test_16_bit_stays_16_bit_and_finer_than_8(bundle: Bundle, enlarged):
    """A dark image: its values end at 2000 of 65535, eight levels of 8 bit."""
    pixels = RANDOM.integers(0, 2000, (8, 11, 3)).astype(np.uint16)
    sr = enlarged(pixels, kind="rgb16").pixels
    assert sr.dtype == np.uint16
    expected = load(bundle.folder).engine.run(pixels.astype(np.float32) / 65535).sr.clip(0, 1)
    assert np.abs(sr - expected * 65535).max() < 64  # the model's precision, not 257
    assert len(np.unique(sr)) > 100


def test_gray_stays_gray(bundle: Bundle, enlarged):
    lr = 100 + np.repeat(RGB8[..., :1], 3, axis=2) // 5  # nothing to clip
    sr = enlarged(lr[..., 0], kind="b-w").pixels
    assert sr.shape == (16, 22, 1)
    expected = load(bundle.folder).upscale(lr).mean(axis=2)
    assert np.abs(sr[..., 0] - expected).max() <= 1


def test_gray_in_three_strips_gets_no_color(enlarged):
    sr = enlarged(np.repeat(RGB8[..., :1], 3, axis=2), kind="srgb").pixels
    assert (sr == sr[..., :1]).all()


@pytest.mark.parametrize("options", [DEFAULT_OUTPUT, OutputOptions(size=OutputSize(outscale=1.5))])
def test_an_opaque_image_stays_opaque_and_its_colors_those_without_alpha(enlarged, options):
    opaque = np.full((8, 11, 1), 255, np.uint8)
    with_alpha = enlarged(np.concatenate([RGB8, opaque], axis=2), kind="srgb", options=options)
    assert (with_alpha.alpha == 255).all()
    assert np.array_equal(with_alpha.pixels, enlarged(RGB8, kind="srgb", options=options).pixels)


def test_what_hides_under_alpha_0_does_not_show(enlarged):
    """The same cut-out over two hidden colors comes out the same."""
    alpha = np.zeros((8, 11, 1), np.uint8)
    alpha[2:6, 3:8] = 255
    hidden = (RGB8, np.where(alpha == 0, 255 - RGB8, RGB8))
    one, other = (enlarged(np.concatenate([each, alpha], 2), kind="srgb") for each in hidden)
    assert np.array_equal(one.pixels, other.pixels)
    assert np.array_equal(one.alpha, other.alpha)
