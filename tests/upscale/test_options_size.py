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
        (OutputSize(width=7, height=90), Size(7, 90)),
    ],
)
def test_sizes(asked: OutputSize, size: Size):
    assert asked.of(LR, scale=3) == size


@pytest.mark.parametrize(
    "asked",
    [{"outscale": 2.0, "width": 4}, {"outscale": 0.0}, {"width": -1}, {"outscale": float("nan")}],
)
def test_what_no_image_can_be_is_refused(asked):
    with pytest.raises(UsageError):
        OutputSize(**asked)
