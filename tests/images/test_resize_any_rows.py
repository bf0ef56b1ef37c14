"""A resized image of which any rows are computed, against the whole one and against loops."""

import numpy as np
import pytest

from d2csr.core.geometry import Size
from d2csr.images.pixels import to_uint8
from d2csr.images.resize import ResizedImage, enlarge_bicubic, resize_bicubic
from tests.images.test_resize import looped

RGB8 = np.random.default_rng(0).integers(0, 256, (37, 53, 3), dtype=np.uint8)
SIZES = [Size(80, 60), Size(31, 11), Size(53, 90), Size(5, 3), Size(1, 1), Size(300, 400)]
SIZES += [Size(106, 4), Size(5, 90)]  # not rounded between the passes, for the sake of one side


@pytest.mark.parametrize("scale", [2, 3, 4, 8])
def test_every_pixel_is_that_of_the_baseline(scale: int):
    """Also the halves, which are a 128th of all values at x2."""
    resized = ResizedImage(RGB8, target=Size(53, 37).times(scale))
    found = to_uint8(resized.rows01(0, 37 * scale))
    assert np.array_equal(found, enlarge_bicubic(RGB8, scale))


@pytest.mark.parametrize("target", SIZES)
def test_in_any_other_size_few_halves_are_rounded_otherwise(target: Size):
    found = to_uint8(ResizedImage(RGB8, target=target).rows01(0, target.height)).astype(int)
    off = found != resize_bicubic(RGB8, scale=(target.height, target.width))
    assert np.abs(found - resize_bicubic(RGB8, scale=(target.height, target.width))).max() <= 1
    assert off.mean() < 1e-3


def test_float_images_are_not_rounded_between_the_passes():
    """Columns, then rows, of the loop in doubles; values beyond 0 and 1 stay."""
    image01 = np.random.default_rng(1).random((5, 7, 3), dtype=np.float32)
    found = ResizedImage(image01, target=Size(21, 15)).rows01(0, 15)
    columns = np.apply_along_axis(looped, 0, image01, out_length=15, factor=3.0)
    expected = np.apply_along_axis(looped, 1, columns, out_length=21, factor=3.0)
    assert expected.min() < 0
    assert np.abs(found - expected).max() < 1e-6


@pytest.mark.parametrize("target", SIZES)
@pytest.mark.parametrize("kind", ["8 bit", "float"])
def test_rows_do_not_depend_on_their_neighbors(target: Size, kind: str):
    image = RGB8 if kind == "8 bit" else RGB8.astype(np.float32) / np.float32(255)
    resized = ResizedImage(image, target=target)
    whole = resized.rows01(0, target.height)
    for first in range(0, target.height, 7):
        last = min(first + 7, target.height)
        assert np.array_equal(resized.rows01(first, last), whole[first:last])
    assert np.array_equal(np.concatenate(list(resized.iter_rows01(0, target.height))), whole)
