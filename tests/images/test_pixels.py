"""Rounding to 8 bit, and sRGB against its standard."""

import numpy as np
import pytest

from d2csr.images.pixels import LINEAR_OF_SRGB8, linear_to_srgb, to_uint8


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_floats_are_clipped_then_rounded_halves_to_even(dtype):
    rgb01 = np.array([[[-0.5, 0.5 / 255, 1.5 / 255], [2.5 / 255, 1.0, 3.0]]], dtype)
    assert to_uint8(rgb01).tolist() == [[[0, 0, 2], [2, 255, 255]]]


def test_16_bit_becomes_the_nearest_8_bit_with_white_at_white():
    values = np.arange(65536, dtype=np.uint16)
    assert np.array_equal(to_uint8(values), np.floor(values / 65535 * 255 + 0.5).astype(np.uint8))


def test_8_bit_stays_as_it_is():
    values = np.arange(256, dtype=np.uint8)
    assert to_uint8(values) is values


def test_srgb_to_linear_follows_the_standard_and_back():
    assert LINEAR_OF_SRGB8[128] == pytest.approx(((128 / 255 + 0.055) / 1.055) ** 2.4, rel=1e-6)
    srgb01 = np.arange(256, dtype=np.float32) / 255
    assert np.abs(linear_to_srgb(LINEAR_OF_SRGB8) - srgb01).max() < 2e-5
