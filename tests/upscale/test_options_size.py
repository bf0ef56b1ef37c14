"""Sizes of results, and resampling in rows against resampling of the whole."""

import numpy as np
import pytest

from d2csr.core.errors import UsageError
from d2csr.core.geometry import Size
from d2csr.images.resize import resize_bicubic
from d2csr.upscale import options as size_module
from d2csr.upscale.options import NATIVE_SIZE, OutputSize, resample_rows

LR = Size(40, 30)
PICTURE8 = np.random.default_rng(0).integers(90, 160, (37, 53, 3), dtype=np.uint8)


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


@pytest.mark.parametrize("wanted", [Size(80, 60), Size(31, 11), Size(53, 90), Size(1, 1)])
def test_resampling_is_matlabs_bicubic(wanted: Size):
    """That one rounds to 8 bit between the passes: half a level, times the weights' sum of 1.3."""
    given = PICTURE8.astype(np.float32)
    rows = np.concatenate(list(resample_rows([given], size=Size(53, 37), wanted=wanted)))
    expected = resize_bicubic(PICTURE8, scale=(wanted.height, wanted.width))
    assert rows.shape == expected.shape
    assert np.abs(rows - expected).max() < 1.2


@pytest.mark.parametrize("wanted", [Size(80, 60), Size(31, 11), Size(9, 1)])
@pytest.mark.parametrize("band_rows", [1, 4, 36])
def test_strips_change_nothing(wanted: Size, strip_rows: int):
    given = PICTURE8.astype(np.float32)
    strips = [given[first : first + strip_rows] for first in range(0, 37, strip_rows)]
    banded = list(resample_rows(iter(strips), size=Size(53, 37), wanted=wanted))
    (whole,) = resample_rows([given], size=Size(53, 37), wanted=wanted)
    assert np.array_equal(np.concatenate(banded), whole)


def test_the_models_own_size_is_left_alone():
    rows = list(
        resample_rows([PICTURE8.astype(np.float32)], size=Size(53, 37), wanted=Size(53, 37))
    )
    assert np.array_equal(rows[0], PICTURE8)


def test_few_rows_leave_at_once_however_far_they_are_enlarged(monkeypatch):
    monkeypatch.setattr(size_module, "_VALUES_AT_ONCE", 3 * 800 * 7)
    given = PICTURE8.astype(np.float32)
    parts = list(resample_rows([given], size=Size(53, 37), wanted=Size(800, 600)))
    assert max(map(len, parts)) == 7
    monkeypatch.undo()
    (whole,) = resample_rows([given], size=Size(53, 37), wanted=Size(800, 600))
    np.testing.assert_array_equal(np.concatenate(parts), whole)
