"""Luma and rounding."""

import numpy as np
import pytest
from skimage.color import rgb2ycbcr

from d2csr.images.pixels import luma_of_rgb8, rounded_rgb8

RGB = np.random.default_rng(0).integers(0, 256, (6, 9, 3), np.uint8)


def test_luma_is_that_of_scikit_image():
    assert luma_of_rgb8(RGB) == pytest.approx(rgb2ycbcr(RGB)[..., 0], abs=1e-9)


def test_black_and_white_keep_footroom():
    ends = np.array([[[0, 0, 0], [255, 255, 255]]], np.uint8)
    assert luma_of_rgb8(ends)[0] == pytest.approx([16, 235])


def test_values_are_clipped_then_rounded_halves_to_even():
    rgb01 = np.array([[[-0.5, 0.5 / 255, 1.5 / 255], [2.5 / 255, 1.0, 3.0]]])
    assert rounded_rgb8(rgb01).tolist() == [[[0, 0, 2], [2, 255, 255]]]
