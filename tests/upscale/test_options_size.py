"""Sizes of results."""

import pytest

from d2csr.core.errors import UsageError
from d2csr.core.geometry import Size
from d2csr.upscale.options import NATIVE_SIZE, OutputSize

LR = Size(40, 30)


@pytest.mark.parametrize(
    ("asked", "size"),
    [
        (NATIVE_SIZE, Size(120, 90)),
        (OutputSize(outscale=1.5), Size(60, 45)),
        (OutputSize(outscale=0.01), Size(1, 1)),
        (OutputSize(width=100), Size(100, 75)),
        (OutputSize(height=75), Size(100, 75)),
        (OutputSize(width=100, height=90), Size(100, 75)),
        (OutputSize(width=400, height=75), Size(100, 75)),
        (OutputSize(width=7, height=90), Size(7, 5)),
        (OutputSize(width=7, height=90, stretch=True), Size(7, 90)),
    ],
)
def test_sizes(asked: OutputSize, size: Size):
    assert asked.of(LR, scale=3) == size


@pytest.mark.parametrize("size", [Size(1, 7), Size(999, 1000), Size(4032, 3024), Size(3, 1)])
def test_a_result_fits_inside_and_touches_a_side(size: Size):
    result = OutputSize(width=301, height=203).of(size, scale=2)
    assert result.width == 301 or result.height == 203
    assert result.width <= 301
    assert result.height <= 203


@pytest.mark.parametrize(
    ("asked", "text"),
    [
        (NATIVE_SIZE, "x3"),
        (OutputSize(outscale=4.0), "x4"),
        (OutputSize(outscale=1.5), "x1.5"),
        (OutputSize(width=100), "to a width of 100"),
        (OutputSize(height=75), "to a height of 75"),
        (OutputSize(width=100, height=75), "to fit 100x75"),
        (OutputSize(width=100, height=75, stretch=True), "to 100x75"),
    ],
)
def test_a_size_as_text(asked: OutputSize, text: str):
    assert asked.describe(scale=3) == text


@pytest.mark.parametrize(
    "asked",
    [
        {"outscale": 2.0, "width": 4},
        {"outscale": 0.0},
        {"width": -1},
        {"outscale": float("nan")},
        {"stretch": True},
        {"width": 4, "stretch": True},
    ],
)
def test_what_no_image_can_be_is_refused(asked):
    with pytest.raises(UsageError):
        OutputSize(**asked)
