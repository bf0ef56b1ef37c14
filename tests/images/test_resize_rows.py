"""Resizing in rows against resizing the whole image."""

import numpy as np
import pytest

from d2csr.core.geometry import Size
from d2csr.images import resize
from d2csr.images.resize import resample_rows, resize_bicubic

IMAGE8 = np.random.default_rng(0).integers(90, 160, (37, 53, 3), dtype=np.uint8)


@pytest.mark.parametrize("target", [Size(80, 60), Size(31, 11), Size(53, 90), Size(1, 1)])
def test_resampling_is_matlabs_bicubic(target: Size):
    """That one rounds to 8 bit between the passes: half a level, times the weights' sum of 1.3."""
    given = IMAGE8.astype(np.float32)
    rows = np.concatenate(list(resample_rows([given], size=Size(53, 37), target=target)))
    expected = resize_bicubic(IMAGE8, scale=(target.height, target.width))
    assert rows.shape == expected.shape
    assert np.abs(rows - expected).max() < 1.2


@pytest.mark.parametrize("target", [Size(80, 60), Size(31, 11), Size(9, 1)])
@pytest.mark.parametrize("strip_rows", [1, 4, 36])
def test_strips_change_nothing(target: Size, strip_rows: int):
    given = IMAGE8.astype(np.float32)
    strips = [given[first : first + strip_rows] for first in range(0, 37, strip_rows)]
    in_strips = list(resample_rows(iter(strips), size=Size(53, 37), target=target))
    (whole,) = resample_rows([given], size=Size(53, 37), target=target)
    assert np.array_equal(np.concatenate(in_strips), whole)


def test_the_models_own_size_is_left_alone():
    rows = list(resample_rows([IMAGE8.astype(np.float32)], size=Size(53, 37), target=Size(53, 37)))
    assert np.array_equal(rows[0], IMAGE8)


def test_few_rows_leave_at_once_however_far_they_are_enlarged(monkeypatch):
    monkeypatch.setattr(resize, "_CHUNK_VALUES", 3 * 800 * 7)
    given = IMAGE8.astype(np.float32)
    parts = list(resample_rows([given], size=Size(53, 37), target=Size(800, 600)))
    assert max(map(len, parts)) == 7
    monkeypatch.undo()
    (whole,) = resample_rows([given], size=Size(53, 37), target=Size(800, 600))
    np.testing.assert_array_equal(np.concatenate(parts), whole)
